"""`meterbridge audit`: what ThingsBoard had changed of meters, and what came of it."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text
from sqlalchemy.ext.asyncio import AsyncEngine

from meterbridge.cli.backend import ConfigOption, JsonOption, in_database
from meterbridge.cli.console import console
from meterbridge.settings import load_settings
from meterbridge.store import AuditEntry, AuditRepository, MeterRepository


def audit(
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="Entries at most.")] = 20,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """List who had which meter changed from ThingsBoard, newest first; refusals are in it."""

    async def newest(_: MeterRepository, engine: AsyncEngine) -> list[AuditEntry]:
        return await AuditRepository(engine).newest(limit)

    entries = in_database(load_settings(config).database, newest)
    if as_json:
        typer.echo(json.dumps([asdict(entry) for entry in entries], ensure_ascii=False))
        return
    table = Table("time", "meter", "action", "parameters", "outcome", "asked by")
    for entry in entries:
        when = datetime.fromtimestamp(entry.at / 1000, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
        outcome = "not known" if entry.outcome is None else entry.outcome
        texts = (f"{entry.meter} {entry.meter_name}", entry.action, entry.parameters, outcome, entry.origin)
        table.add_row(when, *map(Text, texts))
    console().print(table)
