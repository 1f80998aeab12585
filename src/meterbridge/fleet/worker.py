"""MeterWorker: one meter, one task: waits for its tick, polls, hands the outcome on."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from meterbridge.errors import CommandRefused, ConnectionLost
from meterbridge.fleet.errands import Errands
from meterbridge.fleet.histogram import Histogram
from meterbridge.fleet.schedule import Schedule, phase_of
from meterbridge.meter import (
    DLMSClient,
    DLMSProductionPoller,
    Failed,
    Polled,
    PollerEvent,
    PollOutcome,
    Recovered,
    Stray,
    Tripped,
)
from meterbridge.model import Meter

# The loop's timers have a resolution of one millisecond, and ring a little early as well.
_RESOLUTION = 0.001
_T = TypeVar("_T")


SKIPPED_TICK = "skipped_tick"
NO_VALUE = "no_value"


class Sink(Protocol):
    """Where outcomes go. Must return at once."""

    def polled(self, meter: Meter, outcome: Polled, firmware_version: str | None) -> None:
        """A meter was read."""

    def failed(self, meter: Meter, outcome: Failed) -> None:
        """A meter could not be read."""

    def troubled(self, meter: Meter, event: Tripped | Recovered) -> None:
        """A policy stepped in, or its trouble is over."""


class Chore(Protocol):
    """Work of low priority on the worker's own association, done in pieces between polls."""

    def due(self, polled: Polled, left: float) -> bool:
        """Whether a piece is due that is likely to be over within the seconds left to the next poll."""

    async def do(self) -> None:
        """Do it; a meter's errors stay within."""


class Timer(Protocol):
    """A wait that can be cut short."""

    async def wait(self, seconds: float) -> None:
        """Wait so many seconds, or until woken."""

    def wake(self) -> None:
        """End the wait under way, if any."""


