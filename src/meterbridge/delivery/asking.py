"""One question over a connection of its own: connect, ask, wait for the one answer. Blocks; for commands."""

from __future__ import annotations

import queue
import time

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import MQTTErrorCode
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from meterbridge.delivery.routes import Endpoint
from meterbridge.delivery.visit import NotLetIn, place, visit
from meterbridge.errors import DeliveryError


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
    where = place(endpoint)
    answers: queue.SimpleQueue[bytes | str] = queue.SimpleQueue()

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
        answers.put(f"{where} closed the connection")

    with visit(endpoint, until) as client:
        client.on_subscribe, client.on_message, client.on_disconnect = subscribed, heard, closed
        if client.subscribe(answer_topic, 1)[0] != MQTTErrorCode.MQTT_ERR_SUCCESS:
            answers.put(f"{where} closed the connection")
        try:
            answer = answers.get(timeout=max(0.0, until - time.monotonic()))
        except queue.Empty:
            raise DeliveryError(f"{where} gave no answer within {timeout_s:g} s") from None
    if isinstance(answer, str):
        raise DeliveryError(answer)
    return answer


def lets_in(endpoint: Endpoint, timeout_s: float) -> bool:
    """Whether a server takes a connection under this identity.

    Raises:
        DeliveryError: not reachable, or no answer in time.
    """
    try:
        with visit(endpoint, time.monotonic() + timeout_s):
            return True
    except NotLetIn:
        return False
