"""Many readings in one message, spliced and not decoded: packing must cost less than what it saves. Pure."""

from __future__ import annotations

import json
from collections.abc import Sequence

from meterbridge.delivery.routes import Message
from meterbridge.delivery.row import Row

MAX_OCTETS = 65_536
"""Largest MQTT message ThingsBoard takes."""
MAX_PAYLOAD = MAX_OCTETS - 128
"""Largest payload: topic and header come on top."""


def quoted(text: str) -> bytes:
    """A JSON string."""
    return json.dumps(text, ensure_ascii=False).encode("utf-8", "replace")


def by_device(topic: str, rows: Sequence[Row], names: dict[str, bytes], max_octets: int = MAX_PAYLOAD) -> list[Message]:
    """Pack readings as `{name: [reading, …], …}`, the form of the gateway API.

    Args:
        topic: where they go.
        rows: whose payloads are readings, in order.
        names: device names as JSON, filled in as they come.
        max_octets: bound on one payload; a single reading above it still makes a message of its own.
    """
    messages: list[Message] = []
    devices: dict[str, list[bytes]] = {}
    size, first = 2, 0
    for index, row in enumerate(rows):
        payload, device = row.payload, row.device
        listed = devices.get(device)
        # A known device costs its comma; a new one its name, colon, brackets and comma.
        cost = len(payload) + 1
        if listed is None:
            cost += len(names.get(device) or names.setdefault(device, quoted(device))) + 3
        if size + cost > max_octets and index > first:
            messages.append(Message(topic, _spliced(names, devices), tuple(rows[first:index])))
            devices, size, first, listed = {}, 2, index, None
            cost = len(payload) + len(names[device]) + 4
        if listed is None:
            devices[device] = [payload]
        else:
            listed.append(payload)
        size += cost
    if first < len(rows):
        messages.append(Message(topic, _spliced(names, devices), tuple(rows[first:])))
    return messages


def _spliced(names: dict[str, bytes], devices: dict[str, list[bytes]]) -> bytes:
    return b"{" + b",".join([names[d] + b":[" + b",".join(p) + b"]" for d, p in devices.items()]) + b"}"


def merged(topic: str, rows: Sequence[Row], names: dict[str, bytes], max_octets: int = MAX_PAYLOAD) -> list[Message]:
    """Pack attributes as `{name: {…}, …}`; a device that comes again begins a new message, for names are unique."""
    messages: list[Message] = []
    parts: dict[str, bytes] = {}
    size, first = 2, 0
    for index, row in enumerate(rows):
        part = (names.get(row.device) or names.setdefault(row.device, quoted(row.device))) + b":" + row.payload
        if parts and (row.device in parts or size + len(part) + 1 > max_octets):
            messages.append(Message(topic, b"{" + b",".join(parts.values()) + b"}", tuple(rows[first:index])))
            parts, size, first = {}, 2, index
        parts[row.device] = part
        size += len(part) + 1
    if parts:
        messages.append(Message(topic, b"{" + b",".join(parts.values()) + b"}", tuple(rows[first:])))
    return messages


def in_a_row(topic: str, rows: Sequence[Row], max_octets: int = MAX_PAYLOAD) -> list[Message]:
    """Pack readings of one device as `[reading, …]`; one alone stays what it is."""
    messages: list[Message] = []
    size, first = 2, 0
    for index, row in enumerate(rows):
        if size + len(row.payload) + 1 > max_octets and index > first:
            messages.append(_listed(topic, rows[first:index]))
            size, first = 2, index
        size += len(row.payload) + 1
    if first < len(rows):
        messages.append(_listed(topic, rows[first:]))
    return messages


def _listed(topic: str, rows: Sequence[Row]) -> Message:
    payload = rows[0].payload if len(rows) == 1 else b"[" + b",".join([row.payload for row in rows]) + b"]"
    return Message(topic, payload, tuple(rows))
