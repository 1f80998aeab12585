"""Who closes the connection: proven on a server and a network that are only arithmetic."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meterbridge.delivery.row import Row
from meterbridge.delivery.suspicion import Rows, Suspicion
from meterbridge.model import MeterId


def row(number: int) -> Row:
    return Row(number, MeterId(number % 3), "r", "telemetry", f"m{number % 3}", number, b"{}", 0)


def messages(count: int, each: int) -> list[Rows]:
    return [tuple(row(start + index) for index in range(each)) for start in range(0, count * each, each)]


def converse(
    suspicion: Suspicion, waiting: list[Row], closes: set[int], breaks: random.Random | None, connections: int
) -> list[Row]:
    """Connections until nothing is suspected; `breaks` is a network that ends them at random as well."""
    convicted: list[Row] = []
    for _ in range(connections):
        suspicion.connected()
        while suspicion.stepping:
            rows = suspicion.next(waiting[:50])
            if rows is None:
                break
            if {each.id for each in rows} & closes or (breaks is not None and breaks.random() < 0.4):
                if (culprit := suspicion.closed([rows])) is not None:
                    convicted.append(culprit)
                    waiting.remove(culprit)
                break
            suspicion.acknowledged(rows)
            waiting[:] = [each for each in waiting if each not in rows]
    return convicted


@given(st.sets(st.integers(0, 59), min_size=1, max_size=3), st.integers(1, 20), st.integers())
def test_just_the_rows_the_server_closes_over_are_convicted(closes: set[int], each: int, seed: int) -> None:
    suspicion = Suspicion(5, random.Random(seed))
    sent = messages(80 // each, each)
    waiting = [item for rows in sent for item in rows]
    closes &= {item.id for item in waiting}
    assert suspicion.closed(sent) is None
    assert suspicion.closed(sent) is None
    assert suspicion.stepping
    convicted = converse(suspicion, waiting, closes, None, 2_000)
    assert {item.id for item in convicted} == closes
    assert not suspicion.stepping


@pytest.mark.parametrize("proofs", [2, 5])
def test_a_network_that_breaks_two_of_five_messages_convicts_hardly_ever(proofs: int) -> None:
    convicted = 0
    for seed in range(200):
        rng = random.Random(seed)
        suspicion = Suspicion(proofs, rng)
        sent = messages(10, 4)
        waiting = [item for rows in sent for item in rows]
        suspicion.closed(sent)
        suspicion.closed(sent)
        convicted += len(converse(suspicion, waiting, set(), rng, 10_000))
    # 200 runs of 40 rows: with nothing proven by other rows it would be one in a hundred.
    assert convicted <= 8


def test_one_closure_suspects_nothing_and_acknowledgements_clear() -> None:
    suspicion = Suspicion(5, random.Random(1))
    sent = messages(3, 1)
    for _ in range(10):
        assert suspicion.closed(sent) is None
        for rows in sent:
            suspicion.acknowledged(rows)
    assert not suspicion.stepping


def test_failures_of_another_kind_begin_the_count_anew() -> None:
    suspicion = Suspicion(3, random.Random(1))
    (alone,) = messages(1, 1)
    suspicion.closed([alone])
    suspicion.closed([alone])
    for _ in range(50):
        suspicion.connected()
        assert suspicion.next([*alone, row(7)]) == alone
        assert suspicion.closed([alone]) is None
        suspicion.failed()
    assert suspicion.stepping


def test_a_row_alone_is_not_convicted_for_want_of_another_that_passes() -> None:
    suspicion = Suspicion(2, random.Random(1))
    (alone,) = messages(1, 1)
    suspicion.closed([alone])
    suspicion.closed([alone])
    suspicion.connected()
    assert suspicion.next(list(alone)) == alone
    assert suspicion.closed([alone]) is None
    for controls in (1, 2, 0, 1):
        suspicion.connected()
        for number in range(7, 7 + controls):
            assert suspicion.next(list(alone)) is None
            assert suspicion.next([*alone, row(number)]) == (row(number),)
            suspicion.acknowledged((row(number),))
        assert suspicion.next(list(alone)) == alone
        convicted = suspicion.closed([alone])
    assert convicted == alone[0]


def test_a_network_that_cuts_where_the_row_is_twice_convicts_nothing() -> None:
    """As it did with `refusals` of 2: once before any other row had passed, once after one."""
    suspicion = Suspicion(2, random.Random(1))
    (alone,) = messages(1, 1)
    suspicion.closed([alone])
    suspicion.closed([alone])
    for passing in ((), (row(7),)):
        suspicion.connected()
        for other in passing:
            assert suspicion.next([*alone, other]) == (other,)
            suspicion.acknowledged((other,))
        assert suspicion.next([*alone, row(8)]) == alone
        assert suspicion.closed([alone]) is None
    suspicion.connected()
    assert suspicion.next([*alone, row(8)]) == (row(8),)
    suspicion.acknowledged((row(8),))
    assert suspicion.next([*alone, row(9)]) == (row(9),)
    suspicion.acknowledged((row(9),))
    assert suspicion.next([*alone, row(10)]) == alone
    suspicion.acknowledged(alone)
    assert not suspicion.stepping


def test_refusals_halve_and_convict() -> None:
    suspicion = Suspicion(2, random.Random(1))
    (pair,) = messages(1, 2)
    suspicion.step_through([pair])
    assert suspicion.refused(pair, final=False) is None
    first = suspicion.next([])
    assert first == pair[:1]
    suspicion.acknowledged(pair[:1])
    assert suspicion.refused(pair[1:], final=False) is None
    assert suspicion.refused(pair[1:], final=False) == pair[1]
    assert not suspicion.stepping
