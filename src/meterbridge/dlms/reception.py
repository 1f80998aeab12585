"""From octets that nobody asked for to APDUs: HDLC, wrapper, M-Bus or bare, told apart where not said.

No socket, no clock: octets in, events out, whatever the octets are. Every buffer is bounded.
"""

from __future__ import annotations

import enum
import re
from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Protocol

from meterbridge.dlms.hdlc import FLAG, Frame, FrameDecoder
from meterbridge.dlms.mbus import START, LongFrame, LongFrameDecoder
from meterbridge.dlms.reassembly import Assembled, GeneralBlocks, HdlcSegments, TransportSegments
from meterbridge.dlms.stream import Discarded
from meterbridge.dlms.wrapper_stream import WrapperDecoder, WrapperFrame

MAX_APDU = 1 << 16
"""Most octets of one APDU unless told otherwise."""
_MOST_UNDECIDED = 256
"""Refusals kept of each framing while none is settled."""

APDU_TAGS = frozenset(
    (
        *(0x01, 0x08, 0x0E),  # initiate, confirmed-service-error
        *(0x05, 0x06, 0x0C, 0x0D, 0x16, 0x18),  # short names
        *(0x0F, 0xC0, 0xC1, 0xC2, 0xC3, 0xC4, 0xC5, 0xC7, 0xD8),  # logical names
        *(0x21, 0x25, 0x26, 0x28, 0x2C, 0x2D, 0x36, 0x38),  # glo, short names
        *range(0xC8, 0xD0),  # glo, logical names
        *(0x41, 0x45, 0x46, 0x48, 0x4C, 0x4D, 0x56, 0x58),  # ded, short names
        *range(0xD0, 0xD8),  # ded, logical names
        *(0xD9, 0xDA, 0xDB, 0xDC, 0xDD, 0xDF, 0xE0),  # access, general ciphering, signing, block transfer
        *(0x60, 0x61, 0x62, 0x63),  # association control
    )
)
"""First octets an APDU may have."""


class Framing(enum.StrEnum):
    """How APDUs are framed."""

    HDLC = "hdlc"
    WRAPPER = "wrapper"
    MBUS = "mbus"
    RAW = "raw"


@dataclass(frozen=True, slots=True)
class Arrived:
    """A whole APDU.

    Args:
        framing: what it came in.
        offset: where in the stream its first frame began, octets.
        apdu: as sent, ciphered where it is.
    """

    framing: Framing
    offset: int
    apdu: bytes


@dataclass(frozen=True, slots=True)
class Refused:
    """Octets that were no use.

    Args:
        framing: what they were taken for, None where they look like nothing.
        offset: where in the stream they began.
        reason: why, for people and counters.
        octets: how many; 0 where a whole frame was valid and of no use.
        harmless: whether nothing is wrong: a frame of the link itself.
    """

    framing: Framing | None
    offset: int
    reason: str
    octets: int = 0
    harmless: bool = False


class _Decoder(Protocol):
    @property
    def pending(self) -> int: ...
    @property
    def due(self) -> int: ...
    def receive_data(self, data: bytes) -> None: ...
    def clear(self) -> int: ...


