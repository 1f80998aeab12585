"""Work between polls: one piece after each reading, in the time that is left, and never in a poll's place."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest

from meterbridge.errors import CommandRefused
from meterbridge.fleet import MeterWorker, Schedule
from meterbridge.meter import DLMSProductionPoller, Polled
from meterbridge.model import MeterId
from tests.unit.fleet.fakes import FakePoller, FakeSink, meter


class Clock:
    """Time passes only while somebody waits, up to an end."""

    def __init__(self, end: float) -> None:
        self.now, self.end = 100.4, end
        self.ended = asyncio.Event()

    def __call__(self) -> float:
        return self.now

    async def wait(self, seconds: float) -> None:
        if self.now + seconds > self.end:
            self.ended.set()
            await asyncio.Event().wait()
        self.now += seconds
        await asyncio.sleep(0)

    def wake(self) -> None:
        return


class Chore:
    def __init__(self, clock: Clock, takes: float) -> None:
        self.clock, self.takes = clock, takes
        self.lefts: list[float] = []
        self.done = 0
        self.busy: list[float | None] = []
        self.worker: MeterWorker | None = None

    def due(self, polled: Polled, left: float) -> bool:
        self.lefts.append(left)
        return True

    async def do(self) -> None:
        assert self.worker is not None
        self.busy.append(self.worker.busy_since)
        self.done += 1
        self.clock.now += self.takes


async def ran(takes: float, *, dead: bool = False) -> tuple[MeterWorker, Chore, FakePoller]:
    clock, poller = Clock(110.0), FakePoller(MeterId(1))
    poller.dead = dead
    chore = Chore(clock, takes)
    worker = MeterWorker(
        meter(1), cast(DLMSProductionPoller, poller), Schedule(1.0), FakeSink(), clock, clock, chore=chore
    )
    chore.worker = worker
    task = asyncio.create_task(worker.run())
    await clock.ended.wait()
    task.cancel()
    await asyncio.wait([task])
    return worker, chore, poller


async def test_one_piece_follows_each_reading_and_every_poll_is_on_time() -> None:
    worker, chore, poller = await ran(0.6)
    assert poller.polls == 10
    assert chore.done == 10
    assert chore.lefts == pytest.approx([1.0] * 10)
    assert worker.counters.skipped == 0
    assert worker.counters.last_lateness == pytest.approx(0.0)
    assert all(since is not None for since in chore.busy), "a piece that hangs is broken off like a poll"
    assert worker.busy_since is None


async def test_a_meter_that_cannot_be_read_is_not_bothered() -> None:
    _, chore, _ = await ran(0.1, dead=True)
    assert chore.done == 0


# ---- errands, and another period


class Errand:
    """Asks a running worker for one more poll when its time has come."""

    def __init__(self, clock: Clock, at: float) -> None:
        self.clock, self.at = clock, at
        self.outcome: object = None

    async def run(self, worker: MeterWorker) -> None:
        while self.clock.now < self.at:
            await asyncio.sleep(0)
        try:
            self.outcome = await worker.read_now(self.clock.now + 8.0)
        except CommandRefused as error:
            self.outcome = error


async def test_an_errand_comes_between_two_polls_and_moves_none() -> None:
    clock, poller = Clock(110.0), FakePoller(MeterId(1))
    sink = FakeSink()
    worker = MeterWorker(meter(1), cast(DLMSProductionPoller, poller), Schedule(1.0), sink, clock, clock)
    errand = Errand(clock, 104.0)
    task, asking = asyncio.create_task(worker.run()), asyncio.create_task(errand.run(worker))
    await clock.ended.wait()
    task.cancel()
    await asyncio.wait([task, asking])
    assert isinstance(errand.outcome, Polled)
    assert poller.polls == len(sink.readings) == 11
    assert (worker.counters.due, worker.counters.skipped) == (11, 0)


async def test_another_period_holds_at_once_and_nothing_counts_as_skipped() -> None:
    clock, poller = Clock(110.0), FakePoller(MeterId(1))
    worker = MeterWorker(meter(1), cast(DLMSProductionPoller, poller), Schedule(1.0), FakeSink(), clock, clock)
    task = asyncio.create_task(worker.run())
    while clock.now < 105.0:
        await asyncio.sleep(0)
    before = poller.polls
    worker.reschedule(0.1)
    await clock.ended.wait()
    task.cancel()
    await asyncio.wait([task])
    assert 40 <= poller.polls - before <= 51
    assert worker.counters.skipped == 0
    assert poller.closed == 1, "the association stayed"


async def test_who_waits_for_an_errand_is_told_when_polling_stops() -> None:
    clock, poller = Clock(110.0), FakePoller(MeterId(1))
    poller.hangs = True
    worker = MeterWorker(meter(1), cast(DLMSProductionPoller, poller), Schedule(1.0), FakeSink(), clock, clock)
    errand = Errand(clock, 100.0)
    task, asking = asyncio.create_task(worker.run()), asyncio.create_task(errand.run(worker))
    for _ in range(20):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task, asking])
    assert isinstance(errand.outcome, CommandRefused)
    assert str(errand.outcome) == "polling of this meter was stopped meanwhile"
