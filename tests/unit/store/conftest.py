"""A database of its own for each test, once on SQLite and once on PostgreSQL."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import AsyncEngine

from meterbridge.store import MeterRepository, open_database, upgrade
from tests.postgres import Postgres

Sql = Callable[[str], Awaitable[list[tuple[Any, ...]]]]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "data" / "admin.db"


@pytest.fixture
def sqlite_url(file: Path) -> str:
    return f"sqlite+aiosqlite:///{file}"


@pytest.fixture(scope="session")
def migrated(postgres: Postgres) -> str:
    """A database of the newest schema to be copied: migrating each test's anew takes longer than the tests."""
    name = postgres.create()
    asyncio.run(upgrade(postgres.url(name)))
    return name


@pytest.fixture
def postgresql_url(postgres: Postgres, migrated: str) -> Iterator[str]:
    name = postgres.create(migrated)
    yield postgres.url(name)
    postgres.drop(name)


@pytest.fixture
def empty_postgresql_url(postgres: Postgres) -> Iterator[str]:
    name = postgres.create()
    yield postgres.url(name)
    postgres.drop(name)


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest) -> str:
    found: str = request.getfixturevalue(f"{request.param}_url")
    return found


@pytest.fixture
async def engine(url: str) -> AsyncIterator[AsyncEngine]:
    engine = await open_database(url)
    yield engine
    await engine.dispose()


@pytest.fixture
def repository(engine: AsyncEngine) -> MeterRepository:
    return MeterRepository(engine)


@pytest.fixture
def sql(url: str) -> Sql:
    """Run a statement as another program would, past SQLAlchemy; rows as the driver gives them."""
    target = make_url(url)

    async def run(statement: str) -> list[tuple[Any, ...]]:
        if target.get_backend_name() == "sqlite":
            with closing(sqlite3.connect(str(target.database))) as connection, connection:
                return connection.execute(statement).fetchall()
        connection = await asyncpg.connect(url.replace("+asyncpg", ""))
        try:
            return [tuple(row) for row in await connection.fetch(statement)]
        finally:
            await connection.close()

    return run


@pytest.fixture
def octets(url: str, request: pytest.FixtureRequest) -> Callable[[], bytes]:
    """Everything the database holds, as a thief of its files or of a dump would have it."""
    target = make_url(url)
    if target.get_backend_name() == "sqlite":
        folder = Path(str(target.database)).parent
        return lambda: b"".join(file.read_bytes() for file in folder.rglob("*") if file.is_file())
    cluster: Postgres = request.getfixturevalue("postgres")
    return lambda: cluster.dump(str(target.database))
