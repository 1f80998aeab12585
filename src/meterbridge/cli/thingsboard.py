"""`meterbridge thingsboard`: what Meterbridge needs at a ThingsBoard server, made over its REST API."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any
from urllib.parse import urlsplit

import typer
from rich.table import Table
from rich.text import Text
from sqlalchemy.ext.asyncio import AsyncEngine

from meterbridge.cli.backend import ConfigOption, JsonOption, in_database
from meterbridge.cli.console import console
from meterbridge.cli.exits import INCOMPLETE
from meterbridge.cli.thingsboard_site import (
    Site,
    account_of,
    bring,
    chosen_of,
    models_of,
    provisioner_for,
    route_kind,
    session,
    standing,
    take_away,
    wanted_of,
)
from meterbridge.errors import ConfigurationError
from meterbridge.service import open_vault
from meterbridge.settings import load_settings
from meterbridge.store import Account, AccountRepository, MeterRepository, check_account
from meterbridge.thingsboard import dashboard as boards
from meterbridge.thingsboard.alarm_rules import Source
from meterbridge.thingsboard.entities import Change
from meterbridge.thingsboard.quantities import polled
from meterbridge.thingsboard.rest import ThingsBoardRest, server_url
from meterbridge.thingsboard.rollout import Outcome
from meterbridge.thingsboard.server import Server

app = typer.Typer(
    name="thingsboard",
    add_completion=False,
    help="Devices, token, alarm rules and dashboard at a ThingsBoard server, made over its REST API. "
    "Without an account for that: meterbridge self-provision, with the server's provision key.",
    no_args_is_help=True,
)
_MQTT, _MQTTS = 1883, 8883
_DONE = {"create": "created", "update": "updated", "delete": "deleted", "keep": "unchanged", "leave": "left alone"}
_WOULD = {**_DONE, "create": "would be created", "update": "would be updated", "delete": "would be deleted"}
MetersArgument = Annotated[list[str] | None, typer.Argument(metavar="ID|NAME", help="Which meters.")]
AllOption = Annotated[bool, typer.Option("--all", help="All meters that are not inactive.")]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")]


@app.command()
def login(
    server: Annotated[str, typer.Argument(help="http://HOST[:PORT] or https://… of ThingsBoard.")],
    user: Annotated[str | None, typer.Option(help="E-mail address of a tenant administrator.")] = None,
    password: Annotated[
        str | None, typer.Option(envvar="THINGSBOARD_PASSWORD", show_envvar=True, help="Asked for unless given.")
    ] = None,
    api_key: Annotated[
        str | None,
        typer.Option(envvar="THINGSBOARD_API_KEY", show_envvar=True, help="Instead of user and password, from 4.3."),
    ] = None,
    mqtt_host: Annotated[str | None, typer.Option(help="Its MQTT host; the server's unless given.")] = None,
    mqtt_port: Annotated[
        int | None, typer.Option(min=1, max=65_535, help="Its MQTT port; 1883, with TLS 8883 unless given.")
    ] = None,
    config: ConfigOption = None,
) -> None:
    """Remember how ThingsBoard's REST API is reached, after trying it; secrets are stored encrypted."""
    settings = load_settings(config)
    url = server_url(server)
    if user is not None and password is None and api_key is None:
        password = _asked()
    if user is not None:
        # A key left over in the environment must not contradict what was typed.
        api_key = None
    host = mqtt_host or str(urlsplit(url).hostname)
    port = mqtt_port or (_MQTTS if settings.mqtt.tls_ca is not None else _MQTT)
    key = api_key.strip() if api_key is not None else None
    account = Account(url, user, password if user is not None else None, key, host, port)
    check_account(account)

    async def work(_: MeterRepository, engine: AsyncEngine) -> str:
        accounts = AccountRepository(engine, open_vault(settings.database))
        known = await accounts.load()

        async def look(_: ThingsBoardRest, server: Server) -> str:
            return server.version

        version = await session(settings, account, look)
        same = known is not None and known.server == account.server
        await accounts.save(replace(account, gateway_token=known.gateway_token) if known and same else account)
        return version

    version = in_database(settings.database, work)
    typer.echo(f"logged in to ThingsBoard {version} at {url}; MQTT at {host}:{port}")


@app.command()
def logout(config: ConfigOption = None) -> None:
    """Forget the account, and the gateway's token with it."""
    settings = load_settings(config)

    async def work(_: MeterRepository, engine: AsyncEngine) -> bool:
        return await AccountRepository(engine, open_vault(settings.database)).forget()

    typer.echo("logged out" if in_database(settings.database, work) else "nobody was logged in")


