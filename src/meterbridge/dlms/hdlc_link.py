"""Client end of an HDLC data link: sequence numbers, windows, segmentation, retransmission.

No socket, no clock: `handle_timeout` is called by whoever has one (Green Book, data link layer for HDLC; normal
response mode, the client is the primary station).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from meterbridge.dlms.hdlc import FLAG, POLL_FINAL, RNR, Control, Frame, fcs
from meterbridge.dlms.hdlc_parameters import HdlcParameters, agreed_parameters
from meterbridge.dlms.hdlc_station import LLC_COMMAND, LLC_RESPONSE, LinkState, Station
from meterbridge.dlms.link import ApduReceived, LinkClosed
from meterbridge.dlms.stream import Discarded
from meterbridge.errors import LocalProtocolError, RemoteProtocolError

_MOST_RETRANSMISSIONS = 2
_MOST_POLLS = 3


class HdlcLink(Station):
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
        self._polled = False  # the meter ended its turn with information, and we have not polled it since
        self._rest: deque[tuple[bytes, bool]] = deque()  # of a request that was answered before it was all said

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
        self._rest.clear()
        self._answer_due = True
        super().send(apdu, *more)

    def send_unanswered(self, apdu: bytes) -> None:
        """Send an APDU that nothing answers: the meter acknowledges its frames with RR; raises as `send`."""
        self.send(apdu)
        self._answer_due = False

    def go_on(self) -> None:
        """What came last was no answer: say what is left, and let the meter send more where it waits to be polled."""
        if self.state is not LinkState.OPEN:
            return
        if self._rest:
            self._queue, self._rest = self._rest, deque()
        if self._polled:
            self._poll()

    def _poll(self) -> None:
        """Give the meter its turn: with what it has still to hear, or an RR."""
        if not self._queue:
            self._ready()
        elif self._unacknowledged:
            # It spoke before it had heard the whole window: what it lacks comes before what is next.
            self._send_again()
        else:
            self._send_window()

    def _write(self, control: int, information: bytes = b"", segmented: bool = False) -> None:
        if control & POLL_FINAL:
            self._polled = False
        super()._write(control, information, segmented)

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
        self._polled = False
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
        self._rest.clear()
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
            # What a meter sends unasked has no number, and may be all it says in its turn.
            self._polled = self._polled or frame.final
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
            self._reset(agreed_parameters(self._parameters, theirs))
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
            # Answered before it was all said (an error, as a rule): the rest is not waited for. If it was no answer,
            # `go_on` says so.
            self._rest, self._queue = self._queue, deque()
        if useful and frame.final and (frame.segmented or self._queue):
            self._poll()

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
