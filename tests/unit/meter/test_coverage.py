"""Ranges against the plainest model there is: a set of the milliseconds they hold."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from meterbridge.meter import Coverage, Interval

SPAN = 40
_times = st.integers(min_value=0, max_value=SPAN)
_intervals = st.lists(st.tuples(_times, _times), max_size=12)


def _covered(intervals: Iterable[tuple[int, int]]) -> set[int]:
    return {t for start, end in intervals for t in range(start, end)}


def _of(intervals: list[tuple[int, int]]) -> Coverage:
    return Coverage(Interval(start, end) for start, end in intervals)


@given(_intervals)
def test_it_holds_what_was_added_in_the_fewest_intervals(intervals: list[tuple[int, int]]) -> None:
    coverage = _of(intervals)
    held = list(coverage)
    assert _covered(held) == _covered(intervals)
    assert all(interval.start < interval.end for interval in held)
    assert all(before.end < after.start for before, after in pairwise(held))
    assert coverage.end == (held[-1].end if held else None)


@given(_intervals, _times, _times)
def test_what_is_removed_is_covered_no_longer(intervals: list[tuple[int, int]], start: int, end: int) -> None:
    coverage = _of(intervals)
    coverage.remove(start, end)
    held = list(coverage)
    assert _covered(held) == _covered(intervals) - set(range(start, end))
    assert all(interval.start < interval.end for interval in held)


@given(_intervals, _times, _times)
def test_holes_are_what_is_not_covered(intervals: list[tuple[int, int]], start: int, end: int) -> None:
    holes = list(_of(intervals).holes(start, end))
    assert _covered(holes) == set(range(start, end)) - _covered(intervals)
    assert len(list(Coverage(holes))) == len(holes), "no two of them touch"
    assert holes == sorted(holes)


@given(_intervals, _times)
def test_gaps_lie_between_what_is_covered(intervals: list[tuple[int, int]], since: int) -> None:
    covered = _covered(intervals)
    gaps = _covered(_of(intervals).gaps(since))
    between = set(range(min(covered), max(covered))) if covered else set()
    assert gaps == {t for t in between - covered if t >= since}


@given(_intervals, _times)
def test_forgetting_changes_no_gap_that_is_young_enough(intervals: list[tuple[int, int]], before: int) -> None:
    coverage = _of(intervals)
    gaps, end = set(coverage.gaps(before)), coverage.end
    coverage.forget(before)
    assert set(coverage.gaps(before)) == gaps
    assert coverage.end == end
    held = list(coverage)
    assert all(interval.end >= before for interval in held[1:])
