"""The `audit` table: who had a meter changed, and what came of it. Rows outlive the meter they are about."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from meterbridge.model import MeterId
from meterbridge.store.engine import store_errors
from meterbridge.store.schema import audit

_LONGEST = 500


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One thing that was asked for.

    Args:
        at: when, Unix milliseconds.
        meter: of which meter; it may be gone.
        meter_name: what it was called then.
        origin: who asked: a route and the id of the request.
        action: the method, e.g. `setRelay`.
        parameters: as JSON.
        outcome: `done`, or why not; None as long as it is not known.
    """

    at: int
    meter: MeterId
    meter_name: str
    origin: str
    action: str
    parameters: str
    outcome: str | None = None


class AuditRepository:
    """Writes and reads entries.

    Every method raises StoreError when the database cannot be used.

    Args:
        engine: as `open_database` gives it; stays the caller's.
    """

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def add(self, entry: AuditEntry) -> int:
        """Write an entry, before what it is about is done; return its id."""
        row = {
            "timestamp": entry.at,
            "meter_id": entry.meter,
            "meter_name": entry.meter_name,
            "origin": entry.origin[:_LONGEST],
            "action": entry.action[:100],
            "parameters": entry.parameters[:_LONGEST],
            "outcome": None if entry.outcome is None else entry.outcome[:_LONGEST],
        }
        with store_errors(self._engine.url):
            async with self._engine.begin() as connection:
                result = await connection.execute(sa.insert(audit).values(row).returning(audit.c.id))
                return int(result.scalar_one())

    async def finish(self, id_: int, outcome: str) -> None:
        """Write what came of it."""
        with store_errors(self._engine.url):
            async with self._engine.begin() as connection:
                statement = sa.update(audit).where(audit.c.id == id_).values(outcome=outcome[:_LONGEST])
                await connection.execute(statement)

    async def newest(self, limit: int) -> list[AuditEntry]:
        """Return entries, newest first."""
        query = sa.select(audit).order_by(audit.c.id.desc()).limit(limit)
        with store_errors(self._engine.url):
            async with self._engine.connect() as connection:
                rows = (await connection.execute(query)).all()
        return [
            AuditEntry(
                row.timestamp,
                MeterId(row.meter_id),
                row.meter_name,
                row.origin,
                row.action,
                row.parameters,
                row.outcome,
            )
            for row in rows
        ]
