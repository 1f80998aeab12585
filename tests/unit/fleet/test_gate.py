from __future__ import annotations

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from meterbridge.fleet import ConnectionGate, Histogram, TokenBucket


def test_a_bucket_gives_its_burst_and_then_its_rate() -> None:
    bucket = TokenBucket(10.0, 3.0, now=0.0)
    assert [bucket.take(0.0) for _ in range(3)] == [0.0, 0.0, 0.0]
    assert bucket.take(0.0) == 0.1
    assert bucket.take(0.1) == 0.0
    assert bucket.take(0.1) > 0.0


@given(st.lists(st.floats(0, 0.5), min_size=1, max_size=200))
def test_a_bucket_never_exceeds_rate_and_burst(steps: list[float]) -> None:
    bucket, now, given_ = TokenBucket(10.0, 2.0, now=0.0), 0.0, 0
    for step in steps:
        now += step
        given_ += bucket.take(now) == 0.0
        assert given_ <= 2 + now * 10 + 1e-6


class _Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


async def test_open_connections_are_limited_and_turns_are_in_order() -> None:
    gate = ConnectionGate(1e6, 2, _Clock())
    order: list[int] = []

    async def one(number: int) -> None:
        await gate.enter()
        order.append(number)

    tasks = [asyncio.create_task(one(number)) for number in range(5)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert order == [0, 1]
    assert gate.contended
    tasks[2].cancel()
    await asyncio.sleep(0)
    for _ in range(2):
        gate.leave()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert order == [0, 1, 3, 4]
    assert (gate.open, gate.waiting, gate.contended) == (2, 0, False)


async def test_a_turn_given_to_someone_who_left_is_given_back() -> None:
    gate = ConnectionGate(1e6, 1, _Clock())
    await gate.enter()
    waiting = asyncio.create_task(gate.enter())
    await asyncio.sleep(0)
    gate.leave()
    waiting.cancel()
    await asyncio.wait([waiting])
    assert gate.open == 0


def test_quantiles_are_right_within_a_class() -> None:
    histogram = Histogram()
    assert histogram.quantile(0.5) is None
    for number in range(1, 1001):
        histogram.observe(number / 1000)
    for part in (0.5, 0.9, 0.99, 1.0):
        found = histogram.quantile(part)
        assert found is not None
        assert part <= found <= part * 1.16
    histogram.clear()
    assert histogram.count == 0
