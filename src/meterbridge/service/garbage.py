"""Collection of cyclic garbage without standstill: a full one over 4,000 meters stops every poll for half a second.

What lives long, connections above all, is taken out of the collector's sight (`gc.freeze`), so that a collection costs
what has come since. Frozen objects are freed as ever when nobody holds them; only a cycle among them stays, hence they
are looked through as well once memory has grown.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable

# Allocations before a collection of the youngest, and collections before one of the next older ones. The usual 700
# means hundreds of collections a second here, with next to nothing to collect.
_THRESHOLDS = (20_000, 20, 20)
_GROWTH = 1.25
_SLACK = 32 << 20
# What a hundred new connections take: looked at together, they stop the loop for about ten milliseconds.
_PIECE = 4 << 20
# A meter's share of the memory: that thousands have connected is no sign of cycles.
_EACH_METER = 48 << 10


class GarbageKeeper:
    """Decides when what lives long is frozen, and when it is looked through.

    Args:
        memory: resident octets of this process.
        meters: how many are polled.
    """

    def __init__(self, memory: Callable[[], int], meters: Callable[[], int] = lambda: 0) -> None:
        self._memory = memory
        self._meters = meters
        self._newest = memory()
        self._looked_at = self._unexplained()
        self._before = gc.get_threshold()
        gc.set_threshold(*_THRESHOLDS)

    def look(self) -> bool:
        """Collect what has come since the last look and freeze the rest; True where all was looked through."""
        everything = self._unexplained() > self._looked_at * _GROWTH + _SLACK
        if everything:
            gc.unfreeze()
        gc.collect()
        gc.freeze()
        if everything:
            self._looked_at = self._unexplained()
        self._newest = self._memory()
        return everything

    def has_much(self) -> bool:
        """Whether so much has come since the last look that the next one had better not wait."""
        return self._memory() - self._newest > _PIECE

    def _unexplained(self) -> int:
        return max(0, self._memory() - self._meters() * _EACH_METER)

    def end(self) -> None:
        """Leave the collector as it was found."""
        gc.unfreeze()
        gc.set_threshold(*self._before)


async def keep_garbage_small(
    memory: Callable[[], int], meters: Callable[[], int] = lambda: 0, steps: int = 20, step_s: float = 0.5
) -> None:
    """Look for ever: at once, then every so many steps, and after each step that brought much.

    Args:
        memory: resident octets of this process.
        meters: how many are polled.
        steps: between two looks at most.
        step_s: seconds a step takes.
    """
    keeper = GarbageKeeper(memory, meters)
    try:
        keeper.look()
        while True:
            for _ in range(steps):
                await asyncio.sleep(step_s)
                if keeper.has_much():
                    break
            keeper.look()
    finally:
        keeper.end()
