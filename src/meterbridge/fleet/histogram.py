"""Quantiles of many durations at the cost of one bisection each."""

from __future__ import annotations

from bisect import bisect_left

_BOUNDS = tuple(0.0005 * 1.15**step for step in range(90))


class Histogram:
    """Counts durations in classes 15 % wide, from 0.5 ms to two minutes."""

    __slots__ = ("_classes", "count", "largest")

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Begin anew."""
        self._classes = [0] * (len(_BOUNDS) + 1)
        self.count = 0
        self.largest = 0.0

    def observe(self, seconds: float) -> None:
        """Count one duration."""
        self._classes[bisect_left(_BOUNDS, seconds)] += 1
        self.count += 1
        if seconds > self.largest:
            self.largest = seconds

    def quantile(self, part: float) -> float | None:
        """Return the duration that `part` of all stay within, seconds, rounded up to its class; None without any."""
        if not self.count:
            return None
        left = part * self.count
        for bound, number in zip(_BOUNDS, self._classes, strict=False):
            left -= number
            if left <= 0:
                return min(bound, self.largest)
        return self.largest
