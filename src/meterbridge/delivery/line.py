"""One MQTT connection of one route: its window, its acknowledgements, its return after a loss.

No thread and no clock of its own: the publisher drives it and says what time it is.
"""

from __future__ import annotations

import random
import socket
import struct
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.exception import MQTTException
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from meterbridge.delivery.events import Connected, Disconnected, Event
from meterbridge.delivery.routes import Endpoint, Message, Route, Unsendable
from meterbridge.delivery.row import Row

_CHUNK_ROWS = 2_000
# MQTT 5, PUBACK: topic name invalid, payload format invalid. Sending these again cannot help.
_FINAL_REFUSALS = (0x90, 0x99)
_UNLIMITED = 65_535
# What paho raises on octets that are not MQTT.
_GARBAGE = (ValueError, LookupError, TypeError, struct.error, MQTTException)


class State(Enum):
    """Where a line stands."""

    DOWN = "down"
    CONNECTING = "connecting"
    UP = "up"


class Queue(Protocol):
    """What a line needs of the outbox."""

    def peek(self, route: str, after: int, limit: int) -> list[Row]:
        """Oldest committed rows above an id."""

    def remove(self, rows: Sequence[Row]) -> None:
        """Take acknowledged rows off."""

    def quarantine(self, rows: Sequence[Row], error: str) -> None:
        """Put rows aside."""


@dataclass(frozen=True, slots=True)
class LineLimits:
    """Bounds and delays of one connection.

    Args:
        window: messages without PUBACK at most.
        ack_timeout_s: seconds without the oldest PUBACK until the connection is given up.
        connect_timeout_s: seconds for TCP and TLS, and again for CONNACK.
        backoff_first_s: bound of the first delay; the bound doubles with every failure.
        backoff_max_s: largest bound. The delay is drawn evenly between 0 and the bound (full jitter).
        refusals: how often the far side may refuse one message until it is quarantined.
    """

    window: int = 1_000
    ack_timeout_s: float = 30.0
    connect_timeout_s: float = 5.0
    backoff_first_s: float = 1.0
    backoff_max_s: float = 60.0
    refusals: int = 5


def full_jitter(failures: int, first_s: float, max_s: float, rng: random.Random) -> float:
    """Seconds to wait after `failures` in a row, drawn evenly from 0 to min(max, first * 2^(failures - 1))."""
    # The exponent is bounded because failures are not.
    return rng.uniform(0.0, min(max_s, first_s * 2.0 ** min(failures - 1, 32)))


class Counters:
    """What one line did since it was made; written by one thread, read by any."""

    __slots__ = ("acknowledged", "connects", "published", "refused", "resent")

    def __init__(self) -> None:
        self.published = 0
        self.acknowledged = 0
        self.refused = 0
        self.connects = 0
        self.resent = 0


