"""Windows of the metrics, summed up by the database."""

from __future__ import annotations

from sqlalchemy.ext.asyncio import AsyncEngine

from meterbridge.model import Meter, MeterId
from meterbridge.store import (
    Diagnostic,
    MeterMetrics,
    MeterRepository,
    MeterSummary,
    MetricsRepository,
    NetworkMetrics,
    NetworkSummary,
    SummaryRepository,
)
from tests.unit.store.conftest import Sql

NOW = 1_762_857_000_123


async def test_means_and_sums_of_a_window(engine: AsyncEngine, repository: MeterRepository) -> None:
    one, two = [(await repository.add(Meter(MeterId(0), name, "127.0.0.1"))).id for name in ("a", "b")]
    metrics = MetricsRepository(engine)
    for ts, rate in ((NOW - 2, 100.0), (NOW - 1, 50.0), (NOW, None)):
        rows = [MeterMetrics(ts, one, rate, None, 10.0, 1, 2)]
        if ts == NOW:
            rows.append(MeterMetrics(ts, two, 5.0, 6.0, 7.0, 8, 9))
        pings = [NetworkMetrics(ts, one, 6, 5, 0.1, 0.2, 0.3)]
        await metrics.record(rows, pings, [Diagnostic(ts, one, "x", 2, None), Diagnostic(ts, one, "y", 1, None)])
    summaries = SummaryRepository(engine)
    assert await summaries.meters(0, NOW + 1) == [
        MeterSummary(one, NOW - 2, NOW, 3, 75.0, None, 10.0, 3, 6),
        MeterSummary(two, NOW, NOW, 1, 5.0, 6.0, 7.0, 8, 9),
    ]
    assert [row.intervals for row in await summaries.meters(NOW - 1, NOW)] == [1]
    assert await summaries.network(0, NOW + 1) == [NetworkSummary(one, 18, 15)]
    assert await summaries.events(NOW - 1, NOW + 1) == {one: {"x": 4, "y": 2}}
    assert (await summaries.meters(0, 1), await summaries.network(0, 1), await summaries.events(0, 1)) == ([], [], {})


async def test_rows_of_an_old_installation_may_hold_nothing(
    engine: AsyncEngine, repository: MeterRepository, sql: Sql
) -> None:
    meter = (await repository.add(Meter(MeterId(0), "a", "127.0.0.1"))).id
    await MetricsRepository(engine).record([MeterMetrics(NOW, meter, None, None, None, 0, 0)])
    await sql("UPDATE meter_metrics SET reconnections = NULL, hdlc_errors = NULL")
    [summary] = await SummaryRepository(engine).meters(0, NOW + 1)
    assert (summary.success_rate, summary.reconnections, summary.hdlc_errors) == (None, 0, 0)
