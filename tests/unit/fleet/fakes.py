"""A poller, a sink and a source that do what a test says."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

from meterbridge.errors import ConfigurationError, ConnectFailed
from meterbridge.fleet import MeterWorker, Schedule
from meterbridge.meter import (
    DLMSProductionPoller,
    Failed,
    Polled,
    PollerEvent,
    PollerState,
    PollOutcome,
    Recovered,
    Tripped,
    Trouble,
)
from meterbridge.model import Meter, MeterId, Quantity, Reading
from meterbridge.store import LoadedMeters, MeterProblem


def meter(number: int, **changes: object) -> Meter:
    return Meter(**{"id": MeterId(number), "name": f"m{number}", "ip_address": "127.0.0.1", **changes})  # type: ignore[arg-type]


class FakePoller:
    """Gives readings until told otherwise; `overlaps` counts two at once on one meter."""

    in_use: set[MeterId]

    def __init__(self, meter_id: MeterId, in_use: set[MeterId] | None = None) -> None:
        self.meter = meter_id
        self.state = PollerState.READY
        self.firmware_version = "1"
        self.at_gate = False
        self.inherited: set[Trouble] = set()
        self.listener: Callable[[PollerEvent], None] = lambda event: None
        self.in_use = in_use if in_use is not None else set()
        self.bug: Exception | None = None
        self.dead = False
        self.values: dict[str, Quantity] = {"a": Quantity(1.0, "W", "x")}
        self.hangs = False
        self.polls = 0
        self.forced = 0
        self.closed = 0

    async def poll_once(self, *, force: bool = False) -> PollOutcome:
        assert self.meter not in self.in_use, "two at once"
        self.in_use.add(self.meter)
        try:
            self.polls += 1
            self.forced += force
            if self.hangs:
                await asyncio.Event().wait()
            await asyncio.sleep(0)
            if self.bug is not None:
                raise self.bug
            if self.dead:
                return Failed(ConnectFailed("nobody there"), 0.0)
            reading = Reading(self.meter, 1, self.values, {} if self.values else {"a": "object undefined"})
            return Polled(reading, 0.01, self.polls == 1)
        finally:
            self.in_use.discard(self.meter)

    async def close(self) -> None:
        self.closed += 1


class FakeSink:
    def __init__(self) -> None:
        self.readings: list[MeterId] = []
        self.failures: list[MeterId] = []
        self.events: list[Tripped | Recovered] = []

    def polled(self, meter: Meter, outcome: Polled, firmware_version: str | None) -> None:
        self.readings.append(meter.id)

    def failed(self, meter: Meter, outcome: Failed) -> None:
        self.failures.append(meter.id)

    def troubled(self, meter: Meter, event: Tripped | Recovered) -> None:
        self.events.append(event)


class FakeSource:
    def __init__(self, *meters: Meter) -> None:
        self.meters = list(meters)
        self.problems: list[MeterProblem] = []

    async def load_meters(self, active_only: bool = False) -> LoadedMeters:
        return LoadedMeters(tuple(self.meters), tuple(self.problems))


class Makers:
    """Makes workers whose pollers a test can reach."""

    def __init__(self, period: float = 0.01) -> None:
        self.period = period
        self.in_use: set[MeterId] = set()
        self.pollers: dict[MeterId, list[FakePoller]] = {}
        self.sink = FakeSink()
        self.refused: set[MeterId] = set()
        self.prepare: Callable[[FakePoller], None] = lambda poller: None

    def __call__(self, meter: Meter) -> MeterWorker:
        if meter.id in self.refused:
            raise ConfigurationError("no such model")
        poller = FakePoller(meter.id, self.in_use)
        self.prepare(poller)
        self.pollers.setdefault(meter.id, []).append(poller)
        loop = asyncio.get_running_loop()
        return MeterWorker(meter, cast(DLMSProductionPoller, poller), Schedule(self.period), self.sink, loop.time)

    def poller(self, number: int) -> FakePoller:
        return self.pollers[MeterId(number)][-1]
