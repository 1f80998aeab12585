"""Work between polls: one piece after each reading, in the time that is left, and never in a poll's place."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest

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
