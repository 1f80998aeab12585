"""`meterbridge simulate`: meters that are not there."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
import uvloop

from meterbridge.cli.key_options import hex_from
from meterbridge.cli.meter_options import Framing, FramingOption
from meterbridge.cli.pem import private_key_in, public_key_in
from meterbridge.cli.security_options import Auth, Policy
from meterbridge.dlms import Keys, Mechanism, SecuritySuite
from meterbridge.simulator import FleetOptions, SecurityOptions, ServerOptions, SimulatedFleet, serve
from meterbridge.simulator.faults import ControlPort, FaultScript, read_script, serve_with_faults


def _pem(about: str) -> Any:
    return typer.Option(metavar="PEM", help=about, dir_okay=False, show_default=False)


def simulate(
    count: Annotated[int, typer.Option(min=1, help="How many meters, on consecutive ports.")] = 1,
    port: Annotated[int, typer.Option(min=1, max=65_535, help="TCP port of the first.")] = 3333,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    framing: FramingOption = Framing.HDLC,
    hertz: Annotated[int, typer.Option(help="Nominal frequency, 50 or 60.")] = 50,
    seed: Annotated[int, typer.Option(help="The same seed gives the same meters.")] = 1,
    physical: Annotated[int, typer.Option(min=0, max=16_383, help="HDLC physical address of every meter.")] = 17,
    max_info: Annotated[int, typer.Option(min=16, max=2030, help="HDLC information field, octets.")] = 128,
    window: Annotated[int, typer.Option(min=1, max=7, help="HDLC window, frames.")] = 1,
    max_pdu: Annotated[int, typer.Option(min=64, max=65_535, help="Largest APDU, octets.")] = 1024,
    auth: Annotated[Auth, typer.Option(help="What the management client has to prove itself with.")] = Auth.LOW,
    key: Annotated[
        str | None,
        typer.Option(
            envvar="METER_KEY", metavar="HEX|@FILE", help="Encryption key (EK) of every meter.", show_default=False
        ),
    ] = None,
    auth_key: Annotated[
        str | None,
        typer.Option(envvar="METER_AUTH_KEY", metavar="HEX|@FILE", help="Authentication key (AK).", show_default=False),
    ] = None,
    master_key: Annotated[
        str | None,
        typer.Option(envvar="METER_MASTER_KEY", metavar="HEX|@FILE", help="Master key (KEK).", show_default=False),
    ] = None,
    suite: Annotated[int, typer.Option(min=0, max=2, help="Security suite.")] = 0,
    signing_key: Annotated[Path | None, _pem("Every meter's private key for signatures.")] = None,
    client_signing_key: Annotated[Path | None, _pem("The client's public key or certificate for signatures.")] = None,
    agreement_key: Annotated[Path | None, _pem("Every meter's private key for key agreement.")] = None,
    client_agreement_key: Annotated[Path | None, _pem("The client's public key for key agreement.")] = None,
    signed: Annotated[bool, typer.Option("--signed", help="Demand that every APDU is signed.")] = False,
    security: Annotated[Policy, typer.Option(help="Least protection of every APDU, with HLS.")] = Policy.BOTH,
    faults: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Script of faults, TOML: docs/simulator.md.", show_default=False)
    ] = None,
    control_port: Annotated[
        int | None,
        typer.Option(min=0, max=65_535, help="Loopback port for faults at runtime, 0 a free one.", show_default=False),
    ] = None,
) -> None:
    """Simulate meters until Ctrl-C: client SAP 1, server 1, password 00000000 (the HLS secret too)."""
    server = ServerOptions(framing.value, max_info, window)
    options = FleetOptions(count, host, port, hertz, seed, server=server, physical=physical, max_pdu=max_pdu)
    if auth is Auth.NONE:
        options = replace(options, password="")
    elif auth.mechanism not in (None, Mechanism.LLS):
        keys = Keys(
            hex_from(key, "--key"),
            hex_from(auth_key, "--auth-key"),
            master=hex_from(master_key, "--master-key"),
            signing=private_key_in(signing_key),
            agreement=private_key_in(agreement_key),
            peer_signing=public_key_in(client_signing_key),
            peer_agreement=public_key_in(client_agreement_key),
        )
        demands = SecurityOptions(
            auth.mechanism, keys, SecuritySuite(suite), security.policy, options.password.encode(), signed=signed
        )
        options = replace(options, security=demands)
    if faults is None and control_port is None:
        uvloop.run(_until_signal(serve(options, _ready)))
        return
    script = FaultScript() if faults is None else read_script(faults)
    uvloop.run(_until_signal(serve_with_faults(options, script, control_port, _ready)))


async def _until_signal(meters: Coroutine[Any, Any, None]) -> None:
    task = asyncio.ensure_future(meters)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, task.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await task


def _ready(fleet: SimulatedFleet, control: ControlPort | None = None) -> None:
    ports = fleet.ports
    if control is not None:
        typer.echo(f"CONTROL {control.port}")
    typer.echo(f"READY {ports[0]}-{ports[-1]}")
