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


class GarbageKeeper:
    """Decides when what lives long is frozen, and when it is looked through.

    Args:
        memory: resident octets of this process.
    """

    def __init__(self, memory: Callable[[], int]) -> None:
        self._memory = memory
        self._looked_at = memory()
        self._before = gc.get_threshold()
        gc.set_threshold(*_THRESHOLDS)

    def look(self) -> bool:
        """Collect what has come since the last look and freeze the rest; True where all was looked through."""
        everything = self._memory() > self._looked_at * _GROWTH + _SLACK
        if everything:
            gc.unfreeze()
        gc.collect()
        gc.freeze()
        if everything:
            self._looked_at = self._memory()
        return everything

    def end(self) -> None:
        """Leave the collector as it was found."""
        gc.unfreeze()
        gc.set_threshold(*self._before)


async def keep_garbage_small(memory: Callable[[], int], every_s: float = 10.0) -> None:
    """Look for ever, at most so much time apart.

    Args:
        memory: resident octets of this process.
        every_s: seconds between two looks.
    """
    keeper = GarbageKeeper(memory)
    try:
        while True:
            await asyncio.sleep(every_s)
            keeper.look()
    finally:
        keeper.end()
