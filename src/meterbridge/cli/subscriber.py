"""A subscriber of its own, beside the service: what arrives, from whom, how late."""

from __future__ import annotations

import json
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from paho.mqtt.client import Client, ConnectFlags, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

_TOPIC = "v1/devices/+/telemetry"
_KEPT_LATENCIES = 10_000


@dataclass(slots=True)
class DeviceView:
    """What came from one device.

    Args:
        readings: their times, Unix milliseconds.
        values: of the last one.
        arrivals: when the last ones arrived, monotonic seconds.
    """

    readings: set[int] = field(default_factory=set)
    values: dict[str, Any] = field(default_factory=dict)
    arrivals: deque[float] = field(default_factory=lambda: deque(maxlen=10))

    def rate(self) -> float:
        """Readings a second, over the last ten."""
        if len(self.arrivals) < 2:
            return 0.0
        return (len(self.arrivals) - 1) / max(self.arrivals[-1] - self.arrivals[0], 1e-9)


class Subscriber:
    """Counts readings at a broker, each (device, ts) once.

    Args:
        since: readings with an earlier time are of another run, Unix milliseconds.
    """

    def __init__(self, since: int) -> None:
        self._since = since
        self._lock = threading.Condition()
        self._subscribed = threading.Event()
        self._client = Client(CallbackAPIVersion.VERSION2, client_id=f"meterbridge-demo-{since}")
        self._client.on_connect = self._connected
        self._client.on_subscribe = self._on_subscribe
        self._client.on_message = self._message
        self.devices: dict[str, DeviceView] = {}
        self.latencies: deque[float] = deque(maxlen=_KEPT_LATENCIES)

    def start(self, host: str, port: int) -> None:
        """Connect; `wait` tells when the subscription stands."""
        self._client.connect_async(host, port)
        self._client.loop_start()

    def wait(self, timeout: float) -> bool:
        """Wait for the subscription, seconds; whether it stands."""
        return self._subscribed.wait(timeout)

    def stop(self) -> None:
        """Disconnect."""
        self._client.disconnect()
        self._client.loop_stop()

    @property
    def received(self) -> int:
        """Readings that arrived, each once."""
        with self._lock:
            return self._count()

    def wait_for(self, count: int, until: float) -> bool:
        """Wait until so many readings arrived, at most to `until` on the monotonic clock; whether they did."""
        with self._lock:
            return self._lock.wait_for(lambda: self._count() >= count, max(0.0, until - time.monotonic()))

    def _count(self) -> int:
        return sum(len(device.readings) for device in self.devices.values())

    def quantile(self, share: float) -> float | None:
        """Latency that this share of readings kept within, from the meter's answer to here, milliseconds."""
        with self._lock:
            ordered = sorted(self.latencies)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else None

    def _connected(
        self, client: Client, _data: object, _flags: ConnectFlags, reason: ReasonCode, _properties: Properties | None
    ) -> None:
        if not reason.is_failure:
            client.subscribe(_TOPIC, qos=1)

    def _on_subscribe(self, *_: object) -> None:
        self._subscribed.set()

    def _message(self, _client: Client, _data: object, message: MQTTMessage) -> None:
        arrived = time.time() * 1000
        reading = json.loads(message.payload)
        if reading["ts"] < self._since:
            return
        with self._lock:
            device = self.devices.setdefault(message.topic.split("/")[2], DeviceView())
            if reading["ts"] not in device.readings:
                device.readings.add(reading["ts"])
                device.values = reading["values"]
                device.arrivals.append(time.monotonic())
                self.latencies.append(arrived - reading["ts"])
                self._lock.notify_all()
