"""What a meter is goes to ThingsBoard on every connection to it, and when it changes; else not."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from meterbridge.model import Meter, MeterId
from meterbridge.service import Service
from meterbridge.settings import (
    DatabaseSettings,
    LogSettings,
    OutboxSettings,
    PollingSettings,
    Settings,
)
from meterbridge.simulator import FleetOptions, MeterServer, simulated_meter
from meterbridge.store import MeterRepository, Severity, open_database


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(15):
        while not condition():
            await asyncio.sleep(0.02)


async def test_attributes_go_with_every_connection_and_every_change(tmp_path: Path) -> None:
    settings = Settings(
        database=DatabaseSettings(url=f"sqlite+aiosqlite:///{tmp_path}/admin.db", key_file=tmp_path / "secrets.key"),
        outbox=OutboxSettings(path=tmp_path / "outbox.db"),
        log=LogSettings(file=tmp_path / "meterbridge.log"),
        polling=PollingSettings(period_s=0.05, backoff_initial_s=0.05, backoff_max_s=0.1),
    )
    server = MeterServer(simulated_meter(FleetOptions(), 0))
    await server.start("127.0.0.1", 0)
    engine = await open_database(settings.database.url)
    repository = MeterRepository(engine)
    # Nobody listens where it delivers to: all of it stays in the outbox.
    meter = await repository.add(Meter(MeterId(0), "m", "127.0.0.1", server.port, tb_port=1))

    def told(kind: str) -> list[dict[str, Any]]:
        with closing(sqlite3.connect(settings.outbox.path)) as db:
            rows = db.execute("SELECT payload FROM outbox WHERE kind = ? ORDER BY id", (kind,)).fetchall()
        values = [json.loads(payload) for (payload,) in rows]
        # Which alarms are open is told as attributes too, in rows of their own.
        return [value for value in values if kind != "attributes" or "meter_name" in value]

    service = Service(settings)
    await service.start()
    try:
        await until(lambda: len(told("telemetry")) > 5)
        [first] = told("attributes")
        assert set(first) == {"meter_name", "ip_address", "port", "client_sap", "firmware_version", "last_connection"}
        server.drop_connections()
        await until(lambda: len(told("attributes")) == 2)
        again = told("attributes")[1]
        assert again["last_connection"] >= first["last_connection"]
        await repository.update(replace(meter, name="renamed"))
        await service.reload_meters()
        await until(lambda: told("attributes")[-1]["meter_name"] == "renamed")
        seen, polled = len(told("attributes")), len(told("telemetry"))
        await until(lambda: len(told("telemetry")) > polled + 10)
        assert len(told("attributes")) == seen
    finally:
        await service.stop()
        await engine.dispose()
        await server.close()


async def test_alarms_of_the_installation_are_told_when_they_change_and_by_the_next_run(tmp_path: Path) -> None:
    settings = Settings(
        database=DatabaseSettings(url=f"sqlite+aiosqlite:///{tmp_path}/admin.db", key_file=tmp_path / "secrets.key"),
        outbox=OutboxSettings(path=tmp_path / "outbox.db"),
        log=LogSettings(file=tmp_path / "meterbridge.log"),
    )
    engine = await open_database(settings.database.url)
    await MeterRepository(engine).add(Meter(MeterId(0), "m", "127.0.0.1", 1, tb_port=1))
    await engine.dispose()

    def told() -> list[tuple[str, str]]:
        with closing(sqlite3.connect(settings.outbox.path)) as db:
            rows = db.execute(
                "SELECT route, payload FROM outbox WHERE device = 'Meterbridge service' ORDER BY id"
            ).fetchall()
        return [(route, json.loads(payload)["bridge_alarm"]) for route, payload in rows]

    way = "broker:127.0.0.1:1"
    service = Service(settings)
    await service.start()
    try:
        await until(told)
        service.desk.raise_alarm(None, "novel", Severity.WARNING, "Something is odd.")
        await until(lambda: told() == [(way, "none"), (way, "novel: Something is odd.")])
        await until(lambda: novel(settings))
    finally:
        await service.stop()
    # It is nobody's to end at the start, so it is told as it was left, then as it ends.
    again = Service(settings)
    await again.start()
    try:
        await until(lambda: told()[2:] == [(way, "novel: Something is odd.")])
        again.desk.resolve(None, "novel")
        await until(lambda: told()[3:] == [(way, "none")])
    finally:
        await again.stop()


def novel(settings: Settings) -> bool:
    """Whether the alarm is in the database."""
    path = settings.database.url.removeprefix("sqlite+aiosqlite:///")
    with closing(sqlite3.connect(path)) as db:
        return bool(db.execute("SELECT 1 FROM alarms WHERE alarm_type = 'novel' AND resolved_at IS NULL").fetchall())
