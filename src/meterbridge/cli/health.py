"""`meterbridge health`: how the meters did over a window."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text
from sqlalchemy.ext.asyncio import AsyncEngine

from meterbridge.cli.backend import ConfigOption, JsonOption, in_database
from meterbridge.cli.console import console
from meterbridge.operations import Health, health_of
from meterbridge.settings import load_settings
from meterbridge.store import AlarmRepository, MeterRepository, SummaryRepository


def health(
    minutes: Annotated[int, typer.Option(min=1, max=10_080, help="How far back.")] = 60,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Report success rate, MQTT rate, latency, reconnections, HDLC errors and open alarms of each meter."""
    until = round(time.time() * 1000) + 1
    since = until - minutes * 60_000

    async def ask(repository: MeterRepository, engine: AsyncEngine) -> Health:
        return health_of(
            (await repository.load_meters()).meters,
            await SummaryRepository(engine).meters(since, until),
            await AlarmRepository(engine).open_alarms(),
            since,
            until,
        )

    report = in_database(load_settings(config).database, ask)
    if as_json:
        typer.echo(json.dumps(asdict(report), ensure_ascii=False))
        return
    table = Table(
        "meter", "success", "MQTT", "latency", "reconn.", "HDLC errors", "alarms", title=f"The last {minutes} min"
    )
    for line in report.meters:
        table.add_row(Text(line.name), *_figures(line), Text(", ".join(line.open_alarms), "red"))
    table.add_section()
    table.add_row("all", *_figures(report), str(report.open_alarms))
    console().print(table)


def _figures(line: Any) -> tuple[str, ...]:
    def shown(value: float | None, unit: str) -> str:
        return "–" if value is None else f"{value:.1f} {unit}"

    return (
        shown(line.success_rate, "%"),
        shown(line.mqtt_rate, "%"),
        shown(line.avg_latency, "ms"),
        str(line.reconnections),
        str(line.hdlc_errors),
    )
