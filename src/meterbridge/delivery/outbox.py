"""Durable queue between polling and MQTT: on disk before it is counted, off it only after PUBACK."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from meterbridge.delivery.events import (
    Dropped,
    Event,
    Listener,
    Quarantined,
    SetAside,
    StorageFailed,
    StorageRecovered,
    Stranded,
)
from meterbridge.delivery.moving import Homes
from meterbridge.delivery.outbox_file import (
    Limits,
    Loss,
    NoFile,
    OutboxFile,
    Reader,
    Removal,
    is_corrupt,
    no_room,
    open_file,
    set_aside,
)
from meterbridge.delivery.row import Kind, Row
from meterbridge.delivery.ticket import Batch, Ticket, resolve
from meterbridge.errors import DeliveryError
from meterbridge.model import MeterId

_BATCH_ROWS = 10_000
_LAST = (1 << 63) - 1
_IDS_PER_MS = 1_000
# How soon the writer notices what another process did to the file, seconds.
_LOOK_S = 2.0


@dataclass(frozen=True, slots=True)
class OutboxStats:
    """A moment of the outbox.

    Args:
        rows: on disk.
        octets: of payload on disk.
        pending: rows in memory, not yet on disk.
        committed: rows put on disk since it was opened.
        quarantined: rows put aside.
        losses: what was given up since the file was begun, by meter.
        failing: whether the disk refuses to take rows.
    """

    rows: int
    octets: int
    pending: int
    committed: int
    quarantined: int
    losses: Mapping[MeterId, Loss]
    failing: bool


class Page(NamedTuple):
    """What a peek found.

    Args:
        rows: oldest first.
        last: id up to which the outbox was looked through.
        complete: whether nothing that was asked for is left above `last` for now.
    """

    rows: list[Row]
    last: int
    complete: bool


def _together(known: Mapping[MeterId, Loss], more: Iterable[Dropped], now_ms: int) -> dict[MeterId, Loss]:
    losses = dict(known)
    for lost in more:
        rows, since, _ = losses.get(lost.meter, Loss(0, lost.since, now_ms))
        losses[lost.meter] = Loss(rows + lost.rows, min(since, lost.since), now_ms)
    return losses


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
        self._batches: deque[Batch] = deque()
        self._removals: list[Removal] = []
        # Acknowledged or refused, and still on disk until the next commit: not to be shown again.
        self._gone: set[int] = set()
        self._next_id = 1
        self._visible = 0
        self._refusals: list[tuple[Row, str]] = []
        self._pending = 0
        self._in_hand = 0
        self._committed = 0
        # Given up in memory, and not yet written down.
        self._given_up: list[Dropped] = []
        self._closing = False
        self._failing = False
        self._suspect: str | None = None
        self._homes: Homes | None = None
        # Whether rows may lie where they do not belong.
        self._unsettled = False
        self._stranded: Stranded | None = None
        self._wakers: dict[str, Callable[[], None]] = {}
        self._rewinders: dict[str, Callable[[], None]] = {}
        self._reading = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="outbox", daemon=True)
        self._committing: list[Batch] = []
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
        """Open or create the queue; a corrupt file is set aside, and a full disk is waited for with rows in memory.

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
        now = self._clock_ms()
        with self._changed:
            if self._closing:
                raise DeliveryError("The outbox is closed: nothing can be put into it.")
            row = Row(self._next_id, meter, route, kind.value, device, ts, payload, now)
            self._next_id += 1
            if not self._batches or len(self._batches[-1].puts) >= self._batch_rows:
                self._batches.append(Batch(Ticket(self._loop.create_future())))
                self._changed.notify()
            batch = self._batches[-1]
            batch.puts.append(row)
            self._pending += 1
            # What is being written just now is older, so it would be the first to go; it is bounded by itself.
            if self._pending - self._in_hand > self._limits.memory_rows:
                self._shed()
        return batch.ticket

    async def flush(self) -> None:
        """Wait until what was put so far is on disk, or given up; without end while the disk refuses."""
        with self._changed:
            tickets = [batch.ticket for batch in (*self._committing, *self._batches)]
        for ticket in tickets:
            await ticket
        # What the writer reported of commits that were over by then is queued on this loop: let it run.
        await asyncio.sleep(0)

    async def close(self) -> None:
        """Commit what is pending, once, and close the file; what the disk then refuses is reported as dropped."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        await asyncio.to_thread(self._thread.join)
        # The thread's last reports were queued on this loop before it ended: let them run.
        await asyncio.sleep(0)

    def peek(self, route: str, after: int, limit: int, last: int = _LAST) -> Page | None:
        """Oldest rows of a route with an id above `after` and up to `last`, at most `limit`; they stay.

        They are committed rows, and while the disk refuses those in memory too: publishing is then what saves them.

        Returns:
            None when the file could not be read just now.
        """
        with self._reading:
            try:
                rows = self._reader.peek(route, after, limit, last)
            except sqlite3.Error as error:
                self._suspect_if_corrupt(error)
                return None
            complete = len(rows) < limit
            with self._changed:
                if complete and self._failing:
                    rows += self._in_memory(route, rows[-1].id if rows else after, last, limit - len(rows))
                reached = rows[-1].id if rows else after
                if self._gone:
                    rows = [row for row in rows if row.id not in self._gone]
            return Page(rows, reached, complete)

    def waiting(self, route: str, at_most: int) -> int:
        """How many rows of a route are on disk, counted no further than `at_most`; 0 when the file cannot be read."""
        with self._reading:
            try:
                return self._reader.waiting(route, at_most)
            except sqlite3.Error as error:
                self._suspect_if_corrupt(error)
                return 0

    def last(self) -> int:
        """Highest id on disk so far, of any route."""
        with self._changed:
            return self._visible

    def _in_memory(self, route: str, after: int, last: int, limit: int) -> list[Row]:
        rows: list[Row] = []
        for batch in (*self._committing, *self._batches):
            if batch.puts[-1].id > after:
                rows += [row for row in batch.puts if row.route == route and after < row.id <= last]
            if len(rows) >= limit:
                break
        return rows[:limit]

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
        removals = [Removal(row.id, len(row.payload)) for row in rows]
        with self._changed:
            self._removals += removals
            self._gone.update(removal.id for removal in removals)
            self._changed.notify()

    def quarantine(self, rows: Iterable[Row], error: str) -> None:
        """Put rows aside with the reason, with the next group commit."""
        with self._changed:
            for row in rows:
                self._refusals.append((row, error))
                self._gone.add(row.id)
            self._changed.notify()

    def rehome(self, homes: Homes) -> None:
        """Have rows of routes that nobody serves moved to those of their meters, with the next commit and ever after.

        What comes back from quarantine later goes the same way; what has nowhere to go is told as `Stranded`.
        """
        with self._changed:
            self._homes, self._unsettled = homes, True
            self._changed.notify()

    def wake(self, route: str, waker: Callable[[], None] | None, rewind: Callable[[], None] = lambda: None) -> None:
        """Have a route's publisher called, on the writer's thread; both must return at once.

        Args:
            route: which.
            waker: after each commit that added rows to it; None ends both.
            rewind: when rows may have appeared below ids that were peeked before.
        """
        with self._changed:
            if waker is None:
                self._wakers.pop(route, None)
                self._rewinders.pop(route, None)
            else:
                self._wakers[route] = waker
                self._rewinders[route] = rewind

    def stats(self) -> OutboxStats:
        """Counters of this moment, from memory."""
        with self._changed:
            return OutboxStats(
                rows=self._file.rows,
                octets=self._file.octets,
                pending=self._pending,
                committed=self._committed,
                quarantined=self._file.quarantined,
                losses=_together(self._file.losses, self._given_up, self._clock_ms()),
                failing=self._failing,
            )

    def _open(self, next_id: int = 1) -> None:
        def tell(path: Path, reason: str) -> None:
            self._tell(SetAside(str(path), reason))

        self._file: OutboxFile | NoFile
        self._reader: Reader | NoFile
        try:
            self._file = open_file(self._path, self._limits, self._clock_ms(), tell, next_id)
            self._reader = Reader(self._path)
        except DeliveryError as error:
            full = no_room(error.__cause__)
            if full is None:
                raise
            # Ids count up from the time: whatever the file holds was put earlier and has come less far.
            self._file = self._reader = NoFile(full, max(next_id, self._clock_ms() * _IDS_PER_MS))
        with self._changed:
            self._next_id = max(self._next_id, self._file.next_id)
            self._visible = self._file.next_id - 1

    def _open_at_last(self) -> None:
        """Try again to open a file for which there was no room; its rows are older than all that were seen since."""
        with self._reading:
            self._open(self._next_id)
        with self._changed:
            rewinders = [] if isinstance(self._file, NoFile) else list(self._rewinders.values())
        for rewind in rewinders:
            rewind()

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

    def _give_up(self, batches: list[Batch]) -> None:
        losses: dict[MeterId, Dropped] = {}
        for batch in batches:
            for put in batch.puts:
                known = losses.get(put.meter, Dropped(put.meter, 0, put.ts, "storage"))
                losses[put.meter] = Dropped(put.meter, known.rows + 1, min(known.since, put.ts), "storage")
        with self._changed:
            self._given_up += losses.values()
        self._on_loop(lambda: resolve(batches, False))
        self._tell(*losses.values())

    def _run(self) -> None:
        started = looked = -self._interval
        while True:
            with self._changed:
                # Wakes without work now and then: for the bound on age, and for what other processes did.
                self._changed.wait_for(self._has_work, timeout=_LOOK_S)
                pause = self._retry if self._failing else self._interval
                self._changed.wait_for(lambda: self._closing, timeout=max(0.0, started + pause - time.monotonic()))
            claimed: list[Row] = []
            if time.monotonic() - looked >= _LOOK_S:
                looked, claimed = time.monotonic(), self._claimed()
            with self._changed:
                closing = self._closing
                batches, self._batches = list(self._batches), deque()
                removals, self._removals = self._removals, []
                refusals, self._refusals = self._refusals, []
                self._committing = batches
                self._in_hand = sum(len(batch.puts) for batch in batches)
                suspect, self._suspect = self._suspect, None
                # Above all rows of this commit and below all of the next: readers go by id.
                returned = [
                    row._replace(id=self._next_id + index, at=self._clock_ms()) for index, row in enumerate(claimed)
                ]
                self._next_id += len(returned)
                if self._homes is not None:
                    returned = self._brought_home(self._homes, returned)
                    for batch in batches:
                        batch.puts = self._brought_home(self._homes, batch.puts)
            started = time.monotonic()
            if suspect is not None:
                self._replace_file(suspect)
            elif isinstance(self._file, NoFile):
                self._open_at_last()
            self._settle()
            self._commit(batches, removals, refusals, returned, [row.id for row in claimed])
            if closing:
                self._end()
                return

    def _has_work(self) -> bool:
        return bool(
            self._closing or self._batches or self._removals or self._refusals or self._suspect or self._unsettled
        )

    def _claimed(self) -> list[Row]:
        """Rows that `meterbridge outbox retry` freed, under the ids they had."""
        try:
            if self._file.changed_by_others():
                self._file.recount()
                # A purge may have taken what was stranded.
                self._unsettled = self._homes is not None
            return self._file.claimed(_BATCH_ROWS)
        except sqlite3.Error:
            # Whatever it is, the next commit meets it too.
            return []

    def _brought_home(self, homes: Homes, rows: list[Row]) -> list[Row]:
        """Rows on their way to the disk, on the routes of their meters; the caller holds the lock."""
        if all(homes.stays(row.route) for row in rows):
            return rows
        routes = [homes.of(row.meter, row.route) for row in rows]
        rows = [
            row if row.route == route else row._replace(route=route) for row, route in zip(rows, routes, strict=True)
        ]
        # To be told of once they are on disk.
        self._unsettled = self._unsettled or any(row.route not in homes.served for row in rows)
        return rows

    def _settle(self) -> None:
        """Move rows on disk to where they belong, before younger ones of their meters are committed there."""
        with self._changed:
            homes = self._homes
            if homes is None or not self._unsettled or self._failing:
                return
            self._unsettled = False
        try:
            moved = self._file.move(homes)
        except sqlite3.Error as error:
            self._suspect_if_corrupt(error)
            with self._changed:
                self._unsettled = True
            return
        with self._changed:
            rewinders = [self._rewinders[route] for route in moved.into if route in self._rewinders]
        for rewind in rewinders:
            rewind()
        stranded = Stranded(sum(moved.left.values()), tuple(sorted(moved.left)))
        if stranded != self._stranded:
            self._stranded = stranded
            self._tell(stranded)

    def _commit(
        self,
        batches: list[Batch],
        removals: list[Removal],
        refusals: list[tuple[Row, str]],
        returned: list[Row],
        freed: list[int],
    ) -> None:
        with self._changed:
            # Published from memory while the disk refused, and acknowledged: written now, they would stay.
            puts = [row for batch in batches for row in batch.puts if row.id not in self._gone]
            given_up = list(self._given_up)
        taken = sum(len(batch.puts) for batch in batches)
        puts += returned
        last = puts[-1].id if puts else 0
        try:
            dropped = self._file.write(puts, removals, refusals, self._clock_ms(), freed, given_up)
        except sqlite3.Error as error:
            if is_corrupt(error):
                self._replace_file(str(error))
            self._put_back(batches, removals, refusals, str(error))
            return
        with self._reading, self._changed:
            # Under the readers' lock: what they saw before this commit they filter by what was gone before it.
            self._gone.difference_update(removal.id for removal in removals)
            self._gone.difference_update(row.id for row, _ in refusals)
            self._committing, self._in_hand = [], 0
            self._visible = max(self._visible, last)
            self._pending -= taken
            self._committed += taken
            del self._given_up[: len(given_up)]
            recovered, self._failing = self._failing, False
            wakers = self._wakers_of({put.route for put in puts})
            # Before the tickets, and before a flush can find nothing to wait for: who waits knows all that happened.
            self._tell(
                *dropped,
                *(Quarantined(row.meter, row.device, 1, reason) for row, reason in refusals),
                *([StorageRecovered()] if recovered else []),
            )
            if batches:
                self._on_loop(lambda: resolve(batches, True))
        for waker in wakers:
            waker()

    def _wakers_of(self, routes: set[str]) -> list[Callable[[], None]]:
        return [self._wakers[route] for route in routes if route in self._wakers]

    def _put_back(
        self, batches: list[Batch], removals: list[Removal], refusals: list[tuple[Row, str]], reason: str
    ) -> None:
        freed = True
        try:
            # Deleting frees pages: on a file that may not grow it can succeed where adding does not.
            self._file.write([], removals, [], self._clock_ms())
        except sqlite3.Error:
            freed = False
        with self._reading, self._changed:
            self._committing, self._in_hand = [], 0
            self._batches.extendleft(reversed(batches))
            if not freed:
                self._removals[:0] = removals
            self._refusals[:0] = refusals
            self._forget_published()
            if freed:
                self._gone.difference_update(removal.id for removal in removals)
            first, self._failing = not self._failing, True
            while self._pending > self._limits.memory_rows and len(self._batches) > 1:
                self._shed()
            wakers = self._wakers_of({row.route for batch in self._batches for row in batch.puts})
        for waker in wakers:
            waker()
        if first:
            self._tell(StorageFailed(reason))

    def _forget_published(self) -> None:
        """Let go of rows in memory that were published without ever being on disk; the caller holds the lock."""
        published: set[int] = set()
        done: list[Batch] = []
        for batch in self._batches:
            kept = [row for row in batch.puts if row.id not in self._gone]
            if len(kept) < len(batch.puts):
                published.update(row.id for row in batch.puts if row.id in self._gone)
                batch.puts = kept
            if not kept:
                done.append(batch)
        if not published:
            return
        quarantined = {row.id for row, _ in self._refusals}
        self._pending -= len(published)
        self._gone -= published - quarantined
        self._removals = [removal for removal in self._removals if removal.id not in published]
        self._batches = deque(batch for batch in self._batches if batch.puts)
        self._on_loop(lambda: resolve(done, True))

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
