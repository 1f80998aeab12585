"""`meterbridge list|status|models`: which meters there are, and how they go."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import typer
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
from meterbridge.cli.console import console, printable
from meterbridge.meter import load_model, model_names
from meterbridge.settings import load_settings
from meterbridge.store import MeterRepository

# Not worth a row.
_USUAL: dict[str, object] = {"security_suite": 0, "referencing": "ln"}
# Of these a no is worth one.
_TOLD = ("has_password", "tb_enabled", "relay_allowed")
_FROM_DATABASE = "this is what the database holds"


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
    show_meter(shape, as_json)


def models(as_json: JsonOption = False) -> None:
    """List the meter models of the catalogue and what is read from each."""
    known = {name: list(load_model(name).poll) for name in model_names()}
    if as_json:
        typer.echo(json.dumps(known))
        return
    table = Table("model", "measurements")
    for name, measurements in known.items():
        table.add_row(name, ", ".join(measurements))
    console().print(table)


async def _listed(repository: MeterRepository, _: AsyncEngine) -> dict[str, Any]:
    from meterbridge.api.shapes import meter_shape

    loaded, states = await repository.load_meters(), await repository.states()
    return {
        "meters": [meter_shape(meter, states.get(meter.id), None) for meter in loaded.meters],
        "problems": [
            {"id": bad.meter, "name": bad.name, "problem": bad.text} for bad in loaded.problems + loaded.rivals()
        ],
    }


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
            Text(printable(trouble)),
        )
    console().print(table)


def show_meter(shape: dict[str, Any], as_json: bool) -> None:
    """Print a meter: as JSON all that the API gives, as a table what differs from nothing and from the usual."""
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
                if number != "":
                    table.add_row(key, Text(_plain(number)))
        elif value not in (None, "", []) and not _is_usual(name, value):
            table.add_row(name, Text(printable(_time(value) if name == "last_seen" else _plain(value))))
    console().print(table)


def _is_usual(name: str, value: object) -> bool:
    return value == _USUAL[name] if name in _USUAL else value is False and name not in _TOLD


def _plain(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, list):
        return ", ".join(str(item) for item in value)
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)


def _time(ts: int | None) -> str:
    return "" if ts is None else datetime.fromtimestamp(ts / 1000, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
