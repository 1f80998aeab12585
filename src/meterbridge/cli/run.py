"""`meterbridge run`: the service in the foreground."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from typing import Annotated

import typer
import uvloop

from meterbridge.cli.logs import configure_logging
from meterbridge.service import Service
from meterbridge.settings import Settings, load_settings


def run(
    config: Annotated[Path | None, typer.Option(help="Settings file; ./meterbridge.toml unless given.")] = None,
) -> None:
    """Run the service: poll every active meter and deliver its readings, until SIGTERM or Ctrl-C."""
    settings = load_settings(config)
    configure_logging(settings.log)
    uvloop.run(_run(settings))


async def _run(settings: Settings) -> None:
    service = Service(settings)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        await service.start()
        await stop.wait()
    finally:
        await service.stop()
