from __future__ import annotations

from meterbridge.meter.lists import Lists


def trying(lists: Lists) -> bool:
    return lists.worth_trying


def test_a_refusal_is_remembered() -> None:
    lists = Lists()
    lists.refused()
    lists.answered(1)
    lists.silent(1)
    assert not trying(lists)


def test_a_meter_that_never_answers_a_list_is_asked_one_by_one_from_the_third_time_on() -> None:
    lists = Lists()
    lists.silent(5)
    assert trying(lists), "once may be chance"
    lists.silent(5)
    assert not trying(lists)
    lists.answered(1)
    lists.silent(1)
    assert not trying(lists), "it has answered single requests: it is those from now on"


def test_a_meter_that_is_silent_whatever_is_asked_loses_nothing() -> None:
    lists = Lists()
    for _ in range(10):
        lists.silent(5)
        lists.silent(5)
        assert not trying(lists)
        lists.silent(1)
        assert trying(lists)


def test_lists_that_were_answered_once_are_never_blamed_for_silence() -> None:
    lists = Lists()
    lists.answered(5)
    for _ in range(10):
        lists.silent(5)
    assert trying(lists)
