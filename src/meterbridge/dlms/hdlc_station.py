"""What client and server end of an HDLC link share: numbered information in both directions, in segments."""

from __future__ import annotations

import enum
from collections import deque

from meterbridge.dlms.hdlc import POLL_FINAL, RR, Frame, FrameDecoder
from meterbridge.dlms.hdlc_parameters import DEFAULT_INFORMATION, HdlcParameters
from meterbridge.dlms.link import ApduReceived, LinkEvent, LinkOpened
from meterbridge.dlms.stream import Discarded
from meterbridge.errors import LocalProtocolError

LLC_COMMAND = b"\xe6\xe6\x00"
LLC_RESPONSE = b"\xe6\xe7\x00"
MAX_APDU = 1 << 20
"""Most octets put together from segments: a peer that never ends one is cut off there."""


class LinkState(enum.Enum):
    """Where an HDLC link stands."""

    CLOSED = "closed"
    OPENING = "opening"
    OPEN = "open"
    CLOSING = "closing"


class Station:
    """What client and server end share: numbered information transfer in both directions."""

    _llc_out: bytes
    _llc_in: bytes

    def __init__(self, own: bytes, peer: bytes, parameters: HdlcParameters) -> None:
        self._own = own
        self._peer = peer
        self._parameters = parameters
        self._decoder = FrameDecoder()
        self._events: deque[LinkEvent] = deque()
        self._out = bytearray()
        self.state = LinkState.CLOSED
        self._reset(LinkOpened(DEFAULT_INFORMATION, DEFAULT_INFORMATION))

    def _reset(self, negotiated: LinkOpened) -> None:
        self.negotiated = negotiated
        self._send_state = 0  # V(S): number of the next frame we send
        self._receive_state = 0  # V(R): number of the next frame we expect
        self._unacknowledged: deque[tuple[int, bytes, bool]] = deque()
        self._queue: deque[tuple[bytes, bool]] = deque()
        self._received = bytearray()

    # ---- octets

    def data_to_send(self) -> bytes:
        """Return the octets that are due to the peer, and forget them."""
        out = bytes(self._out)
        self._out.clear()
        return out

    def next_event(self) -> LinkEvent | None:
        """Return the next event, or None when more octets are needed.

        Frames take effect one by one as their events are read, so that what the caller does about an event happens on
        the link as it was then, whatever else came in the same octets.
        """
        while not self._events:
            event = self._decoder.next_event()
            if event is None:
                return None
            if isinstance(event, Discarded):
                return event
            if event.destination != self._own or not self._from_peer(event.source):
                self._set_aside("frame for another station")
            else:
                self._frame(event)
        return self._events.popleft()

    def receive_data(self, data: bytes) -> None:
        """Take octets from the peer in; they take effect as `next_event` is called until it returns None."""
        self._decoder.receive_data(data)

    def resynchronise(self) -> int:
        """Forget octets of a frame that never became whole; return how many."""
        return self._decoder.clear()

    def _from_peer(self, source: bytes) -> bool:
        return source == self._peer

    def _set_aside(self, why: str) -> None:
        self._events.append(Discarded(why, 0, damaged=False))

    def _frame(self, frame: Frame) -> None:
        raise NotImplementedError

    def _write(self, control: int, information: bytes = b"", segmented: bool = False) -> None:
        self._out += Frame(self._peer, self._own, control, information, segmented).encode()

    # ---- numbered transfer

    def send(self, apdu: bytes, *more: bytes) -> None:
        """Send APDUs one behind the other, in as many frames as it takes.

        Raises:
            LocalProtocolError: the link is not open, or the last APDU is still under way.
        """
        if self.state is not LinkState.OPEN:
            raise LocalProtocolError(f"an APDU cannot be sent on a link that is {self.state.value}")
        if self._queue:
            raise LocalProtocolError("an APDU cannot be sent while the last one is under way")
        self._unacknowledged.clear()
        size = self.negotiated.max_information_send
        for each in (apdu, *more):
            information = self._llc_out + each
            for start in range(0, len(information), size):
                self._queue.append((information[start : start + size], start + size < len(information)))
        self._send_window()

    def _send_window(self) -> None:
        room = self.negotiated.window_send - len(self._unacknowledged)
        while room > 0 and self._queue:
            information, segmented = self._queue.popleft()
            room -= 1
            last = room == 0 or not self._queue
            number = self._send_state
            self._send_state = number + 1 & 7
            self._unacknowledged.append((number, information, segmented))
            self._write(self._receive_state << 5 | (POLL_FINAL if last else 0) | number << 1, information, segmented)

    def _send_again(self) -> None:
        last = len(self._unacknowledged) - 1
        for index, (number, information, segmented) in enumerate(self._unacknowledged):
            poll = POLL_FINAL if index == last else 0
            self._write(self._receive_state << 5 | poll | number << 1, information, segmented)

    def _acknowledge(self, number: int) -> bool:
        """Take N(R) of the peer; False when it is outside of what we have under way."""
        waiting = [sent for sent, _, _ in self._unacknowledged]
        if number not in waiting and number != self._send_state:
            return False
        while self._unacknowledged and self._unacknowledged[0][0] != number:
            self._unacknowledged.popleft()
        return True

    def _ready(self, poll: bool = True) -> None:
        self._write(self._receive_state << 5 | (POLL_FINAL if poll else 0) | RR)

    def _take_information(self, frame: Frame) -> bool:
        """Take an I frame whose N(S) is due; False when what came so far is of no use and was thrown away."""
        self._receive_state = self._receive_state + 1 & 7
        if not self._received and not frame.information.startswith(self._llc_in):
            # The tail of an earlier answer, too: it must not become the head of this one.
            self._events.append(Discarded("information without its LLC header", len(frame.information)))
            return False
        if frame.segmented and not frame.information:
            self._events.append(Discarded("segment without information", 0))
            return False
        self._received += frame.information
        if len(self._received) > MAX_APDU:
            self._received.clear()
            self._events.append(Discarded(f"segments of more than {MAX_APDU} octets", MAX_APDU))
            return False
        if frame.segmented:
            return True
        information = bytes(self._received)
        self._received.clear()
        self._events.append(ApduReceived(information[3:]))
        return True
