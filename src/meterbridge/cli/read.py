"""`meterbridge read` and `meterbridge objects`: one meter, once, outside any service."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from meterbridge.cli.exits import INCOMPLETE
from meterbridge.cli.meter_options import (
    AuthOption,
    ClientOption,
    Framing,
    FramingOption,
    HostArgument,
    JsonOption,
    ModelOption,
    PasswordOption,
    PhysicalOption,
    ServerOption,
    TimeoutOption,
    client_for,
)
from meterbridge.cli.security_options import NO_SECURITY, SecurityArguments, with_security
from meterbridge.dlms import class_name
from meterbridge.errors import AssociationRefused, ServiceError
from meterbridge.meter import DLMSClient, ObjectListElement, Readout

_ACCESS = {0: "-", 1: "r", 2: "w", 3: "rw", 4: "r*", 5: "w*", 6: "rw*"}


@with_security
def read(
    host: HostArgument,
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME|OBIS|CLASS:OBIS:ATTRIBUTE]...", help="What to read; the model's list if empty."),
    ] = None,
    framing: FramingOption = Framing.HDLC,
    client: ClientOption = 1,
    server: ServerOption = 1,
    physical: PhysicalOption = None,
    auth: AuthOption = None,
    password: PasswordOption = None,
    model: ModelOption = "generic",
    timeout: TimeoutOption = 6.0,
    as_json: JsonOption = False,
    security: SecurityArguments = NO_SECURITY,
) -> None:
    """Read a meter once.

    Exit code 0 when all was read, 1 when some was not, 2 usage, 3 unreachable or silent, 4 association refused.
    """
    meter = client_for(host, framing, client, server, physical, auth, password, model, timeout, security)
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
    await _connect(meter)
    try:
        readout = await meter.read_measurements(names)
        return round(time.time() * 1000), readout
    finally:
        await meter.disconnect()


async def _connect(meter: DLMSClient) -> None:
    try:
        await meter.connect()
    except ServiceError as error:
        raise AssociationRefused(f"the meter refused the association: {error}") from None


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
    Console().print(table)


@with_security
def objects(
    host: HostArgument,
    framing: FramingOption = Framing.HDLC,
    client: ClientOption = 1,
    server: ServerOption = 1,
    physical: PhysicalOption = None,
    auth: AuthOption = None,
    password: PasswordOption = None,
    timeout: TimeoutOption = 6.0,
    as_json: JsonOption = False,
    security: SecurityArguments = NO_SECURITY,
) -> None:
    """List the objects of a meter's association: class, version, logical name, access rights.

    Exit codes are those of `read`.
    """
    meter = client_for(host, framing, client, server, physical, auth, password, "generic", timeout, security)
    rows = asyncio.run(_objects(meter))
    if as_json:
        typer.echo(json.dumps([_object_as_json(row) for row in rows]))
        return
    table = Table("class", "", "version", "logical name", "attributes", "methods")
    for row in rows:
        table.add_row(
            str(row.class_id),
            class_name(row.class_id),
            str(row.version),
            row.logical_name.obis,
            _rights(row.attribute_access),
            " ".join(str(index) for index, mode in row.method_access.items() if mode),
        )
    Console().print(table)


async def _objects(meter: DLMSClient) -> list[ObjectListElement]:
    await _connect(meter)
    try:
        return await meter.read_objects()
    finally:
        await meter.disconnect()


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
    }
