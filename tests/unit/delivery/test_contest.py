"""A connection taken away again and again is told from one that breaks. Time is an argument."""

from __future__ import annotations

from meterbridge.delivery.contest import STABLE_S, Contest


def taken(contest: Contest, times: int, *, told: bool = False, every: float = 2.0) -> float:
    now = 0.0
    for _ in range(times):
        contest.up(now)
        now += every
        contest.closed(now, told)
    return now


def test_four_times_may_be_chance_and_five_may_not() -> None:
    contest = Contest()
    now = taken(contest, 4)
    assert (contest.seen(now), contest.excess) == (0, 0)
    contest.up(now)
    contest.closed(now + 1, False)
    assert contest.seen(now + 1) == 5
    assert contest.excess == 1


def test_a_server_that_says_so_is_believed_the_second_time() -> None:
    contest = Contest()
    now = taken(contest, 1, told=True)
    assert contest.seen(now) == 0
    contest.up(now)
    contest.closed(now + 1, False)
    assert contest.seen(now + 1) == 2


def test_a_connection_that_lasts_ends_it_before_it_ends() -> None:
    contest = Contest()
    now = taken(contest, 9)
    contest.up(now)
    assert contest.seen(now + STABLE_S - 1) == 9
    assert contest.seen(now + STABLE_S) == 0
    contest.closed(now + STABLE_S + 1, False)
    assert contest.times == 1


def test_closures_far_apart_and_losses_of_another_kind_point_to_nobody() -> None:
    contest = Contest()
    now = taken(contest, 20, every=STABLE_S + 1)
    assert (contest.times, contest.seen(now)) == (1, 0)
    for _ in range(20):
        contest.up(now)
        contest.lost(now + 1)
    assert contest.times == 1
    contest.up(now)
    contest.lost(now + STABLE_S)
    assert contest.times == 0
