"""What the monitor measured, summed up by the database: a thousand meters' hour is sixty thousand rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from meterbridge.model import MeterId
from meterbridge.store.engine import store_errors
from meterbridge.store.schema import dlms_diagnostics, meter_metrics, network_metrics


@dataclass(frozen=True, slots=True)
class MeterSummary:
    """One meter over a window.

    Args:
        meter: whose.
        oldest: end of its first interval, Unix milliseconds.
        newest: end of its last.
        intervals: how many.
        success_rate: mean of the intervals', percent, or None. `mqtt_rate` (percent) and `avg_latency` (milliseconds)
            likewise.
        reconnections: in all. `hdlc_errors` likewise.
    """

    meter: MeterId
    oldest: int
    newest: int
    intervals: int
    success_rate: float | None
    mqtt_rate: float | None
    avg_latency: float | None
    reconnections: int
    hdlc_errors: int


@dataclass(frozen=True, slots=True)
class NetworkSummary:
    """The pings of one meter over a window: sent and answered."""

    meter: MeterId
    sent: int
    received: int


class SummaryRepository:
    """Windows of the metrics' tables, `since <= timestamp < until` in Unix milliseconds.

    Every method raises StoreError when the database cannot be used.

    Args:
        engine: as `open_database` gives it; stays the caller's.
    """

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def meters(self, since: int, until: int) -> list[MeterSummary]:
        """Sum up each meter that was measured."""
        table = meter_metrics.c
        # An old installation's rows may hold nothing in some columns.
        query = sa.select(
            table.meter_id,
            sa.func.min(table.timestamp),
            sa.func.max(table.timestamp),
            sa.func.count(),
            sa.func.avg(table.success_rate),
            sa.func.avg(table.mqtt_rate),
            sa.func.avg(table.avg_latency),
            sa.func.coalesce(sa.func.sum(table.reconnections), 0),
            sa.func.coalesce(sa.func.sum(table.hdlc_errors), 0),
        )
        return [MeterSummary(*row) for row in await self._rows(query, meter_metrics, since, until, table.meter_id)]

    async def network(self, since: int, until: int) -> list[NetworkSummary]:
        """Sum up the pings of each meter that was pinged."""
        table = network_metrics.c
        query = sa.select(table.meter_id, sa.func.sum(table.sent), sa.func.sum(table.received))
        return [NetworkSummary(*row) for row in await self._rows(query, network_metrics, since, until, table.meter_id)]

    async def events(self, since: int, until: int) -> dict[MeterId, dict[str, int]]:
        """Count what happened to each meter, by event."""
        table = dlms_diagnostics.c
        query = sa.select(table.meter_id, table.event, sa.func.sum(table.count))
        found: dict[MeterId, dict[str, int]] = {}
        for meter, event, count in await self._rows(query, dlms_diagnostics, since, until, table.meter_id, table.event):
            found.setdefault(meter, {})[event] = count
        return found

    async def _rows(
        self, query: sa.Select[Any], table: sa.Table, since: int, until: int, *groups: sa.Column[Any]
    ) -> list[tuple[Any, ...]]:
        within = query.where(table.c.timestamp >= since, table.c.timestamp < until).group_by(*groups).order_by(*groups)
        with store_errors(self._engine.url):
            async with self._engine.connect() as connection:
                return [tuple(row) for row in (await connection.execute(within)).all()]
