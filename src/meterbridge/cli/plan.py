"""`meterbridge plan`: what is wrong, why, and what to type, most urgent first."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import typer
from rich.text import Text
from sqlalchemy.ext.asyncio import AsyncEngine

from meterbridge.cli.backend import ConfigOption, JsonOption, in_database, running_service, say_no_service
from meterbridge.cli.console import console, printable
from meterbridge.cli.exits import INCOMPLETE
from meterbridge.service import Inspector
from meterbridge.settings import Settings, load_settings
from meterbridge.store import MeterRepository

_STYLES = {"critical": "bold red", "warning": "yellow", "info": "cyan"}


def plan(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Say what is wrong, since when, on what evidence, why, what to type, and how to see that it worked.

    Exit code 0 when there is nothing to do, 1 when there is.
    """
    found = _plan(load_settings(config))
    if as_json:
        typer.echo(json.dumps(found, ensure_ascii=False))
    else:
        _print(found)
    if found["actions"]:
        raise typer.Exit(INCOMPLETE)


def _plan(settings: Settings) -> dict[str, Any]:
    service = running_service(settings)
    if service is not None:
        found: dict[str, Any] = service.ask("GET", "/api/system/plan")
        return found
    say_no_service("this is what database, log and outbox tell")

    async def make(repository: MeterRepository, engine: AsyncEngine) -> dict[str, Any]:
        return asdict(await Inspector(settings).plan(repository, engine))

    return in_database(settings.database, make)


def _print(found: dict[str, Any]) -> None:
    out = console()

    def told(*texts: str | tuple[str, str]) -> None:
        # Not wrapped: commands are there to be copied.
        clean = ((printable(text), "") if isinstance(text, str) else (printable(text[0]), text[1]) for text in texts)
        out.print(Text.assemble(*clean), soft_wrap=True)

    if not found["actions"]:
        told(f"Nothing is wrong: {found['meters']} meters are read and their readings arrive.")
        return
    for number, action in enumerate(found["actions"], 1):
        told(f"{number}. ", (action["severity"], _STYLES[action["severity"]]), f" {action['what']}")
        if action["since"] is not None:
            told(f"   since     {datetime.fromtimestamp(action['since'] / 1000, UTC):%Y-%m-%d %H:%M:%SZ}")
        for line in action["evidence"]:
            told(f"   evidence  {line}")
        told(f"   cause     {action['cause']}")
        for command in action["commands"]:
            told("   type      ", (command, "bold"))
        for line in action["check"].splitlines():
            told(f"   then      {line}")
        told("")
