"""APDUs put together from what arrives unasked: HDLC segments, M-Bus transport segments, general blocks.

There is nobody to ask again: what lacks a part is given up with a reason, and the next APDU is a fresh start.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field

from meterbridge.dlms.block_transfer import GENERAL_BLOCK_TRANSFER, Block
from meterbridge.dlms.hdlc import RNR, Control, Frame
from meterbridge.dlms.hdlc_station import LLC_COMMAND, LLC_RESPONSE
from meterbridge.dlms.mbus import LongFrame
from meterbridge.errors import RemoteProtocolError

MAX_SENDERS = 64
"""Senders on one line whose parts are held at once; the one that began first is given up for another."""


@dataclass(slots=True)
class _Partial:
    offset: int
    octets: bytearray = field(default_factory=bytearray)
    expected: int = 0


@dataclass(frozen=True, slots=True)
class Assembled:
    """What came of one more part.

    Args:
        apdu: whole with this part, None while more is due.
        offset: where in the stream its first part began.
        reasons: why parts were given up, this one or earlier ones.
        harmless: whether the reason is that of a frame which has no part of an APDU and need not have.
    """

    apdu: bytes | None = None
    offset: int = 0
    reasons: tuple[str, ...] = ()
    harmless: bool = False


class _Assembly:
    """Parts by sender, bounded in number and size."""

    def __init__(self, max_apdu: int) -> None:
        self._max_apdu = max_apdu
        self._partials: dict[Hashable, _Partial] = {}

    @property
    def incomplete(self) -> list[int]:
        """Offsets of what has begun and not ended."""
        return [partial.offset for partial in self._partials.values()]

    def clear(self) -> None:
        """Give up all that has not ended."""
        self._partials.clear()

    def _begin(self, key: Hashable, offset: int) -> tuple[str, ...]:
        """Start anew; return why something was given up for it."""
        reasons: tuple[str, ...] = ("an APDU whose end never came",) if self._partials.pop(key, None) else ()
        if len(self._partials) >= MAX_SENDERS:
            self._partials.pop(next(iter(self._partials)))
            reasons += ("too many senders at once",)
        self._partials[key] = _Partial(offset)
        return reasons

    def _add(self, key: Hashable, part: bytes, last: bool, reasons: tuple[str, ...] = ()) -> Assembled:
        partial = self._partials[key]
        partial.octets += part
        if len(partial.octets) > self._max_apdu:
            del self._partials[key]
            return Assembled(None, partial.offset, (*reasons, f"an APDU of more than {self._max_apdu} octets"))
        if not last:
            return Assembled(None, partial.offset, reasons)
        del self._partials[key]
        return Assembled(bytes(partial.octets), partial.offset, reasons)

    def _drop(self, key: Hashable, offset: int, reason: str) -> Assembled:
        self._partials.pop(key, None)
        return Assembled(None, offset, (reason,))


_UNNUMBERED = -1


class HdlcSegments(_Assembly):
    """APDUs from UI and I frames, their LLC header taken off.

    UI frames have no numbers: one that is lost without a trace cannot be missed. `interrupt` is for the traces.
    """

    def interrupt(self) -> list[int]:
        """Octets were damaged: give up what is under way in UI frames, of which one may be lost; return offsets."""
        lost = [key for key, partial in self._partials.items() if partial.expected == _UNNUMBERED]
        return [self._partials.pop(key).offset for key in lost]

    def take(self, frame: Frame, offset: int) -> Assembled:
        """Take a frame that began at `offset`."""
        if not frame.is_information and frame.unnumbered != Control.UI:
            return Assembled(None, offset, (f"{_link_frame_name(frame)} frame: it carries no APDU",), harmless=True)
        key = frame.destination, frame.source
        information = frame.information
        partial = self._partials.get(key)
        reasons: tuple[str, ...] = ()
        if information[:3] in (LLC_RESPONSE, LLC_COMMAND):
            reasons = self._begin(key, offset)
            information = information[3:]
        elif partial is None:
            # The LLC header stands before the first of several blocks only, where the meter so likes.
            if frame.segmented or not information.startswith(bytes((GENERAL_BLOCK_TRANSFER,))):
                return Assembled(None, offset, ("HDLC segment whose beginning is missing",))
            reasons = self._begin(key, offset)
        elif frame.is_information and frame.send_sequence != partial.expected:
            return self._drop(key, offset, f"HDLC segment N(S)={frame.send_sequence} where {partial.expected} is due")
        self._partials[key].expected = frame.send_sequence + 1 & 7 if frame.is_information else _UNNUMBERED
        return self._add(key, information, not frame.segmented, reasons)


def _link_frame_name(frame: Frame) -> str:
    if frame.is_supervisory:
        return "HDLC RNR" if frame.control & 0x0F == RNR else "HDLC RR"
    try:
        return f"HDLC {Control(frame.unnumbered).name}"
    except ValueError:
        return f"HDLC 0x{frame.control:02X}"


class TransportSegments(_Assembly):
    """APDUs from M-Bus long frames with DLMS transport segments."""

    def take(self, frame: LongFrame, offset: int) -> Assembled:
        """Take a frame that began at `offset`."""
        if not frame.is_transport or len(frame.data) < 2:
            return Assembled(None, offset, (f"M-Bus frame with CI 0x{frame.information:02X}: it carries no APDU",))
        key = frame.address, frame.data[:2]
        partial = self._partials.get(key)
        reasons: tuple[str, ...] = ()
        if frame.sequence == 0:
            reasons = self._begin(key, offset)
        elif partial is None:
            return Assembled(None, offset, (f"M-Bus segment {frame.sequence} whose beginning is missing",))
        elif frame.sequence != partial.expected:
            return self._drop(key, offset, f"M-Bus segment {frame.sequence} where {partial.expected} is due")
        self._partials[key].expected = frame.sequence + 1
        return self._add(key, frame.data[2:], frame.final, reasons)


class GeneralBlocks(_Assembly):
    """APDUs from general-block-transfer APDUs; any other APDU passes as it is."""

    def take(self, key: Hashable, apdu: bytes, offset: int) -> Assembled:
        """Take an APDU of one sender that began at `offset`."""
        if apdu[:1] != bytes((GENERAL_BLOCK_TRANSFER,)):
            return Assembled(apdu, offset)
        try:
            block = Block.decode(apdu)
        except RemoteProtocolError as error:
            return self._drop(key, offset, str(error))
        partial = self._partials.get(key)
        reasons: tuple[str, ...] = ()
        if block.number == 1:
            reasons = self._begin(key, offset)
        elif partial is None:
            return Assembled(None, offset, (f"block {block.number} whose beginning is missing",))
        elif block.number == partial.expected - 1:
            return Assembled(None, offset, (f"block {block.number} repeated",))
        elif block.number != partial.expected:
            return self._drop(key, offset, f"block {block.number} where {partial.expected} is due")
        self._partials[key].expected = block.number + 1
        return self._add(key, block.data, block.last, reasons)
