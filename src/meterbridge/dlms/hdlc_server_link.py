"""Server end of an HDLC link: it answers, and speaks when it is polled. No socket, no clock."""

from __future__ import annotations

from meterbridge.dlms.hdlc import POLL_FINAL, RNR, Control, Frame
from meterbridge.dlms.hdlc_parameters import HdlcParameters, agreed_parameters
from meterbridge.dlms.hdlc_station import LLC_COMMAND, LLC_RESPONSE, LinkState, Station
from meterbridge.dlms.link import LinkClosed
from meterbridge.dlms.stream import Discarded
from meterbridge.errors import RemoteProtocolError


class HdlcServerLink(Station):
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
        agreed = agreed_parameters(self._parameters, theirs)
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
