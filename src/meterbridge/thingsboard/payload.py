"""JSON that ThingsBoard understands, from readings. Pure: octets come out, nothing is sent."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime

from meterbridge.model import Meter, Reading

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
