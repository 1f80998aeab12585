"""`meterbridge simulate`: meters that are not there."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from typing import Annotated

import typer
import uvloop

from meterbridge.cli.meter_options import Framing, FramingOption
from meterbridge.simulator import FleetOptions, ServerOptions, SimulatedFleet, serve


def simulate(
    count: Annotated[int, typer.Option(min=1, help="How many meters, on consecutive ports.")] = 1,
    port: Annotated[int, typer.Option(min=1, max=65_535, help="TCP port of the first.")] = 3333,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    framing: FramingOption = Framing.HDLC,
    hertz: Annotated[int, typer.Option(min=50, max=60, help="Nominal frequency, 50 or 60.")] = 50,
    seed: Annotated[int, typer.Option(help="The same seed gives the same meters.")] = 1,
    max_info: Annotated[int, typer.Option(min=16, max=2030, help="HDLC information field, octets.")] = 128,
    window: Annotated[int, typer.Option(min=1, max=7, help="HDLC window, frames.")] = 1,
    max_pdu: Annotated[int, typer.Option(min=64, max=65_535, help="Largest APDU, octets.")] = 1024,
) -> None:
    """Simulate meters until Ctrl-C: client SAP 1, server 1, LLS password 00000000."""
    server = ServerOptions(framing.value, max_info, window)
    options = FleetOptions(count, host, port, hertz, seed, server=server, max_pdu=max_pdu)
    uvloop.run(_simulate(options))


async def _simulate(options: FleetOptions) -> None:
    task = asyncio.ensure_future(serve(options, _ready))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, task.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await task


def _ready(fleet: SimulatedFleet) -> None:
    ports = fleet.ports
    typer.echo(f"READY {ports[0]}-{ports[-1]}")
