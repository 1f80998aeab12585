"""Brings a database to this program's schema: creates it, upgrades it, or adopts an old installation's."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.engine import URL
from sqlalchemy.ext.asyncio import AsyncEngine

from meterbridge.errors import StoreError
from meterbridge.store.adoption import adopt
from meterbridge.store.engine import database_name, database_url, make_engine, sqlite_file, store_errors

MIGRATIONS = Path(__file__).parent / "migrations"
# Any constant serves, as long as every version of this program uses the same.
ADVISORY_LOCK = 0x4D42_0001


async def open_database(url: str) -> AsyncEngine:
    """Migrate the database, then return an engine on it; the caller disposes of it.

    Args:
        url: SQLAlchemy URL of a SQLite file or a PostgreSQL database.

    Raises:
        StoreError: as `upgrade`.
    """
    await upgrade(url)
    return make_engine(database_url(url))


async def upgrade(url: str) -> Path | None:
    """Bring the database to the newest schema, in one transaction; several processes may do so at once.

    Args:
        url: SQLAlchemy URL; for SQLite, folder and file are created where missing.

    Returns:
        The backup made before an old installation's database was adopted, else None.

    Raises:
        StoreError: not writable, not a database, not Meterbridge's, of a newer schema, or not reachable.
    """
    target = database_url(url)
    engine = make_engine(target, migrating=True)
    try:
        with store_errors(target):
            async with engine.begin() as connection:
                return await connection.run_sync(_upgrade, target)
    finally:
        await engine.dispose()


def _upgrade(connection: sa.Connection, url: URL) -> Path | None:
    if connection.dialect.name == "postgresql":
        connection.execute(sa.text(f"SELECT pg_advisory_xact_lock({ADVISORY_LOCK})"))
    config = Config()
    # Per cent signs are the interpolation of Alembic's configuration.
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    current = MigrationContext.configure(connection).get_current_heads()
    for revision in current:
        if revision not in known:
            raise StoreError(
                f"database {database_name(url)}: its schema {revision} is newer than this program; "
                "install the newer program or restore a backup"
            )
    backup = None
    file = sqlite_file(url)
    # A database taken back to its beginning keeps an empty version table: it is new, not old.
    unversioned = not current and set(sa.inspect(connection).get_table_names()) - {"alembic_version"}
    if unversioned:
        if file is None:
            # Somebody else's: our tables beside theirs, or with names of theirs, would harm both.
            raise StoreError(
                f"database {database_name(url)}: it holds other tables ({', '.join(sorted(unversioned)[:5])}); "
                "give Meterbridge a database of its own"
            )
        backup = adopt(connection, file)
    command.upgrade(config, "head")
    return backup
