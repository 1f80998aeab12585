"""Commands: one at a time for each meter, answered once and in time, done once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from meterbridge.errors import CommandRefused
from meterbridge.fleet import Body, Command, CommandDesk, CommandLimits
from meterbridge.model import MeterId

ONE, OTHER = MeterId(1), MeterId(2)


class Bench:
    def __init__(self, timeout: float = 60.0) -> None:
        self.now = 1000.0
        self.desk = CommandDesk(CommandLimits(timeout, 3), lambda why: {"error": why}, lambda: self.now)
        self.answers: list[tuple[int, Body]] = []
        self.done: list[int] = []
        self.gate = asyncio.Event()

    def submit(
        self,
        key: int,
        content: str = "a",
        meter: MeterId = ONE,
        once: bool = True,
        work: Callable[[float], Awaitable[Body]] | None = None,
    ) -> None:
        async def wait(by: float) -> Body:
            await self.gate.wait()
            self.done.append(key)
            return {"key": key}

        self.desk.submit(
            meter, Command(key, content, work or wait, lambda body: self.answers.append((key, body)), once)
        )

    async def settle(self) -> None:
        for _ in range(20):
            await asyncio.sleep(0)


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    bench = Bench()
    yield bench
    await bench.desk.stop()
    assert len(asyncio.all_tasks()) == 1


async def test_one_after_the_other_and_no_more_than_may_wait(bench: Bench) -> None:
    for key in range(6):
        bench.submit(key)
        await bench.settle()
    bench.submit(100, meter=OTHER)
    await bench.settle()
    # One under way, three waiting.
    assert bench.answers == [(key, {"error": "3 commands wait for this meter already"}) for key in (4, 5)]
    bench.gate.set()
    await bench.settle()
    assert sorted(bench.done) == [0, 1, 2, 3, 100]
    assert [key for key in bench.done if key < 100] == [0, 1, 2, 3]
    assert len(bench.answers) == 7


async def test_what_comes_twice_is_done_once_and_answered_again(bench: Bench) -> None:
    bench.submit(1)
    bench.submit(1)
    bench.gate.set()
    await bench.settle()
    assert bench.answers == [(1, {"key": 1})]
    bench.submit(1)
    assert bench.answers == [(1, {"key": 1})] * 2
    assert bench.done == [1]
    bench.submit(1, content="b")
    await bench.settle()
    assert bench.done == [1, 1], "something else under the same number"
    bench.now += 61.0
    bench.submit(1, content="b")
    await bench.settle()
    assert bench.done == [1, 1, 1], "it was long ago"


async def test_a_read_is_simply_read_again(bench: Bench) -> None:
    bench.gate.set()
    for _ in range(2):
        bench.submit(1, once=False)
        await bench.settle()
    assert bench.done == [1, 1]


async def test_a_refusal_is_an_answer_and_remembered_too(bench: Bench) -> None:
    calls = []

    async def refuse(by: float) -> Body:
        calls.append(by)
        raise CommandRefused("no")

    bench.submit(1, work=refuse)
    await bench.settle()
    bench.submit(1, work=refuse)
    await bench.settle()
    assert bench.answers == [(1, {"error": "no"})] * 2
    assert calls == [1060.0]


async def test_a_bug_is_answered_and_stops_nothing(bench: Bench) -> None:
    async def bug(by: float) -> Body:
        raise KeyError("x")

    bench.gate.set()
    bench.submit(1, work=bug)
    bench.submit(2)
    await bench.settle()
    assert bench.answers == [(1, {"error": "it failed for a reason that only the log knows"}), (2, {"key": 2})]


async def test_each_is_answered_in_time_and_what_had_not_begun_is_not_done() -> None:
    bench = Bench(0.01)
    bench.submit(1)
    bench.submit(2)
    async with asyncio.timeout(5):
        while len(bench.answers) < 2:
            await asyncio.sleep(0.001)
    assert "under way and may still be done" in str(bench.answers[0][1]["error"])
    assert "nothing was done" in str(bench.answers[1][1]["error"])
    bench.now += 1.0
    bench.gate.set()
    await bench.settle()
    assert bench.done == [1]
    assert len(bench.answers) == 2
    bench.submit(1)
    assert bench.answers[2] == (1, {"key": 1}), "what became of it in the end"
    await bench.desk.stop()


async def test_stopping_answers_what_waits() -> None:
    bench = Bench()
    for key in (1, 2):
        bench.submit(key)
    await bench.settle()
    await bench.desk.stop()
    assert (2, {"error": "the service is being stopped"}) in bench.answers
    assert bench.done == []
    assert len(asyncio.all_tasks()) == 1


async def test_what_is_remembered_is_bounded(bench: Bench) -> None:
    bench.gate.set()
    for key in range(300):
        bench.submit(key)
        await bench.settle()
    assert len(bench.desk._lanes[ONE].known) <= 66