class Line:
    """One connection.

    Args:
        route: how rows become messages, and as whom.
        queue: the outbox.
        limits: bounds and delays.
        listener: receives events, on the driving thread.
        rng: source of jitter.
    """

    def __init__(
        self, route: Route, queue: Queue, limits: LineLimits, listener: Callable[[Event], None], rng: random.Random
    ) -> None:
        self.state = State.DOWN
        self.counters = Counters()
        self._route = route
        self._queue = queue
        self._limits = limits
        self._listener = listener
        self._rng = rng
        self._client: Client | None = None
        self._window = limits.window
        self._failures = 0
        self._due = 0.0
        self._now = 0.0
        self._cursor = 0
        self._exhausted = False
        self._ready: deque[Message] = deque()
        self._inflight: dict[int, tuple[Message, float]] = {}
        self._acknowledged: list[Row] = []
        self._refused: dict[int, int] = {}
        self._lost: str | None = None

    @property
    def name(self) -> str:
        """Name of the route."""
        return self._route.name

    @property
    def unacknowledged(self) -> int:
        """Messages sent and not yet acknowledged."""
        return len(self._inflight)

    @property
    def idle(self) -> bool:
        """Whether nothing committed is left to send or to be acknowledged, as far as was looked."""
        return self._exhausted and not self._inflight and not self._ready

    @property
    def socket(self) -> socket.socket | None:
        """Socket to watch, or None while down."""
        return None if self._client is None else self._client.socket()  # type: ignore[return-value]

    @property
    def wants_write(self) -> bool:
        """Whether octets wait for the socket."""
        return self._client is not None and self._client.want_write()

    @property
    def has_buffered_input(self) -> bool:
        """Whether TLS holds decrypted octets that no selector will announce."""
        pending = getattr(self.socket, "pending", None)
        return pending is not None and pending() > 0

    def due(self, now: float) -> float:
        """Seconds until `step` must be called although nothing happened on the socket, at most one."""
        if self.state is State.UP and not self._inflight:
            return 1.0
        return min(1.0, max(0.0, self._due - now)) if self.state is State.DOWN else 0.5

    def woken(self) -> None:
        """State that the outbox has new rows."""
        self._exhausted = False

    def step(self, now: float, readable: bool) -> list[Row]:
        """Do whatever can be done without waiting; only connecting blocks, within its limit.

        Args:
            now: monotonic seconds.
            readable: whether the socket has octets.

        Returns:
            Rows acknowledged in this step; they are being removed from the outbox.
        """
        self._now = now
        if self._client is None:
            if now < self._due:
                return []
            self._connect(now)
        client = self._client
        if client is not None:
            # Also when nothing is left to read: paho reads at most as many packets as are in flight.
            if readable:
                self._read(client)
            if self.state is State.UP:
                self._fill(client)
            if client.want_write():
                client.loop_write()
            client.loop_misc()
            self._check_time(now)
            if self._lost is not None or client.socket() is None:
                self._down(self._lost or "connection lost")
        acknowledged, self._acknowledged = self._acknowledged, []
        if acknowledged:
            self.counters.acknowledged += len(acknowledged)
            self._queue.remove(acknowledged)
        return acknowledged

    def close(self) -> None:
        """Take leave of the server; what is unacknowledged stays in the outbox."""
        client, self._client = self._client, None
        if client is not None and client.socket() is not None:
            client.disconnect()
            client.loop_write()
            _abandon(client)
        self.state = State.DOWN

    def _connect(self, now: float) -> None:
        # A new client each time: paho's own queue must not outlive the connection, the outbox is the store.
        endpoint = self._route.endpoint
        self._lost = None
        self.state = State.CONNECTING
        try:
            client = self._client = _client(endpoint, self._limits.connect_timeout_s)
            client.on_connect = self._on_connect
            client.on_disconnect = self._on_disconnect
            client.on_publish = self._on_publish
            # With this callback paho leaves writing to `step`, which writes a window at a time.
            client.on_socket_register_write = lambda *_: None
            client.connect(endpoint.host, endpoint.port, endpoint.keepalive_s)
        except (OSError, ValueError) as error:
            self._down(f"cannot connect to {endpoint.host}:{endpoint.port}: {error}")
            return
        self._due = now + self._limits.connect_timeout_s

    def _read(self, client: Client) -> None:
        try:
            client.loop_read()
        except _GARBAGE as error:
            self._lost = f"the peer does not speak MQTT: {error}"

    def _on_connect(
        self, client: Client, _data: object, _flags: ConnectFlags, reason: ReasonCode, properties: Properties | None
    ) -> None:
        if reason.is_failure:
            self._lost = f"connection refused: {reason}"
            return
        # MQTT 5 section 3.2.2.3.3: more than this without PUBACK is a protocol error.
        receive_maximum = getattr(properties, "ReceiveMaximum", _UNLIMITED) if properties else _UNLIMITED
        self._window = min(self._limits.window, receive_maximum)
        self.state = State.UP
        self._exhausted = False
        self.counters.connects += 1
        self._listener(Connected(self.name))

    def _on_disconnect(
        self, _client: Client, _data: object, _flags: DisconnectFlags, reason: ReasonCode, _properties: object
    ) -> None:
        self._lost = self._lost or f"connection lost: {reason}"

    def _on_publish(self, _client: Client, _data: object, mid: int, reason: ReasonCode, _properties: object) -> None:
        message, _sent = self._inflight.pop(mid)
        if reason.is_failure:
            self._on_refusal(message, reason)
        else:
            self._failures = 0
            self._acknowledged.extend(message.rows)

    def _on_refusal(self, message: Message, reason: ReasonCode) -> None:
        self.counters.refused += 1
        key = message.rows[0].id
        self._refused[key] = self._refused.get(key, 0) + 1
        final = reason.value in _FINAL_REFUSALS or self._refused[key] >= self._limits.refusals
        if not final:
            # A new connection sends everything again in order; jumping the queue here would not keep it.
            self._ready.appendleft(message)
            self._lost = f"message refused: {reason}"
        elif len(message.rows) > 1:
            # One row spoils the others: each is sent by itself, and only the culprit stays behind.
            singles = [item for row in message.rows for item in self._route.pack([row])]
            self._ready.extendleft(item for item in reversed(singles) if isinstance(item, Message))
        else:
            self._refused.pop(key)
            self._queue.quarantine(message.rows, str(reason))

    def _fill(self, client: Client) -> None:
        while self._lost is None and len(self._inflight) < self._window:
            if not self._ready and not self._load():
                return
            message = self._ready.popleft()
            try:
                info = client.publish(message.topic, message.payload, qos=1)
            except ValueError as error:
                self._queue.quarantine(message.rows, str(error))
                continue
            if info.rc != MQTTErrorCode.MQTT_ERR_SUCCESS:
                self._ready.appendleft(message)
                return
            self._inflight[info.mid] = (message, self._now)
            self.counters.published += len(message.rows)

    def _load(self) -> bool:
        while not self._exhausted:
            rows = self._queue.peek(self.name, self._cursor, _CHUNK_ROWS)
            self._exhausted = len(rows) < _CHUNK_ROWS
            if rows:
                self._cursor = rows[-1].id
                for item in self._route.pack(rows):
                    if isinstance(item, Unsendable):
                        self._queue.quarantine(item.rows, item.reason)
                    else:
                        self._ready.append(item)
            if self._ready:
                return True
        return False

    def _check_time(self, now: float) -> None:
        if self.state is State.CONNECTING and now >= self._due:
            self._lost = self._lost or "no CONNACK in time"
        elif self._inflight:
            _message, sent = next(iter(self._inflight.values()))
            if now - sent >= self._limits.ack_timeout_s:
                self._lost = self._lost or "no PUBACK in time"

    def _down(self, reason: str) -> None:
        client, self._client = self._client, None
        if client is not None:
            _abandon(client)
        self.state = State.DOWN
        # Sent again in the order in which it was put, which is what keeps each meter's order.
        again = [message for message, _ in self._inflight.values()]
        self.counters.resent += sum(len(message.rows) for message in again)
        self._ready = deque(sorted([*again, *self._ready], key=lambda message: message.rows[0].id))
        self._inflight.clear()
        self._failures += 1
        delay = full_jitter(self._failures, self._limits.backoff_first_s, self._limits.backoff_max_s, self._rng)
        self._due = self._now + delay
        self._listener(Disconnected(self.name, reason, delay))


def _client(endpoint: Endpoint, connect_timeout_s: float) -> Client:
    client = Client(
        CallbackAPIVersion.VERSION2,
        client_id=endpoint.client_id,
        protocol=MQTTProtocolVersion(endpoint.version),
        clean_session=True if endpoint.version == MQTTProtocolVersion.MQTTv311 else None,
    )
    client.connect_timeout = connect_timeout_s
    client.max_inflight_messages_set(_UNLIMITED)
    if endpoint.username is not None:
        client.username_pw_set(endpoint.username, endpoint.password)
    if endpoint.tls is not None:
        tls = endpoint.tls
        client.tls_set(
            None if tls.ca is None else str(tls.ca),
            None if tls.certificate is None else str(tls.certificate),
            None if tls.key is None else str(tls.key),
        )
    return client


def _abandon(client: Client) -> None:
    client.on_disconnect = None
    client.on_publish = None
    connection = client.socket()
    if connection is not None:
        connection.close()
