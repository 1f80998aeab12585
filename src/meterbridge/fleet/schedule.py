"""When a meter is due: drift-free and staggered, pure."""

from __future__ import annotations

import math

_GOLDEN = 0.6180339887498949
_SLOT_S = 0.02
_FEWEST_SLOTS = 10


def phase_of(number: int, period: float) -> float:
    """Spread meters over a period: consecutive numbers come to lie far apart, whatever their count.

    They lie on a grid of 20 ms, where the period has ten of them or more: what falls due together wakes the loop once.

    Args:
        number: any whole number, the meter's id.
        period: seconds.

    Returns:
        0 up to `period`, seconds.
    """
    share = number * _GOLDEN % 1.0
    slots = int(period / _SLOT_S)
    return int(share * slots) * _SLOT_S if slots >= _FEWEST_SLOTS else share * period


class Schedule:
    """Ticks at `phase + n * period` for ever: a late poll moves none of those that follow.

    Args:
        period: seconds between ticks.
        phase: offset of the ticks, seconds.
    """

    def __init__(self, period: float, phase: float = 0.0) -> None:
        if period <= 0:
            raise ValueError(f"a period of {period} s is none")
        self.period = period
        self._phase = phase
        self._last: int | None = None
        self.skipped = 0

    def next_tick(self, now: float) -> float:
        """Return when the next tick is due, the current one included; ticks that passed in between are skipped.

        Args:
            now: any clock that does not jump, seconds.
        """
        number = math.ceil((now - self._phase) / self.period)
        if self._last is not None:
            number = max(number, self._last + 1)
            self.skipped += number - self._last - 1
        self._last = number
        return self._phase + number * self.period
