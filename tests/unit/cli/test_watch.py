"""What the live table knows, from events; and what it draws in however small a window."""

from __future__ import annotations

from typing import Any

import pytest
from rich.console import Console

from meterbridge.cli.watch import Board, _screen


def meter(number: int, **changes: Any) -> dict[str, Any]:
    made = {"id": number, "name": f"m{number}", "run_state": "running", "link": "associated", "troubles": []}
    return {**made, "last_seen": None, **changes}


def board(*meters: dict[str, Any]) -> Board:
    made = Board()
    made.listed(meters or [meter(1), meter(2)])
    return made


def test_a_reading_ends_a_failure_and_trouble_comes_first() -> None:
    seen = board()
    seen.happened("failure", {"meter": 2, "reason": "no answer"})
    assert [(row["id"], row["failure"]) for row in seen.rows()] == [(2, "no answer"), (1, None)]
    seen.happened("reading", {"meter": 2, "ts": 1_762_857_000_123, "values": {"voltage_l1": 230.1}})
    assert [(row["id"], row["failure"]) for row in seen.rows()] == [(1, None), (2, None)]
    assert seen.rows()[1]["values"] == {"voltage_l1": 230.1}


def test_states_are_taken_over_and_a_meter_that_is_new_or_gone_makes_the_list_stale() -> None:
    seen = board()
    seen.happened("state", {"meter": 1, "run_state": "paused", "link": "", "troubles": ["silence"]})
    assert (seen.rows()[0]["run_state"], seen.rows()[0]["troubles"], seen.stale) == ("paused", ["silence"], False)
    seen.happened("state", {"meter": 9, "run_state": "running", "link": "", "troubles": []})
    assert seen.stale
    seen.listed([meter(1)])
    seen.happened("state", {"meter": 1, "run_state": None, "link": None, "troubles": []})
    assert seen.stale


def test_lost_events_and_kinds_of_a_later_service_break_nothing() -> None:
    seen = board()
    seen.happened("lost", {"events": 7})
    seen.happened("novel", {"meter": None})
    seen.happened("failure", {"meter": 99, "reason": "x"})
    assert (seen.lost, len(seen.rows())) == (7, 2)


@pytest.mark.parametrize(("width", "height"), [(200, 50), (80, 24), (40, 10), (10, 3), (1, 1)])
def test_it_fits_whatever_the_size(width: int, height: int) -> None:
    seen = board(*(meter(number, name="long name " * 9, last_seen=1) for number in range(1, 301)))
    seen.happened("failure", {"meter": 5, "reason": "\x1b[31mred\x07"})
    console = Console(width=width, height=height, force_terminal=False, record=True, file=None, quiet=False)
    with console.capture() as captured:
        console.print(_screen(seen, height))
    lines = captured.get().splitlines()
    assert all(len(line) <= width for line in lines)
    if height >= 10 and width >= 80:
        assert len(lines) <= height
        assert "300 meters, 1 in trouble" in captured.get()
        assert "\x1b" not in captured.get()
        assert "\x07" not in captured.get()
