"""Alarms in the database: at most one open row for each meter and type."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from meterbridge.model import MeterId
from meterbridge.store.engine import store_errors
from meterbridge.store.schema import alarms, meters

LONGEST_MESSAGE = 500


class Severity(StrEnum):
    """How bad it is."""

    CRITICAL = "critical"
    WARNING = "warning"
    INFO = "info"


class AlarmOutcome(StrEnum):
    """What a change came to."""

    OPENED = "opened"
    REPEATED = "repeated"
    RESOLVED = "resolved"
    NOTHING = "nothing"
    """Nothing was open to resolve, or the meter is no longer in the database."""


@dataclass(frozen=True, slots=True)
class Raise:
    """An alarm condition holds.

    Args:
        meter: whose; None for the installation as a whole.
        type: of the alarm, at most 50 characters, e.g. `connection_loss`.
        severity: how bad.
        message: one sentence for a person, cut at 500 characters.
        at: since when, Unix milliseconds.
    """

    meter: MeterId | None
    type: str
    severity: Severity
    message: str
    at: int


@dataclass(frozen=True, slots=True)
class Resolve:
    """An alarm condition is over since `at`, Unix milliseconds."""

    meter: MeterId | None
    type: str
    at: int


AlarmChange = Raise | Resolve


@dataclass(frozen=True, slots=True)
class Alarm:
    """One row of `alarms`.

    Args:
        id: primary key.
        meter: whose; None for the installation as a whole.
        type: e.g. `connection_loss`.
        severity: `critical`, `warning` or `info`.
        message: the newest.
        created_at: when it opened, Unix milliseconds; None where an old row holds no time.
        resolved_at: when it was over, Unix milliseconds; None while open.
        acknowledged_at: when a person had seen it, Unix milliseconds, or None.
        acknowledged_by: who.
    """

    id: int
    meter: MeterId | None
    type: str
    severity: str
    message: str
    created_at: int | None
    resolved_at: int | None
    acknowledged_at: int | None = None
    acknowledged_by: str | None = None


class AlarmRepository:
    """The `alarms` table.

    Every method raises StoreError when the database cannot be used.

    Args:
        engine: as `open_database` gives it; stays the caller's.
    """

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def apply(self, changes: Sequence[AlarmChange]) -> list[AlarmOutcome]:
        """Make changes in their order, all in one transaction.

        An alarm raised while it is open keeps its row and takes severity and message of the newest; resolving closes
        every open row of that meter and type, an old installation may have several.

        Returns:
            What became of each.
        """
        if not changes:
            return []
        with store_errors(self._engine.url):
            async with self._engine.begin() as connection:
                return [
                    await _raise(connection, change)
                    if isinstance(change, Raise)
                    else await _resolve(connection, change)
                    for change in changes
                ]

    async def open_alarms(self, meter: MeterId | None = None) -> list[Alarm]:
        """Return the open alarms, oldest first; of one meter where given."""
        query = sa.select(alarms).where(alarms.c.resolved_at.is_(None))
        return await self._select(query if meter is None else query.where(alarms.c.meter_id == meter))

    async def alarms(self, since: int, until: int, meter: MeterId | None = None) -> list[Alarm]:
        """Return the alarms open at any time in `since` up to `until` (Unix milliseconds), oldest first."""
        query = sa.select(alarms).where(
            alarms.c.created_at < until,
            sa.or_(alarms.c.resolved_at.is_(None), alarms.c.resolved_at >= since),
        )
        return await self._select(query if meter is None else query.where(alarms.c.meter_id == meter))

    async def acknowledge(self, alarm: int, at: int, by: str) -> bool:
        """Note that a person has seen an alarm; it stays open as long as its condition holds.

        Args:
            alarm: its id; one acknowledged before keeps who was first.
            at: now, Unix milliseconds.
            by: who, at most 100 characters.

        Returns:
            Whether there is such an alarm.
        """
        known = alarms.c.id == alarm
        seen = sa.update(alarms).where(known, alarms.c.acknowledged_at.is_(None))
        with store_errors(self._engine.url):
            async with self._engine.begin() as connection:
                if (await connection.execute(seen.values(acknowledged_at=at, acknowledged_by=by))).rowcount:
                    return True
                return await connection.scalar(sa.select(alarms.c.id).where(known)) is not None

    async def prune(self, before: int) -> int:
        """Delete alarms resolved before a time, Unix milliseconds; open ones stay. Return how many went."""
        statement = sa.delete(alarms).where(alarms.c.resolved_at < before)
        with store_errors(self._engine.url):
            async with self._engine.begin() as connection:
                return (await connection.execute(statement)).rowcount

    async def _select(self, query: sa.Select[Any]) -> list[Alarm]:
        with store_errors(self._engine.url):
            async with self._engine.connect() as connection:
                rows = (await connection.execute(query.order_by(alarms.c.id))).all()
        return [
            Alarm(
                row.id,
                row.meter_id,
                row.alarm_type,
                row.severity,
                row.message,
                row.created_at,
                row.resolved_at,
                row.acknowledged_at,
                row.acknowledged_by,
            )
            for row in rows
        ]


def _open(change: AlarmChange) -> sa.ColumnElement[bool]:
    # `IS` finds the rows without a meter as well.
    return sa.and_(
        alarms.c.meter_id.is_not_distinct_from(change.meter),
        alarms.c.alarm_type == change.type,
        alarms.c.resolved_at.is_(None),
    )


async def _raise(connection: AsyncConnection, change: Raise) -> AlarmOutcome:
    told = {"severity": str(change.severity), "message": change.message[:LONGEST_MESSAGE]}
    if (await connection.execute(sa.update(alarms).where(_open(change)).values(told))).rowcount:
        return AlarmOutcome.REPEATED
    if change.meter is not None:
        known = await connection.scalar(sa.select(meters.c.id).where(meters.c.id == change.meter))
        if known is None:
            return AlarmOutcome.NOTHING
    await connection.execute(
        sa.insert(alarms).values(meter_id=change.meter, alarm_type=change.type, created_at=change.at, **told)
    )
    return AlarmOutcome.OPENED


async def _resolve(connection: AsyncConnection, change: Resolve) -> AlarmOutcome:
    result = await connection.execute(sa.update(alarms).where(_open(change)).values(resolved_at=change.at))
    return AlarmOutcome.RESOLVED if result.rowcount else AlarmOutcome.NOTHING
