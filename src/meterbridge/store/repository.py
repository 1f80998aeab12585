"""Meters in the database: configuration in and out, and what the fleet records about them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from meterbridge.errors import ConfigurationError, MeterExists, MeterNotFound
from meterbridge.model import Meter, MeterId
from meterbridge.store.engine import clear_log, store_errors
from meterbridge.store.rows import COLUMNS, FLAGS, SECRETS, meter_from_row, row_from_meter
from meterbridge.store.schema import (
    alarms,
    dlms_diagnostics,
    meter_metrics,
    meter_overrides,
    meters,
    network_metrics,
    profile_intervals,
)
from meterbridge.store.secrets import Vault

# Below the smallest limit on bound values that SQLite builds have.
BATCH = 500
LONGEST_ERROR = 500
# Rows made meters before the loop may go on: a few milliseconds' worth. A reload must not hold up the polls.
_AT_ONCE = 50


@dataclass(frozen=True, slots=True)
class MeterProblem:
    """A row of `meters` that cannot be used.

    Args:
        meter: its id.
        name: its name, or None where even that is not text.
        text: one sentence that names the column.
    """

    meter: MeterId
    name: str | None
    text: str


@dataclass(frozen=True, slots=True)
class LoadedMeters:
    """Every usable meter by id, and what is wrong with the others."""

    meters: tuple[Meter, ...]
    problems: tuple[MeterProblem, ...]

    def rivals(self) -> tuple[MeterProblem, ...]:
        """Meters that deliver under the tb_token of another, which is how one is left out when the service starts."""
        holders: dict[str, Meter] = {}
        found: list[MeterProblem] = []
        for meter in self.meters:
            if meter.tb_token is None or not meter.tb_enabled or meter.status == "inactive":
                continue
            holder = holders.setdefault(meter.tb_token, meter)
            if holder is not meter:
                text = f"it has the same tb_token as meter {holder.id} ({holder.name}): it is not polled"
                found.append(MeterProblem(meter.id, meter.name, text))
        return tuple(found)


@dataclass(frozen=True, slots=True)
class MeterState:
    """What was last recorded about a meter.

    Args:
        last_seen: time of its newest reading, Unix milliseconds, or None.
        last_error: its newest error, or None.
        error_count: errors recorded since the meter was added.
    """

    last_seen: int | None
    last_error: str | None
    error_count: int


class MeterRepository:
    """The `meters` table.

    Every method raises StoreError when the database cannot be used.

    Args:
        engine: as `open_database` gives it; stays the caller's.
        vault: encrypts passwords and tokens; without one they are written as they are, and encrypted ones are a
            problem of their meter.
    """

    def __init__(self, engine: AsyncEngine, vault: Vault | None = None) -> None:
        self._engine = engine
        self._vault = vault

    async def load_meters(self, active_only: bool = False) -> LoadedMeters:
        """Return all meters in the order of their ids; a bad row is a problem, not an exception.

        Args:
            active_only: leave out the inactive. A meter in status `error` is still to be polled, so it is in.
        """
        query = _select_raw().order_by(meters.c.id)
        if active_only:
            query = query.where(meters.c.status != "inactive")
        good: list[Meter] = []
        bad: list[MeterProblem] = []
        with store_errors(self._engine.url):
            async with self._engine.connect() as connection:
                rows = (await connection.execute(query)).mappings().all()
        for number, row in enumerate(rows, 1):
            if number % _AT_ONCE == 0:
                await asyncio.sleep(0)
            try:
                good.append(meter_from_row(row, self._vault))
            except ConfigurationError as error:
                name = row["name"] if isinstance(row["name"], str) else None
                bad.append(MeterProblem(MeterId(row["id"]), name, str(error)))
        return LoadedMeters(tuple(good), tuple(bad))

    async def list_meters(self, active_only: bool = False) -> list[Meter]:
        """Return the usable meters in the order of their ids; `load_meters` also tells of the others."""
        return list((await self.load_meters(active_only)).meters)

    async def get(self, id_or_name: int | str) -> Meter:
        """Return one meter.

        Args:
            id_or_name: an id, or text: a name, else digits that are an id.

        Raises:
            MeterNotFound: there is none.
            ConfigurationError: its row cannot be used.
        """
        with store_errors(self._engine.url):
            async with self._engine.connect() as connection:
                row = await _find(connection, id_or_name)
        if row is None:
            raise MeterNotFound(f"there is no meter {id_or_name}")
        return meter_from_row(row, self._vault)

    async def add(self, meter: Meter) -> Meter:
        """Store a new meter and return it with the id the database gave; the id it came with is ignored.

        Raises:
            ConfigurationError: a value is not allowed.
            MeterExists: the name is taken.
        """
        row = row_from_meter(meter, self._vault)
        with store_errors(self._engine.url):
            try:
                async with self._engine.begin() as connection:
                    result = await connection.execute(sa.insert(meters).values(row).returning(meters.c.id))
                    return replace(meter, id=MeterId(result.scalar_one()))
            except IntegrityError:
                await self._raise_if_taken(meter.name, None)
                raise

    async def update(self, meter: Meter) -> Meter:
        """Replace the configuration of the meter with this id; what was recorded about it stays.

        Raises:
            ConfigurationError: a value is not allowed.
            MeterNotFound: no meter has this id.
            MeterExists: another one has this name.
        """
        row = row_from_meter(meter, self._vault)
        with store_errors(self._engine.url):
            try:
                async with self._engine.begin() as connection:
                    result = await connection.execute(sa.update(meters).where(meters.c.id == meter.id).values(row))
            except IntegrityError:
                await self._raise_if_taken(meter.name, meter.id)
                raise
        if result.rowcount == 0:
            raise MeterNotFound(f"there is no meter {meter.id}")
        return meter

    async def remove(self, meter: MeterId) -> None:
        """Delete a meter with its metrics, alarms and diagnostics.

        Raises:
            MeterNotFound: no meter has this id.
        """
        with store_errors(self._engine.url):
            async with self._engine.begin() as connection:
                # One by one: an adopted database's foreign keys need not cascade.
                for table in (
                    meter_metrics,
                    alarms,
                    network_metrics,
                    dlms_diagnostics,
                    profile_intervals,
                    meter_overrides,
                ):
                    await connection.execute(sa.delete(table).where(table.c.meter_id == meter))
                result = await connection.execute(sa.delete(meters).where(meters.c.id == meter))
        if result.rowcount == 0:
            raise MeterNotFound(f"there is no meter {meter}")

    async def states(self) -> dict[MeterId, MeterState]:
        """Return what was recorded about each meter, by id."""
        query = sa.select(meters.c.id, meters.c.last_seen, meters.c.last_error, meters.c.error_count)
        with store_errors(self._engine.url):
            async with self._engine.connect() as connection:
                rows = (await connection.execute(query)).all()
        return {MeterId(row.id): MeterState(row.last_seen, row.last_error, row.error_count or 0) for row in rows}

    async def state(self, meter: MeterId) -> MeterState | None:
        """Return what was recorded about one meter, None for an unknown one."""
        query = sa.select(meters.c.last_seen, meters.c.last_error, meters.c.error_count).where(meters.c.id == meter)
        with store_errors(self._engine.url):
            async with self._engine.connect() as connection:
                row = (await connection.execute(query)).first()
        return None if row is None else MeterState(row.last_seen, row.last_error, row.error_count or 0)

    async def record_seen(self, ids: Iterable[MeterId], ts: int) -> None:
        """Record that meters gave a reading, all in one transaction; one in status `error` becomes `active`.

        Args:
            ids: the meters; those no longer in the database are passed over.
            ts: when, Unix milliseconds.
        """
        healed = sa.case((meters.c.status == "error", "active"), else_=meters.c.status)
        wanted = sorted(set(ids))
        with store_errors(self._engine.url):
            async with self._engine.begin() as connection:
                for start in range(0, len(wanted), BATCH):
                    await connection.execute(
                        sa.update(meters)
                        .where(meters.c.id.in_(wanted[start : start + BATCH]))
                        .values(last_seen=ts, status=healed)
                    )

    async def record_error(self, meter: MeterId, text: str) -> None:
        """Record one error of one meter; see `record_errors`."""
        await self.record_errors({meter: text})

    async def record_errors(self, errors: Mapping[MeterId, str]) -> None:
        """Record an error of each of several meters, all in one transaction; `active` becomes `error`.

        Args:
            errors: one sentence by meter, cut at 500 characters, without secrets; meters no longer in the database
                are passed over.
        """
        if not errors:
            return
        failing = sa.case((meters.c.status == "active", "error"), else_=meters.c.status)
        statement = (
            sa.update(meters)
            .where(meters.c.id == sa.bindparam("meter"))
            .values(
                last_error=sa.bindparam("text"),
                error_count=sa.func.coalesce(meters.c.error_count, 0) + 1,
                status=failing,
            )
        )
        rows = [{"meter": meter, "text": errors[meter][:LONGEST_ERROR]} for meter in sorted(errors)]
        with store_errors(self._engine.url):
            async with self._engine.begin() as connection:
                await connection.execute(statement, rows)

    async def seal(self) -> int:
        """Encrypt with the newest key what is not: what was typed in by hand, adopted, or is under an older key.

        Returns:
            How many secrets were encrypted anew; all in one transaction.

        Raises:
            ConfigurationError: no key can be had, or one of an encrypted secret is missing; nothing has changed.
        """
        vault = self._vault
        if vault is None:
            raise ConfigurationError("secrets cannot be encrypted: no key was given")
        sealed = 0
        with store_errors(self._engine.url):
            # Read before the transaction: one that reads first and then writes fails on SQLite when another wrote.
            async with self._engine.connect() as connection:
                rows = (await connection.execute(sa.select(meters.c.id, *(meters.c[name] for name in SECRETS)))).all()
            async with self._engine.begin() as connection:
                for row in rows:
                    for name in SECRETS:
                        stored = getattr(row, name)
                        if not isinstance(stored, str) or not stored or vault.is_current(stored):
                            continue
                        fresh = vault.encrypt(vault.decrypt(stored, name), name)
                        # Only where nobody changed it meanwhile.
                        unchanged = (meters.c.id == row.id) & (meters.c[name] == stored)
                        result = await connection.execute(sa.update(meters).where(unchanged).values({name: fresh}))
                        sealed += result.rowcount
            if sealed:
                await clear_log(self._engine)
        return sealed

    async def _raise_if_taken(self, name: str, own: MeterId | None) -> None:
        async with self._engine.connect() as connection:
            holder = await connection.scalar(sa.select(meters.c.id).where(meters.c.name == name))
        if holder is not None and holder != own:
            raise MeterExists(f"a meter named {name!r} already exists") from None


def _select_raw() -> sa.Select[Any]:
    """Select the configuration as the driver gives it: a type that fails on one bad row would fail them all."""
    columns: Sequence[sa.ColumnElement[Any]] = [
        sa.type_coerce(meters.c[column], sa.Integer).label(column) if column in FLAGS else meters.c[column]
        for column in COLUMNS
    ]
    return sa.select(*columns)


async def _find(connection: AsyncConnection, id_or_name: int | str) -> sa.RowMapping | None:
    if isinstance(id_or_name, str):
        row = await _first(connection, meters.c.name == id_or_name)
        if row is not None or not (id_or_name.isascii() and id_or_name.isdigit() and len(id_or_name) <= 9):
            return row
    return await _first(connection, meters.c.id == int(id_or_name))


async def _first(connection: AsyncConnection, condition: sa.ColumnElement[bool]) -> sa.RowMapping | None:
    row: sa.RowMapping | None = (await connection.execute(_select_raw().where(condition))).mappings().first()
    return row
