"""The roster says what the database would say."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from meterbridge.model import Meter, MeterId
from meterbridge.service import Roster
from meterbridge.store import MeterRepository, open_database


@pytest.fixture
async def repository(tmp_path: Path) -> AsyncIterator[MeterRepository]:
    engine = await open_database(f"sqlite+aiosqlite:///{tmp_path}/admin.db")
    yield MeterRepository(engine)
    await engine.dispose()


async def test_what_is_recorded_is_what_would_be_read(repository: MeterRepository) -> None:
    ids = [
        (await repository.add(Meter(MeterId(0), name, "h", status=s))).id
        for name, s in (("a", "active"), ("b", "inactive"))
    ]
    kept, read = Roster(), Roster()
    await kept.load(repository)
    errors = dict.fromkeys(ids, "x" * 600)
    for step in range(3):
        if step < 2:
            await repository.record_errors(errors)
            kept.failed(errors)
        else:
            await repository.record_seen(ids, 1_762_857_000_123)
            kept.seen(ids, 1_762_857_000_123)
        await read.load(repository)
        assert (kept.meters, kept.states) == (read.meters, read.states)
    assert [meter.status for meter in kept.meters.values()] == ["active", "inactive"]
    assert kept.states[ids[0]].error_count == 2


async def test_a_meter_that_has_gone_is_passed_over(repository: MeterRepository) -> None:
    roster = Roster()
    await roster.load(repository)
    roster.seen([MeterId(7)], 1)
    roster.failed({MeterId(7): "x"})
    assert (roster.meters, roster.states) == ({}, {})
