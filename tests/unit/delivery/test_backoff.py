"""Delay between tries: bounded, jittered, without end."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from meterbridge.delivery.line import full_jitter


@given(st.integers(1, 10**6), st.integers())
def test_a_delay_lies_between_nothing_and_its_bound(failures: int, seed: int) -> None:
    delay = full_jitter(failures, 1.0, 60.0, random.Random(seed))
    assert 0.0 <= delay <= min(60.0, 2.0 ** min(failures - 1, 10))


def test_delays_spread_over_the_whole_range() -> None:
    rng = random.Random(1)
    delays = [full_jitter(50, 1.0, 60.0, rng) for _ in range(1000)]
    assert min(delays) < 3.0
    assert max(delays) > 57.0
