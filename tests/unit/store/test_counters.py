"""Counters put by in the database: no two stretches overlap, whoever asks at once."""

from __future__ import annotations

import asyncio
import itertools

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from meterbridge.dlms.counters import COUNTER_END
from meterbridge.errors import StoreError
from meterbridge.meter import Stretch
from meterbridge.model import Meter, MeterId
from meterbridge.store import CounterRepository, MeterRepository, open_database


async def test_each_stretch_begins_where_the_last_ended_or_where_it_must(engine: AsyncEngine) -> None:
    counters = CounterRepository(engine)
    assert await counters.reserve({"a": 0, "b": 7}, 10) == {"a": Stretch(0, 10), "b": Stretch(7, 17)}
    assert await counters.reserve({"a": 5}, 10) == {"a": Stretch(10, 20)}
    assert await counters.reserve({"a": 100}, 10) == {"a": Stretch(100, 110)}
    assert await counters.reserve({"a": 0}, 10) == {"a": Stretch(110, 120)}
    assert await counters.reserve({}, 10) == {}


async def test_several_processes_at_once_never_get_the_same(url: str, engine: AsyncEngine) -> None:
    engines = [engine, await open_database(url), await open_database(url)]

    async def take(own: AsyncEngine) -> list[Stretch]:
        return [(await CounterRepository(own).reserve({"a": 0, "b": 0}, 10))["a"] for _ in range(20)]

    taken = sorted(
        (stretch for each in await asyncio.gather(*(take(own) for own in engines)) for stretch in each),
        key=lambda stretch: stretch.start,
    )
    assert [stretch.start for stretch in taken] == list(range(0, 600, 10))
    assert all(before.end == after.start for before, after in itertools.pairwise(taken))
    for other in engines[1:]:
        await other.dispose()


async def test_the_end_is_an_empty_stretch(engine: AsyncEngine) -> None:
    counters = CounterRepository(engine)
    assert await counters.reserve({"a": COUNTER_END - 5}, 10) == {"a": Stretch(COUNTER_END - 5, COUNTER_END)}
    assert await counters.reserve({"a": 0}, 10) == {"a": Stretch(COUNTER_END, COUNTER_END)}


async def test_a_counter_outlives_its_meters(engine: AsyncEngine) -> None:
    counters, meters = CounterRepository(engine), MeterRepository(engine)
    meter = await meters.add(Meter(MeterId(0), "Main", "192.0.2.10"))
    await counters.reserve({"a": 0}, 10)
    await meters.remove(meter.id)
    assert (await counters.reserve({"a": 0}, 10))["a"].start == 10


async def test_a_database_that_cannot_be_used_gives_nothing(engine: AsyncEngine) -> None:
    async with engine.begin() as connection:
        await connection.execute(sa.text("DROP TABLE invocation_counters"))
    with pytest.raises(StoreError, match="invocation_counters"):
        await CounterRepository(engine).reserve({"a": 0}, 10)
