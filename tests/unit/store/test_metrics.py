from __future__ import annotations

from datetime import UTC, datetime

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from meterbridge.errors import StoreError
from meterbridge.model import Meter, MeterId
from meterbridge.store import Diagnostic, MeterMetrics, MeterRepository, MetricsRepository, NetworkMetrics
from tests.unit.store.conftest import Sql

NOW = 1_762_857_000_123


@pytest.fixture
async def meter(repository: MeterRepository) -> MeterId:
    return (await repository.add(Meter(MeterId(0), "Main", "127.0.0.1"))).id


async def test_an_interval_is_one_transaction_and_reads_back(engine: AsyncEngine, meter: MeterId, sql: Sql) -> None:
    repository = MetricsRepository(engine)
    commits = 0

    def count(_: sa.Connection) -> None:
        nonlocal commits
        commits += 1

    sa.event.listen(engine.sync_engine, "commit", count)
    row = MeterMetrics(NOW, meter, 99.5, 100.0, 12.5, 1, 3)
    ping = NetworkMetrics(NOW, meter, 6, 5, 0.1, 0.2, 0.3)
    event = Diagnostic(NOW, meter, "hdlc_error", 3, "wrong FCS")
    stranger = MeterMetrics(NOW, MeterId(77), None, None, None, 0, 0)
    await repository.record([row, stranger], [ping], [event])
    assert commits == 1
    assert await repository.meter_metrics(0, NOW + 1) == [row]
    assert await repository.network_metrics(0, NOW + 1, meter) == [ping]
    assert await repository.diagnostics(0, NOW + 1) == [event]
    assert await repository.meter_metrics(0, NOW) == []
    [(when, *typed)] = await sql("SELECT * FROM meter_metrics ORDER BY timestamp DESC LIMIT 10")
    assert when in ("2025-11-11 10:30:00.123Z", datetime(2025, 11, 11, 10, 30, 0, 123_000, UTC))
    assert typed == [meter, 99.5, 100.0, 12.5, 1, 3]


async def test_retention(engine: AsyncEngine, meter: MeterId) -> None:
    repository = MetricsRepository(engine)
    for ts in (NOW - 2, NOW - 1, NOW):
        await repository.record(
            [MeterMetrics(ts, meter, None, None, None, 0, 0)], [], [Diagnostic(ts, meter, "x", 1, None)]
        )
    assert await repository.prune(NOW - 1) == 2
    assert len(await repository.meter_metrics(0, NOW + 1)) == 2


async def test_half_an_interval_is_never_stored(engine: AsyncEngine, meter: MeterId) -> None:
    repository = MetricsRepository(engine)
    async with engine.begin() as connection:
        await connection.execute(sa.text("DROP TABLE dlms_diagnostics"))
    with pytest.raises(StoreError):
        await repository.record(
            [MeterMetrics(NOW, meter, None, None, None, 0, 0)], [], [Diagnostic(NOW, meter, "x", 1, None)]
        )
    assert await repository.meter_metrics(0, NOW + 1) == []
