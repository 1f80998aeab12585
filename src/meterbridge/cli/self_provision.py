"""`meterbridge self-provision`: meters make themselves known to ThingsBoard by its provision key, without REST."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any

import typer
from sqlalchemy.ext.asyncio import AsyncEngine

from meterbridge.cli.backend import ConfigOption, RunningService, in_database, running_service, say_no_service
from meterbridge.cli.exits import INCOMPLETE
from meterbridge.cli.meter_columns import change_of
from meterbridge.delivery import Endpoint, ask, check_device_name, lets_in
from meterbridge.errors import ConfigurationError, DeliveryError, MeterbridgeError, MeterNotFound
from meterbridge.service import open_vault, route_settings
from meterbridge.settings import Settings, load_settings
from meterbridge.store import MeterRepository
from meterbridge.thingsboard import self_provisioning

_PORT, _TLS_PORT = 1883, 8883


def self_provision(
    meters: Annotated[list[str] | None, typer.Argument(metavar="ID|NAME", help="Which meters.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="All meters that are not inactive.")] = False,
    key: Annotated[
        str,
        typer.Option(envvar="THINGSBOARD_PROVISION_KEY", show_envvar=True, help="Provision key of the device profile."),
    ] = "",
    secret: Annotated[
        str,
        typer.Option(envvar="THINGSBOARD_PROVISION_SECRET", show_envvar=True, help="Its secret; best in the variable."),
    ] = "",
    host: Annotated[str | None, typer.Option(help="ThingsBoard's MQTT host; the meter's tb_host unless given.")] = None,
    port: Annotated[
        int | None, typer.Option(min=1, max=65_535, help="Its MQTT port; 1883 unless given, 8883 with TLS.")
    ] = None,
    timeout: Annotated[float, typer.Option(min=1, max=300, help="Seconds until an answer is given up.")] = 10.0,
    config: ConfigOption = None,
) -> None:
    """Have ThingsBoard make a device of each meter and give it a token; a meter that has one is left alone.

    The meter then delivers over a connection of its own. Nothing else is made at ThingsBoard.
    """
    if bool(meters) == everything:
        raise ConfigurationError("name meters, or give --all")
    if not key or not secret:
        raise ConfigurationError(
            "THINGSBOARD_PROVISION_KEY and THINGSBOARD_PROVISION_SECRET are needed, or --key and --secret"
        )
    settings = load_settings(config)
    port = port or (_PORT if settings.mqtt.tls_ca is None else _TLS_PORT)
    service = running_service(settings)
    if service is None:
        say_no_service("tokens are written to the database and hold when it starts")
    known = service.meters() if service is not None else in_database(settings.database, _shapes)
    failed = 0
    for shape in _chosen(known, meters or []):
        try:
            said = _provision(settings, service, shape, (key, secret), host or shape["tb_host"], port, timeout)
            typer.echo(f"{shape['name']}: {said}")
        except MeterbridgeError as error:
            failed += 1
            typer.echo(f"meterbridge: {shape['name']}: {error}", err=True)
    if failed:
        raise typer.Exit(INCOMPLETE)


def _provision(
    settings: Settings,
    service: RunningService | None,
    shape: dict[str, Any],
    credentials: tuple[str, str],
    host: str,
    port: int,
    timeout: float,
) -> str:
    if shape["has_tb_token"]:
        return "has a token already"
    device = check_device_name(shape["tb_device_name"] or shape["name"])
    common = route_settings(settings.mqtt, settings.delivery.model_copy(update={"route": "broker"}), None)
    endpoint = Endpoint(
        host, port, f"{common.client_id_prefix}-provision-{shape['id']}", self_provisioning.USER_NAME,
        version=common.version, tls=common.tls, keepalive_s=common.keepalive_s,
    )  # fmt: skip
    ours = _token_for(settings, f"{host}:{port} {credentials[0]} {device}", make_key=service is None)
    request = self_provisioning.request(device, *credentials, ours)
    answer = ask(endpoint, self_provisioning.REQUEST_TOPIC, request, self_provisioning.RESPONSE_TOPIC, timeout)
    try:
        token = self_provisioning.token(answer)
    except self_provisioning.DeviceRefused:
        # Made by us before, and the answer or its storing got lost?
        if ours is None or not lets_in(replace(endpoint, username=ours), timeout):
            raise
        token = ours
    change: dict[str, object] = {
        "tb_token": token,
        "tb_host": host,
        "tb_port": port,
        "tb_enabled": True,
    }
    try:
        _store(settings, service, int(shape["id"]), change)
    except MeterbridgeError as error:
        raise DeliveryError(
            f"ThingsBoard has made the device {device!r} and its token could not be stored ({error}): "
            + ("do this again" if token == ours else "delete the device there, then do this again")
        ) from None
    return f"is the device {device!r} at {host}:{port}"


def _token_for(settings: Settings, device: str, *, make_key: bool) -> str | None:
    """The token a server's device is to have, the same at each try; None where the key it comes from cannot be had."""
    try:
        return open_vault(settings.database).derive(f"access token {device}", make_key=make_key)
    except ConfigurationError:
        return None


def _store(settings: Settings, service: RunningService | None, meter: int, change: dict[str, object]) -> None:
    if service is not None:
        service.ask("PATCH", f"/api/meters/{meter}", change)
        return

    async def update(repository: MeterRepository, _: AsyncEngine) -> None:
        await repository.update(change_of(change).applied_to(await repository.get(meter)))

    in_database(settings.database, update)


async def _shapes(repository: MeterRepository, _: AsyncEngine) -> list[dict[str, Any]]:
    from meterbridge.api.shapes import meter_shape

    return [meter_shape(meter, None, None) for meter in (await repository.load_meters()).meters]


def _chosen(known: list[dict[str, Any]], wanted: list[str]) -> list[dict[str, Any]]:
    if not wanted:
        return [shape for shape in known if shape["status"] != "inactive"]
    names = {shape["name"]: shape for shape in known}
    ids = {str(shape["id"]): shape for shape in known}
    chosen: dict[int, dict[str, Any]] = {}
    for text in wanted:
        shape = names.get(text) or ids.get(text)
        if shape is None:
            raise MeterNotFound(f"there is no meter {text}")
        chosen[shape["id"]] = shape
    return list(chosen.values())
