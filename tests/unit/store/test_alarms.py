from __future__ import annotations

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from meterbridge.model import Meter, MeterId
from meterbridge.store import AlarmOutcome, AlarmRepository, MeterRepository, Raise, Resolve, Severity
from tests.unit.store.conftest import Sql

HOUR = 3_600_000


@pytest.fixture
async def meter(repository: MeterRepository) -> MeterId:
    return (await repository.add(Meter(MeterId(0), "Main", "127.0.0.1"))).id


async def test_one_open_row_for_each_meter_and_type(engine: AsyncEngine, meter: MeterId, sql: Sql) -> None:
    repository = AlarmRepository(engine)
    lost = Raise(meter, "connection_loss", Severity.CRITICAL, "gone", 1000)
    outcomes = await repository.apply(
        [
            lost,
            Raise(meter, "connection_loss", Severity.WARNING, "still gone", 2000),
            Raise(meter, "hdlc_error", Severity.WARNING, "noise", 2000),
            Raise(None, "own_link", Severity.CRITICAL, "all gone", 2000),
            Raise(None, "own_link", Severity.CRITICAL, "all gone", 3000),
            Resolve(None, "own_link", 4000),
            Resolve(None, "own_link", 5000),
        ]
    )
    assert [str(outcome) for outcome in outcomes] == [
        "opened", "repeated", "opened", "opened", "repeated", "resolved", "nothing",
    ]  # fmt: skip
    found = await repository.open_alarms()
    assert [(alarm.type, alarm.message, alarm.severity, alarm.created_at) for alarm in found] == [
        ("connection_loss", "still gone", "warning", 1000),
        ("hdlc_error", "noise", "warning", 2000),
    ]
    assert len(await sql("SELECT * FROM alarms WHERE resolved_at IS NULL")) == 2
    assert await repository.apply([Resolve(meter, "connection_loss", 5000), lost]) == [
        AlarmOutcome.RESOLVED,
        AlarmOutcome.OPENED,
    ]
    assert len(await repository.open_alarms(meter)) == 2


async def test_alarms_of_a_window_include_those_that_reach_into_it(engine: AsyncEngine, meter: MeterId) -> None:
    repository = AlarmRepository(engine)
    for start, end in ((0, 1), (0, HOUR), (HOUR, None), (2 * HOUR, None)):
        kind = f"t{start}-{end}"
        await repository.apply([Raise(meter, kind, Severity.INFO, "m", start)])
        if end is not None:
            await repository.apply([Resolve(meter, kind, end)])
    found = await repository.alarms(HOUR, 2 * HOUR)
    assert [alarm.type for alarm in found] == [f"t0-{HOUR}", f"t{HOUR}-None"]
    assert await repository.prune(HOUR) == 1
    assert len(await repository.alarms(0, 9 * HOUR)) == 3


async def test_unknown_meters_are_passed_over_and_what_is_acknowledged_stays_open(
    engine: AsyncEngine, meter: MeterId
) -> None:
    repository = AlarmRepository(engine)
    assert await repository.apply([Raise(MeterId(99), "x", Severity.INFO, "m", 1)]) == [AlarmOutcome.NOTHING]
    await repository.apply([Raise(meter, "x", Severity.INFO, "m" * 900, 1)])
    [alarm] = await repository.open_alarms()
    assert len(alarm.message) == 500
    assert await repository.acknowledge(alarm.id, 7, "ann")
    assert await repository.acknowledge(alarm.id, 8, "bob")
    assert not await repository.acknowledge(alarm.id + 1, 8, "bob")
    [seen] = await repository.open_alarms()
    assert (seen.acknowledged_at, seen.acknowledged_by) == (7, "ann")
