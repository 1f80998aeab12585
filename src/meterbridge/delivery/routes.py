"""Routes: how rows become MQTT messages, and as whom they are sent.

A route is a connection identity (`Endpoint`) and a way to pack. The publisher knows neither topics nor payloads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from meterbridge.delivery.row import Row
from meterbridge.errors import ConfigurationError
from meterbridge.model import MeterId

MAX_TOPIC_OCTETS = 65_535


@dataclass(frozen=True, slots=True)
class Tls:
    """Files of a TLS connection, PEM.

    Args:
        ca: certificates to trust; None means the system's.
        certificate: client certificate.
        key: its private key.
    """

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None


@dataclass(frozen=True, slots=True)
class Subscriptions:
    """Topic filters of what each kind of route is to hear; none where nothing comes back."""

    gateway: tuple[str, ...] = ()
    device: tuple[str, ...] = ()
    broker: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Whom to connect to, and as whom.

    Args:
        host: of the MQTT server.
        port: TCP port.
        client_id: MQTT client identifier; one connection each, a second throws the first out.
        username: or, towards ThingsBoard, the access token. Never shown by repr.
        password: never shown by repr.
        version: 4 for MQTT 3.1.1, 5 for MQTT 5.
        tls: None for plain TCP.
        keepalive_s: seconds between pings; a dead peer is noticed within twice that.
        subscriptions: topic filters of what the server is asked to send.
    """

    host: str
    port: int
    client_id: str
    username: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    version: int = 4
    tls: Tls | None = None
    keepalive_s: int = 15
    subscriptions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Message:
    """One MQTT message and the rows that its PUBACK frees."""

    topic: str
    payload: bytes
    rows: tuple[Row, ...]


@dataclass(frozen=True, slots=True)
class Unsendable:
    """Rows that can never become a message, and why."""

    rows: tuple[Row, ...]
    reason: str


class Route(Protocol):
    """What the publisher asks of a route."""

    @property
    def name(self) -> str:
        """Key under which its rows lie in the outbox."""

    @property
    def endpoint(self) -> Endpoint:
        """Whom to connect to."""

    @property
    def meter(self) -> MeterId | None:
        """Whose it is; None for one that many share."""

    @property
    def greets(self) -> bool:
        """Whether a device is announced on a connection before its first row."""

    def pack(self, rows: Sequence[Row]) -> list[Message | Unsendable]:
        """Turn rows into messages: each row in exactly one, order of each meter's readings kept."""

    def hello(self, device: str) -> Message:
        """Announces a device; has no rows. Asked for only of a route that greets."""

    def farewell(self, device: str) -> Message | None:
        """Says that a device has gone; None where there is no word for it."""


def check_device_name(name: str) -> str:
    """Return a device name that may stand as one level of a topic.

    It is refused, not escaped: tb-gateway takes the device's name from the topic, so that an escaped name would
    become another device.

    Raises:
        ConfigurationError: it is empty, holds `/`, `+`, `#` or a control character, is not UTF-8, or is too long.
    """
    if not name:
        raise ConfigurationError("A device name is empty.")
    for char in name:
        if char in "/+#" or ord(char) < 0x20 or 0x7F <= ord(char) < 0xA0:
            raise ConfigurationError(f"Device name {name!a} holds {char!a}, which an MQTT topic level cannot.")
    try:
        octets = len(name.encode())
    except UnicodeEncodeError:
        raise ConfigurationError(f"Device name {name!a} is not valid UTF-8.") from None
    if octets > MAX_TOPIC_OCTETS - 64:
        raise ConfigurationError(f"Device name {name[:40]!a}… has {octets} octets, too many for an MQTT topic.")
    return name


class BrokerRoute:
    """Through a broker: one message a row, the device's name in the topic, no token.

    Args:
        endpoint: the broker.
    """

    greets = False
    meter: MeterId | None = None

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.name = broker_route_name(endpoint.host, endpoint.port)
        self._topics: dict[tuple[str, str], str] = {}

    def hello(self, device: str) -> Message:
        """Never asked for."""
        raise NotImplementedError

    def farewell(self, device: str) -> Message | None:
        """A broker knows no devices."""
        return None

    def pack(self, rows: Sequence[Row]) -> list[Message | Unsendable]:
        """One message a row, in order."""
        return [self._message(row) for row in rows]

    def _message(self, row: Row) -> Message | Unsendable:
        topic = self._topics.get((row.device, row.kind))
        if topic is None:
            try:
                topic = f"v1/devices/{check_device_name(row.device)}/{row.kind}"
            except ConfigurationError as error:
                return Unsendable((row,), str(error))
            self._topics[row.device, row.kind] = topic
        return Message(topic, row.payload, (row,))


def broker_route_name(host: str, port: int) -> str:
    """Name under which the rows for a broker lie in the outbox."""
    return f"broker:{host}:{port}"
