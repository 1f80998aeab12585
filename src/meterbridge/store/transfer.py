"""All rows of a SQLite file into another database, PostgreSQL as a rule."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from meterbridge.errors import StoreError
from meterbridge.store.engine import database_name, database_url, sqlite_file, store_errors
from meterbridge.store.migrate import open_database
from meterbridge.store.repository import MeterRepository
from meterbridge.store.rows import FOR_NULL
from meterbridge.store.schema import metadata, meters

_BATCH = 500
_MEANT = {**FOR_NULL, "error_count": 0}


async def fill(target: str, source: Path) -> dict[str, tuple[int, int]]:
    """Copy all rows of all tables, with their ids and still encrypted, in one transaction.

    Args:
        target: URL of the database to fill; brought to the newest schema first.
        source: SQLite file to read, likewise.

    Returns:
        By table, how many rows were copied and how many left out: those that belong to no meter, lack what they must
        have or are there twice, which only an adopted file holds.

    Raises:
        StoreError: either cannot be used, the target is not empty, or a row does not fit; the target is unchanged then.
    """
    taking, given = database_url(target), database_url(f"sqlite:///{source}")
    if not source.is_file():  # noqa: ASYNC240  (nothing else runs meanwhile)
        raise StoreError(f"database {source}: there is none")
    if (same := sqlite_file(taking)) is not None and same.absolute() == source.absolute():  # noqa: ASYNC240
        raise StoreError(f"database {source}: it is the one to be filled")
    reading = await open_database(given.render_as_string(hide_password=False))
    writing = await open_database(target)
    try:
        with store_errors(given):
            bad = (await MeterRepository(reading).load_meters()).problems
            unusable = [problem for problem in bad if "encrypted" not in problem.text]
            if unusable:
                first = unusable[0]
                raise StoreError(f"database {database_name(given)}: meter {first.meter} ({first.name}): {first.text}")
        async with reading.connect() as old:
            with store_errors(taking):
                async with writing.begin() as new:
                    if await new.scalar(sa.select(sa.func.count()).select_from(meters)):
                        raise StoreError(f"database {database_name(taking)}: it holds meters already")
                    return {table.name: await _copy(table, old, new) for table in metadata.sorted_tables}
    finally:
        await reading.dispose()
        await writing.dispose()


async def _copy(table: sa.Table, old: AsyncConnection, new: AsyncConnection) -> tuple[int, int]:
    known = set((await new.execute(sa.select(meters.c.id))).scalars())
    rows = [dict(row) for row in (await old.execute(sa.select(table))).mappings()]
    if table is meters:
        for row in rows:
            row.update({name: value for name, value in _MEANT.items() if row[name] is None})
    # By primary key: an old installation's tables need not have one.
    keyed = {tuple(row[column.name] for column in table.primary_key): row for row in rows if _fits(table, row, known)}
    good = list(keyed.values())
    for batch in _batches(good):
        await new.execute(sa.insert(table), batch)
    if new.dialect.name == "postgresql" and table.c.get("id") is not None and good:
        # Ids were given, not drawn: the next one drawn must be beyond them.
        await new.execute(
            sa.text("SELECT setval(pg_get_serial_sequence(:name, 'id'), :last)"),
            {"name": table.name, "last": max(row["id"] for row in good)},
        )
    return len(good), len(rows) - len(good)


def _fits(table: sa.Table, row: dict[str, Any], known: set[int]) -> bool:
    if any(row[column.name] is None for column in table.c if not column.nullable):
        return False
    return all(
        row[column.name] is None or row[column.name] in known
        for column in table.c
        if any(key.column.table is meters for key in column.foreign_keys)
    )


def _batches(rows: Sequence[dict[str, Any]]) -> Iterator[Sequence[dict[str, Any]]]:
    for start in range(0, len(rows), _BATCH):
        yield rows[start : start + _BATCH]
