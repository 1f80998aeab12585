"""Invocation counters: a value is used once with a key, whatever crashes in between."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from meterbridge.errors import ConfigurationError, LocalProtocolError, ReplayedCounterError

COUNTER_END = 1 << 32
"""One behind the last invocation counter; who gets there needs new keys."""


class InvocationCounter(Protocol):
    """Gives the counter of each APDU that is sent."""

    def next_counter(self) -> int:
        """Return a value that no call ever returned before with these keys, greater than all of them.

        Raises:
            LocalProtocolError: there is none left.
        """

    def advance_to(self, least: int) -> None:
        """Return nothing less than `least` from now on; never goes back."""


class ReservedCounter:
    """Counts in memory within a stretch that the caller has put by: one write for many APDUs, and none used twice.

    Args:
        start: first value to use: what `reserve` was told last, or what the meter says it expects.
        reserve: told the first value that is *not* put by; it returns when that is on disk, or raises.
        ahead: values put by at once; as many are skipped after a crash.

    Raises:
        ConfigurationError: a start that is no invocation counter.
    """

    def __init__(self, start: int = 0, reserve: Callable[[int], None] = lambda end: None, ahead: int = 1000) -> None:
        if not 0 <= start <= COUNTER_END:
            raise ConfigurationError(f"{start} is no invocation counter")
        self._next = self._end = start
        self._reserve = reserve
        self._ahead = ahead

    def next_counter(self) -> int:
        """Return the next value, after putting more by where none is left.

        Raises:
            LocalProtocolError: the counter is exhausted.
        """
        value = self._next
        if value >= COUNTER_END:
            raise LocalProtocolError("the invocation counter is exhausted: the meter needs new keys")
        if value >= self._end:
            end = min(value + self._ahead, COUNTER_END)
            self._reserve(end)
            self._end = end
        self._next = value + 1
        return value

    def advance_to(self, least: int) -> None:
        """Return nothing less than `least` from now on; never goes back."""
        self._next = max(self._next, min(least, COUNTER_END))


class ReceivedCounters:
    """The greatest counter that came with each key, so that nothing is taken twice.

    Args:
        last: by key name, what came last; the caller keeps it where it must outlive this object.
    """

    def __init__(self, last: dict[str, int] | None = None) -> None:
        self.last: dict[str, int] = dict(last or {})

    def check(self, key: str, counter: int) -> None:
        """Take a counter that belongs to an APDU whose tag is verified.

        Raises:
            ReplayedCounterError: it is not greater than the last.
        """
        last = self.last.get(key, -1)
        if counter <= last:
            raise ReplayedCounterError(
                f"invocation counter {counter} after {last}: an APDU said again is not taken", last + 1
            )
        self.last[key] = counter
