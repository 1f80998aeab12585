"""Errands: what somebody wants done on one meter's association, in the time between its polls."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, Generic, TypeVar

from meterbridge.errors import CommandRefused, MeterbridgeError

_T = TypeVar("_T")
# Part of the time to the next poll that an errand may be expected to take.
_USABLE = 0.8
# One that never fits may still take a poll's time, once in so many periods.
_RARELY = 10
_FORGET = 0.7


class Errand(Generic[_T]):
    """One of them: done once, or not at all.

    Args:
        work: does it.
        exchanges: requests it makes, about.
        by: until when it must have begun, monotonic seconds.
        patience: from when it may be done although it does not fit.
        done: its outcome.
        took: told how long it took for each exchange, seconds.
    """

    def __init__(
        self,
        work: Callable[[], Awaitable[_T]],
        exchanges: int,
        by: float,
        patience: float,
        done: asyncio.Future[_T],
        monotonic: Callable[[], float],
        took: Callable[[float], None],
    ) -> None:
        self.exchanges = exchanges
        self.by = by
        self.patience = patience
        self.done = done
        self._work = work
        self._monotonic = monotonic
        self._took = took

    async def do(self) -> None:
        """Do it; errors are whoever's who wanted it, but for bugs of ours."""
        began = self._monotonic()
        try:
            result = await self._work()
        except MeterbridgeError as error:
            self.fail(error)
        except BaseException:
            self.fail(CommandRefused("polling of this meter was stopped meanwhile"))
            raise
        else:
            if not self.done.done():
                self.done.set_result(result)
        finally:
            self._took((self._monotonic() - began) / max(1, self.exchanges))

    def fail(self, error: MeterbridgeError) -> None:
        """State why it was not done, or not to its end."""
        if not self.done.done():
            self.done.set_exception(error)


class Errands:
    """Those of one meter that have not begun. Belongs to one event loop.

    Args:
        monotonic: seconds.
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._waiting: deque[Errand[Any]] = deque()
        self._exchange = 0.0
        self._not_before = -math.inf

    def add(self, work: Callable[[], Awaitable[_T]], exchanges: int, by: float) -> asyncio.Future[_T]:
        """Take an errand; see `Errand` for the arguments."""
        done: asyncio.Future[_T] = asyncio.get_running_loop().create_future()
        patience = (self._monotonic() + by) / 2
        errand = Errand(work, exchanges, by, patience, done, self._monotonic, self._remember)
        self._waiting.append(errand)
        return done

    def next(self, left: float, latency: float, period: float) -> Errand[Any] | None:
        """Return what is to be done now, None for nothing yet.

        Args:
            left: seconds to the next poll.
            latency: of the last poll, seconds.
            period: of the polls, seconds.
        """
        while self._waiting:
            errand, now = self._waiting[0], self._monotonic()
            if errand.done.done() or now > errand.by:
                self._waiting.popleft()
                errand.fail(CommandRefused("there was no time for it between the polls"))
                continue
            cost = errand.exchanges * max(self._exchange, latency)
            if cost > _USABLE * left:
                # After the next poll there may be time, unless there never is.
                may_fit = cost <= _USABLE * (period - latency)
                if (may_fit and now < errand.patience) or now < self._not_before:
                    return None
                self._not_before = now + _RARELY * period
            return self._waiting.popleft()
        return None

    def patience(self) -> float:
        """Seconds after which `next` is to be asked again although nothing happened."""
        if not self._waiting:
            return math.inf
        errand, now = self._waiting[0], self._monotonic()
        if now < errand.patience:
            return errand.patience - now
        return max(0.001, min(errand.by, max(self._not_before, now + 0.05)) - now)

    def abandon(self, error: MeterbridgeError) -> None:
        """Fail them all."""
        while self._waiting:
            self._waiting.popleft().fail(error)

    def _remember(self, seconds: float) -> None:
        self._exchange = max(seconds, _FORGET * self._exchange)
