"""Creating and upgrading a PostgreSQL database, and every way it can be unusable."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import AsyncEngine

from meterbridge.errors import StoreError
from meterbridge.model import Meter, MeterId
from meterbridge.store import MeterRepository, open_database, upgrade
from tests.postgres import Postgres
from tests.unit.store.downgrade import downgrade

TABLES = {
    *("alarms", "alembic_version", "api_tokens", "dlms_diagnostics", "meter_metrics", "meters"),
    *("network_metrics", "profile_intervals"),
}


@pytest.fixture
def url(empty_postgresql_url: str) -> str:
    return empty_postgresql_url


@pytest.fixture
def tables(postgres: Postgres, url: str) -> Callable[[], set[str]]:
    query = "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
    return lambda: set(postgres.sql(query, name_of(url)).split())


def name_of(url: str) -> str:
    return str(make_url(url).database)


async def failure(url: str) -> str:
    with pytest.raises(StoreError) as caught:
        await upgrade(url)
    assert "\n" not in str(caught.value)
    return str(caught.value)


async def test_it_is_created_once_and_goes_down_and_up_again(url: str, tables: Callable[[], set[str]]) -> None:
    assert await upgrade(url) is None
    assert tables() >= TABLES
    assert await upgrade(url) is None
    await downgrade(url, "base")
    assert tables() == {"alembic_version"}
    await upgrade(url)
    assert tables() >= TABLES


async def test_a_url_without_driver_is_completed(url: str, tables: Callable[[], set[str]]) -> None:
    await upgrade(url.replace("+asyncpg", ""))
    assert "meters" in tables()


async def test_several_processes_may_migrate_at_once(url: str, postgres: Postgres) -> None:
    program = f"import asyncio; from meterbridge.store import upgrade; asyncio.run(upgrade({url!r}))"
    source = str(Path(__file__).parents[3] / "src")
    started = [
        await asyncio.create_subprocess_exec(sys.executable, "-c", program, env={**os.environ, "PYTHONPATH": source})
        for _ in range(3)
    ]
    assert [await process.wait() for process in started] == [0, 0, 0]
    assert postgres.sql("SELECT COUNT(*) FROM alembic_version", name_of(url)) == "1\n"


async def test_somebody_elses_database_is_refused_untouched(
    url: str, postgres: Postgres, tables: Callable[[], set[str]]
) -> None:
    postgres.sql("CREATE TABLE alarm (id int); CREATE TABLE meters (id int)", name_of(url))
    assert "it holds other tables (alarm, meters); give Meterbridge a database of its own" in await failure(url)
    assert tables() == {"alarm", "meters"}


async def test_a_newer_schema_is_refused(url: str, postgres: Postgres) -> None:
    await upgrade(url)
    postgres.sql("UPDATE alembic_version SET version_num = '9999'", name_of(url))
    assert "its schema 9999 is newer than this program" in await failure(url)


async def test_a_server_that_does_not_let_us_in_is_one_line_without_the_password(
    url: str, postgres: Postgres, free_port: Callable[[], int]
) -> None:
    given = make_url(url)
    for wrong, expected in (
        (given.set(password="hunter2"), "password authentication failed for user"),
        (given.set(database="nowhere", password=postgres.password), 'database "nowhere" does not exist'),
        (given.set(port=free_port(), password=postgres.password), "Connect call failed"),
        (given.set(host="no-such-host.invalid", password=postgres.password), "ame"),
    ):
        message = await failure(wrong.render_as_string(hide_password=False))
        assert expected in message
        assert "hunter2" not in message
        assert postgres.password not in message
        assert message.startswith("database postgresql+asyncpg://meterbridge:***@")


async def test_without_its_driver_the_package_is_named(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "asyncpg", None)
    assert "needs the Python package asyncpg" in await failure(url)


async def test_sqlite_does_without_the_driver(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "asyncpg", None)
    assert await upgrade(sqlite_url) is None


async def test_a_restarted_server_is_found_again(url: str, postgres: Postgres) -> None:
    engine: AsyncEngine = await open_database(url)
    meters = MeterRepository(engine)
    try:
        await meters.add(Meter(MeterId(0), "Main", "127.0.0.1"))
        postgres.stop()
        try:
            with pytest.raises(StoreError) as caught:
                await meters.list_meters()
            assert postgres.password not in str(caught.value)
        finally:
            postgres.start()
        assert [meter.name for meter in await meters.list_meters()] == ["Main"]
    finally:
        await engine.dispose()
