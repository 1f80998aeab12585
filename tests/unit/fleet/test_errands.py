"""Errands: between polls, where there is time, and rarely where there is none."""

from __future__ import annotations

import math

import pytest

from meterbridge.errors import CommandRefused, ResponseTimeout
from meterbridge.fleet.errands import Errands


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


async def work() -> str:
    return "done"


async def test_an_errand_that_fits_is_done_at_once() -> None:
    errands = Errands(Clock())
    asked = errands.add(work, 1, 108.0)
    errand = errands.next(1.0, 0.2, 1.0)
    assert errand is not None
    await errand.do()
    assert await asked == "done"
    assert errands.next(1.0, 0.2, 1.0) is None
    assert errands.patience() == math.inf


async def test_one_that_fits_after_the_next_poll_waits_for_it_up_to_half_its_time() -> None:
    clock = Clock()
    errands = Errands(clock)
    errands.add(work, 1, 108.0)
    assert errands.next(0.1, 0.2, 1.0) is None
    assert errands.patience() == pytest.approx(4.0)
    clock.now = 103.9
    assert errands.next(0.1, 0.2, 1.0) is None
    assert errands.next(0.3, 0.2, 1.0) is not None
    errands.add(work, 1, 108.0)
    clock.now = 106.0
    assert errands.next(0.1, 0.2, 1.0) is not None


async def test_where_none_ever_fits_one_takes_a_polls_place_at_once_and_the_next_ten_periods_later() -> None:
    clock = Clock()
    errands = Errands(clock)
    first, second = errands.add(work, 1, 108.0), errands.add(work, 1, 120.0)
    errand = errands.next(0.1, 0.9, 1.0)
    assert errand is not None
    await errand.do()
    assert first.done()
    clock.now = 109.9
    assert errands.next(0.1, 0.9, 1.0) is None
    clock.now = 110.0
    assert 0 < errands.patience() <= 0.2
    errand = errands.next(0.1, 0.9, 1.0)
    assert errand is not None
    await errand.do()
    assert second.done()


async def test_one_that_takes_long_is_expected_to_again() -> None:
    clock = Clock()
    errands = Errands(clock)

    async def slow() -> None:
        clock.now += 0.9

    for _ in range(2):
        errands.add(slow, 1, 200.0)
    errand = errands.next(1.0, 0.01, 1.0)
    assert errand is not None
    await errand.do()
    assert errands.next(1.0, 0.01, 2.0) is None
    assert errands.next(2.0, 0.01, 2.0) is not None


async def test_one_whose_time_is_over_or_whose_asker_has_gone_is_not_done() -> None:
    clock = Clock()
    errands = Errands(clock)
    late, gone, good = (errands.add(work, 1, by) for by in (101.0, 200.0, 200.0))
    gone.cancel()
    clock.now = 101.5
    errand = errands.next(10.0, 0.1, 1.0)
    assert errand is not None
    assert errand.done is good
    with pytest.raises(CommandRefused, match="no time"):
        await late
    errands.abandon(CommandRefused("stopped"))
    errand.fail(CommandRefused("stopped"))
    with pytest.raises(CommandRefused):
        await good


async def test_a_meters_error_is_its_askers_and_a_bug_is_the_workers_too() -> None:
    errands = Errands(Clock())

    async def fails() -> None:
        raise ResponseTimeout("silent")

    async def bug() -> None:
        raise KeyError("x")

    first, second = errands.add(fails, 1, 200.0), errands.add(bug, 1, 200.0)
    errand = errands.next(10.0, 0.1, 1.0)
    assert errand is not None
    await errand.do()
    with pytest.raises(ResponseTimeout):
        await first
    errand = errands.next(10.0, 0.1, 1.0)
    assert errand is not None
    with pytest.raises(KeyError):
        await errand.do()
    with pytest.raises(CommandRefused):
        await second
