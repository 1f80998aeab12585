"""One MQTT connection of one route: its window, its acknowledgements, its return after a loss.

No thread and no clock of its own: the publisher drives it and says what time it is.
"""

from __future__ import annotations

import math
import random
import socket
import struct
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags, MQTTMessage
from paho.mqtt.enums import MQTTProtocolVersion
from paho.mqtt.exception import MQTTException
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from meterbridge.delivery.buffered_client import BufferedClient
from meterbridge.delivery.contest import Contest
from meterbridge.delivery.conversation import Heard, Mouth, Saying
from meterbridge.delivery.events import Connected, Disconnected, Event, SubscriptionRefused
from meterbridge.delivery.lanes import Allowance, Lane
from meterbridge.delivery.mqtt_client import UNLIMITED, abandon, closed_by_peer, new_client
from meterbridge.delivery.outbox import Page
from meterbridge.delivery.routes import Message, Route, Unsendable
from meterbridge.delivery.row import Row
from meterbridge.delivery.suspicion import Suspicion
from meterbridge.model import host_port

_CONTROL_ROWS = 50
# A backlog that drains in so many seconds goes first, all in order; past a longer one live readings go.
_SHORT_S = 5.0
_SHORT_ROWS = 10_000
# MQTT 5, PUBACK: topic name invalid, payload format invalid. Sending these again cannot help.
_FINAL_REFUSALS = (0x90, 0x99)
# MQTT 5, PUBACK: quota exceeded. It says nothing about the message.
_NO_REFUSAL = 0x97
# MQTT 5, DISCONNECT: what a server says that closes for a message's sake. All others say nothing about a message.
_CLOSED_FOR_MESSAGE = (0x80, 0x81, 0x82, 0x83, 0x90, 0x95, 0x99)
# MQTT 5, DISCONNECT: session taken over, by a client of the same identifier.
_TAKEN_OVER = 0x8E
# What paho raises on octets that are not MQTT.
_GARBAGE = (ValueError, LookupError, TypeError, struct.error, MQTTException)


class State(Enum):
    """Where a line stands."""

    DOWN = "down"
    OPENING = "opening"
    CONNECTING = "connecting"
    UP = "up"


