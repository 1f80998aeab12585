"""Invocation counters kept in a store: put by in stretches before they are used, for all meters together."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Protocol

from meterbridge.dlms.counters import COUNTER_END
from meterbridge.errors import CounterUnavailable, StoreError

_AHEAD = 1000
"""Values put by at once; as many are skipped after a crash."""
_LOW = 500
"""With no more than so many left, the next stretch is asked for."""
_ASSOCIATION = 16
"""More than what an association takes."""
_AT_ONCE = 500
"""Counters put by in one transaction."""
_PATIENCE = 10.0
_AGAIN_AFTER = 1.0


@dataclass(frozen=True, slots=True)
class Stretch:
    """Counters from `start` up to `end`, the latter not included."""

    start: int
    end: int


class CounterStore(Protocol):
    """Where counters are kept: the store's CounterRepository."""

    async def reserve(self, least: Mapping[str, int], ahead: int) -> dict[str, Stretch]:
        """Put by a stretch of each counter, on disk before this returns.

        Args:
            least: by name of the counter, what its stretch must not begin below.
            ahead: values of each.

        Raises:
            StoreError: they could not be put by.
        """


class KeptCounter:
    """One invocation counter; made by `CounterKeeper.counter`."""

    def __init__(self, ask: Callable[[KeptCounter], None]) -> None:
        self._ask = ask
        self._stretches: deque[Stretch] = deque()
        self._next = self._floor = 0
        self._granted = asyncio.Event()
        self._asked = False
        self.least = 0

    @property
    def left(self) -> int:
        """Values that may be used without asking for more."""
        return sum(max(0, stretch.end - max(stretch.start, self._next, self.least)) for stretch in self._stretches)

    def next_counter(self) -> int:
        """Return the next value.

        Raises:
            CounterUnavailable: none is put by.
        """
        while self._stretches:
            stretch = self._stretches[0]
            value = max(self._next, stretch.start, self.least)
            if value < stretch.end:
                self._next = value + 1
                if len(self._stretches) == 1 and stretch.end - value <= _LOW:
                    self._want()
                return value
            self._stretches.popleft()
        self._want()
        raise CounterUnavailable("no invocation counter is put by: the database has not answered yet")

    def advance_to(self, least: int) -> None:
        """Return nothing less than `least` from now on; never goes back."""
        self.least = max(self.least, min(least, COUNTER_END))

    async def ready(self) -> None:
        """Wait until there are values enough for an association.

        Raises:
            CounterUnavailable: there are none left, or the store gave none in time.
        """
        if self.left >= _ASSOCIATION:
            return
        try:
            async with asyncio.timeout(_PATIENCE):
                while self.left < _ASSOCIATION:
                    if max(self._floor, self.least) > COUNTER_END - _ASSOCIATION:
                        raise CounterUnavailable("the invocation counter is exhausted: the meter needs new keys")
                    self._granted.clear()
                    self._want()
                    await self._granted.wait()
        except TimeoutError:
            raise CounterUnavailable(f"the database put no invocation counter by within {_PATIENCE:g} s") from None

    def grant(self, stretch: Stretch) -> None:
        """Take a stretch that is on disk (called by the keeper)."""
        self._asked = False
        self._floor = stretch.start
        self._stretches.append(stretch)
        self._granted.set()

    def _want(self) -> None:
        if not self._asked:
            self._asked = True
            self._ask(self)


class CounterKeeper:
    """All counters of a process; one transaction puts by for as many as are due.

    Args:
        store: where they are kept.
        failed: told of what goes wrong there; it is tried again.
    """

    def __init__(self, store: CounterStore, failed: Callable[[StoreError], None] = lambda error: None) -> None:
        self._store = store
        self._failed = failed
        self._counters: dict[str, KeptCounter] = {}
        self._due: dict[str, KeptCounter] = {}
        self._wake = asyncio.Event()

    def counter(self, name: str) -> KeptCounter:
        """Return the counter of this name, the same one for all who ask."""
        found = self._counters.get(name)
        if found is None:
            found = self._counters[name] = KeptCounter(lambda counter: self._ask(name, counter))
        return found

    async def run(self) -> None:
        """Put by what is due, for ever."""
        while True:
            await self._wake.wait()
            # Whoever asks in the same moment is served along.
            await asyncio.sleep(0)
            self._wake.clear()
            due = dict(islice(self._due.items(), _AT_ONCE))
            try:
                stretches = await self._store.reserve({name: counter.least for name, counter in due.items()}, _AHEAD)
            except StoreError as error:
                self._failed(error)
                await asyncio.sleep(_AGAIN_AFTER)
                self._wake.set()
                continue
            for name, stretch in stretches.items():
                del self._due[name]
                due[name].grant(stretch)
            if self._due:
                self._wake.set()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[CounterKeeper]:
        """Run for as long as the context lasts."""
        task = asyncio.create_task(self.run(), name="counters")
        try:
            yield self
        finally:
            task.cancel()
            await asyncio.wait([task])

    def _ask(self, name: str, counter: KeptCounter) -> None:
        self._due[name] = counter
        self._wake.set()
