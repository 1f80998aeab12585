"""Links of a server that does not know beforehand who will call: the first frame says so. No socket, no clock."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from struct import Struct
from typing import Final, Protocol

from meterbridge.dlms import (
    ApduReceived,
    Discarded,
    Frame,
    FrameDecoder,
    HdlcParameters,
    HdlcServerLink,
    LinkClosed,
    LinkOpened,
    WrapperLink,
)
from meterbridge.dlms.hdlc import POLL_FINAL, Control, address_parts
from meterbridge.dlms.hdlc_station import LLC_RESPONSE, LinkState
from meterbridge.errors import LocalProtocolError
from meterbridge.simulator.association import ServerAssociation
from meterbridge.simulator.meter import Identity

_WRAPPER_HEADER: Final = Struct(">HHHH")
_SHORT_ARRIVAL: Final = 256

NewAssociation = Callable[[int], ServerAssociation]
"""Makes the association of a client, by its SAP."""


class ServerSide(Protocol):
    """One TCP connection seen from the meter: octets in, octets that answer them out."""

    def receive(self, data: bytes, now: float) -> bytes:
        """Take octets in at Unix time `now`; return what answers them."""

    def close(self) -> None:
        """End the association: the connection is gone."""


@functools.lru_cache(maxsize=8192)
def _single_frame(data: bytes) -> Frame | None:
    # What thousands of meters are sent every second differs only in its sequence numbers.
    decoder = FrameDecoder()
    decoder.receive_data(data)
    first = decoder.next_event()
    alone = decoder.next_event() is None and decoder.pending <= 1
    return first if alone and isinstance(first, Frame) else None


class _MeterLink(HdlcServerLink):
    """A server link fed with frames that were already taken out of the stream, to learn who calls."""

    def receive_frame(self, frame: Frame) -> None:
        self._frame(frame)

    def answer(self, apdus: Sequence[bytes]) -> None:
        """Send what answers an APDU, RR where nothing does."""
        if not apdus:
            self.go_on()
            return
        self.send(*apdus)

    def apdus_at_once(self, longest: int) -> int:
        """How many APDUs of so many octets go out before the client has to ask on."""
        return self.negotiated.window_send if len(LLC_RESPONSE) + longest <= self.negotiated.max_information_send else 1


@dataclass(slots=True)
class HdlcSide:
    """HDLC: answers frames for its own address, stays silent to all others.

    Args:
        identity: whose address.
        parameters: the most the meter offers.
        associate: makes the association of a client.
    """

    identity: Identity
    parameters: HdlcParameters
    associate: NewAssociation
    _decoder: FrameDecoder = field(default_factory=FrameDecoder)
    _link: _MeterLink | None = None
    _addresses: tuple[bytes, bytes] = (b"", b"")
    _association: ServerAssociation | None = None

    def receive(self, data: bytes, now: float) -> bytes:
        """Take octets in at Unix time `now`; return what answers them."""
        # Pending 1 is the flag that closed the last frame.
        if len(data) <= _SHORT_ARRIVAL and self._decoder.pending <= 1 and (frame := _single_frame(data)) is not None:
            return self._answer(frame, now)
        self._decoder.receive_data(data)
        out = b""
        while (event := self._decoder.next_event()) is not None:
            if isinstance(event, Frame):
                out += self._answer(event, now)
        return out

    def close(self) -> None:
        """End the association: the connection is gone."""
        if self._association is not None:
            self._association.close()

    def _answer(self, frame: Frame, now: float) -> bytes:
        addresses = frame.destination, frame.source
        if addresses != self._addresses:
            if not self._is_ours(frame.destination) or len(frame.source) != 1:
                return b""
            if self._link is not None and self._link.state is LinkState.OPEN:
                # The line is one: a second client is told that it has none.
                return Frame(frame.source, frame.destination, Control.DM | POLL_FINAL).encode()
            self.close()
            self._addresses = addresses
            self._link = _MeterLink(frame.source, frame.destination, self.parameters)
            self._association = self.associate(frame.source[0] >> 1)
        link, association = self._link, self._association
        if link is None or association is None:
            return b""
        link.receive_frame(frame)
        while (event := link.next_event()) is not None:
            if isinstance(event, ApduReceived):
                link.answer(association.respond(event.apdu, now, link.apdus_at_once(association.limit)))
            elif isinstance(event, LinkOpened | LinkClosed):
                association.close()
            elif not isinstance(event, Discarded):
                raise LocalProtocolError(f"a link made {event!r}")
        return link.data_to_send()

    def _is_ours(self, destination: bytes) -> bool:
        upper, lower = address_parts(destination)
        return upper == self.identity.server and lower in (None, self.identity.physical)


@dataclass(slots=True)
class WrapperSide:
    """Wrapper: answers what is sent to its own wPort, stays silent to all others.

    Args:
        identity: whose wPort.
        associate: makes the association of a client.
    """

    identity: Identity
    associate: NewAssociation
    _client: int | None = None
    _link: WrapperLink | None = None
    _association: ServerAssociation | None = None
    _waiting: bytes = b""

    def receive(self, data: bytes, now: float) -> bytes:
        """Take octets in at Unix time `now`; return what answers them."""
        if self._association is None or not self._association.open:
            data = self._meet(data)
        link, association = self._link, self._association
        if link is None or association is None:
            return b""
        link.receive_data(data)
        while (event := link.next_event()) is not None:
            if isinstance(event, ApduReceived) and (answers := association.respond(event.apdu, now)):
                link.send(*answers)
        return link.data_to_send()

    def close(self) -> None:
        """End the association: the connection is gone."""
        if self._association is not None:
            self._association.close()

    def _meet(self, data: bytes) -> bytes:
        """Look for a header that says who calls; return what the link has to see."""
        size = _WRAPPER_HEADER.size
        if self._link is None:
            data = self._waiting + data
        # A known client may go on in the middle of an APDU: only an arrival that begins with a header is another's.
        places = max(0, len(data) - size + 1)
        for start in range(places if self._link is None else min(places, 1)):
            version, client, server, _ = _WRAPPER_HEADER.unpack_from(data, start)
            if version == 1 and server == self.identity.server and client != self._client:
                self._client = client
                self._link = WrapperLink(server, client)
                self._link.connect()
                self._association = self.associate(client)
                self._waiting = b""
                return data[start:]
        if self._link is None:
            self._waiting = data[places:]
        return data
