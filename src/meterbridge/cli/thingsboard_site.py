"""What `meterbridge thingsboard` does, between the database, the service where it runs, and the server."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, TypeVar

import typer
from sqlalchemy.ext.asyncio import AsyncEngine

from meterbridge.cli.backend import RunningService, running_service
from meterbridge.cli.here import Directly, ThroughService
from meterbridge.delivery import Route, RouteBook
from meterbridge.errors import ConfigurationError
from meterbridge.meter import MeterModel, load_model, model_names
from meterbridge.model import Meter
from meterbridge.service import open_vault, route_settings
from meterbridge.settings import Settings
from meterbridge.store import Account, AccountRepository, MeterRepository
from meterbridge.thingsboard import AlarmLimits
from meterbridge.thingsboard.entities import Change, Entities, id_of
from meterbridge.thingsboard.provisioning import Provisioner, Wanted
from meterbridge.thingsboard.quantities import polled
from meterbridge.thingsboard.rest import Credentials, Patience, ThingsBoardRest
from meterbridge.thingsboard.rollout import (
    ROUTE_KINDS,
    Here,
    Mqtt,
    Outcome,
    Rollout,
    RouteKind,
    check_names,
    unprovisioned,
)
from meterbridge.thingsboard.server import Server, look_at

_T = TypeVar("_T")
_AT_ONCE = 32
_ON_THE_WAY_S = 2.0


@dataclass(frozen=True, slots=True)
class Site:
    """What a command works on."""

    settings: Settings
    account: Account
    accounts: AccountRepository
    meters: MeterRepository
    engine: AsyncEngine


async def bring(
    site: Site,
    rest: ThingsBoardRest,
    server: Server,
    chosen: Sequence[Meter],
    kind: RouteKind | None,
    dry_run: bool,
    changes: list[Change],
) -> list[Outcome]:
    """Bring meters to ThingsBoard: what all share first. `changes` grows as things are done."""
    loaded = await site.meters.load_meters()
    check_names(loaded.meters)
    provisioner, entities = provisioner_for(rest, server, site.settings, changes, dry_run)
    kinds = {meter.id: kind or _route_now(meter, site.settings, site.account) for meter in chosen}
    service = running_service(site.settings)
    here = _here(site, service, loaded.meters)
    foundation = await provisioner.foundation(models_of(loaded.meters), _catalogue())
    if "gateway" in kinds.values():
        _check_gateway_token(site.settings, foundation.gateway_token)
    if not dry_run and foundation.gateway_token != site.account.gateway_token:
        await site.accounts.save(replace(site.account, gateway_token=foundation.gateway_token))
    timeout = site.settings.thingsboard.seen_timeout_s
    mqtt = Mqtt(site.account.mqtt_host, site.account.mqtt_port, _route_of(site.settings), timeout)
    rollout = Rollout(provisioner, entities, here, mqtt, time.time)
    gate = asyncio.Semaphore(_AT_ONCE)

    async def one(meter: Meter) -> Outcome:
        async with gate:
            return await rollout.meter(meter, kinds[meter.id], foundation)

    tasks = [asyncio.create_task(one(meter)) for meter in chosen]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def take_away(
    site: Site,
    rest: ThingsBoardRest,
    server: Server,
    chosen: Sequence[Meter],
    everything: bool,
    dry_run: bool,
    changes: list[Change],
) -> None:
    """Remove meters from ThingsBoard; with `everything` what all share too."""
    provisioner, entities = provisioner_for(rest, server, site.settings, changes, dry_run)
    here = _here(site, running_service(site.settings), chosen)
    names = [meter.device_name for meter in chosen]
    stopped = False
    for meter in chosen:
        # First nothing is sent any more: a reading through the gateway would make the device anew.
        row = unprovisioned(meter)
        if row != meter:
            if not dry_run:
                await here.store(row)
            entities.note("meter", meter.name, "update", "no longer delivered")
            stopped = True
    if stopped and here.runs and not dry_run:
        # What is on its way has to arrive first.
        await asyncio.sleep(_ON_THE_WAY_S)
    for name in names:
        await provisioner.remove_device(name)
    if everything:
        await provisioner.remove_foundation(_catalogue())
        if not dry_run and site.account.gateway_token is not None:
            await site.accounts.save(replace(site.account, gateway_token=None))


async def standing(
    rest: ThingsBoardRest, server: Server, settings: Settings, account: Account, meters: Sequence[Meter]
) -> dict[str, Any]:
    """Return how each meter stands at the server, as JSON."""
    provisioner, entities = provisioner_for(rest, server, settings, [], True)
    gate = asyncio.Semaphore(_AT_ONCE)

    async def one(meter: Meter) -> dict[str, Any]:
        shape: dict[str, Any] = {
            "meter": meter.id,
            "name": meter.name,
            "device": meter.device_name,
            "route": _route_now(meter, settings, account) if meter.tb_enabled else "none",
            "online": None,
            "newest": None,
            "trouble": "",
        }
        async with gate:
            device = await entities.device(meter.device_name)
            if device is None:
                return {**shape, "trouble": "no device: not provisioned" if meter.tb_enabled else ""}
            id_ = id_of(device)
            kept = await rest.get(f"/api/plugins/telemetry/DEVICE/{id_}/values/attributes", keys="active")
            shape["online"] = next((item.get("value") for item in kept or [] if item.get("key") == "active"), None)
            keys = [what.key for what in polled(models_of([meter]))]
            newest = await provisioner.newest(id_, keys) if keys else None
            shape["newest"] = _moment(newest)
            if meter.tb_token is not None and await entities.token_of(device) != meter.tb_token:
                shape["trouble"] = "its token has changed at ThingsBoard: provision it again"
            elif newest is None and meter.tb_enabled:
                shape["trouble"] = "no reading yet"
        return shape

    return {
        "server": account.server,
        "version": server.version,
        "as": account.username or "API key",
        "mqtt": f"{account.mqtt_host}:{account.mqtt_port}",
        "meters": list(await asyncio.gather(*(one(meter) for meter in meters))),
    }


async def session(settings: Settings, account: Account, work: Callable[[ThingsBoardRest, Server], Awaitable[_T]]) -> _T:
    """Log in, look what the server is, and do something there."""
    credentials = Credentials(account.username, account.password, account.api_key)
    patience = Patience(first_s=settings.thingsboard.request_retry_s, answer_s=settings.thingsboard.request_timeout_s)
    async with ThingsBoardRest(account.server, credentials, patience, settings.thingsboard.tls_ca) as rest:
        return await work(rest, await look_at(rest))


def wanted_of(settings: Settings) -> Wanted:
    """What the settings want at the server."""
    own = settings.thingsboard
    limits = AlarmLimits(own.under_voltage_v, own.over_voltage_v, own.under_frequency_hz, own.over_frequency_hz)
    return Wanted(
        settings.delivery.device_type,
        own.gateway_name,
        own.service_name,
        own.dashboard_title,
        limits,
        own.no_data_minutes * 60,
        settings.polling.period_s,
    )


def provisioner_for(
    rest: ThingsBoardRest, server: Server, settings: Settings, changes: list[Change], dry_run: bool
) -> tuple[Provisioner, Entities]:
    """Make a provisioner and what it reports its changes with."""
    entities = Entities(rest, changes.append, dry_run)
    return Provisioner(entities, server, wanted_of(settings)), entities


def _here(site: Site, service: RunningService | None, meters: Sequence[Meter]) -> Here:

    polling = site.settings.polling
    if service is None:
        return Directly(site.meters, site.engine, polling)
    # A service that does not know a token yet cannot be connected under it.
    given = site.settings.delivery.gateway_token
    tokens = {meter.tb_token for meter in meters if meter.tb_token and meter.tb_enabled}
    tokens |= {token for token in (site.account.gateway_token, given and given.get_secret_value()) if token}
    return ThroughService(service, tokens, site.meters, site.engine, polling)


def _route_of(settings: Settings) -> Callable[[Meter, str | None], Route]:
    """Routes as the service would make them, on connections of our own."""
    shared = route_settings(settings.mqtt, settings.delivery.model_copy(update={"route": "broker"}), None)
    own = f"{shared.client_id_prefix}-provision-{os.getpid()}"

    def route(meter: Meter, gateway_token: str | None) -> Route:
        return RouteBook(replace(shared, client_id_prefix=own, gateway_token=gateway_token), lambda _: True).route_for(
            meter
        )

    return route


def route_kind(text: str | None, settings: Settings) -> RouteKind | None:
    """Check a route that a person gave against the settings.

    Raises:
        ConfigurationError: there is none of that name, or the settings say another.
    """
    if text is None:
        return None
    for kind in ROUTE_KINDS:
        if text == kind:
            if settings.delivery.route not in (None, kind) and kind != "device":
                raise ConfigurationError(
                    f'the settings say [delivery] route = "{settings.delivery.route}"; change it or leave it out'
                )
            return kind
    raise ConfigurationError(f"--route must be one of {', '.join(ROUTE_KINDS)}, not {text!r}")


def _route_now(meter: Meter, settings: Settings, account: Account) -> RouteKind:
    """The route a meter takes; for one that takes none yet, the one it should."""
    if meter.tb_token is not None:
        return "device"
    if settings.delivery.route is not None:
        return settings.delivery.route
    if (meter.tb_host, meter.tb_port) == (account.mqtt_host, account.mqtt_port):
        return "gateway"
    return "broker" if meter.tb_device_name is not None else "gateway"


def _check_gateway_token(settings: Settings, token: str | None) -> None:
    given = settings.delivery.gateway_token
    if given is not None and token is not None and given.get_secret_value() != token:
        name = settings.thingsboard.gateway_name
        raise ConfigurationError(
            f"delivery.gateway_token is not the token of the gateway device {name!r}; leave it out"
        )


def models_of(meters: Sequence[Meter]) -> list[MeterModel]:
    """Return the models of meters; one that the catalogue does not have is passed over."""
    known = set(model_names())
    return [load_model(name) for name in sorted({meter.model for meter in meters} & known)]


def _catalogue() -> list[MeterModel]:
    """All models, each with all its measurements."""
    return [replace(model, poll=tuple(model.measurements)) for model in map(load_model, model_names())]


async def account_of(engine: AsyncEngine, settings: Settings) -> tuple[Account, AccountRepository]:
    """Return the account and where it is stored.

    Raises:
        ConfigurationError: nobody is logged in.
    """
    accounts = AccountRepository(engine, open_vault(settings.database))
    account = await accounts.load()
    if account is None:
        raise ConfigurationError("nobody is logged in: meterbridge thingsboard login SERVER --user NAME")
    return account, accounts


async def chosen_of(
    repository: MeterRepository, named: list[str] | None, all_: bool, *, inactive: bool = False
) -> list[Meter]:
    """Return the meters a person means.

    Raises:
        ConfigurationError: none, or both names and all.
        MeterNotFound: one of them does not exist.
    """
    if bool(named) == all_:
        raise ConfigurationError("name the meters, or give --all")
    if all_:
        loaded = await repository.load_meters(active_only=not inactive)
        for bad in loaded.problems:
            typer.echo(f"meterbridge: meter {bad.meter} ({bad.name}) cannot be used: {bad.text}", err=True)
        if not loaded.meters:
            raise ConfigurationError("there are no meters: meterbridge add NAME HOST")
        return list(loaded.meters)
    found = [await repository.get(name) for name in named or []]
    return list({meter.id: meter for meter in found}.values())


def _moment(ts: int | None) -> str | None:
    return None if ts is None else datetime.fromtimestamp(ts / 1000, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
