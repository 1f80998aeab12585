"""MeterHistory: what is done for one meter between its polls, never in a poll's place."""

from __future__ import annotations

import math
from collections.abc import Callable

from meterbridge.errors import DataAccessError, Interrupted, MeterbridgeError, MeterError
from meterbridge.fleet.history import HistoryKeeper
from meterbridge.fleet.pace import Pace
from meterbridge.meter import Interval, Polled, ProfileHistory
from meterbridge.model import Meter
from meterbridge.store import Severity

CLOCK_DRIFT = "clock_drift"
HISTORY_UNAVAILABLE = "history_unavailable"
_FIRST_RETRY, _LAST_RETRY = 60.0, 86_400.0
# How long there may be no time for a hole until that is told.
_STARVED_AFTER = 3_600.0
# How a meter says that it minds a request in the middle of a block transfer: long-get-aborted, no-long-get-in-progress.
_ABORTED = "long-get"


class MeterHistory:
    """What is done for one meter between its polls: a look at its clock, or one piece of a hole.

    Args:
        meter: as configured.
        source: reads its profile and its clock, on its worker's own client.
        connected: whether the association is open.
        keeper: knows the holes.
        wanted: whether holes are read back; else the clock alone is looked at.
    """

    def __init__(
        self, meter: Meter, source: ProfileHistory, connected: Callable[[], bool], keeper: HistoryKeeper, wanted: bool
    ) -> None:
        self._meter = meter
        self._source = source
        self._connected = connected
        self._keeper = keeper
        self._wanted = wanted and keeper.limits.enabled
        self._pace = Pace(int(keeper.limits.chunk * 1000))
        self._clock_due: float | None = None
        self._not_before = -math.inf
        self._retry = _FIRST_RETRY
        self._behind = 0.0
        self._left = 0.0
        self._next_poll = 0.0
        self._asked_at = 0.0
        self._piece: Interval | None = None
        # Whether the piece before the last poll was broken off, and whether the meter stands that.
        self._broken_off = False
        self._stands_it = True
        self._starved_since: float | None = None

    def due(self, polled: Polled, left: float) -> bool:
        """Whether there is something to do that is likely to be over well within `left` seconds.

        Args:
            polled: the poll just made.
            left: until the next one.
        """
        keeper, now = self._keeper, self._keeper.monotonic()
        self._left, self._next_poll, self._piece = left, now + left, None
        self._pace.polled(polled.latency)
        self._learn(polled)
        if self._clock_due is None or polled.connected:
            # Power that was away may have taken the clock with it.
            self._clock_due = now
        if not self._connected():
            return False
        # Where there never is room it costs a late poll now and then: a clock nobody looks at is worse.
        if now >= self._clock_due + (0.0 if self._pace.room(left) else keeper.limits.clock_check):
            return True
        if not self._wanted or now < self._not_before or self._next() is None:
            return False
        if not self._pace.fits(left):
            self._starve(now)
            return False
        if not keeper.let_through():
            return False
        # Asked again: to fit it may have become shorter.
        self._piece = self._next()
        return True

    def _learn(self, polled: Polled) -> None:
        """See whether the poll after a piece that was broken off suffered for it: then no more is broken off."""
        if self._broken_off:
            self._broken_off = False
            aborted = any(_ABORTED in reason for reason in polled.reading.errors.values())
            self._stands_it = self._stands_it and not polled.connected and not aborted

    def _starve(self, now: float) -> None:
        if self._starved_since is None:
            self._starved_since = now
        elif now - self._starved_since >= _STARVED_AFTER:
            self._keeper.desk.raise_alarm(
                self._meter.id,
                HISTORY_UNAVAILABLE,
                Severity.INFO,
                "what the meter kept during an outage cannot be read: its polls leave no time between them",
            )

    def _next(self) -> Interval | None:
        return self._keeper.next_piece(self._meter.id, self._pace.span, self._behind)

    async def do(self) -> None:
        """Do what was due; what the meter does about it stays its own trouble."""
        self._asked_at = begun = self._keeper.monotonic()
        if self._piece is None:
            await self._look_at_clock()
        else:
            self._starved_since = None
            await self._read_back(self._piece, begun)

    async def _look_at_clock(self) -> None:
        keeper, meter = self._keeper, self._meter.id
        self._clock_due = keeper.monotonic() + keeper.limits.clock_check
        try:
            drift = await self._source.drift(keeper.wall)
        except MeterError:
            # Whatever it is, the next poll meets it too, or the meter has no clock that may be read.
            return
        if drift is None:
            return
        self._behind = -drift
        if abs(drift) > keeper.limits.clock_drift:
            way = "ahead" if drift > 0 else "behind"
            keeper.desk.raise_alarm(
                meter, CLOCK_DRIFT, Severity.WARNING, f"the meter's clock is {abs(drift):.0f} s {way} of ours"
            )
        else:
            keeper.desk.resolve(meter, CLOCK_DRIFT)

    def _may_go_on(self) -> bool:
        """Whether one more exchange is likely to be over before the next poll is due."""
        now = self._keeper.monotonic()
        self._pace.exchanged(now - self._asked_at)
        self._asked_at = now
        return not self._stands_it or now + self._pace.exchange <= self._next_poll

    async def _read_back(self, interval: Interval, begun: float) -> None:
        keeper = self._keeper
        try:
            piece = await self._source.read(interval, self._may_go_on)
        except Interrupted:
            self._broken_off = True
            keeper.counters.interrupted += 1
            self._pace.interrupted(keeper.monotonic() - begun)
            return
        except MeterbridgeError as error:
            keeper.counters.failures += 1
            self._pace.refused()
            self._not_before = keeper.monotonic() + self._retry
            self._retry = min(2 * self._retry, _LAST_RETRY)
            if isinstance(error, DataAccessError) or not isinstance(error, MeterError) or self._retry == _LAST_RETRY:
                keeper.desk.raise_alarm(
                    self._meter.id,
                    HISTORY_UNAVAILABLE,
                    Severity.INFO,
                    f"what the meter kept during an outage cannot be read: {error}",
                )
            return
        self._retry = _FIRST_RETRY
        keeper.desk.resolve(self._meter.id, HISTORY_UNAVAILABLE)
        now = keeper.monotonic()
        self._pace.exchanged(now - self._asked_at)
        self._pace.took(now - begun, self._left, interval.end - interval.start)
        keeper.counters.undated += piece.undated
        keeper.hand_on(self._meter, interval, piece.readings)
