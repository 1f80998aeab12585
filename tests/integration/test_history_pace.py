"""History beside live polls of slow meters: polls begin when due. The clock is the test's, the sockets are real."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pytest

from meterbridge.fleet import AlarmDesk, HistoryKeeper, HistoryLimits, MeterHistory, MeterWorker, Schedule
from meterbridge.meter import (
    Backoff,
    BackoffSettings,
    DLMSClient,
    DLMSProductionPoller,
    Failed,
    Interval,
    MeterAddress,
    Polled,
    ProfileHistory,
    Recovered,
    Timeouts,
    Tripped,
    load_model,
)
from meterbridge.model import Meter, MeterId, Reading
from meterbridge.simulator import FleetOptions, MeterServer
from meterbridge.simulator.behaviour import Action, Faithful, Send
from meterbridge.simulator.fleet import simulated_meter
from meterbridge.simulator.server import ServerOptions
from tests.integration.virtual_time import run_virtually

SEED = 20251114
DAY = 86_400
BEGIN = 1_760_000_000 // 900 * 900


class Slow(Faithful):
    """Each answer takes its time."""

    def __init__(self, delay: Callable[[], float]) -> None:
        self._delay = delay

    def deliver(self, octets: bytes, now: float) -> Sequence[Action]:
        return (Send(octets, self._delay()),)


@dataclass
class Told:
    """The worker's sink, and the outbox's place."""

    keeper: HistoryKeeper | None = None
    late: list[float] = field(default_factory=list)
    polls: int = 0
    failed_polls: int = 0
    rows: Counter[int] = field(default_factory=Counter)
    worker: MeterWorker | None = None

    def polled(self, meter: Meter, outcome: Polled, firmware_version: str | None) -> None:
        assert self.keeper is not None
        assert self.worker is not None
        self.polls += 1
        self.late.append(self.worker.counters.last_lateness)
        self.keeper.read(meter.id, outcome.reading.ts)

    def failed(self, meter: Meter, outcome: Failed) -> None:
        self.failed_polls += 1

    def troubled(self, meter: Meter, event: Tripped | Recovered) -> None:
        return

    def deliver(self, meter: Meter, readings: Sequence[Reading]) -> list[Done]:
        self.rows.update(reading.ts for reading in readings)
        return [Done()]


class Done:
    def add_done_callback(self, callback: Callable[[bool], None]) -> None:
        callback(True)


class Nowhere:
    async def save(self, changes: object) -> None:
        return


async def flushed() -> None:
    return


async def closed(
    framing: str, delay: Callable[[], float], *, days: int, most_s: float, max_pdu: int = 1024
) -> tuple[Told, HistoryKeeper]:
    """Poll once a second until a hole of so many days is closed."""
    loop = asyncio.get_running_loop()

    def wall() -> float:
        return BEGIN + loop.time()

    told = Told()
    server = MeterServer(simulated_meter(FleetOptions(max_pdu=max_pdu), 0), ServerOptions(framing), Slow(delay), wall)
    await server.start("127.0.0.1", 0)
    limits = HistoryLimits(settle=0.0, max_age=100.0 * DAY, clock_check=600.0)
    keeper = HistoryKeeper(limits, AlarmDesk(wall), told.deliver, wall, loop.time)
    meter = Meter(MeterId(1), "m", "127.0.0.1")
    now = int(wall() * 1000)
    keeper.adopt({meter.id: [Interval(now - days * DAY * 1000 - 1, now - days * DAY * 1000)]})
    client = DLMSClient(
        MeterAddress("127.0.0.1", server.port, framing, password=b"00000000"), load_model("generic"), Timeouts(1.0, 6.0)
    )
    poller = DLMSProductionPoller(
        meter.id, client, Backoff(BackoffSettings(1.0, 1.0), random.Random(1)), loop.time, wall
    )
    chore = MeterHistory(meter, ProfileHistory(meter.id, client), lambda: client.connected, keeper, True)
    told.keeper = keeper
    told.worker = MeterWorker(meter, poller, Schedule(1.0), told, loop.time, chore=chore)
    polling = asyncio.create_task(told.worker.run())
    saving = asyncio.create_task(keeper.run(Nowhere(), flushed, 60.0, lambda error: None))
    end = loop.time() + most_s
    while loop.time() < end and (told.polls < 3 or keeper.holes(meter.id)):
        await asyncio.sleep(0.5)
    for task in (polling, saving):
        task.cancel()
    await asyncio.wait([polling, saving])
    await server.close()
    return told, keeper


@pytest.mark.parametrize("framing", ["hdlc", "wrapper"])
def test_a_slow_meter_s_hole_is_closed_and_no_poll_is_late(framing: str) -> None:
    rng = random.Random(SEED)
    told, keeper = run_virtually(closed(framing, lambda: rng.uniform(0.02, 0.12), days=2, most_s=3_600))
    assert keeper.holes(MeterId(1)) == []
    assert len(told.rows) == 192
    assert set(told.rows.values()) == {1}
    assert told.failed_polls == 0
    assert told.worker is not None
    assert told.worker.counters.skipped == 0
    # The first poll connects; the clock's resolution is a millisecond.
    assert max(told.late[1:]) < 0.002


@pytest.mark.parametrize("framing", ["hdlc", "wrapper"])
def test_a_meter_that_grows_slower_in_the_middle_delays_a_poll_by_one_exchange_at_most(framing: str) -> None:
    rng = random.Random(SEED)
    answers = 0

    def delay() -> float:
        # Ten times as slow from the middle of a piece on, for a while, again and again.
        nonlocal answers
        answers += 1
        return rng.uniform(0.01, 0.04) * (10 if answers // 150 % 2 else 1)

    # Small APDUs: pieces come in many data blocks.
    told, keeper = run_virtually(closed(framing, delay, days=10, most_s=7_200, max_pdu=128))
    assert keeper.holes(MeterId(1)) == []
    assert set(told.rows.values()) == {1}
    assert len(told.rows) == 10 * 96
    assert told.failed_polls == 0
    late = [seconds for seconds in told.late[1:] if seconds > 0.002]
    print(f"{framing}: {told.polls} polls, {len(late)} late, by {max(late, default=0.0):.3f} s at most")
    print(f"{keeper.counters}")
    assert keeper.counters.interrupted
    # Nobody knows beforehand that the next exchange takes ten times as long: that one may be under way.
    assert max(late, default=0.0) <= 0.4
    assert len(late) <= 1 + answers // 300


def test_a_meter_without_time_to_spare_keeps_its_polls_and_its_hole() -> None:
    told, keeper = run_virtually(closed("wrapper", lambda: 0.7, days=1, most_s=200))
    assert keeper.holes(MeterId(1))
    assert not told.rows
    assert sum(seconds > 0.002 for seconds in told.late[1:]) <= 1
