"""`meterbridge logs|follow`: what the structured log says, service running or not."""

from __future__ import annotations

import json
import re
import time
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any

import typer
from sqlalchemy.ext.asyncio import AsyncEngine

from meterbridge.cli.backend import ConfigOption, JsonOption, in_database
from meterbridge.errors import ConfigurationError
from meterbridge.operations import LogFilter
from meterbridge.operations import follow as follow_lines
from meterbridge.operations import search as search_lines
from meterbridge.settings import Settings, load_settings
from meterbridge.store import MeterRepository

_UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


class Level(StrEnum):
    """Severities, least first."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"
    CRITICAL = "critical"


MeterOption = Annotated[str | None, typer.Argument(metavar="[ID|NAME]", help="Only this meter.")]
SinceOption = Annotated[
    str | None,
    typer.Option(metavar="SPAN|TIME", help="No older than this: 90s, 15m, 2h, 3d, or an ISO 8601 time."),
]
_MOST_BEFORE = 10_000
LevelOption = Annotated[Level, typer.Option(help="Least severity.")]


def logs(
    meter: MeterOption = None,
    level: LevelOption = Level.DEBUG,
    since: SinceOption = None,
    until: Annotated[str | None, typer.Option(metavar="SPAN|TIME", help="Older than this, likewise.")] = None,
    lines: Annotated[int, typer.Option("--lines", "-n", min=1, max=100_000, help="How many at most.")] = 100,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show the newest lines of the log, rotated files included."""
    settings = load_settings(config)
    now = time.time()
    wanted = LogFilter(_id_of(meter, settings), level, _moment(since, now), _moment(until, now))
    for line in search_lines(settings.log.file, wanted, lines):
        typer.echo(shown(line, as_json))


def follow(
    meter: MeterOption = None,
    level: LevelOption = Level.DEBUG,
    since: SinceOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show lines of the log as they are written, until Ctrl-C; with --since those of that time first."""
    settings = load_settings(config)
    oldest = _moment(since, time.time())
    wanted = LogFilter(_id_of(meter, settings), level, oldest)
    if oldest is not None:
        for line in search_lines(settings.log.file, wanted, _MOST_BEFORE):
            typer.echo(shown(line, as_json))
    for line in follow_lines(settings.log.file, wanted):
        typer.echo(shown(line, as_json))


def _id_of(meter: str | None, settings: Settings) -> int | None:
    if meter is None:
        return None
    if meter.isascii() and meter.isdigit() and len(meter) <= 9:
        return int(meter)

    async def find(repository: MeterRepository, _: AsyncEngine) -> int:
        return (await repository.get(meter)).id

    return in_database(settings.database, find)


def _moment(text: str | None, now: float) -> int | None:
    """Return a time, Unix milliseconds: a span before now, or as it stands; local without a zone."""
    if text is None:
        return None
    if (found := re.fullmatch(r"([0-9]{1,6})([smhd])", text)) is not None:
        return round((now - int(found[1]) * _UNITS[found[2]]) * 1000)
    try:
        return round(datetime.fromisoformat(text).timestamp() * 1000)
    except (ValueError, OverflowError, OSError):
        raise ConfigurationError(f"{text!r} is no time; 90s, 15m, 2h, 3d and 2026-11-25T22:00 are") from None


def shown(line: dict[str, Any], as_json: bool) -> str:
    """A line of the structured log for people, or as JSON."""
    if as_json:
        return json.dumps(line, ensure_ascii=False)
    rest = {key: value for key, value in line.items() if key not in ("timestamp", "level", "event")}
    # Control characters of what a meter or server sent do not reach the terminal.
    particulars = " ".join(f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in rest.items())
    when = str(line.get("timestamp", ""))[:23]
    return f"{when} {line.get('level', ''):<8} {line.get('event', '')} {particulars}".rstrip()
