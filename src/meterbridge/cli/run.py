"""`meterbridge run`: the service in the foreground."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Annotated

import structlog
import typer
import uvloop

from meterbridge.cli.exits import INCOMPLETE
from meterbridge.cli.logs import configure_logging
from meterbridge.cli.supervisor import Supervisor
from meterbridge.errors import ConfigurationError, StoreError
from meterbridge.service import Service, keep_garbage_small, process_use
from meterbridge.settings import Settings, load_settings

_log = structlog.get_logger(__name__)


def run(
    config: Annotated[Path | None, typer.Option(help="Settings file; ./meterbridge.toml unless given.")] = None,
    behind_proxy: Annotated[
        bool, typer.Option("--behind-proxy", help="A proxy ends TLS before the API: it may listen beyond this machine.")
    ] = False,
) -> None:
    """Run the service: poll every active meter and deliver its readings, until SIGTERM or Ctrl-C.

    SIGHUP reads settings and meters again; meters that did not change are not disturbed.
    """
    settings = load_settings(config)
    if behind_proxy:
        settings = settings.model_copy(update={"api": settings.api.model_copy(update={"behind_proxy": True})})
    configure_logging(settings.log)
    if not uvloop.run(_run(settings, config, Supervisor(os.environ))):
        raise typer.Exit(INCOMPLETE)


async def _run(settings: Settings, config: Path | None, supervisor: Supervisor) -> bool:
    """Run until told to stop. False when the service broke by itself."""
    from meterbridge.api import ApiServer

    service = Service(settings)
    api = ApiServer(service, settings)
    api.bind()
    stop = asyncio.Event()
    reload = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    loop.add_signal_handler(signal.SIGHUP, reload.set)
    watching = [asyncio.ensure_future(event.wait()) for event in (stop, service.broken)]
    aside = [
        asyncio.create_task(supervisor.feed()),
        asyncio.create_task(keep_garbage_small(lambda: process_use().memory, lambda: _polled(service))),
    ]
    try:
        await service.start()
        await api.start()
        _log.info("api_started", host=settings.api.host, port=settings.api.port)
        supervisor.ready(_status(service))
        reloading = asyncio.create_task(_reload(service, config, reload, supervisor))
        await asyncio.wait([*watching, reloading], return_when=asyncio.FIRST_COMPLETED)
        reloading.cancel()
        supervisor.stopping("told to stop" if stop.is_set() else "something ended that should run for ever")
    finally:
        for task in watching:
            task.cancel()
        await api.stop()
        await service.stop()
        for beside in aside:
            beside.cancel()
    return stop.is_set()


async def _reload(service: Service, config: Path | None, wanted: asyncio.Event, supervisor: Supervisor) -> None:
    """At each SIGHUP read settings and meters again; what cannot be read changes nothing."""
    while True:
        await wanted.wait()
        wanted.clear()
        supervisor.reloading()
        try:
            await service.reload(load_settings(config))
        except (ConfigurationError, StoreError) as error:
            _log.error("reload_failed", reason=str(error))
            supervisor.ready(f"{_status(service)}; the last reload failed: {error}")
        else:
            supervisor.ready(_status(service))


def _polled(service: Service) -> int:
    return 0 if service.bridge is None else len(service.bridge.workers)


def _status(service: Service) -> str:
    return f"polling {len(service.fleet.workers)} meters"
