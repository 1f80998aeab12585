"""MeterWorker: one meter, one task: waits for its tick, polls, hands the outcome on."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from meterbridge.fleet.schedule import Schedule
from meterbridge.meter import DLMSProductionPoller, Failed, Polled, PollOutcome
from meterbridge.model import Meter


class Sink(Protocol):
    """Where outcomes go. Must return at once."""

    def polled(self, meter: Meter, outcome: Polled, firmware_version: str | None) -> None:
        """A meter was read."""

    def failed(self, meter: Meter, outcome: Failed) -> None:
        """A meter could not be read."""


@dataclass(slots=True)
class WorkerCounters:
    """What one worker did since it was made.

    Args:
        polls: attempts made.
        successes: those that gave a reading.
        failures: those that did not.
        skipped: ticks that passed while a poll was under way.
        reconnections: associations opened after the first.
        last_lateness: how late the last poll began, seconds.
        last_latency: how long its answer took, seconds.
    """

    polls: int = 0
    successes: int = 0
    failures: int = 0
    skipped: int = 0
    reconnections: int = 0
    last_lateness: float = 0.0
    last_latency: float = 0.0


class MeterWorker:
    """Polls one meter at its ticks, for ever.

    Args:
        meter: as configured.
        poller: reads it.
        schedule: its ticks, on the clock `monotonic`.
        sink: where outcomes go.
        monotonic: seconds.
        sleep: waits so many seconds.
    """

    def __init__(
        self,
        meter: Meter,
        poller: DLMSProductionPoller,
        schedule: Schedule,
        sink: Sink,
        monotonic: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.meter = meter
        self.poller = poller
        self.counters = WorkerCounters()
        self._schedule = schedule
        self._sink = sink
        self._monotonic = monotonic
        self._sleep = sleep

    async def run(self) -> None:
        """Poll for ever; ends only when cancelled, and then releases the association."""
        try:
            while True:
                due = self._schedule.next_tick(self._monotonic())
                self.counters.skipped = self._schedule.skipped
                await self._sleep(max(0.0, due - self._monotonic()))
                self.counters.last_lateness = max(0.0, self._monotonic() - due)
                self._account(await self.poller.poll_once())
        finally:
            await self.poller.close()

    def _account(self, outcome: PollOutcome) -> None:
        counters = self.counters
        if isinstance(outcome, Polled):
            counters.polls += 1
            if outcome.connected and counters.successes:
                counters.reconnections += 1
            counters.successes += 1
            counters.last_latency = outcome.latency
            self._sink.polled(self.meter, outcome, self.poller.firmware_version)
        elif isinstance(outcome, Failed):
            counters.polls += 1
            counters.failures += 1
            self._sink.failed(self.meter, outcome)
