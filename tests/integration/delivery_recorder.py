"""An MQTT server that records each message before it acknowledges it, and misbehaves on demand."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable


class Recorder:
    """MQTT 3.1.1 or 5, QoS 1, publishing clients only.

    Args:
        port: loopback port.
    """

    def __init__(self, port: int) -> None:
        self.port = port
        self.messages: list[tuple[str, bytes]] = []
        self.acknowledge = True
        self.greeting: bytes | None = None
        self.cut_after: int | None = None
        self.refuse: Callable[[str], int] = lambda topic: 0
        self.connections = 0
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    async def start(self) -> None:
        """Listen."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)

    async def stop(self) -> None:
        """Cut all and listen no more."""
        if self._server is not None:
            self._server.close()
            self._server = None
        self.cut()
        await asyncio.sleep(0)

    def cut(self) -> None:
        """Reset every connection."""
        for writer in self._writers:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.add(writer)
        try:
            await self._talk(reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            self._writers.discard(writer)
            writer.transport.abort()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        version = 4
        while True:
            (head,) = await reader.readexactly(1)
            length = shift = 0
            while True:
                (octet,) = await reader.readexactly(1)
                length |= (octet & 0x7F) << shift
                shift += 7
                if octet < 0x80:
                    break
            body = await reader.readexactly(length)
            if head >> 4 == 1:
                if self.greeting is not None:
                    writer.write(self.greeting)
                    continue
                version = body[6]
                writer.write(b"\x20\x02\x00\x00" if version == 4 else b"\x20\x03\x00\x00\x00")
            elif head >> 4 == 3:
                self._publish(body, version, writer)
            elif head >> 4 == 12:
                writer.write(b"\xd0\x00")

    def _publish(self, body: bytes, version: int, writer: asyncio.StreamWriter) -> None:
        (size,) = struct.unpack_from(">H", body)
        topic = body[2 : 2 + size].decode()
        mid = body[2 + size : 4 + size]
        payload = body[4 + size :] if version == 4 else body[5 + size :]
        code = self.refuse(topic)
        if not code:
            self.messages.append((topic, payload))
        if self.cut_after is not None:
            self.cut_after -= 1
            if self.cut_after <= 0:
                # Recorded, never acknowledged: it has to come again.
                self.cut_after = None
                writer.transport.abort()
                return
        if self.acknowledge:
            writer.write(b"\x40\x02" + mid if version == 4 else b"\x40\x03" + mid + bytes([code]))
