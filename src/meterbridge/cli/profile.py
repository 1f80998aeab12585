"""`meterbridge profile`: rows of a load profile, as a table, JSON or CSV."""

from __future__ import annotations

import asyncio
import csv
import datetime as dt
import json
import sys
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from meterbridge.cli.console import console
from meterbridge.cli.meter_command import associated, meter_command
from meterbridge.cli.meter_options import JsonOption
from meterbridge.cli.typed_value import moment
from meterbridge.dlms import LogicalName
from meterbridge.dlms.cosem import class_name, displayed
from meterbridge.errors import ConfigurationError, DataAccessError
from meterbridge.meter import DLMSClient, ProfileColumn, ProfileTable


@meter_command
def profile(
    meter: DLMSClient,
    logical_name: Annotated[str, typer.Argument(metavar="LN", help="The profile, e.g. 1-0:99.1.0.")],
    start: Annotated[
        str | None, typer.Option("--from", metavar="T", help="Earliest time, ISO 8601; without a zone the meter's own.")
    ] = None,
    end: Annotated[str | None, typer.Option("--to", metavar="T", help="Latest time, or now.")] = None,
    entries: Annotated[
        str | None, typer.Option(metavar="A-B", help="Entries from A to B, counted from 1; A- to the last one.")
    ] = None,
    as_json: JsonOption = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
) -> None:
    """Read a load profile: all of it, a range of time, or a range of entries.

    Exit codes are those of `read`.
    """
    if as_json and as_csv:
        raise ConfigurationError("--json and --csv exclude each other")
    try:
        name = LogicalName.parse(logical_name)
    except ValueError as error:
        raise ConfigurationError(str(error)) from None
    first, last, selected = _moment(start), _moment(end), _entries(entries)
    if first is not None and last is not None and end == "now" and first.tzinfo is None:
        last = last.astimezone().replace(tzinfo=None)
    table = asyncio.run(_read(meter, name, first, last, selected))
    if as_json:
        typer.echo(json.dumps(_as_json(table), ensure_ascii=False))
    elif as_csv:
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow([_heading(column) for column in table.columns])
        writer.writerows([_cell(value) for value in row] for row in table.rows)
    else:
        _print(table)


async def _read(
    meter: DLMSClient,
    name: LogicalName,
    start: dt.datetime | None,
    end: dt.datetime | None,
    entries: tuple[int, int] | None,
) -> ProfileTable:
    async with associated(meter):
        try:
            return await meter.read_profile(name, start, end, entries=entries)
        except DataAccessError as error:
            raise DataAccessError(f"{name}: {error}", error.result) from None


def _moment(text: str | None) -> dt.datetime | None:
    if text is None:
        return None
    return dt.datetime.now(dt.UTC) if text == "now" else moment(text)


def _entries(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    first, dash, last = text.partition("-")
    try:
        return int(first), int(last) if last else 0 if dash else int(first)
    except ValueError:
        raise ConfigurationError(f"{text!r} is no range of entries such as 1-100") from None


def _cell(value: Any) -> Any:
    return value.isoformat() if isinstance(value, dt.datetime) else displayed(value)


def _heading(column: ProfileColumn) -> str:
    return f"{column.name} ({column.unit})" if column.unit else column.name


def _as_json(table: ProfileTable) -> dict[str, Any]:
    return {
        "logical_name": str(table.logical_name),
        "period": table.period,
        "columns": [
            {
                "name": column.name,
                "class": column.class_id,
                "class_name": class_name(column.class_id),
                "logical_name": str(column.logical_name),
                "attribute": column.attribute,
                "attribute_name": column.attribute_name,
                "unit": column.unit,
                "scaler": column.scaler,
            }
            for column in table.columns
        ],
        "rows": [[_cell(value) for value in row] for row in table.rows],
    }


def _print(table: ProfileTable) -> None:
    shown = Table()
    for column in table.columns:
        shown.add_column(Text(_heading(column)), justify="left" if column.is_clock else "right")
    for row in table.rows:
        shown.add_row(*(Text("" if value is None else str(_cell(value))) for value in row))
    console().print(shown)
