"""Asks the servers of the delivery side whether they answer: once each, briefly, and changes nothing there."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field
from threading import Event
from typing import Any

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode
from paho.mqtt.reasoncodes import ReasonCode

from meterbridge.operations.facts import ProbeFact

_SUBSCRIPTIONS = "$SYS/broker/subscriptions/count"


@dataclass(frozen=True, slots=True)
class Target:
    """An MQTT server to be asked.

    Args:
        role: `broker` or `ThingsBoard`.
        host: where.
        port: where.
        username: None for none. Never shown by repr.
        password: likewise.
        own: subscriptions of ours there, which say nothing about a gateway.
        ca: PEM file of trusted authorities, None for plain TCP; `cert` and `key` our own.
    """

    role: str
    host: str
    port: int
    username: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    ca: str | None = None
    cert: str | None = None
    key: str | None = None
    own: int = field(default=0, kw_only=True)


async def probe(targets: Iterable[Target], timeout: float) -> list[ProbeFact]:
    """Ask all of them at once.

    ThingsBoard answers also when it refuses a client without a token. A broker is also asked how many subscriptions
    there are: with none, nobody carries on what is published, and the gateway is not there.

    Args:
        targets: whom.
        timeout: longest wait for each, seconds.
    """
    answers = await asyncio.gather(*(asyncio.to_thread(_ask, target, timeout) for target in targets))
    return [fact for answer in answers for fact in answer]


def _ask(target: Target, timeout: float) -> list[ProbeFact]:
    where = f"{target.host}:{target.port}"
    answered, counted = Event(), Event()
    told: dict[str, Any] = {}

    def connected(client: Client, _data: object, _flags: object, reason: ReasonCode, _properties: object) -> None:
        told["reason"] = reason
        if not reason.is_failure and target.role == "broker":
            client.subscribe(_SUBSCRIPTIONS)
        answered.set()

    def received(_client: Client, _data: object, message: MQTTMessage) -> None:
        if message.payload.isdigit():
            # What was kept was counted before this subscription, what is published now with it.
            told["subscriptions"] = int(message.payload) - (not message.retain)
            counted.set()

    # No client identifier: the server gives one, and throws nobody out for it.
    client = Client(CallbackAPIVersion.VERSION2, client_id="")
    client.on_connect, client.on_message = connected, received
    client.connect_timeout = timeout
    try:
        if target.ca is not None:
            client.tls_set(target.ca, target.cert, target.key)
        if target.username is not None:
            client.username_pw_set(target.username, target.password)
        if client.connect(target.host, target.port) is not MQTTErrorCode.MQTT_ERR_SUCCESS:
            return [ProbeFact(target.role, where, False, "cannot connect")]
    except (OSError, ValueError) as error:
        return [ProbeFact(target.role, where, False, f"cannot connect: {getattr(error, 'strerror', None) or error}")]
    client.loop_start()
    try:
        if not answered.wait(timeout):
            return [ProbeFact(target.role, where, False, f"no CONNACK within {timeout:g} s")]
        if told["reason"].is_failure and target.role == "broker":
            return [ProbeFact(target.role, where, False, f"refuses us: {told['reason']}")]
        facts = [ProbeFact(target.role, where, True, "answers")]
        if target.role == "broker":
            counted.wait(timeout)
            facts.append(_gateway(where, told.get("subscriptions"), target.own))
        return facts
    finally:
        client.disconnect()
        client.loop_stop()


def _gateway(where: str, subscriptions: int | None, own: int) -> ProbeFact:
    if subscriptions is None:
        return ProbeFact("gateway", where, None, "the broker does not tell whether anybody subscribes")
    if subscriptions <= own:
        return ProbeFact("gateway", where, False, "nobody subscribes: what is published goes nowhere")
    return ProbeFact("gateway", where, True, f"{subscriptions - own} subscriptions at the broker besides ours")
