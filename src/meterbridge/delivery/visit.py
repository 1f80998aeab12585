"""One connection for a command: connected and let in, then let go of. Blocks."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from paho.mqtt.client import Client
from paho.mqtt.exception import MQTTException
from paho.mqtt.reasoncodes import ReasonCode

from meterbridge.delivery.mqtt_client import new_client
from meterbridge.delivery.routes import Endpoint
from meterbridge.errors import DeliveryError
from meterbridge.model import host_port


def place(endpoint: Endpoint) -> str:
    """An endpoint as errors name it."""
    return f"MQTT at {host_port(endpoint.host, endpoint.port)}"


class NotLetIn(DeliveryError):
    """The server answers, and refuses who asks."""


@contextmanager
def visit(endpoint: Endpoint, until: float) -> Iterator[Client]:
    """Connect, wait to be let in, and disconnect in the end.

    Args:
        endpoint: whom, and as whom.
        until: when it is given up, monotonic seconds.

    Yields:
        A client that is connected, its loop in a thread of its own.

    Raises:
        DeliveryError: not reachable, closed before it answered, no answer in time, or not let in.
    """
    where = place(endpoint)
    answered = threading.Event()
    verdicts: list[ReasonCode | None] = []

    def said(verdict: ReasonCode | None) -> None:
        verdicts.append(verdict)
        answered.set()

    def connected(_client: Client, _data: Any, _flags: Any, reason: ReasonCode, _properties: Any) -> None:
        said(reason)

    def closed(*_: Any) -> None:
        said(None)

    try:
        client = new_client(endpoint, max(0.1, until - time.monotonic()))
        client.on_connect, client.on_disconnect = connected, closed
        client.connect(endpoint.host, endpoint.port, endpoint.keepalive_s)
    except (OSError, ValueError, MQTTException) as error:
        raise DeliveryError(f"{where} cannot be reached: {getattr(error, 'strerror', None) or error}") from None
    client.loop_start()
    try:
        if not answered.wait(max(0.0, until - time.monotonic())):
            raise DeliveryError(f"{where} does not answer")
        verdict = verdicts[0]
        if verdict is None:
            raise DeliveryError(f"{where} closed the connection")
        if verdict.is_failure:
            raise NotLetIn(f"{where} does not let us in: {verdict}")
        client.on_disconnect = None
        yield client
    finally:
        client.on_disconnect = None
        client.disconnect()
        client.loop_stop()
