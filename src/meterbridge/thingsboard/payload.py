"""JSON that ThingsBoard understands, from readings. Pure: octets come out, nothing is sent."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

from meterbridge.model import Meter, Reading

MAX_OCTETS = 65_536
"""Largest message ThingsBoard takes."""

_dumps = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


def telemetry(reading: Reading) -> bytes | None:
    """Encode one reading as `{"ts": ms, "values": {…}}`.

    Numbers are written as the shortest JSON that reads back as the same number; what JSON or ThingsBoard cannot
    hold (NaN, infinities, nothing at all) is left out; other types travel as text.

    Returns:
        UTF-8 JSON, or None where no value is left: ThingsBoard makes junk of empty values.
    """
    values = {name: value for name, q in reading.values.items() if (value := _plain(q.value)) is not None}
    if not values:
        return None
    return _dumps({"ts": reading.ts, "values": values}).encode("utf-8", "replace")


def _plain(value: object) -> float | int | bool | str | None:
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return None
    if isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (bytes, bytearray)):
        return bytes(value).hex()
    return str(value)


def attributes(meter: Meter, firmware_version: str | None, last_connection: int | None) -> bytes:
    """Encode what describes a meter, as in the specification.

    Args:
        meter: as configured.
        firmware_version: as read from it, left out when None.
        last_connection: Unix milliseconds of its last association, left out when None.
    """
    values: dict[str, str | int] = {
        "meter_name": meter.name,
        "ip_address": meter.ip_address,
        "port": meter.port,
        "client_sap": meter.client_id,
    }
    if firmware_version is not None:
        values["firmware_version"] = firmware_version
    if last_connection is not None:
        moment = datetime.fromtimestamp(last_connection / 1000, UTC)
        values["last_connection"] = moment.strftime("%Y-%m-%dT%H:%M:%SZ")
    return _dumps(values).encode("utf-8", "replace")


def gateway_telemetry(
    readings: Iterable[tuple[str, bytes]], max_octets: int = MAX_OCTETS
) -> Iterator[tuple[bytes, int]]:
    """Pack encoded readings of many devices as `{name: [reading, …], …}`, the form of the gateway API.

    The readings are spliced, not decoded: packing must cost less than what it saves.

    Args:
        readings: device name and its `telemetry` octets, in order.
        max_octets: bound on one message. A single reading above it still makes a message of its own.

    Yields:
        Messages, each with the number of readings it took from the front of the rest.
    """
    names: dict[str, bytes] = {}
    devices: dict[str, list[bytes]] = {}
    size, count = 2, 0
    for device, payload in readings:
        name = names.get(device)
        if name is None:
            name = names[device] = _dumps(device).encode("utf-8", "replace")
        # A known device costs its comma; a new one its name, colon, brackets and comma.
        cost = len(payload) + (1 if device in devices else len(name) + 4)
        if count and size + cost > max_octets:
            yield _message(names, devices), count
            devices, size, count = {}, 2, 0
            cost = len(payload) + len(name) + 4
        devices.setdefault(device, []).append(payload)
        size += cost
        count += 1
    if count:
        yield _message(names, devices), count


def _message(names: dict[str, bytes], devices: dict[str, list[bytes]]) -> bytes:
    return b"{" + b",".join([names[d] + b":[" + b",".join(p) + b"]" for d, p in devices.items()]) + b"}"
