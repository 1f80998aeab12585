from __future__ import annotations

from sqlalchemy.ext.asyncio import AsyncEngine

from meterbridge.meter import Interval
from meterbridge.model import Meter, MeterId
from meterbridge.store import IntervalRepository, MeterRepository


async def test_intervals_are_replaced_and_go_with_their_meter(engine: AsyncEngine, repository: MeterRepository) -> None:
    one, other = [(await repository.add(Meter(MeterId(0), name, "127.0.0.1"))).id for name in "ab"]
    intervals = IntervalRepository(engine)
    day = 1_793_000_000_000
    await intervals.save(
        {one: ([], [Interval(day, day + 5), Interval(day + 9, day + 10)]), other: ([], [Interval(1, 2)])}
    )
    assert await intervals.load() == {
        one: [Interval(day, day + 5), Interval(day + 9, day + 10)],
        other: [Interval(1, 2)],
    }
    await intervals.save({one: ([Interval(day, day + 5), Interval(day + 9, day + 10)], [Interval(day, day + 10)])})
    assert (await intervals.load())[one] == [Interval(day, day + 10)]
    await repository.remove(one)
    assert await intervals.load() == {other: [Interval(1, 2)]}


async def test_a_meter_removed_meanwhile_does_not_fail_the_others(
    engine: AsyncEngine, repository: MeterRepository
) -> None:
    meter = (await repository.add(Meter(MeterId(0), "a", "127.0.0.1"))).id
    intervals = IntervalRepository(engine)
    await intervals.save({MeterId(77): ([], [Interval(1, 2)]), meter: ([], [Interval(3, 4)])})
    assert await intervals.load() == {meter: [Interval(3, 4)]}
