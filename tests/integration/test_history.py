"""A hole closed from the load profile: real worker, outbox and database against a simulated meter over a DST change."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from meterbridge.delivery import Outbox, Ticket
from meterbridge.fleet import AlarmDesk, HistoryKeeper, HistoryLimits, MeterHistory, MeterWorker, Schedule
from meterbridge.meter import (
    Backoff,
    BackoffSettings,
    DLMSClient,
    DLMSProductionPoller,
    Failed,
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
from meterbridge.simulator.clock import ClockSettings
from meterbridge.simulator.fleet import simulated_meter
from meterbridge.store import IntervalRepository, MeterRepository, open_database
from meterbridge.thingsboard import telemetry

QUARTER = 900
BERLIN = ClockSettings(time_zone=-60, summer=True)
# Clocks go back at 01:00 UTC on 25 October 2026, and forward at 01:00 UTC on 29 March.
AUTUMN = int(dt.datetime(2026, 10, 24, 6, 7, tzinfo=dt.UTC).timestamp())
SPRING = int(dt.datetime(2026, 3, 28, 6, 7, tzinfo=dt.UTC).timestamp())
TWO_DAYS = 2 * 86_400


class Wall:
    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


async def until(what: Callable[[], bool], seconds: float = 20.0) -> None:
    async with asyncio.timeout(seconds):
        while not what():
            await asyncio.sleep(0.005)


class Run:
    """One life of the service, as far as one meter's readings and history are concerned."""

    def __init__(self, outbox: Outbox, keeper: HistoryKeeper, meter: Meter, desk: AlarmDesk) -> None:
        self.outbox = outbox
        self.keeper = keeper
        self.meter = meter
        self.desk = desk
        self.polls = 0
        self.late = 0.0

    def polled(self, meter: Meter, outcome: Polled, firmware_version: str | None) -> None:
        self.polls += 1
        payload = telemetry(outcome.reading)
        assert payload is not None
        self.outbox.put(meter.id, "live", meter.name, outcome.reading.ts, payload)
        self.keeper.read(meter.id, outcome.reading.ts)

    def failed(self, meter: Meter, outcome: Failed) -> None:
        return

    def troubled(self, meter: Meter, event: Tripped | Recovered) -> None:
        return

    async def poll(self, more: int = 2) -> None:
        wanted = self.polls + more
        await until(lambda: self.polls >= wanted)

    async def closed(self) -> None:
        await until(lambda: self.keeper.holes(self.meter.id) == [])

    def rows(self) -> list[dict[str, float]]:
        page = self.outbox.peek("history", 0, 100_000)
        assert page is not None
        return [{"ts": row.ts, **json.loads(row.payload)["values"]} for row in page.rows]


class Site:
    def __init__(self, folder: Path, server: MeterServer, wall: Wall) -> None:
        self.folder = folder
        self.server = server
        self.wall = wall
        self.limits = HistoryLimits(pieces_per_s=1000.0)
        self.period = 0.05

    @asynccontextmanager
    async def run(self, *, crash: bool = False) -> AsyncIterator[Run]:
        engine = await open_database(f"sqlite+aiosqlite:///{self.folder}/admin.db")
        repository = MeterRepository(engine)
        meters = await repository.list_meters()
        meter = meters[0] if meters else await repository.add(Meter(MeterId(0), "m", "127.0.0.1"))
        store = IntervalRepository(engine)
        outbox = await Outbox.open(self.folder / "outbox.db", interval_s=0.01)
        desk = AlarmDesk(self.wall)

        def deliver(meter: Meter, readings: Sequence[Reading]) -> list[Ticket]:
            return [outbox.put(meter.id, "history", meter.name, r.ts, telemetry(r) or b"") for r in readings][-1:]

        loop = asyncio.get_running_loop()
        keeper = HistoryKeeper(self.limits, desk, deliver, self.wall, loop.time)
        keeper.adopt(await store.load())
        address = MeterAddress("127.0.0.1", self.server.port, password=b"00000000")
        client = DLMSClient(address, load_model("generic"), Timeouts(1.0, 1.0))
        backoff = Backoff(BackoffSettings(0.02, 0.05), random.Random(1))
        poller = DLMSProductionPoller(meter.id, client, backoff, loop.time, self.wall)
        life = Run(outbox, keeper, meter, desk)
        chore = MeterHistory(meter, ProfileHistory(meter.id, client), lambda: client.connected, keeper, True)
        worker = MeterWorker(meter, poller, Schedule(self.period), life, loop.time, chore=chore)
        saving = asyncio.create_task(keeper.run(store, outbox.flush, 0.1, lambda error: pytest.fail(str(error))))
        polling = asyncio.create_task(worker.run())
        try:
            yield life
            assert not polling.done()
            assert not saving.done()
        finally:
            saving.cancel()
            polling.cancel()
            await asyncio.wait([saving, polling])
            if not crash:
                await outbox.flush()
                await keeper.save(store, outbox.flush, everything=True)
            await outbox.close()
            await engine.dispose()


