"""The outbox's file seen from another process, whether the service runs or not: SQLite lets both in."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from meterbridge.delivery.outbox_file import SCHEMA, Loss, damaged_files, read_losses
from meterbridge.delivery.row import Row
from meterbridge.errors import DeliveryError
from meterbridge.model import MeterId

_BUSY_S = 10.0


@dataclass(frozen=True, slots=True)
class RouteSummary:
    """What waits for one route.

    Args:
        route: its name.
        rows: how many.
        octets: of payload.
        oldest_at: when the oldest was put, Unix milliseconds; None where none waits.
        quarantined: rows put aside.
    """

    route: str
    rows: int
    octets: int
    oldest_at: int | None
    quarantined: int


@dataclass(frozen=True, slots=True)
class Summary:
    """What the file holds.

    Args:
        routes: what waits and what was put aside, by route.
        claimed: rows that `retry` freed from quarantine and that the service has not taken yet.
        losses: what was given up since the file was begun, by meter.
        set_aside: damaged files beside it.
    """

    routes: tuple[RouteSummary, ...]
    claimed: int
    losses: Mapping[MeterId, Loss]
    set_aside: tuple[Path, ...]

    @property
    def quarantined(self) -> int:
        """Rows put aside, of all routes."""
        return sum(route.quarantined for route in self.routes)


@dataclass(frozen=True, slots=True)
class Listed:
    """One row as people see it; `error` says why it is in quarantine, and is empty for one that waits."""

    row: Row
    error: str


@contextmanager
def _opened(path: Path) -> Iterator[sqlite3.Connection]:
    if not path.exists():
        raise DeliveryError(f"There is no outbox at {path}.")
    try:
        with closing(sqlite3.connect(path, timeout=_BUSY_S)) as db, db:
            db.executescript(SCHEMA)
            yield db
    except sqlite3.Error as error:
        raise DeliveryError(f"The outbox {path} cannot be used: {error}.") from error


def summary(path: Path) -> Summary:
    """Count what waits and what is in quarantine.

    Raises:
        DeliveryError: there is no outbox, or it cannot be read.
    """
    with _opened(path) as db:
        routes = db.execute(
            "SELECT route, sum(waits), sum(octets), min(at), sum(aside) FROM"
            " (SELECT route, count(*) AS waits, sum(length(payload)) AS octets, min(at) AS at, 0 AS aside"
            " FROM outbox GROUP BY route"
            " UNION ALL SELECT route, 0, 0, NULL, count(*) FROM quarantine GROUP BY route)"
            " GROUP BY route ORDER BY route"
        ).fetchall()
        (claimed,) = db.execute("SELECT count(*) FROM quarantine WHERE id IN (SELECT id FROM retry)").fetchone()
        losses = read_losses(db)
    return Summary(tuple(RouteSummary(*row) for row in routes), claimed, losses, tuple(damaged_files(path)))


def listing(path: Path, *, quarantined: bool, meter: int | None, limit: int) -> list[Listed]:
    """Oldest rows that wait, or those in quarantine.

    Raises:
        DeliveryError: there is no outbox, or it cannot be read.
    """
    table, error = ("quarantine", "error") if quarantined else ("outbox", "''")
    condition, values = ("WHERE meter = ?", (meter,)) if meter is not None else ("", ())
    with _opened(path) as db:
        found = db.execute(
            f"SELECT id, meter, route, kind, device, ts, payload, at, {error} FROM {table} {condition}"  # noqa: S608
            " ORDER BY id LIMIT ?",
            (*values, limit),
        ).fetchall()
    return [Listed(Row(*columns), reason) for *columns, reason in found]


def retry(path: Path, ids: Sequence[int] | None) -> int:
    """Have quarantined rows sent again, all where None; a running service takes them within seconds.

    Returns:
        How many of them are there.

    Raises:
        DeliveryError: there is no outbox, or it cannot be written.
    """
    with _opened(path) as db:
        if ids is None:
            return db.execute("INSERT OR IGNORE INTO retry SELECT id FROM quarantine").rowcount
        return sum(
            db.execute("INSERT OR IGNORE INTO retry SELECT id FROM quarantine WHERE id = ?", (number,)).rowcount
            for number in ids
        )


def purge(path: Path, ids: Sequence[int] | None) -> int:
    """Delete quarantined rows for good, all where None.

    Returns:
        How many went.

    Raises:
        DeliveryError: there is no outbox, or it cannot be written.
    """
    with _opened(path) as db:
        if ids is None:
            return db.execute("DELETE FROM quarantine").rowcount
        return sum(db.execute("DELETE FROM quarantine WHERE id = ?", (number,)).rowcount for number in ids)


def purge_route(path: Path, route: str) -> int:
    """Delete all rows that wait for a route, for good.

    Returns:
        How many went.

    Raises:
        DeliveryError: there is no outbox, or it cannot be written.
    """
    with _opened(path) as db:
        return db.execute("DELETE FROM outbox WHERE route = ?", (route,)).rowcount
