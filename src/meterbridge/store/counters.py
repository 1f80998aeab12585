"""The `invocation_counters` table: which counters of which keys are put by already."""

from __future__ import annotations

from collections.abc import Mapping

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from meterbridge.dlms.counters import COUNTER_END
from meterbridge.meter import Stretch
from meterbridge.store.engine import store_errors
from meterbridge.store.schema import invocation_counters


class CounterRepository:
    """Puts stretches of counters by; several processes may do so at once and never get the same.

    Args:
        engine: as `open_database` gives it; stays the caller's.
    """

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def reserve(self, least: Mapping[str, int], ahead: int) -> dict[str, Stretch]:
        """Put by a stretch of each counter, on disk before this returns, all in one transaction.

        Args:
            least: by name of the counter, what its stretch must not begin below.
            ahead: values of each.

        Returns:
            By name; an empty stretch for a counter that has come to its end.

        Raises:
            StoreError: the database cannot be used; nothing was put by.
        """
        with store_errors(self._engine.url):
            await self._make(least)
            async with self._engine.begin() as connection:
                # In order, or two processes could wait for each other.
                return {name: await _take(connection, name, least[name], ahead) for name in sorted(least)}

    async def _make(self, names: Mapping[str, int]) -> None:
        """Make the rows that are missing."""
        table = invocation_counters
        async with self._engine.connect() as connection:
            known = set((await connection.scalars(sa.select(table.c.name).where(table.c.name.in_(names)))).all())
        for name in sorted(set(names) - known):
            try:
                async with self._engine.begin() as connection:
                    await connection.execute(sa.insert(table).values(name=name, next=0))
            except IntegrityError:
                # Another process was quicker.
                continue


async def _take(connection: AsyncConnection, name: str, least: int, ahead: int) -> Stretch:
    table = invocation_counters
    # One statement that writes: it reads what is there under the lock it writes with.
    start = sa.case((table.c.next < least, least), else_=table.c.next)
    grown = sa.update(table).where(table.c.name == name).values(next=start + ahead).returning(table.c.next)
    end = (await connection.execute(grown)).scalar_one()
    return Stretch(min(end - ahead, COUNTER_END), min(end, COUNTER_END))