class Queue(Protocol):
    """What a line needs of the outbox."""

    def peek(self, route: str, after: int, limit: int, last: int = ...) -> Page | None:
        """Oldest rows above an id."""

    def last(self) -> int:
        """Highest id on disk."""

    def waiting(self, route: str, at_most: int) -> int:
        """How many rows are on disk, counted no further than `at_most`."""

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
        refusals: how often the far side may refuse one message, or close over it (5 times at least),
            until it is quarantined.
        backlog_rows_per_s: rows a second at most of a backlog that live readings overtake; infinite means that all
            goes in one order and nothing is overtaken.
    """

    window: int = 1_000
    ack_timeout_s: float = 30.0
    connect_timeout_s: float = 5.0
    backoff_first_s: float = 1.0
    backoff_max_s: float = 60.0
    refusals: int = 5
    backlog_rows_per_s: float = math.inf


def full_jitter(failures: int, first_s: float, max_s: float, rng: random.Random) -> float:
    """Seconds to wait after `failures` in a row, drawn evenly from 0 to min(max, first * 2^(failures - 1))."""
    # The exponent is bounded because failures are not.
    return rng.uniform(0.0, min(max_s, first_s * 2.0 ** min(failures - 1, 32)))


class Counters:
    """What one line did since it was made; written by one thread, read by any."""

    __slots__ = ("acknowledged", "connects", "published", "quarantined", "refused", "resent")

    def __init__(self) -> None:
        self.published = 0
        self.acknowledged = 0
        self.refused = 0
        self.quarantined = 0
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
        hear: receives what the server sends, on the driving thread; nothing is asked for without it.
    """

    def __init__(
        self,
        route: Route,
        queue: Queue,
        limits: LineLimits,
        listener: Callable[[Event], None],
        rng: random.Random,
        hear: Callable[[Heard], None] | None = None,
    ) -> None:
        self.state = State.DOWN
        self.counters = Counters()
        self.reason = ""
        self._route = route
        self._queue = queue
        self._limits = limits
        self._listener = listener
        self._rng = rng
        self._hear = hear
        self._mouth = Mouth()
        self._client: BufferedClient | None = None
        self._window = limits.window
        self._failures = 0
        self._due = 0.0
        self._now = 0.0
        self._live = Lane(0, None)
        self._backlog = Lane(0, 0)
        self._allowance = Allowance(limits.backlog_rows_per_s)
        self._suspicion = Suspicion(limits.refusals, rng)
        self._greeted: set[str] = set()
        self._inflight: dict[int, tuple[Message, float]] = {}
        self._acknowledged: list[Row] = []
        self._lost: str | None = None
        self._blamable = False
        self._orderly = self._taken_over = False
        self._contest = Contest()

    @property
    def name(self) -> str:
        """Name of the route."""
        return self._route.name

    @property
    def unacknowledged(self) -> int:
        """Messages sent and not yet acknowledged."""
        return len(self._inflight)

    def contested(self, now: float) -> int:
        """How often in a row another client has taken the connection away; 0 while nothing points to one."""
        return self._contest.seen(now)

    @property
    def idle(self) -> bool:
        """Whether nothing committed is left to send or to be acknowledged, as far as was looked."""
        return not self._inflight and not self._suspicion.stepping and self._live.empty and self._backlog.empty

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
        """Whether octets were received that no selector will announce."""
        return self._client is not None and self._client.has_read_ahead

    def due(self, now: float) -> float:
        """Seconds until `step` must be called although nothing happened on the socket."""
        if self.state is State.DOWN:
            return max(0.0, self._due - now)
        if self.state is State.OPENING:
            return self._limits.connect_timeout_s
        if self.state is State.CONNECTING:
            return 0.5
        wait = self._route.endpoint.keepalive_s / 4
        if self._inflight:
            wait = min(wait, self._limits.ack_timeout_s / 4)
        if not self._backlog.empty and len(self._inflight) < self._window:
            wait = min(wait, self._allowance.wait(now))
        # A file that could not be read just now is tried again.
        return min(wait, 1.0) if not self._live.exhausted or self._suspicion.stepping else wait

    def woken(self) -> None:
        """State that the outbox has new rows."""
        self._live.exhausted = False

    def rewind(self) -> None:
        """State that the outbox may have rows older than those it showed: what is on its way may be sent again."""
        if self.state is State.UP:
            self._rewind()

    def reroute(self, route: Route) -> None:
        """Go on under another identity, the same rows; the next step connects anew where it differs."""
        if route.endpoint != self._route.endpoint:
            self._lost = "new settings"
        self._route = route

    def wants_open(self, now: float) -> bool:
        """Whether it is time to connect: `open` is to be called, on a thread that may wait."""
        return self.state is State.DOWN and now >= self._due

    def opening(self, now: float) -> None:
        """State that `open` is on its way."""
        self._now, self.state = now, State.OPENING

    def open(self) -> BufferedClient | str:
        """Connect, blocking, within the limit; safe on any thread.

        Returns:
            What `opened` takes: a client that awaits its CONNACK, or why there is none.
        """
        # A new client each time: paho's own queue must not outlive the connection, the outbox is the store.
        endpoint = self._route.endpoint
        try:
            client = new_client(endpoint, self._limits.connect_timeout_s)
            client.on_connect = self._on_connect
            client.on_disconnect = self._on_disconnect
            client.on_acknowledged = self._on_acknowledged
            client.on_message = self._on_message
            client.on_subscribe = self._on_subscribe
            # With this callback paho leaves writing to `step`, which writes a window at a time.
            client.on_socket_register_write = lambda *_: None
            client.on_socket_close = self._on_socket_close
            client.connect(endpoint.host, endpoint.port, endpoint.keepalive_s)
        except (OSError, ValueError) as error:
            return f"cannot connect to {host_port(endpoint.host, endpoint.port)}: {error}"
        return client

    def opened(self, outcome: BufferedClient | str, now: float) -> None:
        """Take over what `open` gave."""
        self._now, self._lost, self._blamable = now, None, False
        self._orderly = self._taken_over = False
        if isinstance(outcome, str):
            self._down(outcome)
            return
        self._client = outcome
        self.state = State.CONNECTING
        self._due = now + self._limits.connect_timeout_s

    def step(self, now: float, readable: bool) -> list[Row]:
        """Do whatever can be done without waiting.

        Args:
            now: monotonic seconds.
            readable: whether the socket has octets.

        Returns:
            Rows acknowledged in this step; they are being removed from the outbox.
        """
        self._now = now
        client = self._client
        if client is not None:
            # Also when nothing is left to read: paho reads at most as many packets as are in flight.
            if readable:
                self._read(client)
                self._settle()
            if self.state is State.UP:
                self._speak(client)
                self._fill(client)
            if client.want_write():
                client.loop_write()
            client.loop_misc()
            self._check_time(now)
            if self._lost is not None or client.socket() is None:
                self._down(self._lost or "connection lost")
        acknowledged, self._acknowledged = self._acknowledged, []
        return acknowledged

    def dismiss(self, device: str) -> None:
        """Tell the server that a device has gone, where the route has a word for it."""
        message = self._route.farewell(device)
        if message is None or device not in self._greeted:
            return
        self._greeted.discard(device)
        if self._client is not None and self.state is State.UP:
            self._post(self._client, message)

    def say(self, saying: Saying) -> None:
        """Have something said while the connection lasts; nothing where there is none."""
        if self.state is State.UP:
            self._mouth.say(saying)
        else:
            self._mouth.unsaid += 1

    def close(self) -> None:
        """Take leave of the server; what is unacknowledged stays in the outbox."""
        client, self._client = self._client, None
        if client is not None and client.socket() is not None:
            if self.state is State.UP:
                for device in sorted(self._greeted):
                    if (message := self._route.farewell(device)) is not None:
                        client.publish(message.topic, message.payload, qos=0)
            client.disconnect()
            client.loop_write()
            abandon(client)
        self.state = State.DOWN

    def _read(self, client: Client) -> None:
        try:
            client.loop_read()
        except _GARBAGE as error:
            self._lost = f"the peer does not speak MQTT: {error}"

    def _settle(self) -> None:
        """Take what was acknowledged off the outbox, before it is looked into again."""
        if self._acknowledged:
            self.counters.acknowledged += len(self._acknowledged)
            self._queue.remove(self._acknowledged)

    def _on_connect(
        self, client: Client, _data: object, _flags: ConnectFlags, reason: ReasonCode, properties: Properties | None
    ) -> None:
        if reason.is_failure:
            self._lost = f"connection refused: {reason}"
            return
        # MQTT 5 section 3.2.2.3.3: more than this without PUBACK is a protocol error.
        receive_maximum = getattr(properties, "ReceiveMaximum", UNLIMITED) if properties else UNLIMITED
        self._window = min(self._limits.window, receive_maximum)
        self.state = State.UP
        self.reason = ""
        self._suspicion.connected()
        self._contest.up(self._now)
        self._rewind()
        self.counters.connects += 1
        self._subscribe(client)
        self._listener(Connected(self.name, self._route.meter))

    def _subscribe(self, client: Client) -> None:
        wanted = self._route.endpoint.subscriptions
        if not wanted or self._hear is None:
            return
        if not self._mouth.may_subscribe:
            self._listener(SubscriptionRefused(self.name, "the server closes the connection over it"))
            return
        if client.protocol == MQTTProtocolVersion.MQTTv5:
            _result, mid = client.subscribe([(topic, SubscribeOptions(qos=1, noLocal=True)) for topic in wanted])
        else:
            _result, mid = client.subscribe([(topic, 1) for topic in wanted])
        self._mouth.asked(mid)

    def _on_subscribe(
        self, _client: Client, _data: object, mid: int, reasons: list[ReasonCode], _properties: object
    ) -> None:
        refused = [str(reason) for reason in reasons if reason.is_failure]
        if self._mouth.answered(mid) and refused:
            self._listener(SubscriptionRefused(self.name, refused[0]))

    def _on_message(self, _client: Client, _data: object, message: MQTTMessage) -> None:
        if self._hear is not None:
            self._hear(Heard(self.name, self._route.meter, message.topic, bytes(message.payload), message.retain))

    def _rewind(self) -> None:
        """Begin again at what the outbox holds: it knows what is acknowledged."""
        last = self._queue.last()
        short = int(min(_SHORT_ROWS, self._limits.backlog_rows_per_s * _SHORT_S))
        long = not math.isinf(self._limits.backlog_rows_per_s) and self._queue.waiting(self.name, short + 1) > short
        self._backlog = Lane(0, last if long else 0)
        self._live = Lane(last if long else 0, None)

    def _on_disconnect(
        self, _client: Client, _data: object, flags: DisconnectFlags, reason: ReasonCode, _properties: object
    ) -> None:
        if self._lost is None:
            self._lost = f"connection closed: {reason}"
            self._blamable = not flags.is_disconnect_packet_from_server or reason.value in _CLOSED_FOR_MESSAGE

            self._taken_over = reason.value == _TAKEN_OVER

    def _on_socket_close(self, _client: Client, _data: object, connection: object) -> None:
        self._orderly = closed_by_peer(connection)

    def _on_acknowledged(self, mid: int, reason: ReasonCode) -> None:
        message, _sent = self._inflight.pop(mid)
        if reason.is_failure and message.rows:
            self._on_refusal(message, reason)
        else:
            self._failures = 0
            self._acknowledged.extend(message.rows)
            stepping = self._suspicion.stepping
            self._suspicion.acknowledged(message.rows)
            if stepping and not self._suspicion.stepping:
                self._rewind()

    def _on_refusal(self, message: Message, reason: ReasonCode) -> None:
        self.counters.refused += 1
        already, self._lost = self._lost, self._lost or f"message refused: {reason}"
        if already or reason.value == _NO_REFUSAL:
            return
        if not self._suspicion.stepping:
            unacknowledged = [sent.rows for sent, _ in self._inflight.values() if sent.rows]
            self._suspicion.step_through([message.rows, *unacknowledged])
        self._blame(self._suspicion.refused(message.rows, reason.value in _FINAL_REFUSALS), str(reason))

    def _blame(self, row: Row | None, reason: str) -> None:
        if row is not None:
            self._failures = 0
            self._contest.reset()
            self._set_aside((row,), reason)

    def _set_aside(self, rows: Sequence[Row], reason: str) -> None:
        self.counters.quarantined += len(rows)
        self._queue.quarantine(rows, reason)

    def _speak(self, client: BufferedClient) -> None:
        """Say what is to be said before any row, but nothing beside a row under suspicion."""
        while self._mouth and not self._suspicion.stepping and self._lost is None:
            saying = self._mouth.next()
            if saying.device is not None and self._route.greets and not self._greet(client, (saying.device,)):
                return
            if len(self._inflight) >= self._window:
                return
            try:
                if not self._post(client, Message(saying.topic, saying.payload, ())):
                    return
            except ValueError:
                # A topic that is none: it cannot be said at all.
                self._mouth.unsaid += 1
            self._mouth.said()

    def _fill(self, client: BufferedClient) -> None:
        if self._suspicion.stepping:
            self._step_through(client)
            return
        while self._lost is None and len(self._inflight) < self._window:
            if self._live.head(self._peek, self._pack):
                lane = self._live
            elif (
                not self._backlog.empty
                and not self._allowance.wait(self._now)
                and self._backlog.head(self._peek, self._pack)
            ):
                lane = self._backlog
            else:
                return
            message = lane.take()
            if not self._send(client, message):
                lane.put_back(message)
                return
            if lane is self._backlog:
                self._allowance.take(len(message.rows))

    def _step_through(self, client: BufferedClient) -> None:
        if self._inflight or self._lost is not None:
            return
        others = self._queue.peek(self.name, 0, _CONTROL_ROWS)
        rows = self._suspicion.next(others.rows if others is not None else [])
        if rows is not None:
            for message in self._messages(rows):
                self._send(client, message)

    def _peek(self, after: int, limit: int, last: int | None) -> Page | None:
        if last is None:
            return self._queue.peek(self.name, after, limit)
        return self._queue.peek(self.name, after, limit, last)

    def _pack(self, page: Page) -> list[Message]:
        return self._messages(page.rows)

    def _messages(self, rows: Sequence[Row]) -> list[Message]:
        messages: list[Message] = []
        for item in self._route.pack(rows):
            if isinstance(item, Unsendable):
                self._set_aside(item.rows, item.reason)
            else:
                messages.append(item)
        return messages

    def _send(self, client: BufferedClient, message: Message) -> bool:
        """Whether it is on its way, or out of it for good."""
        if self._route.greets and not self._greet(client, [row.device for row in message.rows]):
            return False
        try:
            if not self._post(client, message):
                return False
        except ValueError as error:
            self._set_aside(message.rows, str(error))
            return True
        self.counters.published += len(message.rows)
        return True

    def _post(self, client: BufferedClient, message: Message) -> bool:
        mid = client.post(message.topic, message.payload)
        if mid is None:
            return False
        self._inflight[mid] = (message, self._now)
        return True

    def _greet(self, client: BufferedClient, devices: Iterable[str]) -> bool:
        """Announce the devices that are new on this connection; False while the window has no room for it."""
        for device in dict.fromkeys(devices):
            if device in self._greeted:
                continue
            hello = self._route.hello(device)
            if len(self._inflight) >= self._window or not self._post(client, hello):
                return False
            self._greeted.add(device)
        return len(self._inflight) < self._window

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
            abandon(client)
        unacknowledged = [message.rows for message, _ in self._inflight.values() if message.rows]
        self._contend()
        if self._blamable and self.state is State.UP:
            self._blame(self._suspicion.closed(unacknowledged), f"the server closes the connection over it: {reason}")
        elif not reason.startswith("message refused"):
            self._suspicion.failed()
        self.state = State.DOWN
        self.reason = reason
        # What is unacknowledged lies in the outbox: the next connection begins with the oldest of it.
        self.counters.resent += sum(len(rows) for rows in unacknowledged)
        self._inflight.clear()
        self._greeted.clear()
        self._mouth.down()
        self._failures += 1
        # PUBACKs between two losses do not count where another client comes back as fast as we do.
        failures = max(self._failures, 1 + self._contest.excess)
        delay = full_jitter(failures, self._limits.backoff_first_s, self._limits.backoff_max_s, self._rng)
        self._due = self._now + delay
        self._listener(Disconnected(self.name, reason, delay, self._route.meter))

    def _contend(self) -> None:
        if self.state is not State.UP:
            return
        if self._taken_over or (self._blamable and self._orderly and not self._suspicion.stepping):
            self._contest.closed(self._now, self._taken_over)
        else:
            self._contest.lost(self._now)
