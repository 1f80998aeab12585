"""`meterbridge token`: who may use the API."""

from __future__ import annotations

import json
import time
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text
from sqlalchemy.ext.asyncio import AsyncEngine

from meterbridge.cli.backend import ConfigOption, JsonOption, in_database
from meterbridge.cli.console import console
from meterbridge.settings import load_settings
from meterbridge.store import MeterRepository, Role, Token, TokenRepository

app = typer.Typer(name="token", add_completion=False, help="Who may use the API.", no_args_is_help=True)
NameArgument = Annotated[str, typer.Argument(help="Whose or what for.")]


@app.command()
def add(
    name: NameArgument,
    role: Annotated[Role, typer.Option(help="A viewer looks, an operator also changes.")] = Role.VIEWER,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a token and print it: it cannot be shown again."""

    async def create(_: MeterRepository, engine: AsyncEngine) -> str:
        return await TokenRepository(engine).create(name, role, round(time.time() * 1000))

    made = in_database(load_settings(config).database, create)
    typer.echo(json.dumps({"name": name, "role": str(role), "token": made}, ensure_ascii=False) if as_json else made)


@app.command("list")
def list_(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """List the tokens by name and role."""

    async def all_(_: MeterRepository, engine: AsyncEngine) -> list[Token]:
        return await TokenRepository(engine).tokens()

    tokens = in_database(load_settings(config).database, all_)
    if as_json:
        shown = [{"name": token.name, "role": str(token.role), "created_at": token.created_at} for token in tokens]
        typer.echo(json.dumps(shown, ensure_ascii=False))
        return
    table = Table("name", "role")
    for token in tokens:
        table.add_row(Text(token.name), str(token.role))
    console().print(table)


@app.command()
def remove(name: NameArgument, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Revoke a token; a running service refuses it within two seconds."""

    async def revoke(_: MeterRepository, engine: AsyncEngine) -> None:
        await TokenRepository(engine).revoke(name)

    in_database(load_settings(config).database, revoke)
    typer.echo(json.dumps({"removed": name}, ensure_ascii=False) if as_json else f"{name}: revoked")
