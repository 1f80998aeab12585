from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

import pytest

from meterbridge.errors import MeterNotFound
from meterbridge.fleet import AlarmDesk, MultiMeterBridge, RunState
from meterbridge.meter import Backoff, BackoffSettings, Trouble
from meterbridge.model import Meter, MeterId
from meterbridge.store import Alarm, MeterProblem
from tests.unit.fleet.fakes import FakeSource, Makers, meter

M1, M2, M3 = MeterId(1), MeterId(2), MeterId(3)


class Clock:
    ahead = 0.0

    def __call__(self) -> float:
        return asyncio.get_running_loop().time() + self.ahead


class Fleet:
    def __init__(self) -> None:
        self.source = FakeSource(meter(1), meter(2), meter(3))
        self.make = Makers()
        self.clock = Clock()
        self.desk = AlarmDesk(lambda: 0.0)
        self.bridge = MultiMeterBridge(
            self.source,
            self.make,
            lambda: Backoff(BackoffSettings(0.001, 0.002), random.Random(1)),
            self.desk,
            self.clock,
        )

    async def until(self, what: Callable[[], bool]) -> None:
        async with asyncio.timeout(5):
            while not what():
                await asyncio.sleep(0)

    async def progress(self, number: int) -> None:
        readings = self.make.sink.readings
        seen = readings.count(MeterId(number))
        await self.until(lambda: readings.count(MeterId(number)) > seen)


@pytest.fixture
async def fleet() -> AsyncIterator[Fleet]:
    fleet = Fleet()
    await fleet.bridge.start()
    yield fleet
    await fleet.bridge.stop()
    assert len(asyncio.all_tasks()) == 1, "no task is left behind"


async def test_a_crash_is_contained_alarmed_restarted_and_over_when_healthy(fleet: Fleet) -> None:
    fleet.make.poller(1).bug = ZeroDivisionError("a bug")
    await fleet.until(lambda: len(fleet.make.pollers[M1]) > 1)
    assert (M1, "worker_crash") in fleet.desk.open
    await fleet.progress(1)
    await fleet.progress(2)
    assert fleet.bridge.status(M1).crashes == 1
    assert [len(fleet.make.pollers[m]) for m in (M2, M3)] == [1, 1]
    fleet.bridge.supervise(lambda meter: 100.0)
    assert (M1, "worker_crash") in fleet.desk.open, "too early to say it is healthy"
    fleet.clock.ahead += 61
    await fleet.until(lambda: fleet.bridge.supervise(lambda meter: 1000.0) == [] and not fleet.desk.open)
    assert (fleet.desk.counters.opened, fleet.desk.counters.resolved) == (1, 1)


async def test_a_crash_that_repeats_is_one_alarm(fleet: Fleet) -> None:
    def broken(poller: object) -> None:
        poller.bug = ValueError("again")  # type: ignore[attr-defined]

    fleet.make.prepare = broken
    fleet.make.poller(1).bug = ValueError("first")
    await fleet.until(lambda: fleet.bridge.status(M1).crashes > 5)
    assert fleet.desk.counters.opened == 1
    assert fleet.bridge.status(M1).counters.events["worker_crash"] > 5


async def test_a_hanging_poll_is_broken_off(fleet: Fleet) -> None:
    fleet.make.poller(1).hangs = True
    polls = fleet.make.poller(1).polls
    await fleet.until(lambda: fleet.make.poller(1).polls > polls)
    assert fleet.bridge.supervise(lambda meter: 300.0) == []
    [restart] = fleet.bridge.supervise(lambda meter: 0.0 if meter.id == M1 else 300.0)
    await restart
    assert (M1, "worker_hang") in fleet.desk.open
    await fleet.progress(1)
    assert len(fleet.make.pollers[M2]) == 1


async def test_hundreds_of_meters_are_added_and_compared_piece_by_piece(fleet: Fleet) -> None:
    turns = 0

    async def turning() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    made_at: list[int] = []
    compared_at: list[int] = []
    fleet.make.prepare = lambda _poller: made_at.append(turns)

    def compared(meter: Meter) -> object:
        compared_at.append(turns)
        return meter

    fleet.bridge._identity = compared
    fleet.source.meters = [meter(number) for number in range(1, 201)]
    beside = asyncio.create_task(turning())
    await fleet.bridge.reload()
    assert max(Counter(made_at).values()) <= 25
    compared_at.clear()
    await fleet.bridge.reload()
    assert len(compared_at) == 200
    assert max(Counter(compared_at).values()) <= 25
    beside.cancel()


async def test_a_stop_while_meters_are_added_leaves_none_behind(fleet: Fleet) -> None:
    fleet.source.meters = [meter(number) for number in range(1, 201)]
    reloading = asyncio.create_task(fleet.bridge.reload())
    await fleet.until(lambda: len(fleet.bridge.workers) > 50)
    await fleet.bridge.stop()
    await reloading
    assert not fleet.bridge.workers


async def test_waiting_for_a_connection_is_no_hang(fleet: Fleet) -> None:
    fleet.make.poller(1).hangs = True
    polls = fleet.make.poller(1).polls
    await fleet.until(lambda: fleet.make.poller(1).polls > polls)
    fleet.make.poller(1).at_gate = True
    assert fleet.bridge.supervise(lambda meter: 0.0 if meter.id == M1 else 300.0) == []
    assert not fleet.desk.open


