"""The outbox's file seen from another process, whether the service runs or not: SQLite lets both in."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from meterbridge.delivery.outbox_file import SCHEMA
from meterbridge.delivery.row import Row
from meterbridge.errors import DeliveryError

_BUSY_S = 10.0


@dataclass(frozen=True, slots=True)
class RouteSummary:
    """What waits for one route.

    Args:
        route: its name.
        rows: how many.
        octets: of payload.
        oldest_at: when the oldest was put, Unix milliseconds.
    """

    route: str
    rows: int
    octets: int
    oldest_at: int


@dataclass(frozen=True, slots=True)
class Summary:
    """What the file holds.

    Args:
        routes: what waits, by route.
        quarantined: rows put aside.
        claimed: those of them that were freed by `retry` and that the service has not taken yet.
        set_aside: damaged files beside it.
    """

    routes: tuple[RouteSummary, ...]
    quarantined: int
    claimed: int
    set_aside: tuple[Path, ...]


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
            "SELECT route, count(*), sum(length(payload)), min(at) FROM outbox GROUP BY route ORDER BY route"
        ).fetchall()
        (quarantined,) = db.execute("SELECT count(*) FROM quarantine").fetchone()
        (claimed,) = db.execute("SELECT count(*) FROM quarantine WHERE id IN (SELECT id FROM retry)").fetchone()
    aside = sorted(path.parent.glob(f"{path.name}.corrupt-*[0-9]"))
    return Summary(tuple(RouteSummary(*row) for row in routes), quarantined, claimed, tuple(aside))


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
