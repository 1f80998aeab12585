"""`meterbridge qos`: everything against its target, in the form monitoring systems expect."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import typer
from rich.table import Table
from rich.text import Text
from sqlalchemy.ext.asyncio import AsyncEngine

from meterbridge.cli.backend import ConfigOption, JsonOption, in_database, running_service, say_no_service
from meterbridge.cli.console import console, printable
from meterbridge.cli.exits import QUALITY, UNKNOWN
from meterbridge.errors import MeterbridgeError
from meterbridge.service import Inspector
from meterbridge.settings import Settings, load_settings
from meterbridge.store import MeterRepository

_STYLES = {"ok": "green", "warning": "yellow", "critical": "bold red", "unknown": "dim"}


def qos(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Check service, meters, broker, gateway, ThingsBoard and metrics against the targets of the settings.

    Exit code 0 ok, 1 warning, 2 critical, 3 when it could not be found out.
    """
    try:
        report = _report(load_settings(config))
    except MeterbridgeError as error:
        # Monitoring systems take 2 for a finding: not to know is 3.
        typer.echo(f"meterbridge: {error}", err=True)
        raise typer.Exit(UNKNOWN) from None
    if as_json:
        typer.echo(json.dumps(report, ensure_ascii=False))
    else:
        _print(report)
    raise typer.Exit(QUALITY[report["level"]])


def _report(settings: Settings) -> dict[str, Any]:
    service = running_service(settings)
    if service is not None:
        found: dict[str, Any] = service.ask("GET", "/api/system/qos")
        return found
    say_no_service("meters and servers are asked directly")

    async def check(repository: MeterRepository, engine: AsyncEngine) -> dict[str, Any]:
        return asdict(await Inspector(settings).quality(repository, engine))

    return in_database(settings.database, check)


def _print(report: dict[str, Any]) -> None:
    table = Table("check", "", "measured", "target", "")
    for check in report["checks"]:
        table.add_row(
            check["name"],
            Text(check["level"], _STYLES[check["level"]]),
            Text(printable(check["measured"])),
            Text(check["target"]),
            Text(printable(check["detail"])),
        )
    console().print(table)
    typer.echo(report["level"])
