"""Options that say how one meter is reached, for the commands that talk to it directly."""

from __future__ import annotations

from dataclasses import replace
from enum import StrEnum
from typing import Annotated

import typer

from meterbridge.cli.security_options import Auth, SecurityArguments
from meterbridge.errors import ConfigurationError
from meterbridge.meter import DLMSClient, MeterAddress, Timeouts, load_model

DEFAULT_PORT = 3333
PUBLIC_CLIENT = 16


class Framing(StrEnum):
    """How APDUs are framed on TCP."""

    HDLC = "hdlc"
    WRAPPER = "wrapper"
    WRAPPER_UDP = "wrapper-udp"


HostArgument = Annotated[str, typer.Argument(metavar="HOST[:PORT]", help="The meter; port 3333 unless given.")]
FramingOption = Annotated[Framing, typer.Option(help="How APDUs are framed.")]
ClientOption = Annotated[int, typer.Option(help="Client SAP: 1 management, 16 public.")]
ServerOption = Annotated[int, typer.Option(help="Server (logical device) address.")]
PhysicalOption = Annotated[int | None, typer.Option(help="HDLC physical address; without it one address octet.")]
AuthOption = Annotated[Auth | None, typer.Option(help="Authentication; low unless the client is public (16).")]
PasswordOption = Annotated[
    str | None,
    typer.Option(
        envvar="METER_PASSWORD", help="LLS password, 00000000 unless given; or the HLS secret.", show_envvar=True
    ),
]
WindowOption = Annotated[int, typer.Option(min=1, max=7, help="HDLC: most frames under way, proposed to the meter.")]
MaxInfoOption = Annotated[int, typer.Option(min=16, max=2030, help="HDLC: largest information field, proposed.")]
ModelOption = Annotated[str, typer.Option(help="Catalogue entry that names the measurements.")]
TimeoutOption = Annotated[float, typer.Option(min=0.1, max=600, help="Seconds to wait for each answer.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def host_and_port(text: str) -> tuple[str, int]:
    """Take `HOST`, `HOST:PORT` or `[IPv6]:PORT` apart.

    Raises:
        ConfigurationError: no host, or no such port.
    """
    host, port = text, ""
    if text.startswith("["):
        host, _, rest = text[1:].partition("]")
        port = rest.removeprefix(":")
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
    if not host:
        raise ConfigurationError(f"{text!r} names no host")
    if not port:
        return host, DEFAULT_PORT
    if not (port.isascii() and port.isdecimal()) or not 1 <= int(port) <= 65_535:
        raise ConfigurationError(f"port {port!r} of {text!r} is not a number from 1 to 65535")
    return host, int(port)


def client_for(
    host: str,
    framing: Framing,
    client: int,
    server: int,
    physical: int | None,
    auth: Auth | None,
    password: str | None,
    model: str,
    timeout: float,
    security: SecurityArguments | None = None,
) -> DLMSClient:
    """Make the client these options ask for.

    Raises:
        ConfigurationError: options that do not fit each other.
    """
    name, port = host_and_port(host)
    if physical is not None and framing is not Framing.HDLC:
        raise ConfigurationError(f"--physical is for HDLC: {framing.value} addresses have one part")
    if auth is None:
        auth = Auth.NONE if client == PUBLIC_CLIENT and password is None else Auth.LOW
    if auth is Auth.LOW and password is None:
        password = "00000000"
    try:
        secret = None if password is None else password.encode("latin-1")
    except UnicodeEncodeError:
        raise ConfigurationError("the password holds characters that no meter takes") from None
    times, names = Timeouts(timeout, timeout), load_model(model)
    address = MeterAddress(name, port, framing.value, client, server, physical, secret if auth is Auth.LOW else None)
    address.link()
    if security is None or (auth in (Auth.NONE, Auth.LOW) and not security.given):
        return DLMSClient(address, names, times)
    credentials = security.credentials(auth, secret)
    return DLMSClient(
        replace(address, credentials=credentials),
        names,
        times,
        counter=security.counter(credentials),
        counter_object=security.counter_name,
    )
