"""What the monitor measures, interval by interval: written in one transaction, read back by meter and time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from meterbridge.model import MeterId
from meterbridge.store.engine import store_errors
from meterbridge.store.schema import dlms_diagnostics, meter_metrics, meters, network_metrics

BATCH = 200

_Of = TypeVar("_Of", "MeterMetrics", "NetworkMetrics", "Diagnostic")


@dataclass(frozen=True, slots=True)
class MeterMetrics:
    """One meter over one interval.

    Args:
        timestamp: end of the interval, Unix milliseconds.
        meter: whose.
        success_rate: polls that gave a reading, percent of those due; None when none was due.
        mqtt_rate: readings acknowledged by MQTT, percent of those queued; None when none was queued.
        avg_latency: mean time from request to whole answer, milliseconds; None without an answer.
        reconnections: associations opened again.
        hdlc_errors: damaged frames and noise on its line.
    """

    timestamp: int
    meter: MeterId
    success_rate: float | None
    mqtt_rate: float | None
    avg_latency: float | None
    reconnections: int
    hdlc_errors: int


@dataclass(frozen=True, slots=True)
class NetworkMetrics:
    """The pings of one meter over one interval.

    Args:
        timestamp: end of the interval, Unix milliseconds.
        meter: whose.
        sent: pings.
        received: answers.
        latency_min: of the answers, milliseconds; None without one. `latency_avg` and `latency_max` likewise.
    """

    timestamp: int
    meter: MeterId
    sent: int
    received: int
    latency_min: float | None
    latency_avg: float | None
    latency_max: float | None


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """Something of one kind that happened between us and a meter, over one interval.

    Args:
        timestamp: end of the interval, Unix milliseconds.
        meter: whose.
        event: what, e.g. `hdlc_error` or `breaker_open`.
        count: how often.
        detail: the newest, one sentence, or None.
    """

    timestamp: int
    meter: MeterId
    event: str
    count: int
    detail: str | None


class MetricsRepository:
    """The tables `meter_metrics`, `network_metrics` and `dlms_diagnostics`.

    Every method raises StoreError when the database cannot be used.

    Args:
        engine: as `open_database` gives it; stays the caller's.
    """

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def record(
        self,
        metrics: Sequence[MeterMetrics],
        network: Sequence[NetworkMetrics] = (),
        diagnostics: Sequence[Diagnostic] = (),
    ) -> None:
        """Write one interval of all meters in one transaction; meters no longer in the database are passed over."""
        with store_errors(self._engine.url):
            # Read before the transaction: one that reads first and then writes fails on SQLite when another wrote.
            async with self._engine.connect() as connection:
                known = set((await connection.execute(sa.select(meters.c.id))).scalars())
            async with self._engine.begin() as connection:
                for table, rows in (
                    (meter_metrics, metrics),
                    (network_metrics, network),
                    (dlms_diagnostics, diagnostics),
                ):
                    for start in range(0, len(rows), BATCH):
                        # In pieces: the event loop has meters to poll meanwhile.
                        values = [_values(row) for row in rows[start : start + BATCH] if row.meter in known]
                        if values:
                            await connection.execute(sa.insert(table), values)

    async def prune(self, before: int) -> int:
        """Delete what is older than a time, Unix milliseconds, in one transaction. Return how many rows went."""
        gone = 0
        with store_errors(self._engine.url):
            async with self._engine.begin() as connection:
                for table in (meter_metrics, network_metrics, dlms_diagnostics):
                    gone += (await connection.execute(sa.delete(table).where(table.c.timestamp < before))).rowcount
        return gone

    async def meter_metrics(self, since: int, until: int, meter: MeterId | None = None) -> list[MeterMetrics]:
        """Return rows with `since <= timestamp < until` (Unix milliseconds) in order of time; of one meter if given."""
        return await self._select(meter_metrics, MeterMetrics, since, until, meter)

    async def network_metrics(self, since: int, until: int, meter: MeterId | None = None) -> list[NetworkMetrics]:
        """Return rows as `meter_metrics` does."""
        return await self._select(network_metrics, NetworkMetrics, since, until, meter)

    async def diagnostics(self, since: int, until: int, meter: MeterId | None = None) -> list[Diagnostic]:
        """Return rows as `meter_metrics` does."""
        return await self._select(dlms_diagnostics, Diagnostic, since, until, meter)

    async def _select(
        self, table: sa.Table, row_type: type[_Of], since: int, until: int, meter: MeterId | None
    ) -> list[_Of]:
        names = [_COLUMN.get(name, name) for name in row_type.__dataclass_fields__]
        query = sa.select(*(table.c[name] for name in names)).where(
            table.c.timestamp >= since, table.c.timestamp < until
        )
        if meter is not None:
            query = query.where(table.c.meter_id == meter)
        with store_errors(self._engine.url):
            async with self._engine.connect() as connection:
                rows = (await connection.execute(query.order_by(table.c.timestamp, table.c.meter_id))).all()
        return [row_type(*row) for row in rows]


_COLUMN = {"meter": "meter_id"}


def _values(row: MeterMetrics | NetworkMetrics | Diagnostic) -> dict[str, Any]:
    return {_COLUMN.get(name, name): getattr(row, name) for name in row.__dataclass_fields__}
