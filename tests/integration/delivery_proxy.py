"""A TCP proxy that breaks connections in the middle of a message, and holds answers back."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Self


class Proxy:
    """Between a client and a server on loopback.

    Args:
        port: where it listens.
        target: where it connects to.
    """

    def __init__(self, port: int, target: int) -> None:
        self.port = port
        self.cuts = 0
        self.withhold = False
        self._target = target
        self._left: int | None = None
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()

    def cut_after(self, octets: int | None) -> None:
        """Reset the connection after so many octets more from the client; None leaves it alone."""
        self._left = octets

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.transport.abort()
            return
        up = asyncio.create_task(self._forward(reader, far_writer))
        down = asyncio.create_task(self._back(far_reader, writer))
        self._tasks.update((up, down))
        await asyncio.wait((up, down), return_when=asyncio.FIRST_COMPLETED)
        for task in (up, down):
            task.cancel()
        writer.transport.abort()
        far_writer.transport.abort()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(4096):
                if self._left is not None:
                    data, whole = data[: self._left], len(data)
                    self._left -= len(data)
                    if whole > len(data) or not self._left:
                        self._left = None
                        self.cuts += 1
                        writer.write(data)
                        await writer.drain()
                        return
                writer.write(data)
                await writer.drain()

    async def _back(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(4096):
                while self.withhold:
                    await asyncio.sleep(0.05)
                writer.write(data)
                await writer.drain()
