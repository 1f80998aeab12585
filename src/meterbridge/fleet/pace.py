"""How much history may be read between two polls without delaying the second. Pure: time is an argument."""

from __future__ import annotations

_SHORTEST_MS = 900_000
# Part of the time to the next poll that a piece may be expected to take.
_USABLE = 0.6
# How much of a cost or a time that was too high is left after each poll: a meter that was slow once is not slow for
# ever.
_COST_LEFT, _EXCHANGE_LEFT = 0.99, 0.95


class Pace:
    """How much time a piece may span so that it is over before the next poll.

    A piece is broken off where one more exchange would not fit, so what an exchange takes is known as well: the
    slowest of late.

    Args:
        largest: span it grows to, milliseconds.
    """

    def __init__(self, largest: int) -> None:
        self._largest = max(largest, 1)
        self._shortest = min(_SHORTEST_MS, self._largest)
        # Nothing is known of it yet: the first may surprise, so it is a short one.
        self.span = self._shortest
        self.exchange = 0.0
        self._cost: float | None = None

    def polled(self, seconds: float) -> None:
        """A poll took so long."""
        self.exchange = max(seconds, _EXCHANGE_LEFT * self.exchange)

    def exchanged(self, seconds: float) -> None:
        """An exchange of a piece took so long."""
        self.exchange = max(seconds, self.exchange)

    def room(self, left: float) -> bool:
        """Whether an exchange is likely to take much less than `left` seconds."""
        return self.exchange <= _USABLE * left

    def fits(self, left: float) -> bool:
        """Whether a piece, made shorter where that helps, is likely to take much less than `left` seconds."""
        usable = _USABLE * left
        if self.exchange > usable:
            return False
        if self._cost is None:
            return True
        while self._cost > usable and self.span > self._shortest:
            self._shorten()
        if self._cost <= usable:
            return True
        self._cost *= _COST_LEFT
        return False

    def took(self, seconds: float, left: float, span: int) -> None:
        """A piece of `span` milliseconds took so many seconds, of `left` that there were."""
        self._cost = seconds
        if span >= self.span and 2 * seconds <= _USABLE * left and self.span < self._largest:
            self.span = min(2 * self.span, self._largest)
            self._cost = 2 * seconds

    def interrupted(self, seconds: float) -> None:
        """A piece was broken off after so many seconds: it would have taken longer."""
        self._cost = max(self._cost or 0.0, seconds + self.exchange)
        self.refused()

    def refused(self) -> None:
        """A piece failed: perhaps the meter takes a shorter one."""
        if self.span > self._shortest:
            self._shorten()

    def _shorten(self) -> None:
        self.span = max(self.span // 2, self._shortest)
        if self._cost is not None:
            self._cost /= 2
