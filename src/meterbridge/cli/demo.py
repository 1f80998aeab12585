"""`meterbridge demo`: broker, meters, service and subscriber on one machine, for people who want to see it."""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Annotated, Any

import typer
import uvloop
from rich.console import Console
from rich.live import Live
from rich.table import Table

from meterbridge.cli.exits import INCOMPLETE
from meterbridge.cli.logs import configure_logging
from meterbridge.cli.subscriber import Subscriber
from meterbridge.errors import ConfigurationError
from meterbridge.model import Meter, MeterId
from meterbridge.service import Service, open_vault
from meterbridge.settings import DatabaseSettings, LogSettings, OutboxSettings, Settings
from meterbridge.simulator import FleetOptions, SimulatedFleet
from meterbridge.store import MeterRepository, open_database

_HOST = "127.0.0.1"
_ARRIVAL_TIMEOUT = 10.0
_MODEL = "microstar"


def demo(
    duration: Annotated[float | None, typer.Option(min=1, help="Seconds; until Ctrl-C unless given.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="No table; the last line is one JSON object.")] = False,
    meters: Annotated[int, typer.Option(min=1, max=1000, help="How many meters.")] = 2,
    meter_port: Annotated[int, typer.Option(min=1, max=65_535, help="TCP port of the first meter.")] = 3333,
    broker_port: Annotated[int, typer.Option(min=1, max=65_535, help="TCP port of the MQTT broker.")] = 1884,
    data: Annotated[Path, typer.Option(help="Folder of the database and the outbox.")] = Path("data"),
) -> None:
    """Show it all on one machine: simulated meters, an MQTT broker, the service, and what a subscriber receives.

    Exit code 0 when every published reading arrived, 1 when not.
    """
    settings = Settings(
        database=DatabaseSettings(url=f"sqlite+aiosqlite:///{data}/admin.db", key_file=data / "secrets.key"),
        outbox=OutboxSettings(path=data / "outbox.db"),
        log=LogSettings(file=data / "demo.log"),
    )
    try:
        configure_logging(settings.log, to_stdout=False)
    except ConfigurationError as error:
        raise ConfigurationError(f"the demo needs a folder it can write to: {error}") from None
    for chatty in ("amqtt", "transitions"):
        logging.getLogger(chatty).setLevel(logging.ERROR)
    fleet = FleetOptions(meters, _HOST, meter_port)
    result = uvloop.run(_demo(settings, fleet, broker_port, duration, None if as_json else Console()))
    if as_json:
        typer.echo(json.dumps(result))
    else:
        typer.echo(f"{result['received']} of {result['published']} published readings arrived.")
    if result["lost"] or not result["published"]:
        raise typer.Exit(INCOMPLETE)


async def _demo(
    settings: Settings, fleet: FleetOptions, broker_port: int, duration: float | None, console: Console | None
) -> dict[str, Any]:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    async with AsyncExitStack() as stack:
        await _start_broker(stack, broker_port)
        await stack.enter_async_context(SimulatedFleet(fleet))
        await _store_meters(settings.database, fleet, broker_port)
        subscriber = Subscriber(round(time.time() * 1000))
        subscriber.start(_HOST, broker_port)
        stack.callback(subscriber.stop)
        if not await asyncio.to_thread(subscriber.wait, _ARRIVAL_TIMEOUT):
            raise ConfigurationError(f"the broker on port {broker_port} does not answer")
        service = Service(settings)
        try:
            await service.start()
            await _watch(service, subscriber, stop, duration, console)
        finally:
            await service.stop()
        await _arrival(service, subscriber)
        published, received = service.counters.published, subscriber.received
        return {
            "meters": fleet.count,
            "polls": service.counters.polls,
            "published": published,
            "received": received,
            "lost": published - received,
            "p50_ms": _rounded(subscriber.quantile(0.50)),
            "p99_ms": _rounded(subscriber.quantile(0.99)),
        }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 1)


async def _start_broker(stack: AsyncExitStack, port: int) -> None:
    try:
        from amqtt.broker import Broker
        from amqtt.errors import BrokerError
    except ImportError:
        raise ConfigurationError(
            "the demo's broker is missing: install meterbridge[demo], or run `make demo`"
        ) from None
    broker = Broker(
        {
            "listeners": {"default": {"type": "tcp", "bind": f"{_HOST}:{port}"}},
            "plugins": {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}},
        }
    )
    try:
        await broker.start()
    except (BrokerError, OSError):
        raise ConfigurationError(f"port {port} is taken: the demo's broker needs it (--broker-port N)") from None
    stack.push_async_callback(broker.shutdown)


async def _store_meters(database: DatabaseSettings, fleet: FleetOptions, broker_port: int) -> None:
    wanted = {
        f"demo-{index + 1}": Meter(
            MeterId(0),
            f"demo-{index + 1}",
            fleet.host,
            fleet.port + index,
            model=_MODEL,
            tb_host=_HOST,
            tb_port=broker_port,
        )
        for index in range(fleet.count)
    }
    engine = await open_database(database.url)
    try:
        repository = MeterRepository(engine, open_vault(database))
        for meter in await repository.list_meters():
            if meter.name not in wanted and not meter.name.startswith("demo-"):
                raise ConfigurationError(
                    f"the database holds meter {meter.name!r}, not one of the demo's: give another folder (--data)"
                )
            await repository.remove(meter.id)
        for meter in wanted.values():
            await repository.add(meter)
    finally:
        await engine.dispose()


async def _watch(
    service: Service, subscriber: Subscriber, stop: asyncio.Event, duration: float | None, console: Console | None
) -> None:
    until = None if duration is None else time.monotonic() + duration
    with Live(console=console, refresh_per_second=4) if console else _Nothing() as live:
        while not stop.is_set() and (until is None or time.monotonic() < until):
            if live is not None:
                live.update(_table(service, subscriber))
            pause = 0.5 if until is None else min(0.5, max(0.0, until - time.monotonic()))
            try:
                await asyncio.wait_for(stop.wait(), pause)
            except TimeoutError:
                continue


class _Nothing:
    def __enter__(self) -> None:
        return None

    def __exit__(self, *_: object) -> None:
        return None


async def _arrival(service: Service, subscriber: Subscriber) -> None:
    """Wait for what was published last: it is still on its way through the broker."""
    until = time.monotonic() + _ARRIVAL_TIMEOUT
    await asyncio.to_thread(subscriber.wait_for, service.counters.published, until)


def _table(service: Service, subscriber: Subscriber) -> Table:
    p50, p99 = subscriber.quantile(0.50), subscriber.quantile(0.99)
    latency = "" if p50 is None or p99 is None else f", {p50:.0f} ms to the subscriber (p99 {p99:.0f} ms)"
    counters = service.counters
    table = Table(
        title="What an MQTT subscriber receives",
        caption=f"{counters.polls} polls, {counters.published} published, {subscriber.received} received{latency}"
        " · Ctrl-C stops",
    )
    for heading in ("device", "readings", "per s", "U / V", "I / A", "f / Hz", "P / W", "E / Wh"):
        table.add_column(heading, justify="left" if heading == "device" else "right")
    for name, device in sorted(subscriber.devices.items()):
        values = [device.values.get(key) for key in _SHOWN]
        table.add_row(
            name,
            str(len(device.readings)),
            f"{device.rate():.2f}",
            *("" if value is None else str(value) for value in values),
        )
    return table


_SHOWN = ("voltage_l1", "current_l1", "frequency", "active_power", "active_energy")
