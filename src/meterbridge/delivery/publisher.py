"""Drives all lines from a thread of its own and hands what happened to the event loop, in batches."""

from __future__ import annotations

import asyncio
import heapq
import random
import selectors
import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from meterbridge.delivery.buffered_client import BufferedClient
from meterbridge.delivery.conversation import Ear, Heard, Saying
from meterbridge.delivery.events import Event, Listener
from meterbridge.delivery.line import Line, LineLimits, State
from meterbridge.delivery.mqtt_client import abandon
from meterbridge.delivery.openers import Openers
from meterbridge.delivery.outbox import Outbox
from meterbridge.delivery.routes import Route
from meterbridge.delivery.row import Row
from meterbridge.model import MeterId

_LOOK_S = 1.0


@dataclass(frozen=True, slots=True)
class PublisherStats:
    """A moment of one route.

    Args:
        route: its name.
        meter: whose it is, None for one that many share.
        connected: whether the server answers.
        reason: why it is not connected, empty while it is or before the first try ended.
        published: rows sent, those sent again included.
        acknowledged: rows with PUBACK.
        unacknowledged: messages sent and without PUBACK now.
        refused: PUBACKs that said no (MQTT 5).
        quarantined: rows put aside because the far side does not take them.
        reconnects: connections after the first.
        resent: rows sent again after a connection was lost.
        oldest_at: when the oldest row still in the outbox was put, Unix milliseconds, or None; as of the last second
            in which something happened on the route.
        contested: how often in a row another client seems to have taken the connection away, 0 while nothing
            points to one.
    """

    route: str
    meter: MeterId | None
    connected: bool
    reason: str
    published: int
    acknowledged: int
    unacknowledged: int
    refused: int
    quarantined: int
    reconnects: int
    resent: int
    oldest_at: int | None
    contested: int = 0


@dataclass(slots=True)
class _Driven:
    """A line and what the driving thread knows of it."""

    line: Line
    route: Route
    watched: socket.socket | None = None
    events: int = 0
    due: float = 0.0
    looked: float = -_LOOK_S
    oldest_at: int | None = None


