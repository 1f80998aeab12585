"""`meterbridge listen`: a receiver of what meters push."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import json
import signal
from pathlib import Path
from typing import Annotated

import typer
import uvloop
from rich.text import Text

from meterbridge.cli.console import console
from meterbridge.cli.decode import AnyFraming, AuthKeyOption, KeyOption
from meterbridge.cli.key_options import NO_PAIRS, PairOptions, key_ring_from, read_key_ring
from meterbridge.cli.option_group import with_options
from meterbridge.cli.pushed import as_json, print_event
from meterbridge.errors import ConfigurationError
from meterbridge.meter import Closed, ListenLimits, Pushed, PushListener, load_layouts
from meterbridge.meter.push import DEFAULT_PORT
from meterbridge.model import host_port


@with_options(PairOptions, "pairs")
def listen(
    port: Annotated[int, typer.Option(min=0, max=65_535, help="Port; 0 takes a free one.")] = DEFAULT_PORT,
    udp: Annotated[bool, typer.Option("--udp", help="Datagrams in place of connections.")] = False,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    keys: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Keys by system title: docs/decode.md.", show_default=False)
    ] = None,
    key: KeyOption = None,
    auth_key: AuthKeyOption = None,
    framing: Annotated[AnyFraming, typer.Option(help="How APDUs are framed.")] = AnyFraming.AUTO,
    idle: Annotated[float, typer.Option(min=1, help="Seconds of silence after which a connection is closed.")] = 600.0,
    connections: Annotated[int, typer.Option(min=1, help="Most connections or UDP senders at once.")] = 1000,
    pairs: PairOptions = NO_PAIRS,
    as_json_lines: Annotated[bool, typer.Option("--json", help="Print a JSON object for each APDU.")] = False,
) -> None:
    """Print what meters push as it arrives, until Ctrl-C."""
    if keys is not None and (key is not None or auth_key is not None or pairs.given):
        raise ConfigurationError("keys come from --keys or from --key and the others, not from both")
    ring = read_key_ring(keys) if keys is not None else key_ring_from(key, auth_key, None, pairs)
    limits = ListenLimits(connections, idle)
    uvloop.run(_listen(PushListener(ring, load_layouts(), framing.framing, limits), host, port, udp, as_json_lines))


async def _listen(listener: PushListener, host: str, port: int, udp: bool, as_json_lines: bool) -> None:
    task = asyncio.ensure_future(_print(listener, as_json_lines))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, task.cancel)
    try:
        await listener.start(host, port, udp=udp)
        typer.echo(f"listening on {host_port(host, listener.port)}{' (UDP)' if udp else ''}", err=True)
        with contextlib.suppress(asyncio.CancelledError):
            await task
    finally:
        task.cancel()
        await listener.close()
    if listener.dropped:
        typer.echo(f"meterbridge: {listener.dropped} datagrams were dropped: too much was waiting", err=True)


async def _print(listener: PushListener, as_json_lines: bool) -> None:
    out = console()
    while True:
        pushed = await listener.next_event()
        if as_json_lines:
            typer.echo(json.dumps(_line(pushed), ensure_ascii=False))
        elif isinstance(pushed.event, Closed):
            out.print(Text(f"{pushed.peer}  {pushed.event.reason}", "dim"))
        else:
            print_event(out, pushed.event, pushed.peer)


def _line(pushed: Pushed) -> dict[str, object]:
    received = dt.datetime.now(dt.UTC).isoformat(timespec="milliseconds")
    head: dict[str, object] = {"peer": pushed.peer, "received": received}
    if isinstance(pushed.event, Closed):
        return {**head, "closed": pushed.event.reason}
    return {**head, **as_json(pushed.event)}
