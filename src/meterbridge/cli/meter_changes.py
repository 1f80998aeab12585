"""`meterbridge add|edit|remove`: which meters there shall be."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer
from sqlalchemy.ext.asyncio import AsyncEngine

from meterbridge.cli.backend import (
    ConfigOption,
    JsonOption,
    MeterArgument,
    in_database,
    running_service,
    say_no_service,
)
from meterbridge.cli.meter_columns import NO_COLUMNS, MeterColumns, change_of
from meterbridge.cli.meters import show_meter
from meterbridge.cli.option_group import with_options
from meterbridge.cli.security_columns import NO_SECURITY_COLUMNS, SecurityColumns
from meterbridge.errors import ConfigurationError
from meterbridge.meter import load_model
from meterbridge.model import MeterId
from meterbridge.settings import load_settings
from meterbridge.store import MeterRepository

_INTO_DATABASE = "it is written to the database and holds when the service starts"


@with_options(MeterColumns, "columns")
@with_options(SecurityColumns, "security")
def add(
    name: Annotated[str, typer.Argument(help="Unique, for people.")],
    host: Annotated[str, typer.Argument(help="Address or host name.")],
    columns: MeterColumns = NO_COLUMNS,
    security: SecurityColumns = NO_SECURITY_COLUMNS,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Add a meter; a running service polls it at once."""
    if columns.physical is not None and columns.framing not in (None, "hdlc"):
        raise ConfigurationError(f"--physical is for HDLC: {columns.framing} addresses have one part")
    given = columns.given(name=name, ip_address=host) | security.given()
    settings = load_settings(config)
    service = running_service(settings)
    if service is not None:
        shape = service.ask("POST", "/api/meters", given)
    else:
        say_no_service(_INTO_DATABASE)
        wanted = change_of(given).made()
        load_model(wanted.model)

        async def insert(repository: MeterRepository, _: AsyncEngine) -> dict[str, Any]:
            from meterbridge.api.shapes import meter_shape

            return meter_shape(await repository.add(wanted), None, None)

        shape = in_database(settings.database, insert)
    show_meter(shape, as_json)


@with_options(MeterColumns, "columns")
@with_options(SecurityColumns, "security")
def edit(
    meter: MeterArgument,
    name: Annotated[str | None, typer.Option(help="New name.")] = None,
    host: Annotated[str | None, typer.Option(help="New address or host name.")] = None,
    columns: MeterColumns = NO_COLUMNS,
    security: SecurityColumns = NO_SECURITY_COLUMNS,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Change a meter; what is not given stays. A running service takes it over at once."""
    given = columns.given(name=name, ip_address=host) | security.given()
    if not given:
        raise ConfigurationError("nothing to change was given")
    settings = load_settings(config)
    service = running_service(settings)
    if service is not None:
        shape = service.ask("PATCH", f"/api/meters/{service.id_of(meter)}", given)
    else:
        say_no_service(_INTO_DATABASE)
        change = change_of(given)

        async def update(repository: MeterRepository, _: AsyncEngine) -> dict[str, Any]:
            from meterbridge.api.shapes import meter_shape

            changed = change.applied_to(await repository.get(meter))
            load_model(changed.model)
            return meter_shape(await repository.update(changed), await repository.state(changed.id), None)

        shape = in_database(settings.database, update)
    show_meter(shape, as_json)


def remove(
    meter: MeterArgument,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Remove a meter with its metrics and alarms."""
    settings = load_settings(config)
    service = running_service(settings)
    if service is not None:
        number = service.id_of(meter)
        _confirm(meter, yes)
        service.ask("DELETE", f"/api/meters/{number}")
    else:
        say_no_service("it is removed from the database")

        async def find(repository: MeterRepository, _: AsyncEngine) -> MeterId:
            return (await repository.get(meter)).id

        number = found = in_database(settings.database, find)
        _confirm(meter, yes)
        in_database(settings.database, lambda repository, _: repository.remove(found))
    typer.echo(json.dumps({"removed": number}) if as_json else f"meter {number} removed")


def _confirm(meter: str, yes: bool) -> None:
    if not yes:
        typer.confirm(f"Remove meter {meter} with its metrics and alarms?", abort=True, err=True)