class Publisher:
    """Publishes the rows of its routes at QoS 1 for ever, all from one thread. Made in a running event loop.

    Args:
        outbox: where the rows lie; opened on the same loop.
        limits: bounds and delays of each connection.
        listener: receives events, on the loop.
        on_acknowledged: receives acknowledged rows, on the loop, many at a time.
        rng: source of jitter.
        on_heard: receives what servers send, on the loop, many at a time; without it they are not asked to.
    """

    def __init__(
        self,
        outbox: Outbox,
        limits: LineLimits | None = None,
        listener: Listener = lambda event: None,
        on_acknowledged: Callable[[Sequence[Row]], None] | None = None,
        rng: random.Random | None = None,
        on_heard: Callable[[Sequence[Heard]], None] | None = None,
    ) -> None:
        self._outbox = outbox
        self._limits = limits or LineLimits()
        self._listener = listener
        self._on_acknowledged = on_acknowledged
        self._rng = rng or random.Random()
        self._loop = asyncio.get_running_loop()
        self._ear = None if on_heard is None else Ear(on_heard, self._on_loop)
        self._thread = threading.Thread(target=self._run, name="publisher", daemon=True)
        self._openers = Openers(lambda line, outcome: self._do(lambda: self._opened(line, outcome)))
        self._waker, self._waking = socket.socketpair()
        self._waker.setblocking(False)
        self._waking.setblocking(False)
        self._lock = threading.Lock()
        self._calls: list[Callable[[], object]] = []
        self._woken: set[str] = set()
        self._lines: dict[str, _Driven] = {}
        self._timers: list[tuple[float, str]] = []
        self._touched: dict[str, bool] = {}
        self._selector = selectors.DefaultSelector()
        self._stop_by: float | None = None

    def start(self) -> None:
        """Begin. An unreachable server is no error: it is tried for ever."""
        self._thread.start()

    def add(self, route: Route) -> None:
        """Have the rows of a route published; one of the same name goes on under its new identity."""
        driven = self._lines.get(route.name)
        if driven is None:
            hear = None if self._ear is None else self._ear.hear
            line = Line(route, self._outbox, self._limits, self._tell, self._rng, hear)
            self._lines[route.name] = _Driven(line, route)
            self._outbox.wake(
                route.name, lambda: self._wake(route.name), lambda: self._do(lambda: self._rewind(route.name))
            )
            self._wake(route.name)
        elif driven.route is not route:
            self._do(lambda: self._reroute(driven, route))

    def remove(self, name: str) -> None:
        """Take leave of a route's server; its rows stay in the outbox."""
        self._outbox.wake(name, None)
        driven = self._lines.pop(name, None)
        if driven is not None:
            self._do(lambda: self._leave(driven))

    def dismiss(self, name: str, device: str) -> None:
        """Tell a route's server that a device has gone, where the route has a word for it."""
        self._do(lambda: self._dismiss(name, device))

    def say(self, name: str, saying: Saying) -> None:
        """Say something over a route as soon as it can be; it is lost where there is no connection, or with it."""
        self._do(lambda: self._say(name, saying))

    @property
    def dropped(self) -> int:
        """Messages of servers that were too large, or came too fast to be looked at."""
        return 0 if self._ear is None else self._ear.dropped

    async def stop(self, deadline_s: float = 5.0) -> None:
        """Send what is committed and await its PUBACKs, for at most `deadline_s` seconds, then take leave.

        A server that is not connected is not waited for: what is left stays in the outbox.
        """
        if not self._thread.is_alive():
            return
        stop_by = time.monotonic() + deadline_s
        self._do(lambda: self._begin_to_stop(stop_by))
        await asyncio.to_thread(self._thread.join)
        for name in list(self._lines):
            self._outbox.wake(name, None)
        # The thread's last reports were queued on this loop before it ended: let them run.
        await asyncio.sleep(0)

    def stats(self) -> tuple[PublisherStats, ...]:
        """Counters of this moment, a route each."""
        return tuple(_stats(driven) for driven in list(self._lines.values()))

    # ---- from other threads

    def _wake(self, name: str) -> None:
        with self._lock:
            first = not self._woken and not self._calls
            self._woken.add(name)
        if first:
            self._poke()

    def _do(self, call: Callable[[], object]) -> None:
        with self._lock:
            first = not self._woken and not self._calls
            self._calls.append(call)
        if first:
            self._poke()

    def _poke(self) -> None:
        try:
            self._waking.send(b"\0")
        except OSError:
            # Full: it is awake already. Closed: it has ended.
            return

    def _tell(self, event: Event) -> None:
        self._on_loop(lambda: self._listener(event))

    def _on_loop(self, call: Callable[[], object]) -> None:
        try:
            self._loop.call_soon_threadsafe(call)
        except RuntimeError:
            # The loop is closed: nobody is left to be told.
            return

    # ---- on the driving thread

    def _reroute(self, driven: _Driven, route: Route) -> None:
        driven.line.reroute(route)
        driven.route = route
        self._touched.setdefault(route.name, False)

    def _rewind(self, name: str) -> None:
        driven = self._lines.get(name)
        if driven is not None:
            driven.line.rewind()
            self._touched.setdefault(name, False)

    def _leave(self, driven: _Driven) -> None:
        self._unwatch(driven)
        driven.line.close()

    def _dismiss(self, name: str, device: str) -> None:
        driven = self._lines.get(name)
        if driven is not None:
            driven.line.dismiss(device)
            self._touched.setdefault(name, False)

    def _say(self, name: str, saying: Saying) -> None:
        driven = self._lines.get(name)
        if driven is not None:
            driven.line.say(saying)
            self._touched.setdefault(name, False)

    def _opened(self, line: Line, outcome: BufferedClient | str) -> None:
        driven = self._lines.get(line.name)
        if driven is None or driven.line is not line:
            if isinstance(outcome, BufferedClient):
                abandon(outcome)
            return
        line.opened(outcome, time.monotonic())
        self._touched[line.name] = True

    def _begin_to_stop(self, stop_by: float) -> None:
        self._stop_by = stop_by
        for name, driven in list(self._lines.items()):
            # Looks once more: rows may have been committed since the last step.
            driven.line.woken()
            self._touched.setdefault(name, False)

    def _run(self) -> None:
        self._selector.register(self._waker, selectors.EVENT_READ)
        while True:
            now = time.monotonic()
            acknowledged = self._turn(now)
            if acknowledged and self._on_acknowledged is not None:
                self._report(self._on_acknowledged, acknowledged)
            if self._stop_by is not None and not self._touched and self._may_end(now, self._stop_by):
                break
            self._wait(now)
        self._openers.close()
        for driven in list(self._lines.values()):
            self._leave(driven)
        self._selector.close()
        self._waker.close()
        self._waking.close()

    def _turn(self, now: float) -> list[Row]:
        """Step every line that has something to do."""
        with self._lock:
            calls, self._calls = self._calls, []
            woken, self._woken = self._woken, set()
        for call in calls:
            call()
        touched, self._touched = self._touched, {}
        for name in woken:
            if (driven := self._lines.get(name)) is not None:
                driven.line.woken()
                touched.setdefault(name, False)
        while self._timers and self._timers[0][0] <= now:
            due, name = heapq.heappop(self._timers)
            if (driven := self._lines.get(name)) is not None and driven.due <= due:
                touched.setdefault(name, False)
        acknowledged: list[Row] = []
        for name, readable in touched.items():
            if (driven := self._lines.get(name)) is not None:
                acknowledged += self._drive(name, driven, readable, now)
        return acknowledged

    def _drive(self, name: str, driven: _Driven, readable: bool, now: float) -> list[Row]:
        line = driven.line
        if line.wants_open(now) and self._stop_by is None:
            line.opening(now)
            self._openers.submit(line)
        acknowledged = line.step(now, readable)
        self._watch(name, driven)
        if line.has_buffered_input:
            self._touched[name] = True
        driven.due = now + line.due(now)
        heapq.heappush(self._timers, (driven.due, name))
        if line.state is State.UP and line.idle:
            # At once: nothing may happen on this route for hours, and nothing waits.
            driven.oldest_at = None
        elif now - driven.looked >= _LOOK_S:
            driven.looked = now
            driven.oldest_at = self._outbox.oldest(name)
        return acknowledged

    def _wait(self, now: float) -> None:
        timeout = 0.0 if self._touched else 60.0
        if self._timers:
            timeout = min(timeout, max(0.0, self._timers[0][0] - now))
        if self._stop_by is not None:
            timeout = min(timeout, max(0.0, self._stop_by - now))
        for key, mask in self._selector.select(timeout):
            if key.fileobj is self._waker:
                self._drain()
            else:
                self._touched[key.data] = self._touched.get(key.data, False) or bool(mask & selectors.EVENT_READ)

    def _report(self, call: Callable[[Sequence[Row]], None], rows: Sequence[Row]) -> None:
        self._on_loop(lambda: call(rows))

    def _may_end(self, now: float, stop_by: float) -> bool:
        return now >= stop_by or all(
            driven.line.state is not State.UP or driven.line.idle for driven in list(self._lines.values())
        )

    def _drain(self) -> None:
        try:
            while self._waker.recv(4096):
                pass
        except BlockingIOError:
            return

    def _watch(self, name: str, driven: _Driven) -> None:
        current = driven.line.socket
        if driven.watched is not None and driven.watched is not current:
            self._unwatch(driven)
        if current is None:
            return
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if driven.line.wants_write else 0)
        if driven.watched is None:
            self._selector.register(current, events, name)
        elif driven.events != events:
            self._selector.modify(current, events, name)
        driven.watched, driven.events = current, events

    def _unwatch(self, driven: _Driven) -> None:
        if driven.watched is not None:
            self._selector.unregister(driven.watched)
            driven.watched = None


def _stats(driven: _Driven) -> PublisherStats:
    line, counters = driven.line, driven.line.counters
    return PublisherStats(
        route=line.name,
        meter=driven.route.meter,
        connected=line.state is State.UP,
        reason=line.reason,
        published=counters.published,
        acknowledged=counters.acknowledged,
        unacknowledged=line.unacknowledged,
        refused=counters.refused,
        quarantined=counters.quarantined,
        reconnects=max(0, counters.connects - 1),
        resent=counters.resent,
        oldest_at=driven.oldest_at,
        contested=line.contested(time.monotonic()),
    )
