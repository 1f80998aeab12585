"""HDLC data links, client and server end: sequence numbers, windows, segmentation, retransmission.

No socket, no clock: `handle_timeout` is called by whoever has one (Green Book, data link layer for HDLC; normal
response mode, the client is the primary station).
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from meterbridge.dlms.hdlc import (
    FLAG,
    POLL_FINAL,
    RNR,
    RR,
    Control,
    Frame,
    FrameDecoder,
    fcs,
)
from meterbridge.dlms.link import ApduReceived, LinkClosed, LinkEvent, LinkOpened
from meterbridge.dlms.stream import Discarded
from meterbridge.errors import LocalProtocolError, RemoteProtocolError

LLC_COMMAND = b"\xe6\xe6\x00"
LLC_RESPONSE = b"\xe6\xe7\x00"
DEFAULT_INFORMATION = 128
MAX_INFORMATION = 2030
MAX_APDU = 1 << 20
"""Most octets put together from segments: a peer that never ends one is cut off there."""
_MOST_RETRANSMISSIONS = 2
_MOST_POLLS = 3


class LinkState(enum.Enum):
    """Where an HDLC link stands."""

    CLOSED = "closed"
    OPENING = "opening"
    OPEN = "open"
    CLOSING = "closing"


@dataclass(frozen=True, slots=True)
class HdlcParameters:
    """What one end proposes in SNRM or UA.

    Args:
        max_information_send: largest information field we would send, 1..2030 octets.
        max_information_receive: largest we take.
        window_send: frames under way from us, 1..7.
        window_receive: frames under way towards us, 1..7.
    """

    max_information_send: int = DEFAULT_INFORMATION
    max_information_receive: int = DEFAULT_INFORMATION
    window_send: int = 1
    window_receive: int = 1

    def __post_init__(self) -> None:
        for name in ("max_information_send", "max_information_receive"):
            if not 16 <= getattr(self, name) <= MAX_INFORMATION:
                raise LocalProtocolError(f"{name} {getattr(self, name)} is outside 16..{MAX_INFORMATION}")
        for name in ("window_send", "window_receive"):
            if not 1 <= getattr(self, name) <= 7:
                raise LocalProtocolError(f"{name} {getattr(self, name)} is outside 1..7")

    @property
    def is_default(self) -> bool:
        """Whether these are what holds when nothing is said."""
        return self == HdlcParameters()

    def encode(self) -> bytes:
        """Return the information field of SNRM or UA."""
        content = b""
        for identifier, size in ((5, self.max_information_send), (6, self.max_information_receive)):
            content += (
                bytes((identifier, 1, size)) if size < 0x100 else bytes((identifier, 2)) + size.to_bytes(2, "big")
            )
        for identifier, window in ((7, self.window_send), (8, self.window_receive)):
            content += bytes((identifier, 4)) + window.to_bytes(4, "big")
        return b"\x81\x80" + bytes((len(content),)) + content

    @classmethod
    def decode(cls, information: bytes) -> HdlcParameters:
        """Read the information field of SNRM or UA; empty means the defaults, values out of range are brought into it.

        Raises:
            RemoteProtocolError: cut short, or not the negotiation format.
        """
        if not information:
            return cls()
        if information[:2] != b"\x81\x80" or len(information) < 3:
            raise RemoteProtocolError("link parameters in an unknown format")
        values = {5: DEFAULT_INFORMATION, 6: DEFAULT_INFORMATION, 7: 1, 8: 1}
        position, end = 3, min(3 + information[2], len(information))
        while position + 2 <= end:
            identifier, size = information[position], information[position + 1]
            octets = information[position + 2 : position + 2 + size]
            if len(octets) != size:
                raise RemoteProtocolError("link parameters cut short")
            values[identifier] = int.from_bytes(octets, "big")
            position += 2 + size
        return cls(
            min(max(values[5], 16), MAX_INFORMATION),
            min(max(values[6], 16), MAX_INFORMATION),
            min(max(values[7], 1), 7),
            min(max(values[8], 1), 7),
        )


def _agreed(ours: HdlcParameters, theirs: HdlcParameters) -> LinkOpened:
    # What one end sends is bounded by what the other takes.
    return LinkOpened(
        min(ours.max_information_send, theirs.max_information_receive),
        min(ours.max_information_receive, theirs.max_information_send),
        min(ours.window_send, theirs.window_receive),
        min(ours.window_receive, theirs.window_send),
    )


class _Station:
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


class HdlcLink(_Station):
    """Client end of one HDLC link: no socket, no clock.

    Noise is an event, not an exception, so a bad frame cannot wedge the link.

    Args:
        client: our address octets (`client_address`).
        server: the meter's address octets (`server_address`).
        parameters: what SNRM proposes.
    """

    _llc_out = LLC_COMMAND
    _llc_in = LLC_RESPONSE

    def __init__(self, client: bytes, server: bytes, parameters: HdlcParameters | None = None) -> None:
        super().__init__(client, server, parameters or HdlcParameters())
        self._retransmissions = 0
        self._polls = 0
        self._answer_due = True
        self._polled = False  # the meter ended its turn with its last frame of information

    @property
    def delivered(self) -> bool:
        """Whether the meter has acknowledged every frame."""
        return not self._queue and not self._unacknowledged

    def _from_peer(self, source: bytes) -> bool:
        # Some meters answer with another address length than they were called by.
        return source == self._peer or (len(source) != len(self._peer) and self.state is not LinkState.CLOSED)

    def connect(self) -> None:
        """Send SNRM; LinkOpened follows the meter's UA.

        Raises:
            LocalProtocolError: the link is not closed.
        """
        if self.state is not LinkState.CLOSED:
            raise LocalProtocolError(f"SNRM cannot be sent on a link that is {self.state.value}")
        self.state = LinkState.OPENING
        self._retransmissions = 0
        self._snrm()

    def _snrm(self) -> None:
        parameters = self._parameters
        self._write(Control.SNRM | POLL_FINAL, b"" if parameters.is_default else parameters.encode())

    def send(self, apdu: bytes, *more: bytes) -> None:
        """Send APDUs one behind the other, in as many frames as it takes; what is left of earlier ones is not sent.

        Raises:
            LocalProtocolError: the link is not open.
        """
        self._retransmissions = self._polls = 0
        # Whatever an earlier request still had under way is over.
        self._received.clear()
        self._queue.clear()
        self._answer_due = True
        super().send(apdu, *more)

    def send_unanswered(self, apdu: bytes) -> None:
        """Send an APDU that nothing answers: the meter acknowledges its frames with RR; raises as `send`."""
        self.send(apdu)
        self._answer_due = False

    def go_on(self) -> None:
        """Let the meter send more where it waits to be polled; in the middle of its window it does not."""
        if self.state is LinkState.OPEN and self._polled:
            self._ready()

    # ---- the quick way: see FastLink

    @property
    def fast_addresses(self) -> tuple[bytes, bytes, int]:
        """Addresses, and how long a frame may be."""
        return self._own, self._peer, self.negotiated.max_information_send

    @property
    def fast_check(self) -> Callable[[bytes], int]:
        """FCS over a whole frame, its own and the flags included: that depends on nothing but its length."""
        return fcs

    def fast_sequence(self) -> int:
        """V(R) and V(S); -1 when anything is under way."""
        if (
            self.state is not LinkState.OPEN
            or self._queue
            or self._unacknowledged
            or self._received
            or self._events
            or self._out
            or not self._decoder.idle
        ):
            return -1
        return self._receive_state << 3 | self._send_state

    def fast_following(self, sequence: int) -> int:
        """Both numbers, one further."""
        return sequence + 8 & 0o70 | sequence + 1 & 7

    def fast_frame(self, apdu: bytes, sequence: int) -> bytes | None:
        """The I frame of a request with these sequence numbers; None when it takes several."""
        information = self._llc_out + apdu
        if len(information) > self.negotiated.max_information_send:
            return None
        control = sequence >> 3 << 5 | POLL_FINAL | (sequence & 7) << 1
        return Frame(self._peer, self._own, control, information).encode()

    def fast_resume(self, sequence: int, apdu: bytes | None) -> None:
        """Catch up: all before `sequence` was exchanged, and `apdu`, unless it is None, was sent with it."""
        self._retransmissions = self._polls = 0
        self._receive_state, self._send_state = sequence >> 3, sequence & 7
        if apdu is not None:
            self._unacknowledged.append((self._send_state, self._llc_out + apdu, False))
            self._send_state = self._send_state + 1 & 7

    def fast_head(self, data: bytes, apdu: bytes) -> int:
        """Where in `data` the APDU begins when `data` is its one frame and nothing else; -1 otherwise."""
        head = len(data) - 3 - len(apdu)
        whole = data[0] == FLAG == data[-1] and (data[1] & 7) << 8 | data[2] == len(data) - 2
        return head if whole and data[head:-3] == apdu else -1

    def disconnect(self) -> None:
        """Send DISC; LinkClosed follows the meter's UA or DM, at once when the link is not open."""
        if self.state in (LinkState.CLOSED, LinkState.CLOSING):
            return
        self.state = LinkState.CLOSING
        self._queue.clear()
        self._write(Control.DISC | POLL_FINAL)

    def keep_alive(self) -> None:
        """Send RR, so that the meter's inactivity time-out starts anew.

        Raises:
            LocalProtocolError: the link is not open.
        """
        if self.state is not LinkState.OPEN:
            raise LocalProtocolError(f"RR cannot be sent on a link that is {self.state.value}")
        self._polls = _MOST_POLLS
        self._ready()

    def handle_timeout(self) -> bool:
        """Nothing came in time: repeat what may have been lost. False when there is nothing left to try."""
        self._decoder.clear()
        if self._retransmissions >= _MOST_RETRANSMISSIONS:
            return False
        self._retransmissions += 1
        if self.state is LinkState.OPENING:
            self._snrm()
        elif self.state is LinkState.CLOSING:
            self._write(Control.DISC | POLL_FINAL)
        elif self.state is LinkState.OPEN:
            # An answer that has begun is asked on from where it broke; an unheard request is said again. The meter
            # knows a repeated N(S) and answers it anew without doing it twice.
            if self._unacknowledged and not self._received:
                self._send_again()
            else:
                self._ready()
        else:
            return False
        return True

    def _closed(self, reason: str) -> None:
        requested = self.state is LinkState.CLOSING
        self.state = LinkState.CLOSED
        self._reset(self.negotiated)
        self._events.append(LinkClosed(reason, requested))

    def _frame(self, frame: Frame) -> None:
        if self.state is LinkState.CLOSED:
            self._set_aside("frame on a closed link")
        elif frame.unnumbered == Control.UA and not frame.is_information:
            self._unnumbered_acknowledge(frame)
        elif frame.unnumbered == Control.DM:
            if self.state is LinkState.OPENING:
                self._closed("the meter refused the link (DM)")
            else:
                self._closed("the meter is disconnected (DM)")
        elif frame.unnumbered == Control.FRMR:
            self._closed("the meter rejected a frame (FRMR)")
        elif self.state is not LinkState.OPEN:
            self._set_aside("frame of an earlier link")
        elif frame.is_information:
            self._information(frame)
        elif frame.is_supervisory:
            self._supervisory(frame)
        elif frame.unnumbered == Control.UI and frame.information.startswith(self._llc_in) and not frame.segmented:
            # What a meter sends unasked has no number.
            self._events.append(ApduReceived(frame.information[len(self._llc_in) :]))
        else:
            self._set_aside(f"frame with control field 0x{frame.control:02X}")

    def _unnumbered_acknowledge(self, frame: Frame) -> None:
        if self.state is LinkState.CLOSING:
            self._closed("disconnected")
        elif self.state is LinkState.OPENING:
            self._peer = frame.source
            try:
                theirs = HdlcParameters.decode(frame.information)
            except RemoteProtocolError as error:
                self._events.append(Discarded(f"UA: {error}", len(frame.information)))
                return
            self._reset(_agreed(self._parameters, theirs))
            self.state = LinkState.OPEN
            self._events.append(self.negotiated)
        else:
            self._set_aside("repeated UA")

    def _information(self, frame: Frame) -> None:
        if frame.send_sequence != self._receive_state:
            self._set_aside(f"I frame N(S)={frame.send_sequence} where {self._receive_state} is due")
            # Only a gap is complained of. An answer to a repeated one would be repeated in turn, for ever.
            repeated = frame.send_sequence == self._receive_state - 1 & 7
            if frame.final and not repeated and self._polls < _MOST_POLLS:
                self._polls += 1
                self._ready()
            return
        if not self._acknowledge(frame.receive_sequence):
            self._set_aside(f"I frame with N(R)={frame.receive_sequence} for frames never sent")
            return
        self._polls = self._retransmissions = 0
        self._polled = frame.final
        useful = self._take_information(frame)
        if not frame.segmented and not self._unacknowledged:
            # Answered before it was all said (an error, as a rule): the rest is not waited for.
            self._queue.clear()
        if useful and frame.final and (frame.segmented or self._queue):
            if self._queue:
                self._send_window()
            else:
                self._ready()

    def _supervisory(self, frame: Frame) -> None:
        before = len(self._unacknowledged)
        if not self._acknowledge(frame.receive_sequence):
            self._set_aside(f"RR with N(R)={frame.receive_sequence} for frames never sent")
            return
        if len(self._unacknowledged) < before:
            self._polls = self._retransmissions = 0
        if frame.control & 0x0F == RNR:
            return
        if self._queue and not self._unacknowledged:
            self._send_window()
        elif self.delivered and not self._answer_due:
            return
        elif self._polls < _MOST_POLLS:
            self._polls += 1
            if self._unacknowledged:
                self._send_again()
            else:
                self._ready()


