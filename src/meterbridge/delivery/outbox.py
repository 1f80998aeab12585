"""Durable queue between polling and MQTT: on disk before it is counted, off it only after PUBACK."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from meterbridge.delivery.events import Dropped, Event, Listener, Quarantined, SetAside, StorageFailed, StorageRecovered
from meterbridge.delivery.outbox_file import Limits, OutboxFile, Put, Reader, is_corrupt, open_file, set_aside
from meterbridge.delivery.row import Kind, Row
from meterbridge.errors import DeliveryError
from meterbridge.model import MeterId

_BATCH_ROWS = 10_000


@dataclass(frozen=True, slots=True)
class OutboxStats:
    """A moment of the outbox.

    Args:
        rows: on disk.
        octets: of payload on disk.
        pending: rows in memory, not yet on disk.
        committed: rows put on disk since it was opened.
        quarantined: rows put aside.
        dropped: rows given up since it was opened, by meter.
        failing: whether the disk refuses to take rows.
    """

    rows: int
    octets: int
    pending: int
    committed: int
    quarantined: int
    dropped: Mapping[MeterId, int]
    failing: bool


class Ticket:
    """Shared by the rows of one group commit. Await it for True (on disk) or False (given up)."""

    __slots__ = ("_future",)

    def __init__(self, future: asyncio.Future[bool]) -> None:
        self._future = future

    def done(self) -> bool:
        """Whether the outcome is known."""
        return self._future.done()

    def __await__(self) -> Generator[None, None, bool]:
        # Shielded: one worker that is cancelled must not cancel the ticket of all others.
        return asyncio.shield(self._future).__await__()

    def add_done_callback(self, callback: Callable[[bool], None]) -> None:
        """Call back on the event loop with the outcome, without a task that waits for it."""
        self._future.add_done_callback(lambda future: callback(future.result()))

    def resolve(self, committed: bool) -> None:
        """State the outcome; on the event loop only."""
        if not self._future.done():
            self._future.set_result(committed)


@dataclass(slots=True)
class _Batch:
    ticket: Ticket
    puts: list[Put] = field(default_factory=list)


def _resolve(batches: list[_Batch], committed: bool) -> None:
    for batch in batches:
        batch.ticket.resolve(committed)


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


class Outbox:
    """Open it with `Outbox.open` in a running event loop.

    `put`, `flush` and `close` belong to that loop; `peek`, `remove`, `quarantine`, `oldest` and `stats` to any thread.
    Listeners are called on the loop.
    """

    def __init__(
        self,
        path: Path,
        limits: Limits,
        listener: Listener,
        interval_s: float,
        retry_s: float,
        clock_ms: Callable[[], int],
    ) -> None:
        self._path = path
        self._limits = limits
        self._listener = listener
        self._interval = interval_s
        self._retry = retry_s
        self._clock_ms = clock_ms
        self._loop = asyncio.get_running_loop()
        self._changed = threading.Condition()
        self._batches: deque[_Batch] = deque()
        self._removals: list[Row] = []
        self._refusals: list[tuple[Row, str]] = []
        self._pending = 0
        self._committed = 0
        self._dropped: Counter[MeterId] = Counter()
        self._closing = False
        self._failing = False
        self._suspect: str | None = None
        self._wakers: dict[str, Callable[[], None]] = {}
        self._reading = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="outbox", daemon=True)

        self._committing: list[_Batch] = []
        self._batch_rows = max(1, min(_BATCH_ROWS, limits.memory_rows // 10))

    @classmethod
    async def open(
        cls,
        path: Path,
        limits: Limits | None = None,
        listener: Listener = lambda event: None,
        *,
        interval_s: float = 0.05,
        retry_s: float = 1.0,
        clock_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> Outbox:
        """Open or create the queue; a corrupt file is set aside.

        Args:
            path: SQLite file of its own; its folder must exist.
            limits: bounds, past which the oldest go.
            listener: receives events.
            interval_s: seconds between the starts of two commits; a put waits at most that long, plus one commit.
            retry_s: seconds between tries while the disk refuses.
            clock_ms: Unix milliseconds.

        Raises:
            DeliveryError: the file can be neither opened nor created.
        """
        outbox = cls(path, limits or Limits(), listener, interval_s, retry_s, clock_ms)
        await asyncio.to_thread(outbox._open)
        outbox._thread.start()
        return outbox

    def put(
        self, meter: MeterId, route: str, device: str, ts: int, payload: bytes, kind: Kind = Kind.TELEMETRY
    ) -> Ticket:
        """Hand over one payload; returns at once.

        Args:
            meter: whose it is.
            route: name of the route it leaves by.
            device: device name on the ThingsBoard side.
            ts: time of the reading, Unix milliseconds.
            payload: JSON octets.
            kind: telemetry or attributes.

        Returns:
            Ticket of the group commit it belongs to. Polling must not wait for it without a bound: while the disk
            is full it stays open.

        Raises:
            DeliveryError: the outbox is closed, or SQLite could not hold the device name or the time.
        """
        if not -(1 << 63) <= ts < 1 << 63 or not (device.isascii() or _is_utf8(device)):
            raise DeliveryError(f"The outbox cannot hold device {device!a} at {ts}: not UTF-8, or beyond 64 bits.")
        put = Put(meter, route, kind.value, device, ts, payload, self._clock_ms())
        with self._changed:
            if self._closing:
                raise DeliveryError("The outbox is closed: nothing can be put into it.")
            if not self._batches or len(self._batches[-1].puts) >= self._batch_rows:
                self._batches.append(_Batch(Ticket(self._loop.create_future())))
                self._changed.notify()
            batch = self._batches[-1]
            batch.puts.append(put)
            self._pending += 1
            if self._pending > self._limits.memory_rows:
                self._shed()
        return batch.ticket

    async def flush(self) -> None:
        """Wait until what was put so far is on disk, or given up; without end while the disk refuses."""
        with self._changed:
            tickets = [batch.ticket for batch in (*self._committing, *self._batches)]
        for ticket in tickets:
            await ticket

    async def close(self) -> None:
        """Commit what is pending, once, and close the file; what the disk then refuses is reported as dropped."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        await asyncio.to_thread(self._thread.join)
        # The thread's last reports were queued on this loop before it ended: let them run.
        await asyncio.sleep(0)

    def peek(self, route: str, after: int, limit: int) -> list[Row]:
        """Oldest committed rows of a route with an id above `after`, at most `limit`; they stay."""
        with self._reading:
            try:
                return self._reader.peek(route, after, limit)
            except sqlite3.Error as error:
                self._suspect_if_corrupt(error)
                return []

    def oldest(self, route: str) -> int | None:
        """When the oldest row of a route was put, Unix milliseconds, or None when it has none."""
        with self._reading:
            try:
                return self._reader.oldest(route)
            except sqlite3.Error as error:
                self._suspect_if_corrupt(error)
                return None

    def remove(self, rows: Iterable[Row]) -> None:
        """Take acknowledged rows off, with the next group commit."""
        with self._changed:
            self._removals.extend(rows)
            self._changed.notify()

    def quarantine(self, rows: Iterable[Row], error: str) -> None:
        """Put rows aside with the reason, with the next group commit."""
        with self._changed:
            self._refusals.extend((row, error) for row in rows)
            self._changed.notify()

    def wake(self, route: str, waker: Callable[[], None] | None) -> None:
        """Have `waker` called, on the writer's thread, after each commit that added rows to a route; None ends it."""
        with self._changed:
            if waker is None:
                self._wakers.pop(route, None)
            else:
                self._wakers[route] = waker

    def stats(self) -> OutboxStats:
        """Counters of this moment, from memory."""
        with self._changed:
            return OutboxStats(
                rows=self._file.rows,
                octets=self._file.octets,
                pending=self._pending,
                committed=self._committed,
                quarantined=self._file.quarantined,
                dropped=dict(self._dropped),
                failing=self._failing,
            )

    def _open(self, next_id: int = 1) -> None:
        def tell(path: Path, reason: str) -> None:
            self._tell(SetAside(str(path), reason))

        self._file: OutboxFile = open_file(self._path, self._limits, self._clock_ms(), tell, next_id)
        self._reader = Reader(self._path)

    def _tell(self, *events: Event) -> None:
        if events:
            self._on_loop(lambda: [self._listener(event) for event in events])

    def _on_loop(self, call: Callable[[], object]) -> None:
        try:
            self._loop.call_soon_threadsafe(call)
        except RuntimeError:
            # The loop is closed: nobody is left to be told.
            return

    def _suspect_if_corrupt(self, error: sqlite3.Error) -> None:
        if is_corrupt(error):
            with self._changed:
                self._suspect = str(error)
                self._changed.notify()

    def _shed(self) -> None:
        """Give up the oldest batch in memory; the caller holds the lock."""
        batch = self._batches.popleft()
        self._pending -= len(batch.puts)
        self._give_up([batch])

    def _give_up(self, batches: list[_Batch]) -> None:
        losses: dict[MeterId, Dropped] = {}
        for batch in batches:
            for put in batch.puts:
                known = losses.get(put.meter, Dropped(put.meter, 0, put.ts, "storage"))
                losses[put.meter] = Dropped(put.meter, known.rows + 1, min(known.since, put.ts), "storage")
        for loss in losses.values():
            self._dropped[loss.meter] += loss.rows
        self._on_loop(lambda: _resolve(batches, False))
        self._tell(*losses.values())

    def _run(self) -> None:
        started = -self._interval
        while True:
            with self._changed:
                # Wakes without work once in a while: the bound on age holds on an idle queue too.
                self._changed.wait_for(self._has_work, timeout=60.0)
                pause = self._retry if self._failing else self._interval
                self._changed.wait_for(lambda: self._closing, timeout=max(0.0, started + pause - time.monotonic()))
                closing = self._closing
                batches, self._batches = list(self._batches), deque()
                removals, self._removals = self._removals, []
                refusals, self._refusals = self._refusals, []
                self._committing = batches
                suspect, self._suspect = self._suspect, None
            started = time.monotonic()
            if suspect is not None:
                self._replace_file(suspect)
            self._commit(batches, removals, refusals)
            if closing:
                self._end()
                return

    def _has_work(self) -> bool:
        return bool(self._closing or self._batches or self._removals or self._refusals or self._suspect)

    def _commit(self, batches: list[_Batch], removals: list[Row], refusals: list[tuple[Row, str]]) -> None:
        puts = [put for batch in batches for put in batch.puts]
        try:
            dropped = self._file.write(puts, removals, refusals, self._clock_ms())
        except sqlite3.Error as error:
            if is_corrupt(error):
                self._replace_file(str(error))
            self._put_back(batches, removals, refusals, str(error))
            return
        with self._changed:
            self._committing = []
            self._pending -= len(puts)
            self._committed += len(puts)
            for loss in dropped:
                self._dropped[loss.meter] += loss.rows
            recovered, self._failing = self._failing, False
            wakers = [self._wakers[route] for route in {put.route for put in puts} if route in self._wakers]
        if batches:
            self._on_loop(lambda: _resolve(batches, True))
        for waker in wakers:
            waker()
        self._tell(
            *dropped,
            *(Quarantined(row.meter, row.device, 1, reason) for row, reason in refusals),
            *([StorageRecovered()] if recovered else []),
        )

    def _put_back(
        self, batches: list[_Batch], removals: list[Row], refusals: list[tuple[Row, str]], reason: str
    ) -> None:
        try:
            # Deleting frees pages: on a file that may not grow it can succeed where adding does not.
            self._file.write([], removals, [], self._clock_ms())
            removals = []
        except sqlite3.Error:
            pass
        with self._changed:
            self._committing = []
            self._batches.extendleft(reversed(batches))
            self._removals[:0] = removals
            self._refusals[:0] = refusals
            first, self._failing = not self._failing, True
            while self._pending > self._limits.memory_rows and len(self._batches) > 1:
                self._shed()
        if first:
            self._tell(StorageFailed(reason))

    def _replace_file(self, reason: str) -> None:
        with self._reading:
            self._file.close()
            self._reader.close()
            try:
                target = set_aside(self._path, self._clock_ms())
                self._tell(SetAside(str(target), reason))
                self._open(self._file.next_id)
            except (DeliveryError, OSError) as error:
                # Tried again with the next commit; until then both sides find their file closed.
                self._suspect = str(error)

    def _end(self) -> None:
        with self._changed:
            left = list(self._batches)
            self._batches.clear()
            self._pending = 0
            if left:
                self._give_up(left)
        with self._reading:
            self._reader.close()
            self._file.close()
