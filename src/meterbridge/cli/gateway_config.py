"""`meterbridge gateway-config`: files for tb-gateway and its Mosquitto."""

from __future__ import annotations

import os
import pwd
from pathlib import Path
from typing import Annotated

import typer
from sqlalchemy.ext.asyncio import AsyncEngine

from meterbridge.cli.backend import ConfigOption, in_database
from meterbridge.errors import ConfigurationError
from meterbridge.service import open_vault
from meterbridge.settings import Settings, load_settings
from meterbridge.store import Account, AccountRepository, MeterRepository
from meterbridge.thingsboard import GatewaySettings, gateway_files

_PLACE = "GATEWAY_TOKEN"


def gateway_config(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where to write; made if missing.")],
    token: Annotated[
        str,
        typer.Option(envvar="METERBRIDGE_DELIVERY__GATEWAY_TOKEN", help="Access token of the gateway device."),
    ] = _PLACE,
    host: Annotated[str, typer.Option(help="ThingsBoard.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65_535, help="Its MQTT port.")] = 1883,
    broker_host: Annotated[str, typer.Option(help="Address Mosquitto listens on.")] = "127.0.0.1",
    broker_port: Annotated[int, typer.Option(min=1, max=65_535, help="Its port.")] = 1884,
    device_type: Annotated[str, typer.Option(help="Device profile of new devices.")] = "dlms-meter",
    provisioned: Annotated[
        bool, typer.Option("--provisioned", help="Host and token as `meterbridge thingsboard` knows them.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Overwrite files that are there.")] = False,
    config: ConfigOption = None,
) -> None:
    """Write tb_gateway.json, mqtt.json, logs.json and mosquitto.conf with the settings that lose least."""
    target = folder.resolve()
    if provisioned:
        token, host, port = _provisioned(load_settings(config))
    account = _broker_account()
    files = gateway_files(
        GatewaySettings(target, token, host, port, broker_host, broker_port, device_type, account.pw_name)
    )
    taken = [name for name in files if (target / name).exists()]
    if taken and not force:
        raise ConfigurationError(f"{folder} already holds {', '.join(taken)}; --force overwrites")
    try:
        for part in ("storage", "logs", "mosquitto"):
            (target / part).mkdir(parents=True, exist_ok=True)
        if os.geteuid() == 0:
            os.chown(target / "mosquitto", account.pw_uid, account.pw_gid)
        for name, text in files.items():
            file = target / name
            if token in text:
                # Before anything is in it.
                file.touch(mode=0o600)
                file.chmod(0o600)
            file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"{folder} cannot be written: {error.strerror}") from None
    closed = _closed_to(account, target / "mosquitto")
    if closed is not None:
        typer.echo(
            f"meterbridge: user {account.pw_name} cannot pass through {closed}: Mosquitto would keep nothing over a"
            " restart; choose another DIR",
            err=True,
        )
    typer.echo(f"mosquitto -c {target / 'mosquitto.conf'}")
    typer.echo(f"TB_GW_CONFIG_DIR={target} thingsboard-gateway")
    if token == _PLACE:
        typer.echo("Put the gateway device's access token in the place of GATEWAY_TOKEN in tb_gateway.json.")


def _provisioned(settings: Settings) -> tuple[str, str, int]:
    """Token of the gateway device, ThingsBoard's MQTT host and port."""

    async def load(_: MeterRepository, engine: AsyncEngine) -> Account | None:
        return await AccountRepository(engine, open_vault(settings.database)).load()

    account = in_database(settings.database, load)
    if account is None or account.gateway_token is None:
        raise ConfigurationError("nothing is provisioned: meterbridge thingsboard login, then provision")
    return account.gateway_token, account.mqtt_host, account.mqtt_port


def _broker_account() -> pwd.struct_passwd:
    """Who Mosquitto runs as: whoever writes its files, and where that is root the account of its own that it has."""
    own = pwd.getpwuid(os.geteuid())
    if own.pw_uid != 0:
        return own
    try:
        return pwd.getpwnam("mosquitto")
    except KeyError:
        return own


def _closed_to(account: pwd.struct_passwd, folder: Path) -> Path | None:
    """The first folder above one that an account cannot pass through."""
    if account.pw_uid == 0:
        return None
    for parent in reversed(folder.parents):
        state = parent.stat()
        needed = 0o100 if state.st_uid == account.pw_uid else 0o010 if state.st_gid == account.pw_gid else 0o001
        if not state.st_mode & needed:
            return parent
    return None
