"""How many connections open at once and per second, over all meters: the end of a power cut is no stampede."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable


class TokenBucket:
    """A rate with a small burst, pure.

    Args:
        rate: tokens a second.
        burst: tokens that may be saved up, at least 1.
        now: seconds, any clock that does not jump.
    """

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self._rate = rate
        self._burst = max(1.0, burst)
        self._tokens = self._burst
        self._at = now

    def take(self, now: float) -> float:
        """Take a token and return 0, or take none and return the seconds until there is one."""
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate)
        self._at = now
        # A token short by a rounding error is one: a wait of nothing would be a busy loop.
        if self._tokens >= 1.0 - 1e-6:
            self._tokens -= 1.0
            return 0.0
        return (1.0 - self._tokens) / self._rate


class ConnectionGate:
    """Lets connections through in the order they came, at a rate and up to a number. Belongs to one event loop.

    Args:
        rate: new connections a second.
        most: connections open at once.
        monotonic: seconds.
    """

    def __init__(self, rate: float, most: int, monotonic: Callable[[], float]) -> None:
        # A tenth of a second's worth: enough to keep the rate with timers of a millisecond.
        self._bucket = TokenBucket(rate, rate / 10, monotonic())
        self._most = most
        self._monotonic = monotonic
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self.open = 0

    @property
    def contended(self) -> bool:
        """Whether somebody waits because too many connections are open."""
        return self.open >= self._most and bool(self._waiting)

    @property
    def waiting(self) -> int:
        """How many wait for leave."""
        return len(self._waiting)

    async def enter(self) -> None:
        """Wait for leave to open a connection; `leave` gives it back."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        self._pump()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.leave()
            elif turn in self._waiting:
                self._waiting.remove(turn)
            raise

    def leave(self) -> None:
        """Give a connection back."""
        self.open -= 1
        self._pump()

    def _pump(self) -> None:
        while self._waiting and self.open < self._most and self._timer is None:
            if self._waiting[0].done():
                self._waiting.popleft()
                continue
            wait = self._bucket.take(self._monotonic())
            if wait > 0.0:
                self._timer = asyncio.get_running_loop().call_later(wait, self._ring)
                return
            self.open += 1
            self._waiting.popleft().set_result(None)

    def _ring(self) -> None:
        self._timer = None
        self._pump()
