"""The outbox's SQLite file: tables, transactions, bounds. Synchronous; one writer."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from meterbridge.delivery.events import Dropped
from meterbridge.delivery.moving import Homes, Moved, move_rows
from meterbridge.delivery.row import Row
from meterbridge.delivery.wal import Examined, examine
from meterbridge.errors import DeliveryError
from meterbridge.model import MeterId

SCHEMA = """
CREATE TABLE IF NOT EXISTS outbox (
    id INTEGER PRIMARY KEY, meter INTEGER NOT NULL, route TEXT NOT NULL, kind TEXT NOT NULL, device TEXT NOT NULL,
    ts INTEGER NOT NULL, payload BLOB NOT NULL, at INTEGER NOT NULL);
CREATE INDEX IF NOT EXISTS outbox_by_route ON outbox (route, id);
CREATE TABLE IF NOT EXISTS quarantine (
    id INTEGER PRIMARY KEY, meter INTEGER NOT NULL, route TEXT NOT NULL, kind TEXT NOT NULL, device TEXT NOT NULL,
    ts INTEGER NOT NULL, payload BLOB NOT NULL, at INTEGER NOT NULL, error TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS retry (id INTEGER PRIMARY KEY);
CREATE TABLE IF NOT EXISTS losses (
    meter INTEGER PRIMARY KEY, rows INTEGER NOT NULL, since INTEGER NOT NULL, at INTEGER NOT NULL);
"""
_NO_ROOM = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR)
CORRUPT = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


# Refused rows are kept for people, who look at the oldest of them: more are of no more use.
_QUARANTINE_ROWS = 100_000
_OLDEST_WAITING = "SELECT id, meter, ts, length(payload), at FROM outbox ORDER BY id"
_OLDEST_ASIDE = "SELECT id, meter, ts, length(payload), at FROM quarantine ORDER BY id"


class _Bound(NamedTuple):
    oldest: str
    rows: int
    octets: int
    most: int


class Removal(NamedTuple):
    """An acknowledged row, without its payload: thousands wait while the disk is full."""

    id: int
    octets: int


class Loss(NamedTuple):
    """What was given up of one meter since the file was begun.

    Args:
        rows: how many.
        since: `ts` of the oldest, Unix milliseconds.
        at: when the last of them went, Unix milliseconds.
    """

    rows: int
    since: int
    at: int


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of the outbox; past them the oldest rows go.

    Args:
        rows: on disk.
        octets: of payload on disk.
        age_s: seconds since a row was put.
        memory_rows: rows held in memory while the disk refuses them.
    """

    rows: int = 5_000_000
    octets: int = 2 * 1024**3
    age_s: float = 30 * 86_400
    memory_rows: int = 100_000


def is_corrupt(error: sqlite3.Error) -> bool:
    """Whether the file itself is damaged, rather than the disk full or busy."""
    # Extended result codes carry the primary one in their low octet.
    return (getattr(error, "sqlite_errorcode", 0) & 0xFF) in CORRUPT


def set_aside(path: Path, now_ms: int) -> Path:
    """Rename a corrupt file, with its WAL, so that it can be examined; return its new name."""
    target = path.with_name(f"{path.name}.corrupt-{now_ms}")
    for suffix in ("", "-wal", "-shm"):
        source = Path(f"{path}{suffix}")
        if source.exists():
            source.rename(f"{target}{suffix}")
    return target


def damaged_files(path: Path) -> list[Path]:
    """What was set aside of an outbox and is still there, oldest first."""
    return sorted(
        [*path.parent.glob(f"{path.name}.corrupt-*[0-9]"), *path.parent.glob(f"{path.name}-wal.corrupt-*[0-9]")]
    )


def _ranges(ids: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Runs of consecutive ids: PUBACKs come nearly in order, so thousands of rows go in one DELETE."""
    first = last = -1
    for current in sorted(set(ids)):
        if current != last + 1 or first < 0:
            if first >= 0:
                yield first, last
            first = current
        last = current
    if first >= 0:
        yield first, last


class OutboxFile:
    """Writer's side of the file. Every method may raise `sqlite3.Error`; nothing is then changed.

    Args:
        path: of the file; its folder must exist.
        limits: bounds enforced by `write`.
        next_id: lowest id to give out.
    """

    def __init__(self, path: Path, limits: Limits, next_id: int = 1) -> None:
        self._limits = limits
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        try:
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")
            self._db.executescript(SCHEMA)
            # Whether it may be written at all is known with the first statement that would.
            self._db.execute("DELETE FROM retry WHERE id = 0")
            (verdict,) = self._db.execute("PRAGMA quick_check(1)").fetchone()
            if verdict != "ok":
                error = sqlite3.DatabaseError(f"database disk image is malformed: {verdict}")
                error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
                raise error
            self.recount()
            (last,) = self._db.execute(
                "SELECT max(coalesce((SELECT max(id) FROM outbox), 0), coalesce((SELECT max(id) FROM quarantine), 0))"
            ).fetchone()
            self._version = self._data_version()
        except sqlite3.Error:
            self._db.close()
            raise
        self.next_id = max(next_id, last + 1)

    def recount(self) -> None:
        """Count what the file holds."""
        self.rows, self.octets = self._count()
        (self.quarantined,) = self._db.execute("SELECT count(*) FROM quarantine").fetchone()
        self.losses = read_losses(self._db)

    def changed_by_others(self) -> bool:
        """Whether another process wrote to the file since the last call."""
        before, self._version = self._version, self._data_version()
        return before != self._version

    def claimed(self, limit: int) -> list[Row]:
        """Quarantined rows that somebody wants sent again, oldest first, under the ids they had."""
        found = self._db.execute(
            "SELECT id, meter, route, kind, device, ts, payload, at FROM quarantine"
            " WHERE id IN (SELECT id FROM retry) ORDER BY id LIMIT ?",
            (limit,),
        )
        return list(map(Row._make, found.fetchall()))

    def _data_version(self) -> int:
        (version,) = self._db.execute("PRAGMA data_version").fetchone()
        return int(version)

    def misses(self, log: Examined) -> bool:
        """Whether transactions of the log that was there are missing."""
        return log.is_damaged(self._db)

    def close(self) -> None:
        """Close the file; its WAL is folded in."""
        self._db.close()

    def write(
        self,
        puts: Sequence[Row],
        removals: Sequence[Removal],
        refusals: Sequence[tuple[Row, str]],
        now_ms: int,
        freed: Sequence[int] = (),
        given_up: Sequence[Dropped] = (),
    ) -> list[Dropped]:
        """Apply one group commit: it is on disk, whole, when this returns.

        Args:
            puts: to add, in order, their ids above all that were there before.
            removals: acknowledged rows.
            refusals: rows to quarantine, each with its error.
            now_ms: Unix milliseconds, for the bound on age.
            freed: ids that leave quarantine; their rows are among `puts` under new ids.
            given_up: rows lost before they came here, to be counted with those that the bounds cost.

        Returns:
            What the bounds cost, by meter and reason.
        """
        db = self._db
        db.execute("BEGIN IMMEDIATE")
        try:
            rows, octets = self._remove([*removals, *(Removal(row.id, len(row.payload)) for row, _ in refusals)])
            if refusals:
                db.executemany(
                    "INSERT OR REPLACE INTO quarantine VALUES (?,?,?,?,?,?,?,?,?)",
                    [(*row, error) for row, error in refusals],
                )
            if freed:
                db.executemany("DELETE FROM quarantine WHERE id = ?", [(number,) for number in freed])
                db.execute("DELETE FROM retry WHERE id NOT IN (SELECT id FROM quarantine)")
            if puts:
                db.executemany("INSERT INTO outbox VALUES (?,?,?,?,?,?,?,?)", puts)
                rows += len(puts)
                octets += sum(len(put.payload) for put in puts)
            rows, octets, dropped = self._bound(rows, octets, now_ms)
            if refusals:
                dropped += self._bound_quarantine(now_ms)
            losses = self._count_losses([*given_up, *dropped], now_ms)
            moved = bool(refusals or freed)
            (quarantined,) = db.execute("SELECT count(*) FROM quarantine").fetchone() if moved else (self.quarantined,)
            db.execute("COMMIT")
        except sqlite3.Error:
            if db.in_transaction:
                db.execute("ROLLBACK")
            raise
        self.rows, self.octets, self.quarantined, self.losses = rows, octets, quarantined, losses
        if puts:
            self.next_id = puts[-1].id + 1
        return dropped

    def move(self, homes: Homes) -> Moved:
        """Bring rows to the routes of their meters, in a transaction of its own: a long backlog takes seconds."""
        db = self._db
        db.execute("BEGIN IMMEDIATE")
        try:
            moved = move_rows(db, homes)
            db.execute("COMMIT")
        except sqlite3.Error:
            if db.in_transaction:
                db.execute("ROLLBACK")
            raise
        return moved

    def _count(self) -> tuple[int, int]:
        rows, octets = self._db.execute("SELECT count(*), coalesce(sum(length(payload)), 0) FROM outbox").fetchone()
        return rows, octets

    def _remove(self, removals: Sequence[Removal]) -> tuple[int, int]:
        if not removals:
            return self.rows, self.octets
        cursor = self._db.executemany(
            "DELETE FROM outbox WHERE id BETWEEN ? AND ?", _ranges(row.id for row in removals)
        )
        if cursor.rowcount != len(removals):
            # Some had already gone over a bound, or were acknowledged twice: count again rather than drift.
            return self._count()
        return self.rows - len(removals), self.octets - sum(row.octets for row in removals)

    def _count_losses(self, lost: Sequence[Dropped], now_ms: int) -> dict[MeterId, Loss]:
        if not lost:
            return self.losses
        self._db.executemany(
            "INSERT INTO losses VALUES (?,?,?,?) ON CONFLICT (meter) DO UPDATE SET"
            " rows = rows + excluded.rows, since = min(since, excluded.since), at = excluded.at",
            [(loss.meter, loss.rows, loss.since, now_ms) for loss in lost],
        )
        return read_losses(self._db)

    def _bound(self, rows: int, octets: int, now_ms: int) -> tuple[int, int, list[Dropped]]:
        limits = self._limits
        last, rows, octets, dropped = self._oldest_past(_Bound(_OLDEST_WAITING, rows, octets, limits.rows), now_ms)
        if last:
            self._db.execute("DELETE FROM outbox WHERE id <= ?", (last,))
        return rows, octets, dropped

    def _bound_quarantine(self, now_ms: int) -> list[Dropped]:
        rows, octets = self._db.execute("SELECT count(*), coalesce(sum(length(payload)), 0) FROM quarantine").fetchone()
        most = min(self._limits.rows, _QUARANTINE_ROWS)
        last, _, _, dropped = self._oldest_past(_Bound(_OLDEST_ASIDE, rows, octets, most), now_ms)
        if last:
            self._db.execute("DELETE FROM quarantine WHERE id <= ?", (last,))
        return dropped

    def _oldest_past(self, bound: _Bound, now_ms: int) -> tuple[int, int, int, list[Dropped]]:
        """Find the oldest rows that have to go: the last of them, what is left, and whose they are."""
        query, rows, octets, most = bound
        oldest_allowed = now_ms - int(self._limits.age_s * 1000)
        losses: dict[tuple[MeterId, str], tuple[int, int]] = {}
        last = 0
        oldest = self._db.execute(query)
        for number, meter, ts, length, at in oldest:
            if rows > most:
                reason = "rows"
            elif octets > self._limits.octets:
                reason = "octets"
            elif at < oldest_allowed:
                reason = "age"
            else:
                break
            rows, octets, last = rows - 1, octets - length, number
            count, since = losses.get((meter, reason), (0, ts))
            losses[meter, reason] = (count + 1, min(since, ts))
        oldest.close()
        dropped = [Dropped(meter, count, since, reason) for (meter, reason), (count, since) in losses.items()]
        return last, rows, octets, dropped


def read_losses(db: sqlite3.Connection) -> dict[MeterId, Loss]:
    """What was given up, by meter."""
    return {MeterId(meter): Loss(*loss) for meter, *loss in db.execute("SELECT * FROM losses ORDER BY meter")}


class Reader:
    """Reader's side of the file: sees what is committed, never waits for the writer."""

    def __init__(self, path: Path) -> None:
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def peek(self, route: str, after: int, limit: int, last: int) -> list[Row]:
        """Oldest rows of a route with an id above `after` and up to `last`, at most `limit`."""
        found = self._db.execute(
            "SELECT id, meter, route, kind, device, ts, payload, at FROM outbox"
            " WHERE route = ? AND id > ? AND id <= ? ORDER BY id LIMIT ?",
            (route, after, last, limit),
        )
        return list(map(Row._make, found.fetchall()))

    def waiting(self, route: str, at_most: int) -> int:
        """How many rows a route has, counted no further than `at_most`."""
        (count,) = self._db.execute(
            "SELECT count(*) FROM (SELECT 1 FROM outbox WHERE route = ? LIMIT ?)", (route, at_most)
        ).fetchone()
        return int(count)

    def oldest(self, route: str) -> int | None:
        """When the oldest row of a route was put, Unix milliseconds, or None."""
        found = self._db.execute("SELECT at FROM outbox WHERE route = ? ORDER BY id LIMIT 1", (route,)).fetchone()
        return None if found is None else int(found[0])


class NoFile:
    """Stands for a file for which there was no room when it was to be opened: holds nothing, takes nothing.

    Args:
        error: why.
        next_id: lowest id to give out, above all that the file may hold.
    """

    def __init__(self, error: sqlite3.Error, next_id: int) -> None:
        self._error = error
        self.next_id = next_id
        self.rows = self.octets = self.quarantined = 0
        self.losses: dict[MeterId, Loss] = {}

    def write(self, *_: object) -> list[Dropped]:
        """Refuse."""
        raise self._error

    def move(self, homes: Homes) -> Moved:
        """Refuse."""
        raise self._error

    def changed_by_others(self) -> bool:
        """No."""
        return False

    def recount(self) -> None:
        """Nothing is there."""

    def claimed(self, limit: int) -> list[Row]:
        """None."""
        return []

    def peek(self, route: str, after: int, limit: int, last: int) -> list[Row]:
        """None."""
        return []

    def waiting(self, route: str, at_most: int) -> int:
        """None."""
        return 0

    def oldest(self, route: str) -> int | None:
        """None."""
        return None

    def close(self) -> None:
        """Nothing to close."""


def no_room(error: BaseException | None) -> sqlite3.Error | None:
    """The error, where it says that the disk is full or does not write just now."""
    if isinstance(error, sqlite3.Error) and (getattr(error, "sqlite_errorcode", 0) & 0xFF) in _NO_ROOM:
        return error
    return None


def open_file(
    path: Path, limits: Limits, now_ms: int, on_set_aside: Callable[[Path, str], None], next_id: int = 1
) -> OutboxFile:
    """Open the file; one that is corrupt or may not be written is set aside first, and of a damaged log a copy is kept.

    Raises:
        DeliveryError: it can be neither opened nor created.
    """
    try:
        log = examine(path)
        try:
            file = OutboxFile(path, limits, next_id)
        except sqlite3.DatabaseError as error:
            if not (is_corrupt(error) or _is_read_only(error)):
                raise
            if log is not None:
                log.discard()
            on_set_aside(set_aside(path, now_ms), " ".join(str(error).split()))
            return OutboxFile(path, limits, next_id)
        if log is not None:
            if file.misses(log):
                kept = Path(f"{path}-wal.corrupt-{now_ms}")
                log.keep(kept)
                on_set_aside(kept, "its write-ahead log was damaged: what was committed last is missing")
            else:
                log.discard()
        return file
    except (sqlite3.Error, OSError) as error:
        raise DeliveryError(f"The outbox {path} cannot be opened: {error}.") from error


def _is_read_only(error: sqlite3.Error) -> bool:
    return (getattr(error, "sqlite_errorcode", 0) & 0xFF) == sqlite3.SQLITE_READONLY
