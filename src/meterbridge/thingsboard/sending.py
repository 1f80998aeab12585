"""Rows of several meters on one connection: what is given while one is in use goes together with the next."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from meterbridge.delivery import Route, Row
from meterbridge.errors import DeliveryError

Publish = Callable[[Route, list[Row], float], Awaitable[None]]
_Waiting = list[tuple[list[Row], "asyncio.Future[None]"]]


class SharedSending:
    """Publishes for many callers under one identity, never on two connections at once.

    Args:
        publish: sends rows on a connection of its own and returns when all are acknowledged.
    """

    def __init__(self, publish: Publish) -> None:
        self._publish = publish
        self._turn = asyncio.Lock()
        self._waiting: dict[str, _Waiting] = {}

    async def __call__(self, route: Route, rows: list[Row], timeout_s: float) -> None:
        """Send rows and return when they were acknowledged.

        Raises:
            DeliveryError: they were not; those of others have their own outcome.
        """
        mine = (rows, asyncio.get_running_loop().create_future())
        self._waiting.setdefault(route.name, []).append(mine)
        try:
            async with self._turn:
                # Whoever had the turn before may have taken it along.
                if not mine[1].done():
                    await self._send_all(route, timeout_s)
            await mine[1]
        finally:
            # Given up, it must not go with a later turn.
            mine[1].cancel()

    async def _send_all(self, route: Route, timeout_s: float) -> None:
        """Send what waits for a route; what is left of it when this is given up waits on."""
        together = self._waiting.pop(route.name)
        try:
            await self._send(route, [item for item in together if not item[1].done()], timeout_s)
        except BaseException:
            self._waiting.setdefault(route.name, [])[:0] = [item for item in together if not item[1].done()]
            raise

    async def _send(self, route: Route, together: _Waiting, timeout_s: float) -> None:
        try:
            await self._publish(route, [row for rows, _ in together for row in rows], timeout_s)
        except DeliveryError as error:
            if len(together) > 1:
                # It may be over one of them alone.
                for item in together:
                    await self._send(route, [item], timeout_s)
                return
            for _, done in together:
                if not done.done():
                    done.set_exception(error)
            return
        for _, done in together:
            if not done.done():
                done.set_result(None)
