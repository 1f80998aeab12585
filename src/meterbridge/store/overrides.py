"""The `meter_overrides` table: what ThingsBoard's shared attributes say of a meter, for a start without ThingsBoard."""

from __future__ import annotations

import json
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from meterbridge.model import MeterId
from meterbridge.store.engine import store_errors
from meterbridge.store.schema import meter_overrides, meters


@dataclass(frozen=True, slots=True)
class Overrides:
    """What holds in place of the configuration.

    Args:
        period: seconds between polls, None for what is configured.
        measurements: what is polled, None for what the model polls.
    """

    period: float | None = None
    measurements: tuple[str, ...] | None = None


class OverrideRepository:
    """Reads and replaces overrides.

    Every method raises StoreError when the database cannot be used.

    Args:
        engine: as `open_database` gives it; stays the caller's.
    """

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def load(self) -> dict[MeterId, Overrides]:
        """Return the overrides of each meter that has any; what cannot be read of a row is left out."""
        with store_errors(self._engine.url):
            async with self._engine.connect() as connection:
                rows = (await connection.execute(sa.select(meter_overrides))).all()
        return {MeterId(row.meter_id): Overrides(row.poll_interval, _names(row.measurements)) for row in rows}

    async def save(self, meter: MeterId, overrides: Overrides) -> None:
        """Replace a meter's overrides; one that is no longer in the database is passed over."""
        table = meter_overrides
        with store_errors(self._engine.url):
            async with self._engine.begin() as connection:
                await connection.execute(sa.delete(table).where(table.c.meter_id == meter))
                if overrides == Overrides():
                    return
                names = None if overrides.measurements is None else json.dumps(overrides.measurements)
                values = sa.select(meters.c.id, sa.literal(overrides.period, sa.Float), sa.literal(names, sa.Text))
                await connection.execute(
                    sa.insert(table).from_select(
                        ["meter_id", "poll_interval", "measurements"], values.where(meters.c.id == meter)
                    )
                )


def _names(text: str | None) -> tuple[str, ...] | None:
    if text is None:
        return None
    try:
        names = json.loads(text)
    except ValueError:
        return None
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        return None
    return tuple(names)
