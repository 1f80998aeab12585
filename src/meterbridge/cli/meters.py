"""`meterbridge list|status|add|edit|remove|models`: which meters there are."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text
from sqlalchemy.ext.asyncio import AsyncEngine

from meterbridge.cli.backend import (
    ConfigOption,
    JsonOption,
    MeterArgument,
    in_database,
    running_service,
    say_no_service,
)
from meterbridge.errors import ConfigurationError
from meterbridge.meter import load_model, model_names
from meterbridge.settings import load_settings
from meterbridge.store import MeterRepository

if TYPE_CHECKING:
    from meterbridge.api.shapes import MeterChange

_FROM_DATABASE = "this is what the database holds"
_INTO_DATABASE = "it is written to the database and holds when the service starts"

PortOption = Annotated[int | None, typer.Option(min=1, max=65_535, help="TCP port, 3333 unless given.")]
ClientOption = Annotated[int | None, typer.Option("--client", help="Client SAP: 1 management, 16 public.")]
ServerOption = Annotated[int | None, typer.Option("--server", help="Server (logical device) address.")]
PhysicalOption = Annotated[int | None, typer.Option(help="HDLC physical address.")]
FramingOption = Annotated[str | None, typer.Option(help="hdlc or wrapper.")]
ModelOption = Annotated[str | None, typer.Option(help="Catalogue entry; `meterbridge models` lists them.")]
StatusOption = Annotated[str | None, typer.Option(help="active or inactive.")]
PasswordOption = Annotated[
    str | None, typer.Option(envvar="METER_PASSWORD", show_envvar=True, help="LLS password; best in the variable.")
]
TbTokenOption = Annotated[
    str | None, typer.Option(envvar="METER_TB_TOKEN", show_envvar=True, help="ThingsBoard token; best in the variable.")
]
TbHostOption = Annotated[str | None, typer.Option(help="MQTT host for its readings.")]
TbPortOption = Annotated[int | None, typer.Option(min=1, max=65_535, help="MQTT port.")]
DeviceOption = Annotated[str | None, typer.Option(help="Device name at ThingsBoard.")]


def list_(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """List all meters."""
    settings = load_settings(config)
    service = running_service(settings)
    if service is not None:
        answer = service.ask("GET", "/api/meters")
    else:
        say_no_service(_FROM_DATABASE)
        answer = in_database(settings.database, _listed)
    if as_json:
        typer.echo(json.dumps(answer["meters"], ensure_ascii=False))
    else:
        _print_meters(answer["meters"])
    for bad in answer["problems"]:
        typer.echo(f"meterbridge: meter {bad['id']} ({bad['name']}) cannot be used: {bad['problem']}", err=True)


def status(meter: MeterArgument, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Show one meter: how it is reached, how it goes, its newest reading."""
    settings = load_settings(config)
    service = running_service(settings)
    if service is not None:
        shape = service.ask("GET", f"/api/meters/{service.id_of(meter)}/status")
    else:
        say_no_service(_FROM_DATABASE)

        async def one(repository: MeterRepository, _: AsyncEngine) -> dict[str, Any]:
            from meterbridge.api.shapes import meter_shape

            found = await repository.get(meter)
            return meter_shape(found, await repository.state(found.id), None)

        shape = in_database(settings.database, one)
    _show(shape, as_json)


