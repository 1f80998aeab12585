"""What the outbox holds."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from meterbridge.model import MeterId


class Kind(StrEnum):
    """What a payload is, hence which topic it belongs on."""

    TELEMETRY = "telemetry"
    ATTRIBUTES = "attributes"


class Row(NamedTuple):
    """One payload waiting for its PUBACK. A tuple, because tens of thousands a second pass.

    Args:
        id: grows with the order of `put`, over all routes.
        meter: whose it is.
        route: name of the route it leaves by.
        kind: a `Kind` value.
        device: device name on the ThingsBoard side.
        ts: time of the reading, Unix milliseconds.
        payload: JSON octets of this one reading.
        at: when it was put, Unix milliseconds.
    """

    id: int
    meter: MeterId
    route: str
    kind: str
    device: str
    ts: int
    payload: bytes
    at: int
