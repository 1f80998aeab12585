"""How wide tables get: what is filtered or mailed holds whole cells, whatever the environment hands down."""

from __future__ import annotations

import io
import sys

import pytest
from rich.table import Table

from meterbridge.cli.console import console

CELL = "nobody subscribes to what the gateway is to take"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def printed() -> list[str]:
    table = Table("check", "measured", "detail")
    table.add_row("gateway", CELL, CELL)
    console().print(table)
    output = sys.stdout
    assert isinstance(output, io.StringIO)
    return output.getvalue().splitlines()


@pytest.mark.parametrize("handed_down", [{}, {"COLUMNS": "80", "LINES": "24"}, {"FORCE_COLOR": "1"}], ids=str)
@pytest.mark.parametrize("term", ["dumb", "xterm"])
def test_no_cell_is_cut_where_no_terminal_is(
    monkeypatch: pytest.MonkeyPatch, term: str, handed_down: dict[str, str]
) -> None:
    for name in ("COLUMNS", "LINES", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"TERM": term, **handed_down}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    assert sum(line.count(CELL) for line in printed()) == 2


def test_a_table_fits_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setattr(sys, "stdout", Terminal())
    lines = printed()
    # Without the header, whose bold face is octets too.
    assert max(len(line) for line in lines if "\x1b" not in line) <= 40
    assert CELL not in "".join(lines)