async def test_a_test_of_a_meter_whose_worker_is_being_restarted_never_overlaps_with_it(fleet: Fleet) -> None:
    for _ in range(5):
        crashes = fleet.bridge.status(M1).crashes
        fleet.make.poller(1).bug = ZeroDivisionError("a bug")
        await fleet.until(lambda crashes=crashes: fleet.bridge.status(M1).crashes > crashes)  # type: ignore[misc]
        results = await asyncio.gather(*(fleet.bridge.test(M1) for _ in range(3)))
        assert all(result.ok for result in results), "the fake poller raises when two use it at once"
        await fleet.progress(1)
    assert fleet.bridge.status(M1).crashes == 5


async def test_alarms_of_an_earlier_run_go_to_the_worker_that_can_end_them() -> None:
    fleet = Fleet()
    fleet.desk.adopt(
        [
            Alarm(1, M1, "connection_loss", "critical", "gone", 1000, None),
            Alarm(2, M2, "worker_crash", "critical", "a bug", 1000, None),
            Alarm(3, MeterId(9), "silence", "critical", "inactive by now", 1000, None),
            Alarm(4, None, "own_link", "critical", "all gone", 1000, None),
        ]
    )
    await fleet.bridge.start()
    assert (MeterId(9), "silence") not in fleet.desk.open
    assert fleet.make.poller(1).inherited == {Trouble.CONNECTION_LOSS}
    assert fleet.make.poller(2).inherited == set()
    fleet.clock.ahead += 61
    await fleet.until(lambda: fleet.bridge.supervise(lambda meter: 1000.0) == [] and len(fleet.desk.open) == 2)
    assert set(fleet.desk.open) == {(M1, "connection_loss"), (None, "own_link")}
    await fleet.bridge.stop()


async def test_pause_resume_and_restart_one_by_one(fleet: Fleet) -> None:
    await fleet.progress(1)
    await fleet.bridge.pause(M1)
    assert fleet.bridge.status(M1).state is RunState.PAUSED
    assert fleet.make.poller(1).closed == 1
    polls = fleet.make.poller(1).polls
    await fleet.progress(2)
    assert fleet.make.poller(1).polls == polls
    before = fleet.bridge.status(M1).counters.successes
    await fleet.bridge.resume(M1)
    await fleet.progress(1)
    assert fleet.bridge.status(M1).counters.successes > before, "counters live on"
    await fleet.bridge.resume(M1)
    assert len(fleet.make.pollers[M1]) == 2, "resuming what runs disturbs nothing"
    await fleet.bridge.restart(M1)
    await fleet.progress(1)
    assert len(fleet.make.pollers[M1]) == 3
    for ask in (fleet.bridge.pause, fleet.bridge.resume, fleet.bridge.restart, fleet.bridge.test):
        with pytest.raises(MeterNotFound):
            await ask(MeterId(9))


async def test_many_hands_at_once_never_make_two_clients_on_a_meter(fleet: Fleet) -> None:
    seed = 42
    print(f"seed {seed}")
    chance = random.Random(seed)
    bridge = fleet.bridge
    for _ in range(30):
        asked = [chance.choice((bridge.pause, bridge.resume, bridge.restart, bridge.test)) for _ in range(4)]
        await asyncio.gather(*(ask(M1) for ask in asked), bridge.reload(), return_exceptions=False)
    await bridge.resume(M1)
    await fleet.progress(1)
    assert bridge.status(M1).crashes == 0, "the fake poller raises when two use it at once"


async def test_test_of_a_paused_meter_takes_an_association_of_its_own(fleet: Fleet) -> None:
    result = await fleet.bridge.test(M1)
    assert (result.ok, result.error, result.firmware_version) == (True, None, "1")
    assert len(fleet.make.pollers[M1]) == 1
    await fleet.bridge.pause(M1)
    assert (await fleet.bridge.test(M1)).ok
    assert fleet.make.poller(1).closed == 1
    assert fleet.bridge.status(M1).state is RunState.PAUSED
    fleet.make.prepare = lambda poller: setattr(poller, "dead", True)
    result = await fleet.bridge.test(M1)
    assert (result.ok, result.error) == (False, "nobody there")
    fleet.make.prepare = lambda poller: setattr(poller, "hangs", True)
    result = await fleet.bridge.test(M1, timeout=0.02)
    assert result.error == "no result within 0.02 s"


async def test_reload_disturbs_only_what_changed(fleet: Fleet) -> None:
    await fleet.bridge.pause(M2)
    fleet.source.meters = [
        replace(meter(1), status="error"),
        replace(meter(2), port=4000),
        meter(4),
    ]
    result = await fleet.bridge.reload()
    assert (result.added, result.removed, result.changed, result.untouched) == ((4,), (3,), (2,), 1)
    await fleet.progress(1)
    await fleet.progress(4)
    assert len(fleet.make.pollers[M1]) == 1
    assert fleet.make.poller(3).closed == 1
    assert fleet.bridge.status(M2).state is RunState.PAUSED
    assert fleet.bridge.status(M2).meter.port == 4000
    assert set(fleet.bridge.workers) == {1, 2, 4}


async def test_a_row_that_went_bad_leaves_its_meter_running(fleet: Fleet) -> None:
    fleet.source.meters = [meter(1), replace(meter(3), model="gone")]
    fleet.source.problems = [MeterProblem(M2, "m2", "port must be a number")]
    fleet.make.refused = {M3}
    await fleet.bridge.reload()
    for number in (1, 2, 3):
        await fleet.progress(number)
        assert len(fleet.make.pollers[MeterId(number)]) == 1


async def test_a_meter_that_does_not_say_goodbye_does_not_hold_up_the_stop(fleet: Fleet) -> None:
    fleet.make.poller(1).hangs = True
    loop = asyncio.get_running_loop()
    started = loop.time()
    await fleet.bridge.stop(0.5)
    assert loop.time() - started < 1