def add(
    name: Annotated[str, typer.Argument(help="Unique, for people.")],
    host: Annotated[str, typer.Argument(help="Address or host name.")],
    port: PortOption = None,
    client: ClientOption = None,
    server: ServerOption = None,
    physical: PhysicalOption = None,
    framing: FramingOption = None,
    model: ModelOption = None,
    status: StatusOption = None,
    password: PasswordOption = None,
    tb_token: TbTokenOption = None,
    tb_host: TbHostOption = None,
    tb_port: TbPortOption = None,
    tb_device_name: DeviceOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Add a meter; a running service polls it at once."""
    given = _given(
        name=name, ip_address=host, port=port, client_id=client, server_id=server, physical=physical, framing=framing,
        model=model, status=status, password=password, tb_token=tb_token, tb_host=tb_host, tb_port=tb_port,
        tb_device_name=tb_device_name,
    )  # fmt: skip
    settings = load_settings(config)
    service = running_service(settings)
    if service is not None:
        shape = service.ask("POST", "/api/meters", given)
    else:
        say_no_service(_INTO_DATABASE)
        wanted = _change(given).made()
        load_model(wanted.model)

        async def insert(repository: MeterRepository, _: AsyncEngine) -> dict[str, Any]:
            from meterbridge.api.shapes import meter_shape

            return meter_shape(await repository.add(wanted), None, None)

        shape = in_database(settings.database, insert)
    _show(shape, as_json)


def edit(
    meter: MeterArgument,
    name: Annotated[str | None, typer.Option(help="New name.")] = None,
    host: Annotated[str | None, typer.Option(help="New address or host name.")] = None,
    port: PortOption = None,
    client: ClientOption = None,
    server: ServerOption = None,
    physical: PhysicalOption = None,
    framing: FramingOption = None,
    model: ModelOption = None,
    status: StatusOption = None,
    password: PasswordOption = None,
    tb_token: TbTokenOption = None,
    tb_host: TbHostOption = None,
    tb_port: TbPortOption = None,
    tb_device_name: DeviceOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Change a meter; what is not given stays. A running service takes it over at once."""
    given = _given(
        name=name, ip_address=host, port=port, client_id=client, server_id=server, physical=physical, framing=framing,
        model=model, status=status, password=password, tb_token=tb_token, tb_host=tb_host, tb_port=tb_port,
        tb_device_name=tb_device_name,
    )  # fmt: skip
    if not given:
        raise ConfigurationError("nothing to change was given")
    settings = load_settings(config)
    service = running_service(settings)
    if service is not None:
        shape = service.ask("PATCH", f"/api/meters/{service.id_of(meter)}", given)
    else:
        say_no_service(_INTO_DATABASE)
        change = _change(given)

        async def update(repository: MeterRepository, _: AsyncEngine) -> dict[str, Any]:
            from meterbridge.api.shapes import meter_shape

            changed = change.applied_to(await repository.get(meter))
            load_model(changed.model)
            return meter_shape(await repository.update(changed), await repository.state(changed.id), None)

        shape = in_database(settings.database, update)
    _show(shape, as_json)


def remove(
    meter: MeterArgument,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    config: ConfigOption = None,
) -> None:
    """Remove a meter with its metrics and alarms."""
    settings = load_settings(config)
    if not yes:
        typer.confirm(f"Remove meter {meter} with its metrics and alarms?", abort=True, err=True)
    service = running_service(settings)
    if service is not None:
        service.ask("DELETE", f"/api/meters/{service.id_of(meter)}")
        return
    say_no_service("it is removed from the database")

    async def delete(repository: MeterRepository, _: AsyncEngine) -> None:
        await repository.remove((await repository.get(meter)).id)

    in_database(settings.database, delete)


def models(as_json: JsonOption = False) -> None:
    """List the meter models of the catalogue and what is read from each."""
    known = {name: list(load_model(name).poll) for name in model_names()}
    if as_json:
        typer.echo(json.dumps(known))
        return
    table = Table("model", "measurements")
    for name, measurements in known.items():
        table.add_row(name, ", ".join(measurements))
    Console().print(table)


async def _listed(repository: MeterRepository, _: AsyncEngine) -> dict[str, Any]:
    from meterbridge.api.shapes import meter_shape

    loaded, states = await repository.load_meters(), await repository.states()
    return {
        "meters": [meter_shape(meter, states.get(meter.id), None) for meter in loaded.meters],
        "problems": [{"id": bad.meter, "name": bad.name, "problem": bad.text} for bad in loaded.problems],
    }


def _given(**values: object) -> dict[str, object]:
    return {name: value for name, value in values.items() if value is not None}


def _change(given: dict[str, object]) -> MeterChange:
    from meterbridge.api.shapes import MeterChange

    # Checked value by value where it is applied; types are what the options gave.
    return MeterChange.model_construct(set(given), **given)


def _print_meters(meters: list[dict[str, Any]]) -> None:
    table = Table("id", "name", "address", "model", "status", "state", "last seen", "trouble")
    for meter in meters:
        trouble = ", ".join(meter["troubles"]) or (meter["last_error"] if meter["status"] == "error" else "") or ""
        table.add_row(
            str(meter["id"]),
            Text(meter["name"]),
            f"{meter['ip_address']}:{meter['port']}",
            meter["model"],
            Text(meter["status"], "red" if meter["status"] == "error" else ""),
            " ".join(filter(None, (meter["run_state"], meter["link"]))),
            _time(meter["last_seen"]),
            Text(trouble),
        )
    Console().print(table)


def _show(shape: dict[str, Any], as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(shape, ensure_ascii=False))
        return
    table = Table("", "", show_header=False)
    for name, value in shape.items():
        if name == "reading" and value:
            for key, quantity in value["values"].items():
                table.add_row(key, Text(f"{quantity['value']} {quantity['unit'] or ''}".rstrip()))
        elif name == "counters" and value:
            for key, number in value.items():
                table.add_row(key, Text(_plain(number)))
        else:
            table.add_row(name, Text(_time(value) if name == "last_seen" else _plain(value)))
    Console().print(table)


def _plain(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, list):
        return ", ".join(str(item) for item in value)
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)


def _time(ts: int | None) -> str:
    return "" if ts is None else datetime.fromtimestamp(ts / 1000, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
