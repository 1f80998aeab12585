"""An event loop whose clock jumps to the next timer when nothing is left to do: hours pass in seconds."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

_T = TypeVar("_T")
# How long real octets on loopback may take to arrive before time is taken to have passed, seconds.
_GRACE = 0.002


class _Selector(selectors.DefaultSelector):
    def __init__(self) -> None:
        super().__init__()
        self.now = 1_000.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        found = super().select(0)
        if found or timeout == 0:
            return found
        found = super().select(None if timeout is None else _GRACE)
        if not found and timeout is not None:
            self.now += timeout
        return found


class VirtualLoop(asyncio.SelectorEventLoop):
    """Time as an argument of the whole loop."""

    def __init__(self) -> None:
        self._virtual = _Selector()
        super().__init__(self._virtual)

    def time(self) -> float:
        """Seconds; they pass while everybody waits, and at no other time."""
        return self._virtual.now


def run_virtually(work: Coroutine[Any, Any, _T]) -> _T:
    """Run a coroutine to its end on a clock of its own."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(work)
