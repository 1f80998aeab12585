"""Rows follow their meter when its route has changed between two runs of the service."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

from meterbridge.delivery.outbox_file import no_room
from meterbridge.errors import DeliveryError
from meterbridge.model import MeterId


def rehome(path: Path, wanted: Mapping[MeterId, str]) -> dict[str, int]:
    """Move the rows of routes that are in use no more to the routes of their meters; the outbox must not be open.

    Args:
        path: of the outbox; nothing is done where there is none, or where it is damaged: opening it sees to that.
        wanted: route of each meter.

    Returns:
        Rows that stay behind because their meter is unknown, by route.

    Raises:
        DeliveryError: the file cannot be written.
    """
    if not path.exists():
        return {}
    left: dict[str, int] = {}
    used = set(wanted.values())
    try:
        with closing(sqlite3.connect(path)) as db, db:
            for route in _routes(db):
                if route in used and not route.startswith("device:"):
                    continue
                for (meter,) in db.execute("SELECT DISTINCT meter FROM outbox WHERE route = ?", (route,)).fetchall():
                    target = wanted.get(meter)
                    if target is None:
                        (count,) = db.execute(
                            "SELECT count(*) FROM outbox WHERE route = ? AND meter = ?", (route, meter)
                        ).fetchone()
                        left[route] = left.get(route, 0) + count
                    elif target != route:
                        db.execute("UPDATE outbox SET route = ? WHERE route = ? AND meter = ?", (target, route, meter))
    except sqlite3.OperationalError as error:
        if "no such table" in str(error) or no_room(error) is not None:
            # Without room on the disk they wait for the next start.
            return {}
        raise DeliveryError(f"The outbox {path} cannot be written: {error}.") from error
    except sqlite3.DatabaseError:
        return {}
    return left


def _routes(db: sqlite3.Connection) -> list[str]:
    """Names of the routes that have rows: by the index, a step each, for the table may hold millions."""
    routes: list[str] = []
    after = ""
    while True:
        (route,) = db.execute("SELECT min(route) FROM outbox WHERE route > ?", (after,)).fetchone()
        if route is None:
            return routes
        routes.append(route)
        after = route