@asynccontextmanager
async def site(folder: Path, begins: int) -> AsyncIterator[Site]:
    meter = simulated_meter(FleetOptions(), 0)
    meter.clock = BERLIN
    wall = Wall(begins)
    server = MeterServer(meter, clock=wall)
    await server.start("127.0.0.1", 0)
    try:
        yield Site(folder, server, wall)
    finally:
        await server.close()


async def outage(here: Site, life: Run, seconds: int) -> None:
    """Lose the line for so long, and let what came in the meantime settle."""
    here.server.power_off()
    here.wall.now += seconds
    await here.server.power_on()
    await life.poll()
    here.wall.now += 120
    await life.poll()


def quarters(start: float, end: float) -> list[int]:
    return [t for t in range(int(start) // QUARTER * QUARTER, int(end), QUARTER) if t >= start]


def check(here: Site, rows: list[dict[str, float]], *expected: int) -> None:
    counted = Counter(row["ts"] for row in rows)
    assert sorted(counted) == [t * 1000 for t in sorted(expected)]
    assert set(counted.values()) == {1}
    load = here.server.meter.load
    for row in rows:
        assert row["active_energy"] == load.energies(int(row["ts"]) // 1000)[0]


@pytest.mark.parametrize("begins", [AUTUMN, SPRING])
async def test_a_hole_of_two_days_over_a_dst_change_is_closed_exactly_once(tmp_path: Path, begins: int) -> None:
    async with site(tmp_path, begins) as here, here.run() as life:
        await life.poll()
        await outage(here, life, TWO_DAYS)
        await life.closed()
        expected = quarters(begins, begins + TWO_DAYS)
        assert len(expected) == 192
        await life.outbox.flush()
        check(here, life.rows(), *expected)
        assert life.keeper.counters.rows == 192
        assert not life.desk.open


async def test_a_crash_in_the_middle_repeats_one_piece_at_most(tmp_path: Path) -> None:
    async with site(tmp_path, AUTUMN) as here:
        async with here.run(crash=True) as life:
            await life.poll()
            # What was live before the outage is in the database; the rest of the stretches as they come.
            await asyncio.sleep(0.3)
            await outage(here, life, TWO_DAYS)
            await until(lambda: life.keeper.counters.pieces >= 4)
            first = life.keeper.counters
        async with here.run() as life:
            await life.poll()
            await life.closed()
            await life.outbox.flush()
            counted = Counter(row["ts"] for row in life.rows())
        assert sorted(counted) == [t * 1000 for t in quarters(AUTUMN, AUTUMN + TWO_DAYS)]
        assert max(counted.values()) <= 2
        assert sum(n - 1 for n in counted.values()) <= 16
        assert 0 < first.rows < 192
        assert first.rows + life.keeper.counters.rows <= 192 + 16


async def test_a_second_outage_before_the_first_is_closed_and_a_stop_between(tmp_path: Path) -> None:
    async with site(tmp_path, AUTUMN) as here:
        async with here.run() as life:
            await life.poll()
            await outage(here, life, TWO_DAYS)
            await until(lambda: life.keeper.counters.pieces >= 3)
            back = here.wall.now
            await outage(here, life, 86_400)
        stopped = here.wall.now
        here.wall.now += 7200
        async with here.run() as life:
            await life.poll()
            here.wall.now += 120
            await life.poll()
            await life.closed()
            await life.outbox.flush()
            expected = [
                *quarters(AUTUMN, AUTUMN + TWO_DAYS),
                *quarters(back, back + 86_400),
                *quarters(stopped, stopped + 7200),
            ]
            check(here, life.rows(), *expected)


async def test_a_clock_that_drifts_raises_an_alarm_until_it_is_right(tmp_path: Path) -> None:
    async with site(tmp_path, AUTUMN) as here:
        here.server.meter.clock_offset = -90
        async with here.run() as life:
            await until(lambda: (life.meter.id, "clock_drift") in life.desk.open)
            assert "90 s behind" in life.desk.open[life.meter.id, "clock_drift"].message
            here.server.meter.clock_offset = 3
            here.server.drop_connections()
            await until(lambda: not life.desk.open)
