"""Turns: one holder at a time, first come, first served, and nothing but a flag while nobody else wants it."""

from __future__ import annotations

import asyncio
from collections import deque


class Turn:
    """What asyncio.Lock is, with a way to take it that costs no coroutine where it is free."""

    __slots__ = ("_taken", "_waiting")

    def __init__(self) -> None:
        self._taken = False
        self._waiting: deque[asyncio.Future[None]] = deque()

    def take_if_free(self) -> bool:
        """Take the turn unless somebody has it or waits for it."""
        if self._taken or self._waiting:
            return False
        self._taken = True
        return True

    def give_back(self) -> None:
        """Hand the turn to who waits longest, or leave it free."""
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return
        self._taken = False

    async def __aenter__(self) -> None:
        if self.take_if_free():
            return
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        try:
            await waiter
        except asyncio.CancelledError:
            if not waiter.cancelled():
                # Cancelled in the moment it became ours: the next one has it.
                self.give_back()
            raise

    async def __aexit__(self, *_: object) -> None:
        self.give_back()
