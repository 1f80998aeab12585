from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from meterbridge.fleet import Schedule, phase_of


@given(st.floats(0.05, 100), st.floats(0, 100), st.lists(st.floats(0, 500), min_size=2, max_size=50))
def test_every_tick_is_given_or_counted_as_skipped(period: float, start: float, steps: list[float]) -> None:
    schedule = Schedule(period, phase_of(3, period))
    now, given_ = start, 0
    first = last = 0.0
    for step in steps:
        last = schedule.next_tick(now)
        assert last > now - period * 1e-6
        first = last if not given_ else first
        given_ += 1
        now = max(now, last) + step
    assert round((last - first) / period) == given_ - 1 + schedule.skipped


def test_a_late_poll_moves_none_of_those_that_follow() -> None:
    schedule = Schedule(1.0)
    assert [schedule.next_tick(now) for now in (0.5, 1.2, 4.7, 5.0)] == [1.0, 2.0, 5.0, 6.0]
    assert schedule.skipped == 2


def test_a_thousand_meters_are_spread_evenly() -> None:
    tenths = [0] * 10
    for number in range(1, 1001):
        tenths[int(phase_of(number, 1.0) * 10)] += 1
    assert min(tenths) >= 98
    assert max(tenths) <= 102


def test_meters_fall_due_together_on_a_grid_where_their_period_has_room_for_one() -> None:
    for period, slots in ((1.0, 50), (10.0, 500), (0.2, 10)):
        phases = Counter(round(phase_of(number, period) * 1000, 6) for number in range(1, 10_001))
        assert len(phases) == slots
        assert all(phase % 20 == 0 and 0 <= phase < period * 1000 for phase in phases)
        assert max(phases.values()) - min(phases.values()) <= 10_000 / slots * 0.1 + 2
    assert len({phase_of(number, 0.1) for number in range(100)}) == 100
