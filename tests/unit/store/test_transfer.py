"""All rows of a SQLite file into a database of the other kind."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from meterbridge.errors import StoreError
from meterbridge.meter import Interval
from meterbridge.model import Meter, MeterId
from meterbridge.store import (
    AlarmRepository,
    IntervalRepository,
    KeySource,
    MeterMetrics,
    MeterRepository,
    MetricsRepository,
    Raise,
    Role,
    Severity,
    TokenRepository,
    Vault,
    fill,
    open_database,
)
from tests.unit.store.test_migrate import OLD, make

NOW = 1_762_857_000_123


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return tmp_path / "old" / "admin.db"


@pytest.fixture
def vault(tmp_path: Path) -> Vault:
    return Vault(KeySource(tmp_path / "secrets.key", writable=True))


async def test_everything_arrives_and_ids_go_on(url: str, source: Path, vault: Vault) -> None:
    engine = await open_database(f"sqlite:///{source}")
    meters = MeterRepository(engine, vault)
    meter = await meters.add(Meter(MeterId(0), "Main", "192.0.2.10", password="pa55-w0rd"))
    await meters.record_error(meter.id, "timeout")
    row = MeterMetrics(NOW, meter.id, 99.5, None, 12.5, 1, 3)
    await MetricsRepository(engine).record([row])
    await AlarmRepository(engine).apply([Raise(meter.id, "hdlc_error", Severity.WARNING, "noise", NOW)])
    await IntervalRepository(engine).save({meter.id: ([], [Interval(1, 2)])})
    await TokenRepository(engine).create("ann", Role.VIEWER, NOW)
    await engine.dispose()

    copied = await fill(url, source)

    assert {table: count for table, count in copied.items() if count != (0, 0)} == {
        "meters": (1, 0),
        "meter_metrics": (1, 0),
        "alarms": (1, 0),
        "profile_intervals": (1, 0),
        "api_tokens": (1, 0),
    }
    engine = await open_database(url)
    meters = MeterRepository(engine, vault)
    assert await meters.list_meters() == [replace(meter, status="error")]
    assert (await meters.states())[meter.id].error_count == 1
    assert await MetricsRepository(engine).meter_metrics(0, NOW + 1) == [row]
    assert [alarm.created_at for alarm in await AlarmRepository(engine).open_alarms()] == [NOW]
    assert (await meters.add(replace(meter, name="next"))).id == meter.id + 1
    await AlarmRepository(engine).apply([Raise(None, "x", Severity.INFO, "m", NOW)])
    await engine.dispose()
    with pytest.raises(StoreError, match="it holds meters already"):
        await fill(url, source)


async def test_an_adopted_file_gives_what_can_be_given(url: str, source: Path) -> None:
    make(source, OLD.replace("'x'", "3333"))
    make(
        source,
        "INSERT INTO meter_metrics SELECT 2, timestamp, meter_id, 86, 0, 0, 0, 0 FROM meter_metrics;"
        "INSERT INTO meter_metrics VALUES (3, NULL, 3, 1, 1, 1, 1, 1), (4, '2025-11-11 10:30:00', 77, 1, 1, 1, 1, 1);",
    )
    copied = await fill(url, source)
    assert (copied["meters"], copied["meter_metrics"], copied["alarms"]) == ((3, 0), (1, 3), (1, 0))
    engine = await open_database(url)
    [_, _, meter] = await MeterRepository(engine).list_meters()
    assert (meter.id, meter.tb_host, meter.tb_enabled) == (9, "127.0.0.1", True)
    await engine.dispose()


async def test_what_cannot_be_copied_is_one_line_and_changes_nothing(url: str, source: Path) -> None:
    with pytest.raises(StoreError, match="there is none"):
        await fill(url, source)
    make(source, OLD)
    with pytest.raises(StoreError, match=r"meter 9 \(Bad\): port must be a whole number"):
        await fill(url, source)
    with pytest.raises(StoreError, match="it is the one to be filled"):
        await fill(f"sqlite:///{source}", source)
    engine = await open_database(url)
    assert await MeterRepository(engine).list_meters() == []
    await engine.dispose()
