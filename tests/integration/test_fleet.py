"""The fleet against real simulated meters and a real database, in one process."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from meterbridge.fleet import MultiMeterBridge, RunState
from meterbridge.model import Meter, MeterId
from meterbridge.service import Service
from meterbridge.settings import (
    DatabaseSettings,
    LogSettings,
    MonitorSettings,
    NetworkSettings,
    OutboxSettings,
    PollingSettings,
    Settings,
)
from meterbridge.simulator import FleetOptions, SimulatedFleet
from meterbridge.store import AlarmRepository, MeterRepository, MetricsRepository, open_database

COUNT = 6


class Installation:
    """Simulated meters, a service that reads them, and the database from outside."""

    def __init__(self, service: Service, fleet: SimulatedFleet, settings: Settings, meters: list[Meter]) -> None:
        self.service = service
        self.fleet = fleet
        self.settings = settings
        self.meters = meters

    @property
    def bridge(self) -> MultiMeterBridge:
        assert self.service.bridge is not None
        return self.service.bridge

    def successes(self) -> dict[MeterId, int]:
        return {id_: worker.counters.successes for id_, worker in self.bridge.workers.items()}

    async def progress(self, *meters: Meter) -> None:
        before = self.successes()
        await until(lambda: all(self.successes()[m.id] > before.get(m.id, 0) for m in meters))


async def until(what: Callable[[], bool], seconds: float = 10.0) -> None:
    async with asyncio.timeout(seconds):
        while not what():
            await asyncio.sleep(0.01)


@asynccontextmanager
async def installation(folder: Path, **polling: float) -> AsyncIterator[Installation]:
    settings = Settings(
        database=DatabaseSettings(url=f"sqlite+aiosqlite:///{folder}/admin.db"),
        outbox=OutboxSettings(path=folder / "outbox.db"),
        log=LogSettings(file=folder / "meterbridge.log"),
        polling=PollingSettings.model_validate(
            {"period_s": 0.1, "backoff_initial_s": 0.05, "backoff_max_s": 0.2, "connections_per_s": 1000, **polling}
        ),
        monitor=MonitorSettings(interval_s=0.3),
        network=NetworkSettings(ping_interval_s=0.2, outage_after=2),
    )
    async with SimulatedFleet(FleetOptions(COUNT, port=0)) as fleet:
        engine = await open_database(settings.database.url)
        repository = MeterRepository(engine)
        meters = [
            await repository.add(Meter(MeterId(0), f"m{n}", "127.0.0.1", port, model="microstar", tb_enabled=False))
            for n, port in enumerate(fleet.ports)
        ]
        await engine.dispose()
        service = Service(settings)
        await service.start()
        try:
            yield Installation(service, fleet, settings, meters)
        finally:
            await service.stop()
    assert len(asyncio.all_tasks()) == 1


async def test_pause_resume_restart_and_test_one_meter(tmp_path: Path) -> None:
    async with installation(tmp_path) as here:
        one, others = here.meters[0], here.meters[1:]
        await here.progress(*here.meters)
        server = here.fleet.servers[0]
        assert server.connections == 1
        result = await here.bridge.test(one.id)
        assert (result.ok, result.connected, result.firmware_version) == (True, False, "MBS 1.4.2")
        assert result.values["voltage_l1"].unit == "V"
        assert server.connections == 1, "it used the worker's own association"
        await here.bridge.pause(one.id)
        await until(lambda: server.connections == 0)
        result = await here.bridge.test(one.id)
        assert (result.ok, result.connected) == (True, True)
        await until(lambda: server.connections == 0)
        await here.bridge.resume(one.id)
        await here.bridge.restart(one.id)
        await here.progress(one, *others)
        assert all(here.bridge.status(meter.id).counters.reconnections == 0 for meter in others)


async def test_reload_picks_up_what_changed_and_disturbs_nobody_else(tmp_path: Path) -> None:
    async with installation(tmp_path) as here:
        await here.progress(*here.meters)
        kept, gone, changed, own = here.meters[:4]
        engine = await open_database(here.settings.database.url)
        repository = MeterRepository(engine)
        await repository.update(replace(gone, status="inactive"))
        await repository.update(replace(changed, name="renamed"))
        new = await repository.add(replace(gone, name="new", ip_address="localhost"))
        await engine.dispose()
        polling = PollingSettings.model_validate(
            {**here.settings.polling.model_dump(exclude={"meters"}), "meters": {own.name: {"period_s": 0.2}}}
        )
        result = await here.service.reload(here.settings.model_copy(update={"polling": polling}))
        assert result is not None
        assert (result.added, result.removed, result.untouched) == ((new.id,), (gone.id,), 3)
        assert sorted(result.changed) == [changed.id, own.id]
        await here.progress(kept, changed, own, new)
        assert here.bridge.status(kept.id).counters.reconnections == 0
        assert gone.id not in here.bridge.workers
        assert (await here.service.reload(here.settings.model_copy(update={"polling": polling}))) is not None


async def test_a_meter_that_goes_away_is_an_alarm_until_it_is_back(tmp_path: Path) -> None:
    async with installation(tmp_path) as here:
        await here.progress(*here.meters)
        lost = here.fleet.servers[0]
        port = lost.port
        await lost.close()
        alarm = (here.meters[0].id, "connection_loss")
        await until(lambda: alarm in here.service.desk.open)
        await here.progress(*here.meters[1:])
        await lost.start("127.0.0.1", port)
        await here.progress(here.meters[0])
        assert alarm not in here.service.desk.open
    engine = await open_database(here.settings.database.url)
    alarms = await AlarmRepository(engine).alarms(0, 1 << 45)
    assert [(a.type, a.resolved_at is not None) for a in alarms if a.meter == here.meters[0].id] == [
        ("connection_loss", True)
    ]
    await engine.dispose()


async def test_an_alarm_that_outlives_the_service_is_resolved_by_the_next_run(tmp_path: Path) -> None:
    async with installation(tmp_path) as here:
        await here.progress(*here.meters)
        lost, port = here.fleet.servers[0], here.fleet.servers[0].port
        await lost.close()
        alarm = (here.meters[0].id, "connection_loss")
        await until(lambda: alarm in here.service.desk.open)
        await here.service.stop()
        await lost.start("127.0.0.1", port)
        here.service = Service(here.settings)
        await here.service.start()
        assert alarm in here.service.desk.open
        await until(lambda: alarm not in here.service.desk.open)
        await here.service.stop()
    engine = await open_database(here.settings.database.url)
    alarms = await AlarmRepository(engine).alarms(0, 1 << 45)
    assert [(a.type, a.resolved_at is not None) for a in alarms if a.meter == here.meters[0].id] == [
        ("connection_loss", True)
    ]
    await engine.dispose()


async def test_every_interval_leaves_its_rows_and_a_table(tmp_path: Path) -> None:
    async with installation(tmp_path) as here:
        await here.progress(*here.meters)
        monitor = here.service.monitor
        assert monitor is not None
        await until(lambda: monitor.last is not None and monitor.last.readings > 0)
        await asyncio.sleep(0.5)
        report = monitor.last
        assert report is not None
        assert (report.meters, report.running, report.network) == (COUNT, COUNT, {"fine": COUNT})
    engine = await open_database(here.settings.database.url)
    repository = MetricsRepository(engine)
    rows = await repository.meter_metrics(0, 1 << 45)
    assert {row.meter for row in rows} == {meter.id for meter in here.meters}
    assert max(row.success_rate or 0 for row in rows) == 100
    assert {row.meter for row in await repository.network_metrics(0, 1 << 45)} == {m.id for m in here.meters}
    await engine.dispose()
    assert "SYSTEM STATUS REPORT" in (tmp_path / "status.txt").read_text()


async def test_new_connections_are_rationed(tmp_path: Path) -> None:
    started = time.monotonic()
    async with installation(tmp_path, connections_per_s=10.0) as here:
        await until(lambda: all(here.successes().values()))
        # Six at ten a second, the first of them at once.
        assert time.monotonic() - started >= 0.5


async def test_fewer_connections_than_meters_take_turns(tmp_path: Path) -> None:
    async with installation(tmp_path, max_connections=2) as here:
        most = 0
        began = time.monotonic()
        while not all(count > 1 for count in here.successes().values()):
            most = max(most, sum(server.connections for server in here.fleet.servers))
            assert time.monotonic() - began < 20
            await asyncio.sleep(0.005)
        assert most <= 3, "a connection we have closed may not have ended yet on the other side"


async def test_stop_says_goodbye_within_its_time(tmp_path: Path) -> None:
    async with installation(tmp_path) as here:
        await here.progress(*here.meters)
        started = time.monotonic()
        await here.service.stop()
        assert time.monotonic() - started < 10
        assert sum(server.connections for server in here.fleet.servers) == 0
        assert all(state.state is not RunState.PAUSED for state in here.bridge.statuses())


@pytest.mark.parametrize("wait", [0.0, 0.05, 0.3])
async def test_a_stop_at_any_moment_of_the_start_leaves_nothing_behind(tmp_path: Path, wait: float) -> None:
    async with installation(tmp_path) as here:
        await asyncio.sleep(wait)
    assert sum(server.connections for server in here.fleet.servers) == 0