class HdlcServerLink(_Station):
    """Server end of one HDLC link.

    Answers SNRM with UA and DISC with UA or DM; LinkOpened and LinkClosed tell the application.

    Args:
        client: the client's address octets.
        server: our address octets, as the client spells them.
        parameters: the most we offer.
    """

    _llc_out = LLC_RESPONSE
    _llc_in = LLC_COMMAND

    def __init__(self, client: bytes, server: bytes, parameters: HdlcParameters | None = None) -> None:
        super().__init__(server, client, parameters or HdlcParameters())

    def _frame(self, frame: Frame) -> None:
        if frame.is_information:
            self._information(frame) if self.state is LinkState.OPEN else self._write(Control.DM | POLL_FINAL)
        elif frame.unnumbered == Control.SNRM:
            self._snrm(frame)
        elif frame.unnumbered == Control.DISC:
            was_open = self.state is LinkState.OPEN
            self.state = LinkState.CLOSED
            self._write((Control.UA if was_open else Control.DM) | POLL_FINAL)
            if was_open:
                self._events.append(LinkClosed("the client disconnected"))
        elif self.state is not LinkState.OPEN:
            self._write(Control.DM | POLL_FINAL)
        elif frame.is_supervisory:
            self._supervisory(frame)
        else:
            self._set_aside(f"frame with control field 0x{frame.control:02X}")

    def _snrm(self, frame: Frame) -> None:
        try:
            theirs = HdlcParameters.decode(frame.information)
        except RemoteProtocolError as error:
            self._events.append(Discarded(f"SNRM: {error}", len(frame.information)))
            return
        agreed = _agreed(self._parameters, theirs)
        self._reset(agreed)
        self.state = LinkState.OPEN
        answer = HdlcParameters(
            agreed.max_information_send, agreed.max_information_receive, agreed.window_send, agreed.window_receive
        )
        self._write(Control.UA | POLL_FINAL, answer.encode())
        self._events.append(agreed)

    def _information(self, frame: Frame) -> None:
        if frame.send_sequence != self._receive_state:
            repeated = frame.send_sequence == (self._receive_state - 1 & 7)
            self._set_aside("repeated I frame" if repeated else "I frame out of sequence")
            if frame.final:
                self._send_again() if repeated and self._unacknowledged else self._ready()
            return
        self._acknowledge(frame.receive_sequence)
        self._unacknowledged.clear()
        self._queue.clear()
        self._take_information(frame)
        if frame.segmented and frame.final:
            self._ready()

    def _supervisory(self, frame: Frame) -> None:
        if not self._acknowledge(frame.receive_sequence):
            self._set_aside("RR for frames never sent")
        elif frame.control & 0x0F == RNR:
            return
        elif self._unacknowledged:
            self._send_again()
        elif self._queue:
            self._send_window()
        else:
            self._ready()

    def go_on(self) -> None:
        """Let the client send more: what it sent is not answered yet."""
        self._ready()

    def handle_timeout(self) -> bool:
        """A server waits to be asked: never anything to repeat."""
        return False
