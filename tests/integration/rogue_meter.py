"""A meter on loopback that lets a client in and then answers each request with whatever a test likes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from meterbridge.dlms import (
    ApduReceived,
    Conformance,
    HdlcParameters,
    HdlcServerLink,
    Notified,
    WrapperLink,
    client_address,
    server_address,
)
from meterbridge.dlms.acse import AARQ, RLRQ, Aare, InitiateResponse, Release
from meterbridge.meter import DLMSClient, MeterAddress, Timeouts, load_model

EVERYTHING = (
    Conformance.GET
    | Conformance.SET
    | Conformance.ACTION
    | Conformance.MULTIPLE_REFERENCES
    | Conformance.BLOCK_TRANSFER_WITH_GET_OR_READ
    | Conformance.GENERAL_BLOCK_TRANSFER
)
CLIENT, SERVER = client_address(1), server_address(1)


class RogueMeter:
    """One meter, for one connection.

    Args:
        framing: `hdlc` or `wrapper`.
        answer: told of each APDU that is no part of associating; it uses `send` or `raw`.
        octets: told of what arrives before the link is, once it is associated; what it returns is sent in place of
            anything else, None leaves it to the link.
        aare: in place of one that accepts.
        parameters: HDLC parameters.
    """

    def __init__(
        self,
        framing: str,
        answer: Callable[[RogueMeter, bytes], None] = lambda meter, apdu: None,
        *,
        octets: Callable[[RogueMeter, bytes], bytes | None] = lambda meter, data: None,
        aare: bytes | None = None,
        parameters: HdlcParameters | None = None,
    ) -> None:
        self.framing = framing
        self.parameters = parameters or HdlcParameters()
        self._answer = answer
        self._octets = octets
        self._aare = aare or Aare(1, 0, 0, InitiateResponse(EVERYTHING, 1024).encode()).encode()
        self.associated = False
        self._raw = b""
        self.link: HdlcServerLink | WrapperLink
        if framing == "hdlc":
            self.link = HdlcServerLink(CLIENT, SERVER, parameters)
        else:
            self.link = WrapperLink(1, 1)
            self.link.connect()

    def send(self, *apdus: bytes) -> None:
        """Send APDUs as answers go."""
        self.link.send(*apdus)

    def raw(self, octets: bytes) -> None:
        """Send octets as they are."""
        self._raw += octets

    def receive(self, data: bytes) -> bytes:
        """Take octets in; return what to send."""
        if self.associated and (octets := self._octets(self, data)) is not None:
            return octets
        self.link.receive_data(data)
        while (event := self.link.next_event()) is not None:
            if not isinstance(event, ApduReceived):
                continue
            if event.apdu[0] == AARQ:
                self.send(self._aare)
                self.associated = True
            elif event.apdu[0] == RLRQ:
                self.send(Release(response=True).encode())
            else:
                self._answer(self, event.apdu)
        out, self._raw = self._raw, b""
        return out + self.link.data_to_send()

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[int]:
        """A port of the loopback."""

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                while data := await reader.read(65536):
                    writer.write(self.receive(data))
                    await writer.drain()
            except ConnectionError:
                pass
            finally:
                writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        try:
            yield server.sockets[0].getsockname()[1]
        finally:
            server.close()

    @asynccontextmanager
    async def client(
        self, timeouts: Timeouts, on_notified: Callable[[Notified], None] | None = None
    ) -> AsyncIterator[DLMSClient]:
        """A client for it, not connected yet; it is disconnected in the end."""
        async with self.listening() as port:
            address = MeterAddress("127.0.0.1", port, self.framing, hdlc=self.parameters)
            client = DLMSClient(address, load_model("generic"), timeouts, on_notified=on_notified)
            try:
                yield client
            finally:
                await client.disconnect()