class _Lane:
    """One framing: its decoder and what puts APDUs together."""

    framing: Framing

    def __init__(self, decoder: _Decoder, max_apdu: int) -> None:
        self._decoder = decoder
        self._blocks = GeneralBlocks(max_apdu)
        self._fed = 0
        self._cursor = 0
        self._held = bytearray()
        self._open: Refused | None = None
        self.events: deque[Arrived | Refused] = deque()
        self.frames = 0
        """Valid frames so far."""
        self.first_frame = -1
        """Where the first of them began."""
        self.damaged = 0
        """Frames so far whose check failed."""

    @property
    def pending(self) -> int:
        """Octets of a frame that is not complete."""
        return self._decoder.pending

    @property
    def due(self) -> int:
        """Octets that are still missing of that frame, 0 where that is not known."""
        return self._decoder.due

    def feed(self, data: bytes) -> None:
        """Take octets in."""
        # What the decoder holds is the end of what it was given: that tells where an event began.
        self._cursor = self._fed - self._decoder.pending
        self._fed += len(data)
        self._held += data
        self._decoder.receive_data(data)
        self._drain()
        del self._held[: len(self._held) - self._decoder.pending]

    def end(self) -> None:
        """No more octets of this frame come."""
        # The flag that closed the last frame is held as if it opened another: alone it is nothing.
        while (held := self._decoder.clear()) > 1:
            self._flush()
            self._fed -= held
            self._open = Refused(self.framing, self._fed, "the end of the frame is missing", 1)
            self._fed += 1
            # What a frame cut short has claimed may hold whole ones.
            rest = bytes(self._held[1:])
            self._held.clear()
            self.feed(rest)
        self._held.clear()
        self._flush()

    def forget(self) -> None:
        """Give up the APDUs that have not ended."""
        for offset in sorted(self._incomplete()):
            self.events.append(Refused(self.framing, offset, "the end of the APDU is missing"))
        self._blocks.clear()

    def _incomplete(self) -> list[int]:
        return self._blocks.incomplete

    def _drain(self) -> None:
        raise NotImplementedError

    def _discarded(self, event: Discarded) -> None:
        start, end = self._cursor, self._cursor + event.octets
        self._cursor = end
        before = self._open
        noise = event.reason.startswith("noise")
        # What is left of a broken frame is noise to the decoder, and part of that frame to people. The flag between
        # them may go uncounted.
        if noise and before is not None and start - before.offset - before.octets <= 1:
            self._open = Refused(before.framing, before.offset, before.reason, end - before.offset)
            return
        self.damaged += not noise
        self._flush()
        self._open = Refused(self.framing, start, event.reason, event.octets)

    def _flush(self) -> None:
        if self._open is not None:
            self.events.append(self._open)
            self._open = None

    def _frame(self, size: int) -> int:
        self._flush()
        offset = self._cursor
        self._cursor += size
        self.frames += 1
        if self.first_frame < 0:
            self.first_frame = offset
        return offset

    def _assembled(self, key: Hashable, part: Assembled, offset: int) -> None:
        for reason in part.reasons:
            self.events.append(Refused(self.framing, offset, reason, harmless=part.harmless))
        if part.apdu is None:
            return
        whole = self._blocks.take(key, part.apdu, part.offset)
        for reason in whole.reasons:
            self.events.append(Refused(self.framing, offset, reason))
        if whole.apdu is not None:
            self.events.append(Arrived(self.framing, whole.offset, whole.apdu))


class _HdlcLane(_Lane):
    framing = Framing.HDLC

    def __init__(self, max_apdu: int) -> None:
        self._frames = FrameDecoder()
        super().__init__(self._frames, max_apdu)
        self._segments = HdlcSegments(max_apdu)

    def _drain(self) -> None:
        while (event := self._frames.next_event()) is not None:
            if isinstance(event, Discarded):
                self._discarded(event)
                for begun in self._segments.interrupt():
                    self.events.append(Refused(self.framing, begun, "an APDU with damaged octets between its segments"))
            else:
                offset = self._frame(_hdlc_size(event))
                self._assembled((event.destination, event.source), self._segments.take(event, offset), offset)

    def _incomplete(self) -> list[int]:
        return super()._incomplete() + self._segments.incomplete

    def forget(self) -> None:
        super().forget()
        self._segments.clear()


def _hdlc_size(frame: Frame) -> int:
    """Octets of a frame up to its closing flag, which may open the next."""
    check = 2 if frame.information else 0
    return 1 + 2 + len(frame.destination) + len(frame.source) + 1 + 2 + len(frame.information) + check


class _MbusLane(_Lane):
    framing = Framing.MBUS

    def __init__(self, max_apdu: int) -> None:
        self._frames = LongFrameDecoder()
        super().__init__(self._frames, max_apdu)
        self._segments = TransportSegments(max_apdu)

    def _drain(self) -> None:
        while (event := self._frames.next_event()) is not None:
            if isinstance(event, LongFrame):
                offset = self._frame(len(event.data) + 9)
                self._assembled((event.address, event.data[:2]), self._segments.take(event, offset), offset)
            else:
                self._discarded(event)

    def _incomplete(self) -> list[int]:
        return super()._incomplete() + self._segments.incomplete

    def forget(self) -> None:
        super().forget()
        self._segments.clear()


class _WrapperLane(_Lane):
    framing = Framing.WRAPPER

    def __init__(self, max_apdu: int) -> None:
        self._frames = WrapperDecoder(APDU_TAGS, max_apdu)
        super().__init__(self._frames, max_apdu)

    def _drain(self) -> None:
        while (event := self._frames.next_event()) is not None:
            if isinstance(event, WrapperFrame):
                offset = self._frame(len(event.apdu) + 8)
                self._assembled((event.source, event.destination), Assembled(event.apdu, offset), offset)
            else:
                self._discarded(event)


_LANES: dict[Framing, type[_HdlcLane | _MbusLane | _WrapperLane]] = {
    Framing.HDLC: _HdlcLane,
    Framing.MBUS: _MbusLane,
    Framing.WRAPPER: _WrapperLane,
}


_STARTS = re.compile(b"[" + re.escape(bytes((FLAG, START, 0))) + b"]")
"""What a frame of any framing may begin with: between them there is noise and nothing else."""


