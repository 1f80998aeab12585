"""Coverage: for which stretches of time a meter's readings are complete. Pure arithmetic on half-open ranges."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from typing import NamedTuple


class Interval(NamedTuple):
    """Time from `start`, included, to `end`, not included; Unix milliseconds."""

    start: int
    end: int


class Coverage:
    """Disjoint intervals in order of time; those that touch are one.

    Args:
        intervals: what is covered, in any order.
    """

    __slots__ = ("_ends", "_starts")

    def __init__(self, intervals: Iterable[Interval] = ()) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []
        for start, end in intervals:
            self.add(start, end)

    def __iter__(self) -> Iterator[Interval]:
        return map(Interval, self._starts, self._ends)

    def __len__(self) -> int:
        return len(self._starts)

    @property
    def end(self) -> int | None:
        """Where the newest interval ends, None without one."""
        return self._ends[-1] if self._ends else None

    def add(self, start: int, end: int) -> None:
        """Cover an interval; an empty one changes nothing."""
        if start >= end:
            return
        if self._ends and self._starts[-1] <= start <= self._ends[-1]:
            # What a live reading does all day.
            self._ends[-1] = max(self._ends[-1], end)
            return
        first, last = bisect_left(self._ends, start), bisect_right(self._starts, end)
        if first < last:
            start, end = min(start, self._starts[first]), max(end, self._ends[last - 1])
        self._starts[first:last] = [start]
        self._ends[first:last] = [end]

    def remove(self, start: int, end: int) -> None:
        """Cover an interval no longer."""
        if start >= end:
            return
        first, last = bisect_right(self._ends, start), bisect_left(self._starts, end)
        if first >= last:
            return
        parts = [Interval(self._starts[first], start), Interval(end, self._ends[last - 1])]
        left = [part for part in parts if part.start < part.end]
        self._starts[first:last] = [part.start for part in left]
        self._ends[first:last] = [part.end for part in left]

    def holes(self, start: int, end: int) -> Iterator[Interval]:
        """Give what is not covered from `start` to `end`, oldest first."""
        for index in range(bisect_right(self._ends, start), len(self._starts)):
            covered = self._starts[index]
            if covered >= end:
                break
            if start < covered:
                yield Interval(start, covered)
            start = self._ends[index]
        if start < end:
            yield Interval(start, end)

    def gaps(self, since: int) -> Iterator[Interval]:
        """Give what lies uncovered between two covered intervals, no earlier than `since`, oldest first."""
        if self._starts:
            yield from self.holes(max(since, self._starts[0]), self._starts[-1])

    def forget(self, before: int) -> None:
        """Let go of intervals that ended before a time, but for the one that bounds the gap around it."""
        gone = min(bisect_left(self._ends, before), len(self._ends)) - 1
        if gone > 0:
            del self._starts[:gone]
            del self._ends[:gone]
