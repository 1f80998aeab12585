"""`meterbridge secrets`: the keys under which passwords and tokens lie in the database."""

from __future__ import annotations

import json

import typer
from sqlalchemy.ext.asyncio import AsyncEngine

from meterbridge.cli.backend import ConfigOption, JsonOption, in_database
from meterbridge.service import open_vault
from meterbridge.settings import load_settings
from meterbridge.store import AccountRepository, MeterRepository, rotate

app = typer.Typer(
    name="secrets", add_completion=False, help="The keys that encrypt passwords and tokens.", no_args_is_help=True
)


@app.callback()
def _group() -> None:
    pass


@app.command("rotate")
def rotate_(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Encrypt every password and token with a new key and forget the old one; the service may run meanwhile."""
    database = load_settings(config).database

    async def work(_: MeterRepository, engine: AsyncEngine) -> int:
        vault = open_vault(database)
        return await rotate(vault, MeterRepository(engine, vault), AccountRepository(engine, vault))

    secrets = in_database(database, work)
    typer.echo(json.dumps({"secrets": secrets}) if as_json else f"{secrets} secrets encrypted anew")
