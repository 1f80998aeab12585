"""When to try again, and when to stop trusting a link: pure policies, time and chance are arguments."""

from __future__ import annotations

import enum
import random
from collections import deque
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


class BreakerState(enum.Enum):
    """Where a circuit breaker stands."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


@dataclass(frozen=True, slots=True)
class BreakerSettings:
    """When a link that keeps breaking is left alone.

    Args:
        reconnections: more than this within `window` open the breaker.
        window: seconds, sliding.
        pause: seconds the breaker stays open.
    """

    reconnections: int = 10
    window: float = 3600.0
    pause: float = 300.0


class CircuitBreaker:
    """Counts reconnections in a sliding window; open it forbids, half-open it allows one probe.

    A reconnection is an association opened again after an earlier one was lost. Attempts that fail are Backoff's
    matter: a dead meter is asked every minute, so that it is back within one step of its recovery.
    """

    def __init__(self, settings: BreakerSettings) -> None:
        self._settings = settings
        self._reconnections: deque[float] = deque()
        self._open_until = 0.0
        self.state = BreakerState.CLOSED
        self.trips = 0

    def waits_until(self, now: float) -> float | None:
        """Return until when no connection may be tried, None when one may.

        An open breaker whose pause is over becomes half-open by being asked.
        """
        if self.state is BreakerState.OPEN:
            if now < self._open_until:
                return self._open_until
            self.state = BreakerState.HALF_OPEN
        return None

    def reconnected(self, now: float) -> bool:
        """Count a reconnection. True when it opened the breaker."""
        if self.state is not BreakerState.CLOSED:
            return False
        times = self._reconnections
        times.append(now)
        while times[0] <= now - self._settings.window:
            times.popleft()
        if len(times) <= self._settings.reconnections:
            return False
        self._open(now)
        return True

    def succeeded(self) -> bool:
        """The meter gave a reading: a half-open breaker closes and forgets. True when it did."""
        if self.state is not BreakerState.HALF_OPEN:
            return False
        self.reset()
        return True

    def failed(self, now: float) -> bool:
        """A connection failed or broke: a half-open breaker opens again. True when it did."""
        if self.state is not BreakerState.HALF_OPEN:
            return False
        self._open(now)
        return True

    def probe(self) -> None:
        """Allow a connection before the pause is over, because a person asks."""
        if self.state is BreakerState.OPEN:
            self.state = BreakerState.HALF_OPEN

    def reset(self) -> None:
        """Close and forget, because a watchdog says so."""
        self.state = BreakerState.CLOSED
        self._reconnections.clear()

    def _open(self, now: float) -> None:
        self.state = BreakerState.OPEN
        self._open_until = now + self._settings.pause
        self.trips += 1


class SilenceWatchdog:
    """Trips when there was no reading for too long, and again each time as long passes.

    Args:
        limit: seconds.
        now: the same clock as everywhere, seconds.
    """

    def __init__(self, limit: float, now: float) -> None:
        self._limit = limit
        self._since = now
        self._armed = now
        self.tripped = False

    @property
    def due(self) -> float:
        """When it trips unless a reading comes."""
        return self._armed + self._limit

    def silence(self, now: float) -> float:
        """Time without a reading, seconds."""
        return now - self._since

    def reading(self, now: float) -> bool:
        """A reading came. True when it ended a silence that had tripped."""
        self._since = self._armed = now
        ended, self.tripped = self.tripped, False
        return ended

    def check(self, now: float) -> bool:
        """Return whether it trips now."""
        if now < self.due:
            return False
        self._armed = now
        self.tripped = True
        return True


class LinkTrip(enum.Enum):
    """What a link that brings only errors needs."""

    DRAIN = "drain and resynchronise"
    RECONNECT = "reconnect"


class LinkWatchdog:
    """Counts consecutive link errors: enough of them, and the stream is drained; as many again, and the link goes.

    Args:
        limit: consecutive errors that trip.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._drained = False
        self.consecutive = 0
        self.tripped = False

    def damaged(self) -> LinkTrip | None:
        """Count an error and say what is due now, if anything."""
        self.consecutive += 1
        if self.consecutive < self._limit:
            return None
        self.consecutive = 0
        self.tripped = True
        trip = LinkTrip.RECONNECT if self._drained else LinkTrip.DRAIN
        self._drained = True
        return trip

    def connected(self) -> None:
        """The link is a new one: its stream is clean. Whether the trouble is over, its first answer says."""
        self.consecutive = 0
        self._drained = False

    def answered(self) -> bool:
        """A whole answer came: the stream is in step. True when that ended a trip."""
        self.consecutive = 0
        self._drained = False
        ended, self.tripped = self.tripped, False
        return ended


