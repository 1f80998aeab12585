from __future__ import annotations

import asyncio
from typing import cast

import pytest

from meterbridge.fleet import MeterWorker, Schedule
from meterbridge.meter import DLMSProductionPoller, Failed, Polled, PollOutcome, Stray, Tripped, Trouble
from meterbridge.model import MeterId, Quantity
from tests.unit.fleet.fakes import FakePoller, FakeSink, meter


class Clock:
    """Time passes only while somebody waits, or when a poll says so."""

    def __init__(self) -> None:
        self.now = 100.4
        self.stop_at = 110.0
        self.woken = asyncio.Event()

    def __call__(self) -> float:
        return self.now

    async def wait(self, seconds: float) -> None:
        assert seconds > 0
        if self.now + seconds >= self.stop_at:
            await self.woken.wait()
            self.woken.clear()
            return
        self.now += seconds
        await asyncio.sleep(0)

    def wake(self) -> None:
        self.woken.set()


class SlowPoller(FakePoller):
    clock: Clock
    takes: tuple[float, ...] = ()
    gate: asyncio.Event | None = None
    waiting = False

    async def poll_once(self, *, force: bool = False) -> PollOutcome:
        if self.gate is not None:
            self.waiting = True
            await self.gate.wait()
        self.clock.now += self.takes[self.polls] if self.polls < len(self.takes) else 0.0
        return await super().poll_once(force=force)


async def _worker(*takes: float) -> tuple[MeterWorker, SlowPoller, FakeSink, Clock]:
    clock, sink, poller = Clock(), FakeSink(), SlowPoller(MeterId(1))
    poller.clock, poller.takes = clock, takes
    worker = MeterWorker(meter(1), cast(DLMSProductionPoller, poller), Schedule(1.0), sink, clock, clock)
    return worker, poller, sink, clock


async def test_a_poll_that_outlasts_its_period_skips_ticks_and_says_how_many() -> None:
    worker, poller, sink, clock = await _worker(0.1, 3.5)
    task = asyncio.create_task(worker.run())
    while clock.now < 108.9:
        await asyncio.sleep(0)
    for _ in range(10):
        await asyncio.sleep(0)
    # Ticks 101 and 102, the latter until 105.5; 103 to 105 pass meanwhile; then 106 to 109, and 110 is awaited.
    counters = worker.counters
    assert (counters.polls, counters.skipped, counters.due) == (6, 3, 10)
    assert dict(counters.events) == {"skipped_tick": 3}
    assert "3 ticks" in counters.details["skipped_tick"]
    assert counters.last_lateness == pytest.approx(0.0)
    task.cancel()
    await asyncio.wait([task])
    assert poller.closed == 1
    assert len(sink.readings) == counters.successes


async def test_a_test_uses_the_workers_own_association_out_of_turn() -> None:
    worker, poller, sink, clock = await _worker()
    clock.stop_at = 100.5
    task = asyncio.create_task(worker.run())
    await asyncio.sleep(0)
    first, second = await asyncio.gather(worker.test(), worker.test())
    assert isinstance(first, Polled)
    assert first is second
    assert (poller.polls, poller.forced) == (1, 1)
    assert sink.readings == [1]
    poller.dead = True
    assert isinstance(await worker.test(), Failed)
    asked = asyncio.create_task(worker.test())
    task.cancel()
    await asyncio.wait([task, asked])
    assert isinstance(asked.result(), Failed)


async def test_finishing_lets_the_poll_under_way_end_and_counts_no_tick_that_is_not_polled() -> None:
    worker, poller, sink, clock = await _worker()
    poller.gate = asyncio.Event()
    task = asyncio.create_task(worker.run())
    while not poller.waiting:
        await asyncio.sleep(0)
    worker.finish()
    for _ in range(10):
        await asyncio.sleep(0)
    assert not task.done(), "the meter is about to answer"
    poller.gate.set()
    await asyncio.wait_for(task, 1)
    assert (worker.counters.due, worker.counters.successes, poller.closed, sink.readings) == (1, 1, 1, [1])
    worker, poller, sink, clock = await _worker()
    clock.stop_at = 100.5
    task = asyncio.create_task(worker.run())
    await asyncio.sleep(0)
    worker.finish()
    await asyncio.wait_for(task, 1)
    assert (worker.counters.due, poller.polls, poller.closed) == (0, 0, 1)


async def test_what_happens_is_counted_with_its_newest_reason() -> None:
    worker, poller, sink, _ = await _worker()
    trip = Tripped(Trouble.HDLC_ERROR, "15 in a row")
    for event in (Stray("wrong FCS", True), Stray("late answer", False), Stray("noise", True), trip):
        poller.listener(event)
    assert worker.counters.link_errors == 2
    assert dict(worker.counters.events) == {"link_error": 2, "stray_frame": 1, "hdlc_error": 1}
    assert worker.counters.details["link_error"] == "noise"
    assert sink.events == [trip]


async def test_an_answer_without_a_value_is_no_success() -> None:
    worker, poller, _sink, clock = await _worker()
    clock.stop_at = 100.5
    task = asyncio.create_task(worker.run())
    await asyncio.sleep(0)
    await worker.test()
    nothing: dict[str, Quantity] = {}
    for values, reason in ((nothing, "a: object undefined"), ({"a": Quantity(None, None, "x")}, "null-data only")):
        poller.values = values
        await worker.test()
        counters = worker.counters
        assert counters.last_error == f"the meter answers, but no object gives a value ({reason})"
    assert (counters.polls, counters.successes, counters.failures) == (3, 1, 2)
    assert counters.events["no_value"] == 2
    poller.values = {"a": Quantity(None, None, "x"), "b": Quantity(0, None, "x")}
    await worker.test()
    assert (counters.successes, counters.failures) == (2, 2)
    task.cancel()
    await asyncio.wait([task])
