"""The wrapper: DLMS over TCP or UDP without HDLC (Green Book, transport layer for IP networks)."""

from __future__ import annotations

from collections import deque
from struct import Struct

from meterbridge.dlms.link import ApduReceived, LinkClosed, LinkEvent, LinkOpened
from meterbridge.dlms.stream import Discarded
from meterbridge.errors import LocalProtocolError

_HEADER = Struct(">HHHH")
VERSION = 1
MAX_APDU = 0xFFFF


class WrapperLink:
    """One end of a wrapper association: eight octets of header before each APDU, no handshake.

    Args:
        own: our wPort (client SAP or server address).
        peer: the other end's wPort.
    """

    def __init__(self, own: int, peer: int) -> None:
        if not (0 <= own <= 0xFFFF and 0 <= peer <= 0xFFFF):
            raise LocalProtocolError(f"wrapper port {own} or {peer} is outside 0..65535")
        self._own = own
        self._peer = peer
        self._expected = _HEADER.pack(VERSION, peer, own, 0)[:6]
        self._buffer = bytearray()
        self._noise = 0
        self._events: deque[LinkEvent] = deque()
        self._out = bytearray()
        self._open = False

    def connect(self) -> None:
        """Nothing is sent: the link is open at once."""
        self._open = True
        self._events.append(LinkOpened(MAX_APDU, MAX_APDU))

    def disconnect(self) -> None:
        """Nothing is sent: the link is closed at once."""
        if self._open:
            self._open = False
            self._events.append(LinkClosed("disconnected", requested=True))

    def send(self, apdu: bytes, *more: bytes) -> None:
        """Send APDUs.

        Raises:
            LocalProtocolError: the link is not open, or more than 65,535 octets.
        """
        if not self._open:
            raise LocalProtocolError("an APDU cannot be sent on a link that is closed")
        for each in (apdu, *more):
            if len(each) > MAX_APDU:
                raise LocalProtocolError(f"an APDU of {len(each)} octets does not fit a wrapper")
            self._out += _HEADER.pack(VERSION, self._own, self._peer, len(each)) + each

    def send_unanswered(self, apdu: bytes) -> None:
        """Send an APDU that nothing answers; raises as `send`."""
        self.send(apdu)

    @property
    def delivered(self) -> bool:
        """Always: nothing says otherwise."""
        return True

    def go_on(self) -> None:
        """Both ends of a wrapper send as they like: nothing to do."""

    # ---- the quick way: see FastLink

    @property
    def fast_addresses(self) -> tuple[int, int]:
        """Both wPorts."""
        return self._own, self._peer

    @property
    def fast_check(self) -> None:
        """None: TCP and UDP check what they carry."""
        return None

    def fast_sequence(self) -> int:
        """0; -1 when anything is under way."""
        return -1 if not self._open or self._buffer or self._events or self._out else 0

    def fast_following(self, sequence: int) -> int:
        """0: wrappers are not numbered."""
        return sequence

    def fast_frame(self, apdu: bytes, sequence: int) -> bytes | None:
        """The octets of a request."""
        return _HEADER.pack(VERSION, self._own, self._peer, len(apdu)) + apdu

    def fast_resume(self, sequence: int, apdu: bytes | None) -> None:
        """There is nothing to catch up with."""

    def fast_head(self, data: bytes, apdu: bytes) -> int:
        """Where in `data` the APDU begins when there is nothing else; -1 otherwise."""
        return _HEADER.size if len(data) == _HEADER.size + len(apdu) and data.endswith(apdu) else -1

    def data_to_send(self) -> bytes:
        """Return the octets that are due to the peer, and forget them."""
        out = bytes(self._out)
        self._out.clear()
        return out

    def next_event(self) -> LinkEvent | None:
        """Return the next event, or None when more octets are needed."""
        return self._events.popleft() if self._events else None

    def receive_data(self, data: bytes) -> None:
        """Take octets from the peer in; what is no header of ours is skipped as noise."""
        buffer = self._buffer
        buffer += data
        expected = self._expected
        while buffer:
            if not buffer.startswith(expected[: len(buffer)]):
                self._resume()
                continue
            if len(buffer) < 8:
                break
            length = buffer[6] << 8 | buffer[7]
            if length == 0:
                self._resume()
                continue
            if len(buffer) < 8 + length:
                break
            self._report_noise()
            self._events.append(ApduReceived(bytes(buffer[8 : 8 + length])))
            del buffer[: 8 + length]
        self._report_noise()

    def _resume(self) -> None:
        # Find the next place where a header of ours could begin, be it only its first octets.
        buffer = self._buffer
        start = buffer.find(self._expected, 1)
        if start < 0:
            start = len(buffer)
            for size in range(min(5, len(buffer) - 1), 0, -1):
                if buffer.endswith(self._expected[:size]):
                    start = len(buffer) - size
                    break
        self._noise += start
        del buffer[:start]

    def _report_noise(self) -> None:
        if self._noise:
            self._events.append(Discarded("noise outside of a wrapper", self._noise))
            self._noise = 0

    def handle_timeout(self) -> bool:
        """TCP repeats by itself: never anything to repeat here."""
        self._buffer.clear()
        return False

    def resynchronise(self) -> int:
        """Forget octets of an APDU that never became whole; return how many."""
        dropped = len(self._buffer)
        self._buffer.clear()
        return dropped
