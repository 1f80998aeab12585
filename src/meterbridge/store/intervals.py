"""The `profile_intervals` table: for which stretches of time each meter's readings are complete."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from meterbridge.meter import Interval
from meterbridge.model import MeterId
from meterbridge.store.engine import store_errors
from meterbridge.store.schema import meters, profile_intervals


class IntervalRepository:
    """Reads and replaces intervals.

    Every method raises StoreError when the database cannot be used.

    Args:
        engine: as `open_database` gives it; stays the caller's.
    """

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def load(self) -> dict[MeterId, list[Interval]]:
        """Return the intervals of each meter that has any, oldest first."""
        table = profile_intervals
        query = sa.select(table.c.meter_id, table.c.begins, table.c.ends).order_by(table.c.meter_id, table.c.begins)
        found: defaultdict[MeterId, list[Interval]] = defaultdict(list)
        with store_errors(self._engine.url):
            async with self._engine.connect() as connection:
                for meter, begins, ends in (await connection.execute(query)).all():
                    found[MeterId(meter)].append(Interval(begins, ends))
        return dict(found)

    async def save(self, changes: Mapping[MeterId, tuple[Collection[Interval], Collection[Interval]]]) -> None:
        """Write what has changed of several meters, all in one transaction.

        Args:
            changes: by meter, the intervals to delete and those to write in their place; meters no longer in the
                database are passed over.
        """
        if not changes:
            return
        table = profile_intervals
        delete = sa.delete(table).where(table.c.meter_id == sa.bindparam("m"), table.c.begins == sa.bindparam("b"))
        # Selected from the meters: one that was removed meanwhile must not fail the others.
        insert = sa.insert(table).from_select(
            ["meter_id", "begins", "ends"],
            sa.select(
                meters.c.id, sa.bindparam("b", type_=sa.BigInteger), sa.bindparam("e", type_=sa.BigInteger)
            ).where(meters.c.id == sa.bindparam("m")),
        )
        # What is written replaces what began alike: saving twice, or after a saving that was cut short, does no harm.
        removed = [{"m": m, "b": i.start} for m in sorted(changes) for i in {*changes[m][0], *changes[m][1]}]
        added = [{"m": m, "b": i.start, "e": i.end} for m in sorted(changes) for i in changes[m][1]]
        with store_errors(self._engine.url):
            async with self._engine.begin() as connection:
                if removed:
                    await connection.execute(delete, removed)
                if added:
                    await connection.execute(insert, added)
