"""Commands that talk to one meter: the options they share, given to each in one place."""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Annotated, Any, Concatenate, ParamSpec

import typer

from meterbridge.cli.meter_options import (
    AuthOption,
    ClientOption,
    Framing,
    FramingOption,
    HostArgument,
    MaxInfoOption,
    ModelOption,
    PasswordOption,
    PhysicalOption,
    ServerOption,
    TimeoutOption,
    WindowOption,
    client_for,
)
from meterbridge.cli.security_options import NO_SECURITY, SecurityArguments, with_security
from meterbridge.dlms import HdlcParameters
from meterbridge.errors import AssociationRefused, ServiceError
from meterbridge.meter import DLMSClient

_Own = ParamSpec("_Own")

ShortNamesOption = Annotated[bool, typer.Option("--sn", help="Name objects by short names (SN referencing).")]


@with_security
def _client(
    host: HostArgument,
    framing: FramingOption = Framing.HDLC,
    client: ClientOption = 1,
    server: ServerOption = 1,
    physical: PhysicalOption = None,
    window: WindowOption = 1,
    max_info: MaxInfoOption = 128,
    sn: ShortNamesOption = False,
    auth: AuthOption = None,
    password: PasswordOption = None,
    model: ModelOption = "generic",
    timeout: TimeoutOption = 6.0,
    security: SecurityArguments = NO_SECURITY,
) -> DLMSClient:
    meter = client_for(host, framing, client, server, physical, auth, password, model, timeout, security)
    hdlc = HdlcParameters(max_info, max_info, window, window)
    meter.address = replace(meter.address, hdlc=hdlc, referencing="sn" if sn else "ln")
    return meter


def meter_command(command: Callable[Concatenate[DLMSClient, _Own], None]) -> Callable[..., None]:
    """Make a command of a function whose first argument is a client, not connected yet.

    The command takes the meter's host, what the function takes besides the client, and the options that say how a
    meter is reached.
    """
    host, *options = inspect.signature(_client, eval_str=True).parameters.values()
    _, *own = inspect.signature(command, eval_str=True).parameters.values()

    @functools.wraps(command)
    def with_client(**given: Any) -> None:
        meter = _client(**{option.name: given.pop(option.name) for option in (host, *options)})
        command(meter, **given)  # type: ignore[call-arg]

    parameters = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in (host, *own, *options)]
    with_client.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    with_client.__annotations__ = {}
    return with_client


@asynccontextmanager
async def associated(meter: DLMSClient) -> AsyncIterator[DLMSClient]:
    """Hold a meter's association open, and release it in the end.

    Raises:
        AssociationRefused: the meter says no, in whatever way.
        MeterError: as `DLMSClient.connect`.
    """
    try:
        await meter.connect()
    except ServiceError as error:
        raise AssociationRefused(f"the meter refused the association: {error}") from None
    try:
        yield meter
    finally:
        await meter.disconnect()
