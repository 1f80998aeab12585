"""A meter's route changes while the service runs: what waits for the old one arrives over the new one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from meterbridge.model import Meter, MeterId
from meterbridge.service import Service
from meterbridge.settings import DatabaseSettings, LogSettings, OutboxSettings, PollingSettings, Settings
from meterbridge.simulator import FleetOptions, MeterServer, simulated_meter
from meterbridge.store import MeterRepository, open_database
from tests.integration.delivery_recorder import Recorder


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.02)


async def test_what_waits_for_a_dead_server_arrives_at_the_new_one_after_a_reload(
    tmp_path: Path, free_port: Callable[[], int]
) -> None:
    settings = Settings(
        database=DatabaseSettings(url=f"sqlite+aiosqlite:///{tmp_path}/admin.db", key_file=tmp_path / "secrets.key"),
        outbox=OutboxSettings(path=tmp_path / "outbox.db"),
        log=LogSettings(file=tmp_path / "meterbridge.log"),
        polling=PollingSettings(period_s=0.05),
    )
    recorder = Recorder(free_port())
    await recorder.start()
    servers = [MeterServer(simulated_meter(FleetOptions(), number)) for number in range(2)]
    for server in servers:
        await server.start("127.0.0.1", 0)
    engine = await open_database(settings.database.url)
    repository = MeterRepository(engine)
    # Nobody listens at port 1: not to the one's own token, nor to the other on the broker route.
    own = await repository.add(
        Meter(MeterId(0), "own", "127.0.0.1", servers[0].port, tb_host="127.0.0.1", tb_port=1, tb_token="OWN")
    )
    shared = await repository.add(
        Meter(MeterId(0), "shared", "127.0.0.1", servers[1].port, tb_host="127.0.0.1", tb_port=1)
    )
    service = Service(settings)
    await service.start()
    try:
        await until(lambda: service.outbox_stats().committed > 20)
        assert not recorder.messages
        for meter in (own, shared):
            await repository.update(replace(meter, tb_token=None, tb_port=recorder.port))
        await service.reload_meters()
        await until(lambda: {"own", "shared"} <= recorder.readings().keys())
        for meter in (own, shared):
            await service.fleet.pause(meter.id)
        await until(lambda: service.outbox_stats().rows == 0)
        tally = service.counters.published
        assert sum(map(len, recorder.readings().values())) == tally
        for times in recorder.readings().values():
            assert times == sorted(times)
    finally:
        await service.stop()
        await engine.dispose()
        for server in servers:
            await server.close()
        await recorder.stop()
