"""Decoded APDUs for people and for JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping

from rich.console import Console
from rich.table import Table
from rich.text import Text

from meterbridge.dlms import Data, DataType, DateTime, Decoded, Refused
from meterbridge.errors import DataAccessError
from meterbridge.meter.values import displayed


def as_json(event: Decoded | Refused) -> dict[str, object]:
    """Return what becomes one JSON object; a refusal has `error`, or `note`, and no `apdu`."""
    if isinstance(event, Refused):
        framing = None if event.framing is None else event.framing.value
        why = "note" if event.harmless else "error"
        return {"framing": framing, "offset": event.offset, "octets": event.octets, why: event.reason}
    content: dict[str, object] = {
        "framing": event.framing.value,
        "offset": event.offset,
        "apdu": event.apdu,
        "time": None if event.time is None else displayed(event.time),
        "system_title": None if event.system_title is None else event.system_title.hex().upper(),
        "invocation_counter": event.invocation_counter,
        "values": {key: {"value": _shown(value.value), "unit": value.unit} for key, value in event.values.items()},
        "data": event.octets.hex().upper() if event.fields is None else _shown(event.fields),
    }
    if event.error is not None:
        content["error"] = event.error
    return content


def _shown(value: object) -> object:
    """A value as JSON can hold it; types of data are kept as the one key of an object."""
    if isinstance(value, Data):
        return _typed(value)
    if isinstance(value, DataAccessError):
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): _shown(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_shown(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, bytes):
        # Filled up with zero octets: what is before them is the text.
        return displayed(value.rstrip(b"\x00") or value)
    return displayed(value)


def _typed(data: Data) -> dict[str, object]:
    name = data.type.name.lower().replace("_", "-")
    if data.type in (DataType.ARRAY, DataType.STRUCTURE):
        return {name: [_typed(member) for member in data.value]}
    if data.type is DataType.COMPACT_ARRAY:
        return {name: [_typed(member) for member in data.value.elements]}
    if data.type is DataType.OCTET_STRING:
        return {name: data.value.hex().upper()}
    return {name: _shown(data.value)}


def print_event(console: Console, event: Decoded | Refused, peer: str = "") -> None:
    """Print one event for people; whatever a meter says is no markup."""
    head = Text()
    if peer:
        head.append(f"{peer}  ", "cyan")
    if isinstance(event, Refused):
        framing = "?" if event.framing is None else event.framing.value
        octets = f", {event.octets} octets" if event.octets else ""
        head.append(f"{framing} at {event.offset}{octets}: {event.reason}", "dim" if event.harmless else "red")
        console.print(head, soft_wrap=True)
        return
    head.append(event.apdu, "bold")
    head.append(f"  {event.framing.value} at {event.offset}")
    if event.time is not None:
        head.append(f"  {displayed(event.time)}")
    if event.system_title is not None:
        head.append(f"  from {event.system_title.hex().upper()}, invocation counter {event.invocation_counter}")
    console.print(head, soft_wrap=True)
    if event.error is not None:
        console.print(Text(f"  {event.error}", "red"), soft_wrap=True)
        console.print(Text(f"  {event.octets.hex(' ').upper()}", "dim"), soft_wrap=True)
        return
    table = Table(box=None, show_header=False, padding=(0, 1, 0, 2))
    for key, value in event.values.items():
        table.add_row(key, Text(_readable(value.value), justify="right"), value.unit or "")
    if not event.values and event.fields is not None:
        for name, field in event.fields.items():
            table.add_row(name, Text(_readable(field)))
    console.print(table)


def _readable(value: object) -> str:
    if isinstance(value, DateTime):
        return str(value)
    shown = _shown(value.plain() if isinstance(value, Data) else value)
    if isinstance(shown, list):
        return ", ".join(map(_readable, shown))
    if isinstance(shown, dict):
        return ", ".join(f"{key} {_readable(each)}" for key, each in shown.items())
    return "" if shown is None else str(shown)
