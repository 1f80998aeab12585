from __future__ import annotations

from sqlalchemy.ext.asyncio import AsyncEngine

from meterbridge.model import Meter, MeterId
from meterbridge.store import AuditEntry, AuditRepository, MeterRepository, OverrideRepository, Overrides

AT = 1_793_000_000_000


async def test_an_entry_is_written_before_and_finished_after_and_outlives_its_meter(
    engine: AsyncEngine, repository: MeterRepository
) -> None:
    meter = (await repository.add(Meter(MeterId(0), "a", "127.0.0.1"))).id
    audit = AuditRepository(engine)
    entry = AuditEntry(AT, meter, "a", "gateway:h:1883 rpc 5", "setRelay", '{"on": true}')
    number = await audit.add(entry)
    assert await audit.newest(10) == [entry]
    await audit.finish(number, "not done: " + "x" * 1000)
    await repository.remove(meter)
    [found] = await audit.newest(10)
    assert (found.meter, found.meter_name, found.at) == (meter, "a", AT)
    assert found.outcome is not None
    assert len(found.outcome) == 500
    second = await audit.add(AuditEntry(AT + 1, meter, "a", "x", "pause", "{}", "done"))
    assert second > number
    assert [found.action for found in await audit.newest(1)] == ["pause"]


async def test_overrides_are_replaced_and_go_with_their_meter(engine: AsyncEngine, repository: MeterRepository) -> None:
    meter = (await repository.add(Meter(MeterId(0), "a", "127.0.0.1"))).id
    store = OverrideRepository(engine)
    assert await store.load() == {}
    await store.save(meter, Overrides(2.5, ("a", "b,c")))
    assert await store.load() == {meter: Overrides(2.5, ("a", "b,c"))}
    await store.save(meter, Overrides(None, ("a",)))
    assert await store.load() == {meter: Overrides(None, ("a",))}
    await store.save(MeterId(99), Overrides(1.0))
    assert list(await store.load()) == [meter]
    await store.save(meter, Overrides())
    assert await store.load() == {}
    await store.save(meter, Overrides(1.0))
    await repository.remove(meter)
    assert await store.load() == {}
