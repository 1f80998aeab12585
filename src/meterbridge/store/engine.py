"""Engines for the two databases, and the one place where their errors become ours."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry

from meterbridge.errors import StoreError

DRIVERS = {
    "sqlite": "sqlite+aiosqlite",
    "sqlite+aiosqlite": "sqlite+aiosqlite",
    "postgresql": "postgresql+asyncpg",
    "postgresql+asyncpg": "postgresql+asyncpg",
}
BUSY_TIMEOUT_MS = 10_000
# A server behind a dead network must not hold up the service for the minutes that TCP takes to notice.
CONNECT_TIMEOUT_S = 10.0
STATEMENT_TIMEOUT_S = 30.0


def database_url(text: str) -> URL:
    """Parse a database URL and complete its driver.

    Raises:
        StoreError: neither SQLite with a file nor PostgreSQL.
    """
    try:
        url = make_url(text)
    except ArgumentError:
        raise StoreError("the database URL cannot be parsed") from None
    if url.drivername not in DRIVERS:
        raise StoreError(f"databases are sqlite+aiosqlite and postgresql+asyncpg, not {url.drivername}")
    url = url.set(drivername=DRIVERS[url.drivername])
    if url.get_backend_name() == "sqlite" and (url.database or ":memory:").startswith((":memory:", "file:")):
        raise StoreError("the SQLite database must be a plain file")
    return url


def sqlite_file(url: URL) -> Path | None:
    """Return the file behind an SQLite URL, None for another database."""
    return Path(url.database) if url.get_backend_name() == "sqlite" and url.database else None


def make_engine(url: URL, *, migrating: bool = False) -> AsyncEngine:
    """Make an engine; SQLite with WAL, foreign keys and a busy timeout. Connects to nothing yet.

    Args:
        url: as `database_url` gives it.
        migrating: begin each SQLite transaction with the write lock taken, so that two processes migrate in turn.

    Raises:
        StoreError: the driver is not installed, or the folder or file cannot be made.
    """
    file = sqlite_file(url)
    if file is not None:
        _make_file(file)
    try:
        # Parameters hold passwords and tokens: never in an error's text.
        engine = create_async_engine(url, hide_parameters=True, **({} if file is not None else _POSTGRESQL))
    except ModuleNotFoundError as error:
        raise StoreError(
            f"{url.drivername} needs the Python package {error.name}, which is not installed: "
            "pip install meterbridge[postgres]"
        ) from None
    if file is not None:
        begin = "BEGIN IMMEDIATE" if migrating else "BEGIN"
        event.listen(engine.sync_engine, "connect", _configure_sqlite)
        event.listen(engine.sync_engine, "begin", lambda connection: connection.exec_driver_sql(begin))
    return engine


@contextmanager
def store_errors(url: URL) -> Iterator[None]:
    """Turn what drivers and the operating system raise into one StoreError that names the database."""
    name = database_name(url)
    try:
        yield
    except DBAPIError as error:
        raise StoreError(f"database {name}: {_reason(error)}") from None
    except SQLAlchemyError as error:
        raise StoreError(f"database {name}: {str(error).partition(chr(10))[0]}") from None
    except TimeoutError:
        raise StoreError(f"database {name}: no answer in time") from None
    except OSError as error:
        raise StoreError(f"database {name}: {error.strerror or error}") from None


async def clear_log(engine: AsyncEngine) -> None:
    """Empty SQLite's write-ahead log into the file, so that what was overwritten is in neither; others need nothing.

    A reader that holds on to an older state keeps the log as it is.
    """
    if sqlite_file(engine.url) is None:
        return
    async with engine.connect() as connection:
        raw = (await connection.get_raw_connection()).driver_connection
        if raw is not None:
            # Past SQLAlchemy: it would begin a transaction, and none may be open.
            await raw.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def database_name(url: URL) -> str:
    """What messages call a database: its file, or its URL without password and options."""
    return str(sqlite_file(url) or url.set(query={}).render_as_string(hide_password=True))


_POSTGRESQL: dict[str, Any] = {
    # A connection is tried before it is used: one that died with the server's restart is made anew unnoticed.
    "pool_pre_ping": True,
    "connect_args": {"timeout": CONNECT_TIMEOUT_S, "command_timeout": STATEMENT_TIMEOUT_S},
}


def _reason(error: DBAPIError) -> str:
    # First line only: PostgreSQL's DETAIL shows whole rows, with their secrets. Of asyncpg the words without the class.
    driver = getattr(error.orig, "__cause__", None) or error.orig
    return str(driver).partition("\n")[0]


def _make_file(file: Path) -> None:
    """Create folder and file; the file without rights for others, since it holds secrets."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(file, os.O_RDWR | os.O_CREAT, 0o640))
    except OSError as error:
        raise StoreError(f"database {file}: cannot be opened for writing: {error.strerror}") from None


def _configure_sqlite(connection: sa.engine.interfaces.DBAPIConnection, _: ConnectionPoolEntry) -> None:
    # Without this the driver begins transactions by itself, and leaves DDL outside of them.
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
    cursor.execute("PRAGMA journal_mode = WAL")
    # An invocation counter that was put by must not come back, not even after a power cut.
    cursor.execute("PRAGMA synchronous = FULL")
    cursor.execute("PRAGMA foreign_keys = ON")
    # A secret typed in by hand must not outlive its encryption in a free page. Distributions differ in the default.
    cursor.execute("PRAGMA secure_delete = ON")
    cursor.close()
