"""The service closes the hole that its own absence left, from what the database says was complete."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import time
from collections import Counter
from contextlib import closing
from pathlib import Path

from meterbridge.meter import Interval
from meterbridge.model import Meter, MeterId
from meterbridge.service import Service
from meterbridge.settings import (
    DatabaseSettings,
    HistorySettings,
    LogSettings,
    MonitorSettings,
    OutboxSettings,
    PollingSettings,
    Settings,
)
from meterbridge.simulator import FleetOptions, SimulatedFleet
from meterbridge.store import IntervalRepository, MeterRepository, open_database

QUARTER_MS = 900_000


async def test_what_was_missed_while_the_service_was_stopped_is_delivered_once(tmp_path: Path) -> None:
    settings = Settings(
        database=DatabaseSettings(url=f"sqlite+aiosqlite:///{tmp_path}/admin.db", key_file=tmp_path / "secrets.key"),
        outbox=OutboxSettings(path=tmp_path / "outbox.db"),
        log=LogSettings(file=tmp_path / "meterbridge.log"),
        polling=PollingSettings(period_s=0.1),
        monitor=MonitorSettings(interval_s=60.0),
        history=HistorySettings(settle_s=0.5, chunk_s=7200.0),
    )
    stopped = int(time.time() * 1000) - 12 * 3_600_000
    async with SimulatedFleet(FleetOptions(1, port=0)) as fleet:
        engine = await open_database(settings.database.url)
        # Nobody listens where it delivers to: all of it stays in the outbox.
        meter = await MeterRepository(engine).add(Meter(MeterId(0), "m", "127.0.0.1", fleet.ports[0], tb_port=1))
        intervals = IntervalRepository(engine)
        await intervals.save({meter.id: ([], [Interval(stopped - 60_000, stopped)])})
        service = Service(settings)
        await service.start()
        begun = int(time.time() * 1000)
        try:
            async with asyncio.timeout(30):
                while not service.latest or service.history.holes(meter.id):
                    await asyncio.sleep(0.05)
        finally:
            await service.stop()
        [whole] = (await intervals.load())[meter.id]
        await engine.dispose()
    assert whole.start == stopped - 60_000
    assert whole.end >= begun
    with closing(sqlite3.connect(settings.outbox.path)) as connection:
        rows = connection.execute("SELECT ts, payload FROM outbox WHERE kind = 'telemetry'").fetchall()
    history = Counter(ts for ts, payload in rows if "active_energy_export" in json.loads(payload)["values"])
    first = -(-stopped // QUARTER_MS) * QUARTER_MS
    assert sorted(history) == list(range(first, sorted(history)[-1] + 1, QUARTER_MS))
    assert set(history.values()) == {1}
    assert len(history) in (48, 49)
