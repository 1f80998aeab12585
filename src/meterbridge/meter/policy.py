"""When to try again: pure policies, time and chance are arguments."""

from __future__ import annotations

import random
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class BackoffSettings:
    """Exponential backoff with full jitter.

    Args:
        initial: upper bound of the first delay, seconds.
        maximum: upper bound of any delay, seconds.
        factor: how much each failure raises the bound.
    """

    initial: float = 1.0
    maximum: float = 60.0
    factor: float = 2.0


class Backoff:
    """Delays between attempts, for ever: uniform between 0 and a bound that grows with each failure.

    Args:
        settings: bounds and growth.
        chance: source of randomness, seeded by whoever wants the same delays again.
    """

    def __init__(self, settings: BackoffSettings, chance: random.Random) -> None:
        self._settings = settings
        self._chance = chance
        self.failures = 0

    @property
    def bound(self) -> float:
        """Upper bound of the next delay, seconds."""
        settings = self._settings
        # The exponent is bounded, or the power overflows after some days of failures.
        return min(settings.maximum, settings.initial * settings.factor ** min(self.failures, 64))

    def failed(self) -> float:
        """Count a failure and return how long to wait, seconds."""
        delay = self._chance.uniform(0.0, self.bound)
        self.failures += 1
        return delay

    def succeeded(self) -> None:
        """Start from the beginning after the next failure."""
        self.failures = 0