class LoopTimer:
    """The event loop's clock."""

    __slots__ = ("_waiter",)

    def __init__(self) -> None:
        self._waiter: asyncio.Future[None] | None = None

    async def wait(self, seconds: float) -> None:
        """Wait so many seconds, or until woken."""
        loop = asyncio.get_running_loop()
        self._waiter = loop.create_future()
        handle = loop.call_later(seconds, self.wake)
        try:
            await self._waiter
        finally:
            handle.cancel()
            self._waiter = None

    def wake(self) -> None:
        """End the wait under way, if any."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


@dataclass(slots=True)
class WorkerCounters:
    """What was done for one meter since its worker was first made.

    Args:
        due: ticks, those skipped included.
        polls: attempts made.
        successes: those that gave a value.
        failures: those that did not, answered or not.
        waits: ticks at which the meter was being left alone.
        skipped: ticks that passed while a poll was under way.
        reconnections: associations opened after the first.
        last_lateness: how late the last poll began, seconds.
        last_latency: how long its answer took, seconds.
        latency_total: sum over all successes, seconds.
        link_errors: damaged frames and noise on its line.
        events: how often what happened: error types and troubles, by name.
        details: the newest sentence about each.
        last_error: newest error, empty without one.
        last_reading: when the newest reading came, monotonic seconds, or None.
    """

    due: int = 0
    polls: int = 0
    successes: int = 0
    failures: int = 0
    waits: int = 0
    skipped: int = 0
    reconnections: int = 0
    last_lateness: float = 0.0
    last_latency: float = 0.0
    latency_total: float = 0.0
    link_errors: int = 0
    events: Counter[str] = field(default_factory=Counter)
    details: dict[str, str] = field(default_factory=dict)
    last_error: str = ""
    last_reading: float | None = None

    def skip(self, ticks: int) -> None:
        """Count ticks that passed while a poll was under way."""
        self.skipped += ticks
        self.events[SKIPPED_TICK] += ticks
        self.details[SKIPPED_TICK] = f"the poll before took {ticks} ticks longer than the period"

    def note(self, event: str, detail: str) -> None:
        """Count something that happened."""
        self.events[event] += 1
        self.details[event] = detail


class MeterWorker:
    """Polls one meter at its ticks, for ever.

    Args:
        meter: as configured.
        poller: reads it.
        schedule: its ticks, on the clock `monotonic`.
        sink: where outcomes go.
        monotonic: seconds.
        timer: waits on the same clock.
        lateness: takes how late each poll began; shared by all meters.
        chore: done between polls, one piece after each that gave a reading.

    `busy_since` is when the poll under way began, monotonic seconds, or None.
    """

    def __init__(
        self,
        meter: Meter,
        poller: DLMSProductionPoller,
        schedule: Schedule,
        sink: Sink,
        monotonic: Callable[[], float],
        timer: Timer | None = None,
        lateness: Histogram | None = None,
        chore: Chore | None = None,
    ) -> None:
        self.meter = meter
        self.poller = poller
        self.counters = WorkerCounters()
        self.busy_since: float | None = None
        self._schedule = schedule
        self._sink = sink
        self._monotonic = monotonic
        self._timer = timer or LoopTimer()
        self._lateness = lateness or Histogram()
        self._chore = chore
        self._asked: list[asyncio.Future[PollOutcome]] = []
        self._errands = Errands(monotonic)
        self.finishing = False
        poller.listener = self._troubled

    async def run(self) -> None:
        """Poll until `finish` or a cancellation, then release the association."""
        monotonic = self._monotonic
        outcome: PollOutcome | None = None
        try:
            while not self.finishing:
                schedule = self._schedule
                now = monotonic()
                before = schedule.skipped
                due = schedule.next_tick(now)
                skipped = schedule.skipped - before
                counters = self.counters
                if skipped:
                    counters.skip(skipped)
                counters.due += 1 + skipped
                if self._chore is not None and isinstance(outcome, Polled) and self._chore.due(outcome, due - now):
                    self.busy_since = now
                    await self._chore.do()
                    self.busy_since = None
                    now = monotonic()
                while ((left := due - now) > _RESOLUTION or self._asked) and self._holds(schedule):
                    if self._asked:
                        await self._answer()
                    elif (errand := self._errands.next(left, counters.last_latency, schedule.period)) is not None:
                        self.busy_since = now
                        await errand.do()
                        self.busy_since = None
                    else:
                        await self._timer.wait(min(left, self._errands.patience()))
                    now = monotonic()
                if not self._holds(schedule):
                    # That tick was of the period before, or will not be polled any more.
                    counters.due -= 1
                    continue
                late = max(0.0, now - due)
                counters.last_lateness = late
                self._lateness.observe(late)
                self.busy_since = now
                outcome = await self.poller.poll_once()
                self._account(outcome)
                self.busy_since = None
        finally:
            self.abandon_tests()
            await self.poller.close()

    def finish(self) -> None:
        """End `run` once the poll under way, if any, is over: its answer is not left to nobody."""
        self.finishing = True
        self._timer.wake()

    def _holds(self, schedule: Schedule) -> bool:
        return schedule is self._schedule and not self.finishing

    def is_reading(self, now: float) -> bool:
        """Whether the newest reading is no older than three periods, 10 s at least."""
        last = self.counters.last_reading
        return last is not None and now - last <= max(10.0, 3.0 * self._schedule.period)

    async def test(self) -> PollOutcome:
        """Poll now, out of turn and even while the meter is left alone, on the worker's own association.

        Returns:
            What that poll gave, never Waiting.
        """
        asked: asyncio.Future[PollOutcome] = asyncio.get_running_loop().create_future()
        self._asked.append(asked)
        self._timer.wake()
        return await asked

    async def attend(self, errand: Callable[[DLMSClient], Awaitable[_T]], exchanges: int, by: float) -> _T:
        """Have something done on the worker's own association between two polls, in the time that is left there.

        Args:
            errand: is given the client, connected.
            exchanges: requests it makes, about.
            by: until when it must have begun, monotonic seconds.

        Raises:
            CommandRefused: it has not begun by then, the meter is being left alone, or polling was stopped.
            MeterError: as `DLMSProductionPoller.attend`.
        """
        return await self._queued(lambda: self.poller.attend(errand), exchanges, by)

    async def read_now(self, by: float) -> PollOutcome:
        """Poll once more, between two polls and unless the meter is left alone; the sink has it too.

        Raises:
            CommandRefused: as `attend`.
        """

        async def poll() -> PollOutcome:
            outcome = await self.poller.poll_once()
            self._account(outcome)
            return outcome

        return await self._queued(poll, 1, by)

    async def _queued(self, work: Callable[[], Awaitable[_T]], exchanges: int, by: float) -> _T:
        errand = self._errands.add(work, exchanges, by)
        self._timer.wake()
        return await errand

    def reschedule(self, period: float) -> None:
        """Poll this often from now on, seconds; the association stays."""
        if period != self._schedule.period:
            self._schedule = Schedule(period, phase_of(self.meter.id, period))
            self._timer.wake()

    def abandon_tests(self) -> None:
        """Tell whoever waits for a test or an errand that there will be none: the worker has ended."""
        self._errands.abandon(CommandRefused("polling of this meter was stopped meanwhile"))
        self._settle(Failed(ConnectionLost("polling of this meter was stopped meanwhile"), self._monotonic()))

    async def _answer(self) -> None:
        self.busy_since = self._monotonic()
        outcome = await self.poller.poll_once(force=True)
        self.busy_since = None
        self._account(outcome)
        self._settle(outcome)

    def _settle(self, outcome: PollOutcome) -> None:
        for asked in self._asked:
            if not asked.done():
                asked.set_result(outcome)
        self._asked.clear()

    def _account(self, outcome: PollOutcome) -> None:
        counters = self.counters
        if isinstance(outcome, Polled):
            counters.polls += 1
            if outcome.connected and (counters.successes or counters.events[NO_VALUE]):
                counters.reconnections += 1
            counters.last_latency = outcome.latency
            if why := outcome.reading.why_empty:
                counters.failures += 1
                counters.last_error = why
                counters.note(NO_VALUE, why)
            else:
                counters.successes += 1
                counters.latency_total += outcome.latency
                counters.last_reading = self._monotonic()
            self._sink.polled(self.meter, outcome, self.poller.firmware_version)
        elif isinstance(outcome, Failed):
            counters.polls += 1
            counters.failures += 1
            counters.last_error = str(outcome.error)
            counters.note(type(outcome.error).__name__, counters.last_error)
            self._sink.failed(self.meter, outcome)
        else:
            counters.waits += 1

    def _troubled(self, event: PollerEvent) -> None:
        if isinstance(event, Stray):
            self.counters.link_errors += event.damaged
            self.counters.note("link_error" if event.damaged else "stray_frame", event.reason)
            return
        if isinstance(event, Tripped):
            self.counters.note(event.trouble, event.reason)
        self._sink.troubled(self.meter, event)
