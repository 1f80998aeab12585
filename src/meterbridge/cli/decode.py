"""`meterbridge decode`: octets in, what they mean out."""

from __future__ import annotations

import json
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from meterbridge.cli.console import console
from meterbridge.cli.exits import INCOMPLETE
from meterbridge.cli.key_options import NO_PAIRS, PairOptions, key_ring_from
from meterbridge.cli.octets import octets_from
from meterbridge.cli.option_group import with_options
from meterbridge.cli.pushed import as_json, print_event
from meterbridge.dlms import Decoded, Framing, PushDecoder, Reception
from meterbridge.errors import ConfigurationError
from meterbridge.meter import load_layouts

_MOST_OCTETS = 64 << 20
_MAX_APDU = 1 << 20


class AnyFraming(StrEnum):
    """How APDUs are framed, or that it is to be found out."""

    AUTO = "auto"
    HDLC = "hdlc"
    WRAPPER = "wrapper"
    MBUS = "mbus"
    RAW = "raw"

    @property
    def framing(self) -> Framing | None:
        """The framing, None to find out."""
        return None if self is AnyFraming.AUTO else Framing(self.value)


KeyOption = Annotated[
    str | None,
    typer.Option(metavar="HEX|@FILE", envvar="METER_KEY", help="Encryption key (EK).", show_envvar=True),
]
AuthKeyOption = Annotated[
    str | None,
    typer.Option(metavar="HEX|@FILE", envvar="METER_AUTH_KEY", help="Authentication key (AK).", show_envvar=True),
]
SystemTitleOption = Annotated[
    str | None, typer.Option(metavar="HEX", help="System title of a sender that does not say its own.")
]


@with_options(PairOptions, "pairs")
def decode(
    file: Annotated[str, typer.Argument(metavar="[FILE|-]", help="Hex in any spelling, or octets; - is stdin.")] = "-",
    key: KeyOption = None,
    auth_key: AuthKeyOption = None,
    system_title: SystemTitleOption = None,
    framing: Annotated[AnyFraming, typer.Option(help="How APDUs are framed.")] = AnyFraming.AUTO,
    pairs: PairOptions = NO_PAIRS,
    as_json_lines: Annotated[bool, typer.Option("--json", help="Print a JSON object for each APDU.")] = False,
) -> None:
    """Decode pushed or captured octets: frames, APDUs, names, values, units.

    Exit code 0 when all was decoded, 1 when some was not, 2 usage.
    """
    keys = key_ring_from(key, auth_key, system_title, pairs)
    octets = octets_from(_content(file))
    decoder = PushDecoder(Reception(framing.framing, _MAX_APDU), keys, load_layouts())
    out = console()
    found = complete = 0
    position = 0
    ended = False
    while not ended:
        if position < len(octets):
            # As many at a time as leave offsets exact within damaged stretches.
            size = decoder.stretch(octets, position)
            decoder.receive_data(octets[position : position + size])
            position += size
        else:
            decoder.end()
            ended = True
        while (event := decoder.next_event()) is not None:
            found += 1
            complete += event.error is None if isinstance(event, Decoded) else event.harmless
            if as_json_lines:
                typer.echo(json.dumps(as_json(event), ensure_ascii=False))
            else:
                print_event(out, event)
    if not found:
        typer.echo("meterbridge: there is nothing to decode", err=True)
    if not found or complete < found:
        raise typer.Exit(INCOMPLETE)


def _content(file: str) -> bytes:
    try:
        if file == "-":
            # None where whoever started us closed it.
            content = sys.stdin.buffer.read(_MOST_OCTETS + 1) if sys.stdin is not None else b""
        elif not file:
            raise ConfigurationError("'' names no file")
        else:
            with Path(file).open("rb") as stream:
                content = stream.read(_MOST_OCTETS + 1)
    except OSError as error:
        raise ConfigurationError(f"{file} cannot be read: {error.strerror or error}") from None
    if len(content) > _MOST_OCTETS:
        raise ConfigurationError(f"{file} is larger than {_MOST_OCTETS >> 20} MiB")
    return content
