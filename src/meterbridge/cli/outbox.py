"""`meterbridge outbox`: what waits, what is in quarantine, and what becomes of it. The service may run meanwhile."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from meterbridge.cli.backend import running_service
from meterbridge.cli.console import console
from meterbridge.delivery import inspection
from meterbridge.delivery.inspection import RouteSummary
from meterbridge.errors import ConfigurationError, MeterbridgeError
from meterbridge.settings import OutboxSettings, Settings, load_settings

app = typer.Typer(
    name="outbox",
    add_completion=False,
    help="What waits for ThingsBoard, and what it would not take.",
    no_args_is_help=True,
)

ConfigOption = Annotated[Path | None, typer.Option("--config", help="Settings file; ./meterbridge.toml unless given.")]
JsonOption = Annotated[bool, typer.Option("--json", help="JSON instead of a table.")]
IdsArgument = Annotated[list[int] | None, typer.Argument(metavar="[ID]...", help="Ids that `list` shows.")]
# What only the running service knows of a route.
_LIVE = (
    "connected",
    "reason",
    "published",
    "acknowledged",
    "unacknowledged",
    "refused",
    "resent",
    "reconnects",
    "contested",
)
AllOption = Annotated[bool, typer.Option("--all", help="All that is in quarantine.")]


@app.command()
def status(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Rows that wait, by route, what is in quarantine and what was given up; its connections where the service runs."""
    settings = load_settings(config)
    found = inspection.summary(settings.outbox.path)
    routes = {route.route: _waiting(route, time.time()) for route in found.routes}
    connections = _connections(settings)
    for live in connections or ():
        row = routes.setdefault(live["route"], _waiting(RouteSummary(live["route"], 0, 0, None, 0), 0.0))
        row.update({key: live[key] for key in _LIVE})
    if as_json:
        typer.echo(json.dumps(_as_json(settings.outbox, found, list(routes.values()))))
        return
    out = console()
    out.print(_table(routes.values(), live=connections is not None) if routes else "Nothing waits.", highlight=False)
    retrying = f", {found.claimed} of them about to be sent again" if found.claimed else ""
    out.print(f"{found.quarantined} in quarantine{retrying}.", highlight=False)
    for meter, loss in found.losses.items():
        out.print(
            f"meter {meter}: {loss.rows} readings given up, the oldest of {_time(loss.since)}, the last at"
            f" {_time(loss.at)} UTC",
            highlight=False,
        )
    for path in found.set_aside:
        out.print(f"damaged file set aside: {path}", highlight=False, markup=False)


def _connections(settings: Settings) -> list[dict[str, Any]] | None:
    """What a running service knows of its routes; None where none runs, or none that answers us."""
    try:
        service = running_service(settings)
        if service is None:
            return None
        routes: list[dict[str, Any]] = service.ask("GET", "/api/system/outbox")["routes"]
    except MeterbridgeError as error:
        typer.echo(f"meterbridge: {error}", err=True)
        return None
    return routes


def _waiting(route: RouteSummary, now: float) -> dict[str, Any]:
    age = None if route.oldest_at is None else round(now - route.oldest_at / 1000, 1)
    return {
        "route": route.route,
        "rows": route.rows,
        "octets": route.octets,
        "oldest_s": age,
        "quarantined": route.quarantined,
    }


def _as_json(settings: OutboxSettings, found: inspection.Summary, routes: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "path": str(settings.path),
        "rows": sum(route["rows"] for route in routes),
        "octets": sum(route["octets"] for route in routes),
        "max_rows": settings.max_rows,
        "max_octets": settings.max_octets,
        "max_age_days": settings.max_age_days,
        "routes": routes,
        "quarantined": found.quarantined,
        "retrying": found.claimed,
        "given_up": [{"meter": meter, **loss._asdict()} for meter, loss in found.losses.items()],
        "set_aside": [str(path) for path in found.set_aside],
    }


def _table(routes: Iterable[dict[str, Any]], *, live: bool) -> Table:
    table = Table(
        "route", "rows", "octets", "oldest", "quarantined", *(("connection", "unacknowledged") if live else ())
    )
    for column in table.columns[1:]:
        column.justify = "left" if column.header == "connection" else "right"
    for route in routes:
        oldest = "" if route["oldest_s"] is None else _age(route["oldest_s"])
        cells: list[str | Text] = [str(route["rows"]), str(route["octets"]), oldest, str(route["quarantined"])]
        if live:
            up = route.get("connected")
            state = "none" if up is None else "up" if up else f"down: {route['reason']}" if route["reason"] else "down"
            contested = ", contested" if route.get("contested") else ""
            cells += [Text(state + contested), str(route.get("unacknowledged", ""))]
        table.add_row(Text(route["route"]), *cells)
    return table


@app.command("list")
def list_(
    config: ConfigOption = None,
    waiting: Annotated[bool, typer.Option("--waiting", help="What waits, instead of what is in quarantine.")] = False,
    meter: Annotated[int | None, typer.Option(help="Of one meter, by its id.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="So many at most, the oldest.")] = 100,
    as_json: JsonOption = False,
) -> None:
    """What is in quarantine, and why."""
    path = load_settings(config).outbox.path
    found = inspection.listing(path, quarantined=not waiting, meter=meter, limit=limit)
    if as_json:
        for item in found:
            row = item.row
            payload = row.payload.decode(errors="replace")
            shown = {key: getattr(row, key) for key in ("id", "meter", "route", "kind", "device", "ts", "at")}
            typer.echo(json.dumps({**shown, "payload": payload, "error": item.error}))
        return
    table = Table("id", "meter", "device", "kind", "time", "octets", "" if waiting else "error")
    for item in found:
        row = item.row
        table.add_row(
            str(row.id),
            str(row.meter),
            Text(row.device),
            row.kind,
            _time(row.ts),
            str(len(row.payload)),
            Text(item.error),
        )
    console().print(table)


@app.command()
def retry(
    config: ConfigOption = None, ids: IdsArgument = None, every: AllOption = False, as_json: JsonOption = False
) -> None:
    """Send what is in quarantine again; a running service takes it within seconds."""
    count = inspection.retry(load_settings(config).outbox.path, _chosen(ids, every))
    typer.echo(json.dumps({"retrying": count}) if as_json else f"{count} to be sent again.")


@app.command()
def purge(
    config: ConfigOption = None,
    ids: IdsArgument = None,
    every: AllOption = False,
    route: Annotated[str | None, typer.Option(help="All that waits for this route, instead.")] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Delete what is in quarantine, or what waits for a route: for good."""
    path = load_settings(config).outbox.path
    if route is not None and (ids or every):
        raise ConfigurationError("give either --route or what is in quarantine, not both")
    chosen = None if route is not None else _chosen(ids, every)
    if not yes:
        typer.confirm("These readings will never reach ThingsBoard. Delete them?", abort=True, err=True)
    count = inspection.purge(path, chosen) if route is None else inspection.purge_route(path, route)
    typer.echo(json.dumps({"deleted": count}) if as_json else f"{count} deleted.")


def _chosen(ids: list[int] | None, every: bool) -> list[int] | None:
    if bool(ids) == every:
        raise ConfigurationError("name ids, or --all")
    return None if every else ids


def _time(ms: int) -> str:
    try:
        return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
    except (ValueError, OverflowError, OSError):
        return str(ms)


def _age(seconds: float) -> str:
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{max(0.0, seconds):.0f} s"
