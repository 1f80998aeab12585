"""ThingsBoard's part over a plain broker: it asks devices, and keeps what they publish."""

from __future__ import annotations

import asyncio
import itertools
import json
import threading
from collections.abc import Callable
from typing import Any, Self

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions


class Peer:
    """A client that stands for the server: `asks` answers requests for shared attributes.

    Args:
        port: of the broker.
        shared: attributes by device; by "me" on the device API. None: who asks for them gets no answer.
    """

    def __init__(self, port: int, shared: dict[str, dict[str, object]] | None = None) -> None:
        self.messages: list[tuple[str, Any]] = []
        self.shared = shared
        self._port = port
        self._numbers = itertools.count(1)
        self._ready = threading.Event()
        self._client = Client(CallbackAPIVersion.VERSION2, "thingsboard", protocol=MQTTProtocolVersion.MQTTv5)
        self._client.on_connect = self._connected
        self._client.on_subscribe = lambda *_: self._ready.set()
        self._client.on_message = self._heard
        self._client.on_disconnect = lambda *_: self._ready.clear()
        self._client.reconnect_delay_set(1, 1)

    @property
    def connected(self) -> bool:
        """Whether it hears."""
        return self._ready.is_set()

    async def __aenter__(self) -> Self:
        self._client.connect("127.0.0.1", self._port)
        self._client.loop_start()
        assert await asyncio.to_thread(self._ready.wait, 10)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._client.disconnect()
        await asyncio.to_thread(self._client.loop_stop)

    def publish(self, topic: str, payload: object, retain: bool = False) -> None:
        """Send something: octets as they are, the rest as JSON."""
        self._client.publish(topic, payload if isinstance(payload, bytes) else json.dumps(payload), 1, retain)

    def of(self, topic: str) -> list[Any]:
        """What came on a topic."""
        return [payload for name, payload in list(self.messages) if name == topic]

    async def call(self, method: object, params: object = None, *, device: str | None = None, id_: int = 0) -> Any:
        """Ask over the device API, or over the gateway API where a device is named; return the answer."""
        number = id_ or 1000 + next(self._numbers)
        return await self.answer(device, number, lambda: self.ask(method, params, device=device, id_=number))

    def ask(self, method: object, params: object = None, *, device: str | None = None, id_: int = 0) -> None:
        """Ask, and wait for nothing."""
        request = {"method": method, "params": params}
        if device is None:
            self.publish(f"v1/devices/me/rpc/request/{id_}", request)
        else:
            self.publish("v1/gateway/rpc", {"device": device, "data": {"id": id_, **request}})

    async def answer(self, device: str | None, id_: int, ask: Callable[[], None], seconds: float = 15.0) -> Any:
        """Return the next answer to a request."""
        before = len(self.answers(device, id_))
        ask()
        async with asyncio.timeout(seconds):
            while len(self.answers(device, id_)) <= before:
                await asyncio.sleep(0.01)
        return self.answers(device, id_)[-1]

    def answers(self, device: str | None, id_: int) -> list[Any]:
        """All answers to a request."""
        if device is None:
            return self.of(f"v1/devices/me/rpc/response/{id_}")
        replies = [reply for reply in self.of("v1/gateway/rpc") if isinstance(reply, dict)]
        return [reply["data"] for reply in replies if reply.get("id") == id_ and reply.get("device") == device]

    def _connected(
        self, client: Client, _data: object, _flags: object, _reason: ReasonCode, _properties: Properties | None
    ) -> None:
        client.subscribe("#", options=SubscribeOptions(qos=1, noLocal=True))

    def _heard(self, _client: Client, _data: object, message: MQTTMessage) -> None:
        payload = json.loads(message.payload)
        self.messages.append((message.topic, payload))
        if self.shared is None:
            return
        if message.topic == "v1/gateway/attributes/request":
            held = self.shared.get(payload["device"], {})
            values = {key: held[key] for key in payload["keys"] if key in held}
            reply = {"id": payload["id"], "device": payload["device"], "values": values}
            self.publish("v1/gateway/attributes/response", reply)
        elif message.topic.startswith("v1/devices/me/attributes/request/"):
            held = self.shared.get("me", {})
            values = {key: held[key] for key in payload["sharedKeys"].split(",") if key in held}
            topic = message.topic.replace("request", "response")
            self.publish(topic, {"shared": values} if values else {})