class AdaptiveTimeout:
    """Response time-out that follows the meter: mean and deviation of its answers (the way of RFC 6298), in bounds.

    Each silence doubles it, each answer brings it back.

    Args:
        floor: seconds.
        ceiling: seconds.
    """

    def __init__(self, floor: float, ceiling: float) -> None:
        self._floor = floor
        self._ceiling = ceiling
        self._mean = 0.0
        self._deviation = 0.0
        self._observed = False
        self._factor = 1.0

    @property
    def value(self) -> float:
        """Seconds to wait for an answer now."""
        wanted = (self._mean + 4.0 * self._deviation) if self._observed else 0.0
        return min(self._ceiling, max(self._floor, wanted) * self._factor)

    def answered(self, latency: float) -> None:
        """Take in how long an answer took, seconds."""
        if self._observed:
            self._deviation += (abs(latency - self._mean) - self._deviation) * 0.25
            self._mean += (latency - self._mean) * 0.125
        else:
            self._observed, self._mean, self._deviation = True, latency, latency / 2
        self._factor = 1.0

    def silent(self) -> None:
        """No answer came in time."""
        self._factor = min(self._factor * 2.0, self._ceiling / self._floor)


class ObjectBackoff:
    """Asks for objects that keep failing less and less often, so that they do not cost the others their time.

    Args:
        initial: pause after the first failure, seconds; it doubles with each that follows.
        maximum: longest pause, seconds.
    """

    def __init__(self, initial: float, maximum: float) -> None:
        self._initial = initial
        self._maximum = maximum
        self._failing: dict[str, tuple[int, float]] = {}

    @property
    def failing(self) -> tuple[str, ...]:
        """Names that failed when last asked for."""
        return tuple(self._failing)

    def wanted(self, names: tuple[str, ...], now: float) -> tuple[str, ...]:
        """Return what to ask for now, in order; where all are left alone, the one whose turn comes first.

        A poll asks for something in any case: it is also the sign of life.
        """
        if not self._failing:
            return names
        due = tuple(name for name in names if name not in self._failing or self._failing[name][1] <= now)
        return due or (min(names, key=lambda name: self._failing[name][1]),) if names else ()

    def failed(self, name: str, now: float) -> bool:
        """Count a failure. True when it is the first."""
        failures = self._failing[name][0] if name in self._failing else 0
        # The exponent is bounded, or the power overflows.
        pause = min(self._maximum, self._initial * 2.0 ** min(failures, 40))
        self._failing[name] = (failures + 1, now + pause)
        return not failures

    def succeeded(self, name: str) -> bool:
        """It was read. True when it had failed before."""
        return self._failing.pop(name, None) is not None


class StuckAssociation:
    """Refused again and again: the meter holds an association of the past, and asking keeps it from timing out.

    The first refusal may be a passing one and is Backoff's matter; from the second on the meter is left alone for as
    long as it takes to forget.

    Args:
        inactivity: the meter's inactivity time-out, seconds.
    """

    def __init__(self, inactivity: float) -> None:
        self._inactivity = inactivity
        self.refusals = 0

    @property
    def stuck(self) -> bool:
        """Whether the meter is being waited out."""
        return self.refusals > 1

    def refused(self) -> float:
        """Count a refusal and return the least wait before the next attempt, seconds."""
        self.refusals += 1
        return self._inactivity if self.stuck else 0.0

    def accepted(self) -> bool:
        """Associated. True when that ended a wait."""
        ended, self.refusals = self.stuck, 0
        return ended


class RefusedAuthentication:
    """Password or keys refused: each attempt may be counted by the meter, which locks whoever is wrong too often.

    So it is asked seldom, and less and less often, until somebody puts right what is wrong.

    Args:
        initial: wait after the first refusal, seconds; it doubles with each that follows.
        maximum: longest wait, seconds.
    """

    def __init__(self, initial: float, maximum: float) -> None:
        self._initial = initial
        self._maximum = maximum
        self.refusals = 0

    @property
    def waiting(self) -> bool:
        """Whether the newest attempt was refused."""
        return self.refusals > 0

    def refused(self) -> float:
        """Count a refusal and return the least wait before the next attempt, seconds."""
        # The exponent is bounded, or the power overflows.
        wait = min(self._maximum, self._initial * 2.0 ** min(self.refusals, 40))
        self.refusals += 1
        return wait

    def accepted(self) -> bool:
        """Associated. True when that ended a wait."""
        ended, self.refusals = self.waiting, 0
        return ended
