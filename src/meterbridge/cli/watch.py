"""`meterbridge watch`: all meters live, as the service tells it."""

from __future__ import annotations

import json
import select
import sys
import termios
import threading
import time
import tty
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Annotated, Any

import typer
from rich.live import Live
from rich.table import Table
from rich.text import Text

from meterbridge.cli.backend import ConfigOption, JsonOption, Refused, RunningService, running_service
from meterbridge.cli.console import console, printable
from meterbridge.settings import load_settings

_SHOWN = ("voltage_l1", "current_l1", "frequency", "active_power", "active_energy")
_HEADINGS = ("U / V", "I / A", "f / Hz", "P / W", "E / Wh")


@dataclass(slots=True)
class Board:
    """What is known of the meters; changed by events, read by whoever shows it.

    Args:
        meters: by id, as the API lists them.
        readings: newest values by meter.
        failing: newest failure by meter, until the next reading.
        lost: events the service could not hand over.
        stale: whether the list has to be asked for anew: a meter was added, or the events have ended.
    """

    meters: dict[int, dict[str, Any]] = field(default_factory=dict)
    readings: dict[int, dict[str, Any]] = field(default_factory=dict)
    failing: dict[int, str] = field(default_factory=dict)
    lost: int = 0
    stale: bool = True

    def listed(self, meters: Iterable[dict[str, Any]]) -> None:
        """Take the list of all meters."""
        self.meters = {meter["id"]: meter for meter in meters}
        self.stale = False

    def happened(self, kind: str, body: dict[str, Any]) -> None:
        """Take an event."""
        meter = body.get("meter")
        if kind == "reading" and meter is not None:
            self.readings[meter] = body
            self.failing.pop(meter, None)
        elif kind == "failure" and meter is not None:
            self.failing[meter] = body["reason"]
        elif kind == "state" and (meter not in self.meters or body["run_state"] is None):
            self.stale = True
        elif kind == "state" and meter is not None:
            self.meters[meter] = {**self.meters[meter], **{key: body[key] for key in ("run_state", "link", "troubles")}}
        elif kind == "lost":
            self.lost += body["events"]

    def rows(self) -> list[dict[str, Any]]:
        """Return a row for each meter, those in trouble first."""
        found = []
        for id_, meter in sorted(self.meters.items()):
            reading = self.readings.get(id_)
            found.append(
                {
                    "id": id_,
                    "name": meter["name"],
                    "run_state": meter["run_state"],
                    "link": meter["link"],
                    "ts": reading["ts"] if reading else meter["last_seen"],
                    "values": reading["values"] if reading else {},
                    "troubles": meter["troubles"],
                    "failure": self.failing.get(id_),
                }
            )
        return sorted(found, key=lambda row: not (row["troubles"] or row["failure"]))


def watch(
    every: Annotated[float, typer.Option(min=0.2, max=3_600, help="Seconds between two refreshes.")] = 1.0,
    count: Annotated[int | None, typer.Option(min=1, help="Refreshes; until q or Ctrl-C unless given.")] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show all meters live: q or Ctrl-C ends it. Plain lines where there is no terminal, JSON a line with --json."""
    service = running_service(load_settings(config))
    if service is None:
        raise Refused("no service runs here, so there is nothing to watch; meterbridge list shows the database")
    board = Board()
    board.listed(service.meters())
    following = threading.Thread(target=_follow, args=(service, board), daemon=True)
    following.start()
    out = console()
    if as_json or not out.is_terminal:
        _lines(service, board, every, count, as_json)
        return
    with _keys() as pressed, Live(console=out, screen=True, auto_refresh=False) as live:
        for _ in _refreshes(every, count, pressed):
            _refresh(service, board)
            # The size is asked for anew each time: a window may be dragged.
            live.update(_screen(board, out.height), refresh=True)


def _lines(service: RunningService, board: Board, every: float, count: int | None, as_json: bool) -> None:
    # So that the first shows readings already.
    time.sleep(min(every, 1.0))
    for _ in _refreshes(every, count, None):
        _refresh(service, board)
        rows = board.rows()
        if as_json:
            typer.echo(json.dumps({"at": round(time.time() * 1000), "meters": rows}, ensure_ascii=False))
            continue
        for row in rows:
            values = " ".join(f"{name}={row['values'][name]}" for name in _SHOWN if name in row["values"])
            # As JSON text: control characters of what a meter said do not reach a terminal.
            name, trouble = (json.dumps(text, ensure_ascii=False) for text in (row["name"], _trouble(row)))
            typer.echo(f"{_clock(row['ts'])} {row['id']} {name} {row['link'] or row['run_state']} {values} {trouble}")


def _refreshes(every: float, count: int | None, pressed: Any) -> Iterator[int]:
    number = 0
    while count is None or number < count:
        number += 1
        yield number
        if number == count:
            return
        if pressed is None:
            time.sleep(every)
        elif pressed(every):
            return


def _refresh(service: RunningService, board: Board) -> None:
    if board.stale:
        board.listed(service.meters())


def _follow(service: RunningService, board: Board) -> None:
    while True:
        with suppress(Refused):
            for kind, body in service.events():
                board.happened(kind, body)
        # The next refresh asks, and ends the command where nobody answers.
        board.stale = True
        time.sleep(1.0)


def _screen(board: Board, height: int) -> Table:
    rows = board.rows()
    # Title, headings, frame and the line below take seven.
    shown = rows[: max(1, height - 7)]
    troubled = sum(bool(row["troubles"] or row["failure"]) for row in rows)
    missing = f", {len(rows) - len(shown)} more below" if len(rows) > len(shown) else ""
    lost = f", {board.lost} events lost" if board.lost else ""
    table = Table(
        title=f"{len(rows)} meters, {troubled} in trouble",
        caption=f"{time.strftime('%H:%M:%S')} · q ends{missing}{lost}",
        expand=True,
    )
    table.add_column("meter", no_wrap=True)
    table.add_column("state", no_wrap=True)
    table.add_column("seen", no_wrap=True)
    for heading in _HEADINGS:
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("trouble", no_wrap=True, ratio=1)
    for row in shown:
        bad = bool(row["troubles"] or row["failure"])
        table.add_row(
            Text(printable(row["name"])),
            Text(row["link"] or row["run_state"] or "inactive", "" if not bad else "red"),
            _clock(row["ts"]),
            *(Text(str(row["values"].get(name, ""))) for name in _SHOWN),
            Text(printable(_trouble(row)), "red"),
        )
    return table


def _trouble(row: dict[str, Any]) -> str:
    return ", ".join(filter(None, [*row["troubles"], row["failure"] or ""]))


def _clock(ts: int | None) -> str:
    return "never" if ts is None else time.strftime("%H:%M:%S", time.localtime(ts / 1000))


@contextmanager
def _keys() -> Iterator[Any]:
    """Give a function that waits so many seconds for q, and says whether it came."""
    if not sys.stdin.isatty():
        yield None
        return
    number = sys.stdin.fileno()
    before = termios.tcgetattr(number)
    tty.setcbreak(number)

    def pressed(seconds: float) -> bool:
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            if select.select([sys.stdin], [], [], left)[0] and sys.stdin.read(1) in ("q", "Q", ""):
                return True
        return False

    try:
        yield pressed
    finally:
        termios.tcsetattr(number, termios.TCSADRAIN, before)
