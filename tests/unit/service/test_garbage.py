"""What lives long is left out of collections, and a cycle among it is found once memory has grown."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Iterator

import pytest

from meterbridge.service.garbage import GarbageKeeper, keep_garbage_small


class Node:
    def __init__(self) -> None:
        self.itself: Node | None = self


class Memory:
    def __init__(self) -> None:
        self.octets = 100 << 20

    def __call__(self) -> int:
        return self.octets


@pytest.fixture
def memory() -> Memory:
    return Memory()


@pytest.fixture
def keeper(memory: Memory) -> Iterator[GarbageKeeper]:
    keeper = GarbageKeeper(memory)
    yield keeper
    keeper.end()


def test_a_cycle_that_came_since_is_collected(keeper: GarbageKeeper) -> None:
    watched = weakref.ref(Node())
    assert not keeper.look()
    assert watched() is None


def test_what_is_held_is_frozen_and_freed_as_ever(keeper: GarbageKeeper) -> None:
    node = Node()
    watched = weakref.ref(node)
    keeper.look()
    assert gc.get_freeze_count() > 0
    assert all(found is not node for found in gc.get_objects())
    node.itself = None
    del node
    assert watched() is None


def test_a_frozen_cycle_is_found_when_memory_has_grown(keeper: GarbageKeeper, memory: Memory) -> None:
    node = Node()
    watched = weakref.ref(node)
    keeper.look()
    del node
    assert not keeper.look()
    assert watched() is not None
    memory.octets = 170 << 20
    assert keeper.look()
    assert watched() is None
    # Grown from there on, not from the beginning.
    assert not keeper.look()


def test_what_meters_take_is_no_sign_of_cycles(memory: Memory) -> None:
    meters = 0
    keeper = GarbageKeeper(memory, lambda: meters)
    try:
        meters, memory.octets = 4000, (100 << 20) + 4000 * (40 << 10)
        assert not keeper.look()
        memory.octets += 90 << 20
        assert keeper.look()
    finally:
        keeper.end()


def test_much_is_looked_at_before_its_time(keeper: GarbageKeeper, memory: Memory) -> None:
    assert not keeper.has_much()
    memory.octets += 5 << 20
    assert keeper.has_much()
    keeper.look()
    assert not keeper.has_much()


def test_a_look_comes_after_so_many_steps_or_a_great_one(memory: Memory, monkeypatch: pytest.MonkeyPatch) -> None:
    slept = 0
    looks: list[int] = []

    def look(_keeper: GarbageKeeper) -> None:
        looks.append(slept)

    monkeypatch.setattr(GarbageKeeper, "look", look)

    async def sleep(_seconds: float) -> None:
        nonlocal slept
        slept += 1
        if slept == 12:
            memory.octets += 5 << 20
        if slept == 13:
            raise asyncio.CancelledError

    monkeypatch.setattr("meterbridge.service.garbage.asyncio.sleep", sleep)
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(keep_garbage_small(memory, steps=5))
    # At once too: what was imported is no reason to stop the first polls.
    assert looks == [0, 5, 10, 12]


def test_the_collector_is_left_as_it_was_found(memory: Memory) -> None:
    before = gc.get_threshold()

    async def cancelled() -> None:
        task = asyncio.create_task(keep_garbage_small(memory))
        await asyncio.sleep(0)
        assert gc.get_threshold() != before
        task.cancel()
        await asyncio.wait([task])

    asyncio.run(cancelled())
    assert gc.get_threshold() == before
    assert gc.get_freeze_count() == 0
