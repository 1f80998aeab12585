"""Drives a line from a thread of its own and hands what happened to the event loop, in batches."""

from __future__ import annotations

import asyncio
import random
import selectors
import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from meterbridge.delivery.events import Event, Listener
from meterbridge.delivery.line import Line, LineLimits, State
from meterbridge.delivery.outbox import Outbox
from meterbridge.delivery.routes import Route
from meterbridge.delivery.row import Row


@dataclass(frozen=True, slots=True)
class PublisherStats:
    """A moment of one route.

    Args:
        route: its name.
        connected: whether the server answers.
        published: rows sent, those sent again included.
        acknowledged: rows with PUBACK.
        unacknowledged: messages sent and without PUBACK now.
        refused: PUBACKs that said no (MQTT 5).
        reconnects: connections after the first.
        resent: rows sent again after a connection was lost.
        oldest_at: when the oldest row still in the outbox was put, Unix milliseconds, or None; at most a second old.
    """

    route: str
    connected: bool
    published: int
    acknowledged: int
    unacknowledged: int
    refused: int
    reconnects: int
    resent: int
    oldest_at: int | None


class Publisher:
    """Publishes one route's rows at QoS 1 for ever. Made in a running event loop.

    Args:
        outbox: where the rows lie; opened on the same loop.
        route: how they leave.
        limits: bounds and delays of the connection.
        listener: receives events, on the loop.
        on_acknowledged: receives acknowledged rows, on the loop, many at a time.
        rng: source of jitter.
    """

    def __init__(
        self,
        outbox: Outbox,
        route: Route,
        limits: LineLimits | None = None,
        listener: Listener = lambda event: None,
        on_acknowledged: Callable[[Sequence[Row]], None] | None = None,
        rng: random.Random | None = None,
    ) -> None:
        self._outbox = outbox
        self._listener = listener
        self._on_acknowledged = on_acknowledged
        self._line = Line(route, outbox, limits or LineLimits(), self._tell, rng or random.Random())
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._run, name=f"publisher {route.name}", daemon=True)
        self._waker, self._waking = socket.socketpair()
        self._waker.setblocking(False)
        self._waking.setblocking(False)
        self._woken = False
        self._stop_by: float | None = None
        self._oldest_at: int | None = None

    def start(self) -> None:
        """Begin. An unreachable server is no error: it is tried for ever."""
        self._outbox.wake(self._line.name, self._wake)
        self._thread.start()

    async def stop(self, deadline_s: float = 5.0) -> None:
        """Send what is committed and await its PUBACKs, for at most `deadline_s` seconds, then take leave.

        A server that is not connected is not waited for: what is left stays in the outbox.
        """
        self._stop_by = time.monotonic() + deadline_s
        self._wake()
        await asyncio.to_thread(self._thread.join)
        self._outbox.wake(self._line.name, None)
        # The thread's last reports were queued on this loop before it ended: let them run.
        await asyncio.sleep(0)

    def stats(self) -> PublisherStats:
        """Counters of this moment."""
        counters = self._line.counters
        return PublisherStats(
            route=self._line.name,
            connected=self._line.state is State.UP,
            published=counters.published,
            acknowledged=counters.acknowledged,
            unacknowledged=self._line.unacknowledged,
            refused=counters.refused,
            reconnects=max(0, counters.connects - 1),
            resent=counters.resent,
            oldest_at=self._oldest_at,
        )

    def _wake(self) -> None:
        if not self._woken:
            self._woken = True
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

    def _run(self) -> None:
        line = self._line
        looked_at = -1.0
        with selectors.DefaultSelector() as selector:
            selector.register(self._waker, selectors.EVENT_READ)
            watched: socket.socket | None = None
            readable = stopping = False
            while True:
                now = time.monotonic()
                acknowledged = line.step(now, readable)
                if acknowledged and self._on_acknowledged is not None:
                    self._report(self._on_acknowledged, acknowledged)
                if now - looked_at >= 1.0:
                    looked_at, self._oldest_at = now, self._outbox.oldest(line.name)
                    # Also finds rows of a peek that failed for the moment.
                    line.woken()
                if (stop_by := self._stop_by) is not None:
                    if stopping and self._may_end(now, stop_by):
                        break
                    if not stopping:
                        # Looks once more: rows may have been committed since the last step.
                        stopping, readable = True, False
                        line.woken()
                        continue
                watched = self._watch(selector, watched)
                ready = selector.select(0.0 if line.has_buffered_input else line.due(now))
                readable = line.has_buffered_input
                for key, mask in ready:
                    if key.fileobj is self._waker:
                        self._woken = False
                        self._drain()
                        line.woken()
                    elif mask & selectors.EVENT_READ:
                        readable = True
            if watched is not None:
                selector.unregister(watched)
            line.close()
        self._waker.close()
        self._waking.close()

    def _report(self, call: Callable[[Sequence[Row]], None], rows: Sequence[Row]) -> None:
        self._on_loop(lambda: call(rows))

    def _may_end(self, now: float, stop_by: float) -> bool:
        return self._line.state is not State.UP or self._line.idle or now >= stop_by

    def _drain(self) -> None:
        try:
            while self._waker.recv(4096):
                pass
        except BlockingIOError:
            return

    def _watch(self, selector: selectors.BaseSelector, watched: socket.socket | None) -> socket.socket | None:
        current = self._line.socket
        if watched is not None and watched is not current:
            selector.unregister(watched)
            watched = None
        if current is not None:
            events = selectors.EVENT_READ | (selectors.EVENT_WRITE if self._line.wants_write else 0)
            if watched is None:
                selector.register(current, events)
            elif selector.get_key(current).events != events:
                selector.modify(current, events)
        return current
