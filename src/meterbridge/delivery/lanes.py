"""Which row goes next: live readings at once, the backlog behind them at a bounded rate. Pure: time is an argument."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable

from meterbridge.delivery.outbox import Page
from meterbridge.delivery.routes import Message

_CHUNK_ROWS = 2_000


class Allowance:
    """So many rows a second, a tenth of a second's worth at once; a large message is paid off afterwards.

    Args:
        rows_per_s: infinite means no bound.
    """

    def __init__(self, rows_per_s: float) -> None:
        self._rate = rows_per_s
        self._most = max(1.0, rows_per_s / 10)
        self._left = self._most
        self._at = -math.inf

    def wait(self, now: float) -> float:
        """Seconds until something may be sent; 0 when it may now."""
        if math.isinf(self._rate):
            return 0.0
        self._left = min(self._most, self._left + (now - max(self._at, now - 1.0)) * self._rate)
        self._at = now
        return 0.0 if self._left > 0 else -self._left / self._rate + 1e-4

    def take(self, rows: int) -> None:
        """Account for rows that were sent."""
        if not math.isinf(self._rate):
            self._left -= rows


class Lane:
    """Rows of one range of ids, oldest first, read a chunk at a time.

    Args:
        after: rows above this id.
        last: up to this id, None without end.
    """

    def __init__(self, after: int, last: int | None) -> None:
        self._cursor = after
        self._last = last
        self._ready: deque[Message] = deque()
        self.exhausted = last is not None and last <= after

    @property
    def empty(self) -> bool:
        """Whether nothing is left, as far as was looked."""
        return self.exhausted and not self._ready

    def head(self, peek: Callable[[int, int, int | None], Page | None], pack: Callable[[Page], list[Message]]) -> bool:
        """Whether a message is there to be taken; reads on when none is left.

        Args:
            peek: reads rows: after which id, how many, up to which id.
            pack: makes messages of them.
        """
        while not self._ready and not self.exhausted:
            page = peek(self._cursor, _CHUNK_ROWS, self._last)
            if page is None:
                return False
            self._cursor, self.exhausted = page.last, page.complete
            self._ready.extend(pack(page))
        return bool(self._ready)

    def take(self) -> Message:
        """The next message."""
        return self._ready.popleft()

    def put_back(self, message: Message) -> None:
        """Return what could not be sent."""
        self._ready.appendleft(message)
