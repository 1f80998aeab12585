"""Rows published on a connection of their own and waited for: what a command does where no service runs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from paho.mqtt.client import Client, MQTTMessageInfo

from meterbridge.delivery.routes import Route, Unsendable
from meterbridge.delivery.row import Row
from meterbridge.delivery.visit import place, visit
from meterbridge.errors import DeliveryError


async def publish_once(route: Route, rows: Sequence[Row], timeout_s: float) -> None:
    """Publish rows with QoS 1 and return when all were acknowledged.

    Args:
        route: as whom; nobody else may be connected under its token meanwhile.
        rows: of one or more devices.
        timeout_s: for all of it, seconds.

    Raises:
        DeliveryError: not reachable, not let in, refused, or not acknowledged in time.
    """
    await asyncio.to_thread(_publish, route, rows, timeout_s)


def _publish(route: Route, rows: Sequence[Row], timeout_s: float) -> None:
    until = time.monotonic() + timeout_s
    with visit(route.endpoint, until) as client:
        for info in _sent(client, route, rows):
            if not _acknowledged(info, until):
                raise DeliveryError(f"{place(route.endpoint)} did not acknowledge in time")


def _sent(client: Client, route: Route, rows: Sequence[Row]) -> list[MQTTMessageInfo]:
    messages = [route.hello(device) for device in dict.fromkeys(row.device for row in rows)] if route.greets else []
    for packed in route.pack(rows):
        if isinstance(packed, Unsendable):
            raise DeliveryError(packed.reason)
        messages.append(packed)
    return [client.publish(message.topic, message.payload, qos=1) for message in messages]


def _acknowledged(info: MQTTMessageInfo, until: float) -> bool:
    try:
        info.wait_for_publish(max(0.0, until - time.monotonic()))
    except (RuntimeError, ValueError):
        # The connection closed under it.
        return False
    return info.is_published()