class Reception:
    """Takes APDUs out of octets that come unasked.

    Without a framing, all are tried side by side, and the first that gives a valid frame is kept; what has none is one
    bare APDU when the end comes. Feed no more than `stretch` says where offsets must be exact within damaged stretches.

    Args:
        framing: how APDUs are framed, None to find out.
        max_apdu: longer ones are refused, octets.
        bare: whether octets without any frame may be an APDU: on files and datagrams, not on a stream.
    """

    def __init__(self, framing: Framing | None = None, max_apdu: int = MAX_APDU, *, bare: bool = True) -> None:
        self._max_apdu = max_apdu
        self._bare = bare
        self._raw = bytearray()
        self._fed = 0
        self._framing = framing
        self._events: deque[Arrived | Refused] = deque()
        self._lanes = [lane(max_apdu) for kind, lane in _LANES.items() if framing in (None, kind)]

    @property
    def framing(self) -> Framing | None:
        """What the octets are framed in, None while that is open."""
        return self._framing

    @property
    def pending(self) -> int:
        """Octets held of a frame that is not complete."""
        return max((lane.pending for lane in self._lanes), default=len(self._raw))

    def stretch(self, octets: bytes, position: int) -> int:
        """How many of `octets` from `position` on can be fed at once, offsets as exact as one by one; 1 or more."""
        if self._framing is Framing.RAW:
            return len(octets) - position
        quiet = [lane.due for lane in self._lanes if lane.pending]
        if len(quiet) < len(self._lanes):
            found = _STARTS.search(octets, position)
            quiet.append((len(octets) if found is None else found.start()) - position)
        return max(1, min(quiet))

    def receive_data(self, data: bytes) -> None:
        """Take octets in; what they complete is read with `next_event`."""
        if self._framing in (None, Framing.RAW):
            # One more than allowed, so that too long is known from just right; the first alone where it is no APDU.
            most = self._max_apdu + 1 if self._bare or self._framing is Framing.RAW else 1
            self._raw += data[: most - len(self._raw)]
        self._fed += len(data)
        for lane in self._lanes:
            lane.feed(data)
        if self._framing is None:
            self._decide()
        self._collect()

    def end(self, *, datagram: bool = False) -> None:
        """No more octets come: report what is incomplete, take what has no frame as one bare APDU.

        Args:
            datagram: only a datagram ends; an APDU in parts may go on in the next.
        """
        for lane in self._lanes:
            lane.end()
            if not datagram:
                lane.forget()
        if self._framing is None:
            self._end_undecided(datagram)
        elif self._framing is Framing.RAW:
            self._end_raw()
        self._collect()

    def next_event(self) -> Arrived | Refused | None:
        """Return the next APDU or refusal, or None when more octets are needed."""
        return self._events.popleft() if self._events else None

    # ---- within

    def _collect(self) -> None:
        if self._framing is None:
            for lane in self._lanes:
                # Nobody knows yet whose these are; on endless noise they must not pile up.
                while len(lane.events) > _MOST_UNDECIDED:
                    lane.events.popleft()
            return
        for lane in self._lanes:
            self._events += lane.events
            lane.events.clear()

    def _decide(self) -> None:
        found = next((lane for lane in self._lanes if lane.frames and self._believable(lane)), None)
        if found is not None:
            self._settle(found)

    def _settle(self, lane: _Lane) -> None:
        self._framing = lane.framing
        self._lanes = [each for each in self._lanes if each is lane]
        self._raw.clear()

    def _believable(self, lane: _Lane) -> bool:
        if lane.framing is not Framing.WRAPPER or lane.first_frame == 0:
            return True
        # A wrapper has no check sequence: found behind other octets, it must not be part of something else.
        others = [other for other in self._lanes if other is not lane]
        return not any(other.pending or other.damaged for other in others) and not self._looks_bare()

    def _looks_bare(self) -> bool:
        return self._bare and bool(self._raw) and self._raw[0] in APDU_TAGS

    def _end_undecided(self, datagram: bool) -> None:
        if not self._raw:
            return
        if self._looks_bare():
            self._end_raw()
            return
        starts = {FLAG: Framing.HDLC, START: Framing.MBUS, 0: Framing.WRAPPER}
        likely = starts.get(self._raw[0])
        lane = max(self._lanes, key=lambda each: (each.damaged, each.framing is likely))
        if lane.damaged or lane.framing is likely:
            self._events += lane.events
        else:
            self._events.append(Refused(None, 0, "no frame of any framing, and no APDU", self._fed))
        for each in self._lanes:
            each.events.clear()
        self._raw.clear()

    def _end_raw(self) -> None:
        apdu = bytes(self._raw)
        self._raw.clear()
        for lane in self._lanes:
            lane.events.clear()
        offset = max(0, self._fed - len(apdu))
        if len(apdu) > self._max_apdu:
            self._events.append(
                Refused(Framing.RAW, offset, f"an APDU of more than {self._max_apdu} octets", self._fed)
            )
        elif apdu:
            self._events.append(Arrived(Framing.RAW, offset, apdu))
