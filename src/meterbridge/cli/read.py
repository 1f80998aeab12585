"""`meterbridge read` and `meterbridge objects`: one meter, once, outside any service."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from meterbridge.cli.console import console
from meterbridge.cli.exits import INCOMPLETE
from meterbridge.cli.meter_command import associated, meter_command
from meterbridge.cli.meter_options import JsonOption
from meterbridge.dlms import class_name
from meterbridge.meter import DLMSClient, ObjectListElement, Readout

_ACCESS = {0: "-", 1: "r", 2: "w", 3: "rw", 4: "r*", 5: "w*", 6: "rw*"}


@meter_command
def read(
    meter: DLMSClient,
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME|OBIS|CLASS:OBIS:ATTRIBUTE]...", help="What to read; the model's list if empty."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Read a meter once.

    Exit code 0 when all was read, 1 when some was not, 2 usage, 3 unreachable or silent, 4 association refused.
    """
    wanted = list(dict.fromkeys(names)) if names else list(meter.model.poll)
    for name in wanted:
        meter.model.find(name)
    ts, readout = asyncio.run(_read(meter, wanted))
    if as_json:
        typer.echo(json.dumps(_as_json(ts, readout), ensure_ascii=False))
    else:
        _print_readout(wanted, readout)
    if readout.errors:
        raise typer.Exit(INCOMPLETE)


async def _read(meter: DLMSClient, names: list[str]) -> tuple[int, Readout]:
    async with associated(meter):
        readout = await meter.read_measurements(names)
        return round(time.time() * 1000), readout


def _as_json(ts: int, readout: Readout) -> dict[str, object]:
    return {
        "ts": ts,
        "values": {
            name: {"value": quantity.value, "unit": quantity.unit, "logical_name": quantity.logical_name}
            for name, quantity in readout.values.items()
        },
        "errors": {name: str(error) for name, error in readout.errors.items()},
    }


def _print_readout(names: list[str], readout: Readout) -> None:
    table = Table("measurement", "value", "unit", "logical name")
    table.columns[1].justify = "right"
    for name in names:
        if name in readout.values:
            quantity = readout.values[name]
            # As Text: brackets in what a meter says are no markup.
            table.add_row(Text(name), Text(str(quantity.value)), quantity.unit or "", quantity.logical_name)
        else:
            table.add_row(Text(name), Text(str(readout.errors[name]), "red"), "", "")
    console().print(table)


@meter_command
def objects(meter: DLMSClient, as_json: JsonOption = False) -> None:
    """List the objects of a meter's association: class, version, logical name, access rights.

    Exit codes are those of `read`.
    """
    rows = asyncio.run(_objects(meter))
    if as_json:
        typer.echo(json.dumps([_object_as_json(row) for row in rows]))
        return
    table = Table("class", "", "version", "logical name", "attributes", "methods")
    if any(row.base_name is not None for row in rows):
        table = Table("class", "", "version", "logical name", "base name")
    for row in rows:
        if row.base_name is not None:
            name = f"0x{row.base_name:04X}"
            table.add_row(str(row.class_id), class_name(row.class_id), str(row.version), row.logical_name.obis, name)
            continue
        table.add_row(
            str(row.class_id),
            class_name(row.class_id),
            str(row.version),
            row.logical_name.obis,
            _rights(row.attribute_access),
            " ".join(str(index) for index, mode in row.method_access.items() if mode),
        )
    console().print(table)


async def _objects(meter: DLMSClient) -> list[ObjectListElement]:
    async with associated(meter):
        return await meter.read_objects()


def _rights(access: dict[int, int]) -> str:
    return " ".join(f"{index}:{_ACCESS.get(mode, mode)}" for index, mode in access.items())


def _object_as_json(row: ObjectListElement) -> dict[str, object]:
    return {
        "class": row.class_id,
        "class_name": class_name(row.class_id),
        "version": row.version,
        "logical_name": str(row.logical_name),
        "attributes": row.attribute_access,
        "methods": row.method_access,
        **({} if row.base_name is None else {"base_name": row.base_name}),
    }
