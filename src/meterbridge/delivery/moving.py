"""Moves rows that nobody would send to the routes of their meters: SQL on an open outbox."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Set
from typing import NamedTuple

from meterbridge.model import MeterId


class Homes(NamedTuple):
    """Where rows belong.

    Args:
        wanted: route of each configured meter.
        served: routes that have a connection of their own.
    """

    wanted: Mapping[MeterId, str]
    served: Set[str]

    def stays(self, route: str) -> bool:
        """Whether a route keeps its rows: one that many share and that is served."""
        return route in self.served and not route.startswith("device:")

    def of(self, meter: MeterId, route: str) -> str:
        """The route on which a meter's row belongs that was put for `route`."""
        return route if self.stays(route) else self.wanted.get(meter, route)


class Moved(NamedTuple):
    """What a move came to.

    Args:
        into: routes that have older rows now than before.
        left: rows by route that nobody serves: their meters are unknown, or do not deliver.
        unknown: those of them whose meters are unknown.
    """

    into: frozenset[str]
    left: Mapping[str, int]
    unknown: Mapping[str, int]


def move_rows(db: sqlite3.Connection, homes: Homes) -> Moved:
    """Move the rows of routes that nobody serves, and of other meters' own routes, to the routes of their meters.

    Raises:
        sqlite3.Error: the caller's transaction is to be rolled back.
    """
    into: set[str] = set()
    unknown: dict[str, int] = {}
    for route in _routes(db):
        if homes.stays(route):
            continue
        for (meter,) in db.execute("SELECT DISTINCT meter FROM outbox WHERE route = ?", (route,)).fetchall():
            target = homes.wanted.get(meter)
            if target is None:
                unknown[route] = unknown.get(route, 0) + _count(db, route, meter)
            elif target != route:
                db.execute("UPDATE outbox SET route = ? WHERE route = ? AND meter = ?", (target, route, meter))
                into.add(target)
    left = {
        route: count
        for route in _routes(db)
        if route not in homes.served
        for (count,) in db.execute("SELECT count(*) FROM outbox WHERE route = ?", (route,))
    }
    return Moved(frozenset(into), left, unknown)


def _count(db: sqlite3.Connection, route: str, meter: MeterId) -> int:
    (count,) = db.execute("SELECT count(*) FROM outbox WHERE route = ? AND meter = ?", (route, meter)).fetchone()
    return int(count)


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
