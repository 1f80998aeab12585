"""Invocation counters kept in a store: none used twice, whatever crashes, however many ask, whatever the store does."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import pytest

from meterbridge.dlms.counters import COUNTER_END
from meterbridge.errors import CounterUnavailable, StoreError
from meterbridge.meter import CounterKeeper, Stretch
from meterbridge.meter.kept_counter import KeptCounter


class Store:
    """Keeps what is put by as a database does, over the keepers that come and go."""

    def __init__(self) -> None:
        self.next: dict[str, int] = {}
        self.transactions: list[list[str]] = []
        self.broken = False

    async def reserve(self, least: Mapping[str, int], ahead: int) -> dict[str, Stretch]:
        await asyncio.sleep(0)
        if self.broken:
            raise StoreError("disk full")
        self.transactions.append(sorted(least))
        given = {}
        for name, floor in least.items():
            start = min(max(self.next.get(name, 0), floor), COUNTER_END)
            self.next[name] = start + ahead
            given[name] = Stretch(start, min(start + ahead, COUNTER_END))
        return given


async def take(counter: KeptCounter, number: int) -> list[int]:
    taken = []
    for _ in range(number):
        taken.append(counter.next_counter())
        await asyncio.sleep(0)
    return taken


async def test_values_are_on_disk_before_they_are_used_and_a_crash_skips_what_was_left() -> None:
    store = Store()
    used: list[int] = []
    for _ in range(5):
        async with CounterKeeper(store).running() as keeper:
            counter = keeper.counter("a")
            await counter.ready()
            used += await take(counter, 700)
            assert used[-1] < store.next["a"]
    assert used == sorted(set(used))
    assert used[0] == 0


async def test_it_counts_on_without_waiting_for_the_store() -> None:
    store = Store()
    async with CounterKeeper(store).running() as keeper:
        counter = keeper.counter("a")
        await counter.ready()
        # One turn of the loop for each value: the next stretch is there before the last is used up.
        assert await take(counter, 10_000) == list(range(10_000))
    assert 10 <= len(store.transactions) <= 12


async def test_meters_with_one_key_share_one_counter_and_never_a_value() -> None:
    async with CounterKeeper(Store()).running() as keeper:
        one, other = keeper.counter("a"), keeper.counter("a")
        await asyncio.gather(one.ready(), other.ready())
        taken = await asyncio.gather(take(one, 2000), take(other, 2000))
        assert sorted(taken[0] + taken[1]) == list(range(4000))


async def test_all_that_are_due_are_put_by_in_one_transaction() -> None:
    store = Store()
    async with CounterKeeper(store).running() as keeper:
        counters = [keeper.counter(f"{number:04}") for number in range(1200)]
        await asyncio.gather(*(counter.ready() for counter in counters))
        assert [len(names) for names in store.transactions] == [500, 500, 200]


async def test_what_the_meter_says_moves_it_forward_and_never_back() -> None:
    store = Store()
    async with CounterKeeper(store).running() as keeper:
        counter = keeper.counter("a")
        await counter.ready()
        assert await take(counter, 3) == [0, 1, 2]
        counter.advance_to(100)
        counter.advance_to(7)
        assert await take(counter, 2) == [100, 101]
        counter.advance_to(50_000)
        with pytest.raises(CounterUnavailable, match="put by"):
            counter.next_counter()
        await counter.ready()
        assert await take(counter, 1) == [50_000]
        assert store.next["a"] > 50_000


async def test_a_store_that_fails_is_told_of_and_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("meterbridge.meter.kept_counter._AGAIN_AFTER", 0.0)
    monkeypatch.setattr("meterbridge.meter.kept_counter._PATIENCE", 0.05)
    store, told = Store(), list[StoreError]()
    store.broken = True
    async with CounterKeeper(store, told.append).running() as keeper:
        counter = keeper.counter("a")
        with pytest.raises(CounterUnavailable, match="database"):
            await counter.ready()
        assert told
        store.broken = False
        await counter.ready()
        assert counter.next_counter() == 0


async def test_the_end_is_the_end() -> None:
    store = Store()
    store.next["a"] = COUNTER_END - 20
    async with CounterKeeper(store).running() as keeper:
        counter = keeper.counter("a")
        await counter.ready()
        assert await take(counter, 20) == list(range(COUNTER_END - 20, COUNTER_END))
        with pytest.raises(CounterUnavailable):
            counter.next_counter()
        with pytest.raises(CounterUnavailable, match="new keys"):
            await counter.ready()
