"""The quick way for what a poller does all day: a GET it has sent before, answered as it was answered before.

Request frames are kept per request, sequence numbers and invoke id, and shared by all meters with the same addresses.
An answer is recognised by its first octets and, on HDLC, its frame check; its values lie where they lay last time.
Whatever is unusual (segmented, ciphered, out of sequence, noise, another type) is left to the full way, which
understands it and from which the quick one learns.
"""

from __future__ import annotations

from collections.abc import Hashable
from struct import Struct
from typing import Any, Protocol, runtime_checkable

from meterbridge.dlms import xdlms
from meterbridge.dlms.axdr import FIXED_SIZE_CODES
from meterbridge.dlms.exchange import GetExchange
from meterbridge.dlms.xdlms import AttributeDescriptor, GetRequest


@runtime_checkable
class FastLink(Protocol):
    """What a link offers the quick way beside the full one."""

    @property
    def fast_addresses(self) -> Hashable:
        """What frames of equal requests to equal addresses have in common."""

    def fast_sequence(self) -> int:
        """What else goes into the next frame (sequence numbers); -1 when the link has unusual things to do."""

    def fast_frame(self, apdu: bytes) -> bytes | None:
        """The frame of a request as it would be sent now; None when it takes several."""

    def fast_sent(self, apdu: bytes) -> None:
        """Such a frame is being sent."""

    def fast_receive(self, data: bytes) -> bool:
        """Whether octets that begin like the expected answer frame are it, undamaged; the link then took it."""

    def fast_head(self, data: bytes, apdu: bytes) -> int:
        """Where in `data` the APDU begins when `data` is its one frame and nothing else; -1 otherwise."""


class _Layout:
    """Where the values of an answer lie: choice and tag, then the value, for each result; all of fixed size."""

    __slots__ = ("length", "marks", "prefix", "start", "unpack_from")

    def __init__(self, data: bytes, start: int, codes: str, marks: tuple[bytes, ...]) -> None:
        self.prefix = data[:start]
        self.length = len(data)
        self.start = start
        self.marks = marks
        self.unpack_from = Struct(">" + "".join(f"2s{code}" for code in codes)).unpack_from


class _Known:
    """A request frame, and what its answer looked like last time."""

    __slots__ = ("apdu", "frame", "layout")

    def __init__(self, frame: bytes, apdu: bytes) -> None:
        self.frame = frame
        self.apdu = apdu
        self.layout: _Layout | None = None


class PreparedGet:
    """A GET that is sent over and over, by one meter or by thousands.

    Args:
        attributes: what to read.
    """

    __slots__ = ("_apdus", "_known", "attributes", "several")

    def __init__(self, attributes: tuple[AttributeDescriptor, ...]) -> None:
        self.attributes = attributes
        self.several = len(attributes) > 1
        self._apdus = [GetRequest(invoke_id, attributes).encode() for invoke_id in range(16)]
        self._known: dict[Hashable, dict[int, _Known]] = {}

    def apdu(self, invoke_id: int) -> bytes:
        """Return the APDU with this invoke id."""
        return self._apdus[invoke_id]

    def known(self, addresses: Hashable) -> dict[int, _Known]:
        """Return what is known of the frames between two addresses, by sequence and invoke id.

        Args:
            addresses: both, and whatever else decides whether a request fits one frame.
        """
        return self._known.setdefault(addresses, {})


class FastPath:
    """The quick way over one link; does nothing on a link that has none."""

    __slots__ = ("_asked", "_awaited", "_link", "_max_pdu", "_prepared", "_received", "_table")

    def __init__(self, link: object) -> None:
        self._link = link if isinstance(link, FastLink) else None
        self._max_pdu = 0
        self._prepared: PreparedGet | None = None
        self._table: dict[int, _Known] = {}
        self._asked: _Known | None = None  # what was sent
        self._awaited: _Known | None = None  # the same, until anything at all has come
        self._received = b""

    def opened(self, max_pdu: int) -> None:
        """An association is open to a peer that takes APDUs of so many octets, 0 for any."""
        self._max_pdu = max_pdu
        self._prepared = None

    def send(self, prepared: PreparedGet, invoke_id: int) -> bytes | None:
        """Return the one frame of a request, for the caller to send; None leaves the request to the full way."""
        link = self._link
        if link is None:
            return None
        sequence = link.fast_sequence()
        if sequence < 0:
            return None
        if prepared is not self._prepared:
            self._prepared = prepared
            self._table = prepared.known((link.fast_addresses, self._max_pdu))
        key = sequence << 4 | invoke_id
        known = self._table.get(key)
        if known is None:
            apdu = prepared.apdu(invoke_id)
            frame = None if self._max_pdu and len(apdu) > self._max_pdu else link.fast_frame(apdu)
            if frame is None:
                return None
            known = self._table[key] = _Known(frame, apdu)
        self._asked = self._awaited = known
        link.fast_sent(known.apdu)
        return known.frame

    def forget(self) -> None:
        """A request goes the full way: what was sent quickly before has nothing to do with its answer."""
        self._asked = self._awaited = None

    def receive(self, data: bytes) -> tuple[Any, ...] | None:
        """Return the results if octets are just the answer expected; None leaves them to the full way."""
        known = self._awaited
        if known is None:
            self._received = b""
            return None
        self._awaited = None
        layout = known.layout
        if layout is not None and len(data) == layout.length and data.startswith(layout.prefix):
            values = layout.unpack_from(data, layout.start)
            if values[::2] == layout.marks and self._link is not None and self._link.fast_receive(data):
                return values[1::2]
        self._received = data
        return None

    def exchange(self, invoke_id: int) -> GetExchange:
        """Return the exchange of the request that was sent, for the full way to go on with."""
        exchange = GetExchange(self._prepared.attributes if self._prepared is not None else ())
        exchange.start(invoke_id, 0)
        return exchange

    def answered(self, apdu: bytes) -> None:
        """Learn from an answer that came the full way, where it was the only thing in the octets received last."""
        known, data = self._asked, self._received
        if known is None or self._link is None or not data:
            return
        head = self._link.fast_head(data, apdu)
        if head < 0:
            return
        known.layout = _layout(data, head, apdu)


def _layout(data: bytes, head: int, apdu: bytes) -> _Layout | None:
    """Return where the values of an answer lie, None where one has no fixed size or is an error."""
    if apdu[1] == xdlms.GetType.NORMAL:
        start = position = 3
        count = 1
    elif apdu[1] == xdlms.GetType.WITH_LIST and apdu[3] < 0x80:
        start = position = 4
        count = apdu[3]
    else:
        return None
    codes, marks = [], []
    for _ in range(count):
        mark = apdu[position : position + 2]
        fixed = FIXED_SIZE_CODES.get(mark[1]) if mark[:1] == b"\x00" else None
        if fixed is None:
            return None
        code, size = fixed
        codes.append(code)
        marks.append(mark)
        position += 2 + size
    return _Layout(data, head + start, "".join(codes), tuple(marks))
