"""One question over a connection of its own: connect, ask, wait for the one answer. Blocks; for commands."""

from __future__ import annotations

import queue
import threading
import time

from paho.mqtt.client import Client, ConnectFlags, MQTTMessage
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from meterbridge.delivery.mqtt_client import new_client
from meterbridge.delivery.routes import Endpoint
from meterbridge.errors import DeliveryError
from meterbridge.model import host_port


def ask(endpoint: Endpoint, topic: str, payload: bytes, answer_topic: str, timeout_s: float) -> bytes:
    """Publish a question and return what comes on the topic of its answer.

    Args:
        endpoint: whom, and as whom.
        topic: of the question.
        payload: the question.
        answer_topic: of the answer.
        timeout_s: for all of it, seconds.

    Raises:
        DeliveryError: not reachable, not let in, closed over the question, or no answer in time.
    """
    until = time.monotonic() + timeout_s
    where = f"MQTT at {host_port(endpoint.host, endpoint.port)}"
    answers: queue.SimpleQueue[bytes | str] = queue.SimpleQueue()
    over = threading.Event()

    def connected(
        client: Client, _data: object, _flags: ConnectFlags, reason: ReasonCode, _properties: Properties | None
    ) -> None:
        if reason.is_failure:
            answers.put(f"{where} does not let us in: {reason}")
        else:
            client.subscribe(answer_topic, 1)

    def subscribed(
        client: Client, _data: object, _mid: int, reasons: list[ReasonCode], _properties: Properties | None
    ) -> None:
        # Asked only now: the answer may come at once.
        if reasons[0].is_failure:
            answers.put(f"{where} does not let us wait for an answer: {reasons[0]}")
        else:
            client.publish(topic, payload, 1)

    def heard(_client: Client, _data: object, message: MQTTMessage) -> None:
        if not message.retain:
            answers.put(bytes(message.payload))

    def closed(_client: Client, _data: object, *rest: object) -> None:
        if not over.is_set():
            answers.put(f"{where} closed the connection")

    try:
        client = new_client(endpoint, timeout_s)
        client.on_connect, client.on_subscribe = connected, subscribed
        client.on_message, client.on_disconnect = heard, closed
        client.connect(endpoint.host, endpoint.port, endpoint.keepalive_s)
    except (OSError, ValueError) as error:
        raise DeliveryError(f"{where} cannot be reached: {getattr(error, 'strerror', None) or error}") from None
    client.loop_start()
    try:
        answer = answers.get(timeout=max(0.0, until - time.monotonic()))
    except queue.Empty:
        raise DeliveryError(f"{where} gave no answer within {timeout_s:g} s") from None
    finally:
        over.set()
        client.disconnect()
        client.loop_stop()
    if isinstance(answer, str):
        raise DeliveryError(answer)
    return answer