@app.command()
def provision(
    meters: MetersArgument = None,
    all_: AllOption = False,
    route: Annotated[
        str | None, typer.Option(help="device, gateway or broker; as it is, for new meters gateway, unless given.")
    ] = None,
    shared: Annotated[
        bool, typer.Option("--shared", help="Only what all meters share: profile, rules, gateway, dashboard.")
    ] = False,
    dry_run: DryRunOption = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make all that is needed at ThingsBoard, then send a reading of each meter and see it there.

    Exit code 0 when every meter was seen in ThingsBoard. It may be repeated: what is there is left alone.
    """
    settings = load_settings(config)
    kind = route_kind(route, settings)
    if shared and (meters or all_):
        raise ConfigurationError("--shared is without meters")

    async def work(repository: MeterRepository, engine: AsyncEngine) -> tuple[list[Change], list[Outcome]]:
        chosen = [] if shared else await chosen_of(repository, meters, all_)
        account, accounts = await account_of(engine, settings)
        changes: list[Change] = []

        async def go(rest: ThingsBoardRest, server: Server) -> list[Outcome]:
            site = Site(settings, account, accounts, repository, engine)
            return await bring(site, rest, server, chosen, kind, dry_run, changes)

        try:
            return changes, await session(settings, account, go)
        except BaseException:
            _print_changes(changes, dry_run)
            raise

    changes, outcomes = in_database(settings.database, work)
    if as_json:
        typer.echo(json.dumps({"changes": _shapes(changes), "meters": [_outcome(o) for o in outcomes]}))
    else:
        _print_changes(changes, dry_run)
        _print_outcomes(outcomes)
    if any(outcome.state in ("unseen", "failed") for outcome in outcomes):
        raise typer.Exit(INCOMPLETE)


@app.command()
def status(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Show the server, and how each meter stands there."""
    settings = load_settings(config)

    async def work(repository: MeterRepository, engine: AsyncEngine) -> dict[str, Any]:
        account, _ = await account_of(engine, settings)
        loaded = await repository.load_meters()

        async def look(rest: ThingsBoardRest, server: Server) -> dict[str, Any]:
            return await standing(rest, server, settings, account, loaded.meters)

        return await session(settings, account, look)

    shape = in_database(settings.database, work)
    if as_json:
        typer.echo(json.dumps(shape, ensure_ascii=False))
        return
    typer.echo(f"ThingsBoard {shape['version']} at {shape['server']}, as {shape['as']}; MQTT at {shape['mqtt']}")
    table = Table("meter", "device", "route", "online", "newest reading", "trouble")
    for meter in shape["meters"]:
        online = {True: "yes", False: "no", None: ""}[meter["online"]]
        row = (meter["name"], meter["device"], meter["route"], online, meter["newest"] or "", meter["trouble"])
        table.add_row(*(Text(str(cell)) for cell in row))
    console().print(table)


@app.command()
def dashboard(
    force: Annotated[bool, typer.Option("--force", help="Replace it although people changed it.")] = False,
    print_: Annotated[bool, typer.Option("--print", help="Print its JSON, to import it by hand; no server.")] = False,
    dry_run: DryRunOption = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make or renew the dashboard alone."""
    settings = load_settings(config)

    async def work(repository: MeterRepository, engine: AsyncEngine) -> list[Change]:

        quantities = polled(models_of((await repository.load_meters()).meters))
        wanted = wanted_of(settings)
        if print_:
            title, type_, period = wanted.dashboard_title, wanted.device_type, wanted.period_s
            body = boards.dashboard(title, type_, quantities, period, Source.SERVER_ATTRIBUTE)
            typer.echo(json.dumps(body, indent=1, ensure_ascii=False))
            return []
        account, _ = await account_of(engine, settings)
        changes: list[Change] = []

        async def go(rest: ThingsBoardRest, server: Server) -> None:
            await provisioner_for(rest, server, settings, changes, dry_run)[0].dashboard(quantities, force)

        await session(settings, account, go)
        return changes

    changes = in_database(settings.database, work)
    if not print_:
        typer.echo(json.dumps({"changes": _shapes(changes)})) if as_json else _print_changes(changes, dry_run)


@app.command()
def unprovision(
    meters: MetersArgument = None,
    all_: AllOption = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    dry_run: DryRunOption = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Delete meters' devices with their history at ThingsBoard, and deliver nothing of them any more.

    What was there before Meterbridge stays. With --all also the gateway, the dashboard, the rules and the profile go.
    """
    settings = load_settings(config)
    if not yes and not dry_run:
        which = "all meters" if all_ else ", ".join(meters or [])
        typer.confirm(f"Delete the devices of {which} with their history at ThingsBoard?", abort=True, err=True)

    async def work(repository: MeterRepository, engine: AsyncEngine) -> list[Change]:
        chosen = await chosen_of(repository, meters, all_, inactive=True)
        account, accounts = await account_of(engine, settings)
        changes: list[Change] = []

        async def go(rest: ThingsBoardRest, server: Server) -> None:
            site = Site(settings, account, accounts, repository, engine)
            await take_away(site, rest, server, chosen, all_, dry_run, changes)

        try:
            await session(settings, account, go)
        except BaseException:
            _print_changes(changes, dry_run)
            raise
        return changes

    changes = in_database(settings.database, work)
    typer.echo(json.dumps({"changes": _shapes(changes)})) if as_json else _print_changes(changes, dry_run)


def _asked() -> str:
    if not sys.stdin.isatty():
        raise ConfigurationError("a password is needed: THINGSBOARD_PASSWORD, or --password")
    return str(typer.prompt("Password", hide_input=True, err=True))


# ---- what is printed


def _shapes(changes: Sequence[Change]) -> list[dict[str, str]]:
    return [{"thing": c.thing, "name": c.name, "action": c.action, "why": c.why} for c in changes]


def _outcome(outcome: Outcome) -> dict[str, Any]:
    meter = outcome.meter
    return {
        "meter": meter.id,
        "name": meter.name,
        "device": outcome.device,
        "state": outcome.state,
        "reason": outcome.reason or None,
    }


def _print_changes(changes: Sequence[Change], dry_run: bool) -> None:
    words = _WOULD if dry_run else _DONE
    for change in changes:
        why = f" ({change.why})" if change.why else ""
        typer.echo(f"{change.thing} {change.name}: {words[change.action]}{why}")


def _print_outcomes(outcomes: Sequence[Outcome]) -> None:
    for outcome in outcomes:
        if outcome.state == "seen":
            typer.echo(f"{outcome.meter.name}: seen in ThingsBoard as {outcome.device}")
        elif outcome.state == "unseen":
            typer.echo(f"meterbridge: {outcome.meter.name}: provisioned, but not seen yet: {outcome.reason}", err=True)
        elif outcome.state == "failed":
            typer.echo(f"meterbridge: {outcome.meter.name}: {outcome.reason}", err=True)
