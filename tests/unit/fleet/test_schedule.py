"""Ticks: never two alike, never drifting, every skipped one counted."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meterbridge.fleet.schedule import Schedule, phase_of


@pytest.mark.parametrize("period", [0.0, -1.0])
def test_no_period_is_refused(period: float) -> None:
    with pytest.raises(ValueError, match="period"):
        Schedule(period)


def test_the_current_tick_counts_and_a_late_poll_moves_none() -> None:
    schedule = Schedule(1.0, 0.25)
    assert schedule.next_tick(10.25) == 10.25
    assert schedule.next_tick(10.3) == 11.25
    assert schedule.next_tick(14.0) == 14.25
    assert schedule.skipped == 2


@given(
    st.sampled_from([0.5, 1.0, 4.0]),
    st.integers(0, 3),
    st.lists(st.integers(0, 80), min_size=1, max_size=50),
)
def test_ticks_never_drift(period: float, quarter: int, steps: list[int]) -> None:
    # Eighths are exact in binary: what is compared is the schedule, not the rounding.
    phase = quarter * period / 4
    schedule, now, numbers = Schedule(period, phase), 0.0, []
    for step in steps:
        now += step / 8
        tick = schedule.next_tick(now)
        number = (tick - phase) / period
        assert number.is_integer()
        assert tick >= now
        numbers.append(int(number))
        now = max(now, tick)
    assert all(a < b for a, b in pairwise(numbers))
    assert schedule.skipped == numbers[-1] - numbers[0] + 1 - len(numbers)


@given(st.integers(1, 10**9), st.sampled_from([0.1, 1.0, 60.0]))
def test_a_phase_lies_within_the_period(number: int, period: float) -> None:
    assert 0 <= phase_of(number, period) < period


def test_meters_are_spread_evenly() -> None:
    phases = sorted(phase_of(number, 1.0) for number in range(1, 101))
    assert max(b - a for a, b in pairwise(phases)) < 0.025
