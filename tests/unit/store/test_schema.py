"""The tables: names, lengths, what operators type, and migrations that agree with the declared schema."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.engine import Dialect, make_url
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.schema import CreateTable

from meterbridge.store.schema import Instant, metadata, meter_metrics, meters
from tests.unit.store.conftest import Sql

SQLITE: Dialect = make_url("sqlite://").get_dialect()()
POSTGRESQL: Dialect = make_url("postgresql+asyncpg://").get_dialect()()
SPECIFIED = {
    "meters": {
        "id": "INTEGER",
        "name": "VARCHAR(100)",
        "ip_address": "VARCHAR(15)",
        "port": "INTEGER",
        "client_id": "INTEGER",
        "server_id": "INTEGER",
        "password": "VARCHAR(50)",
        "status": "VARCHAR(20)",
        "tb_enabled": "BOOLEAN",
        "tb_host": "VARCHAR(100)",
        "tb_port": "INTEGER",
        "tb_token": "VARCHAR(100)",
        "tb_device_name": "VARCHAR(100)",
        "last_seen": "VARCHAR(24)",
        "last_error": "TEXT",
        "error_count": "INTEGER",
    },
    "meter_metrics": {
        "timestamp": "VARCHAR(24)",
        "meter_id": "INTEGER",
        "success_rate": "FLOAT",
        "mqtt_rate": "FLOAT",
        "avg_latency": "FLOAT",
        "reconnections": "INTEGER",
        "hdlc_errors": "INTEGER",
    },
    "alarms": {
        "id": "INTEGER",
        "meter_id": "INTEGER",
        "alarm_type": "VARCHAR(50)",
        "severity": "VARCHAR(20)",
        "message": "TEXT",
        "created_at": "VARCHAR(24)",
        "resolved_at": "VARCHAR(24)",
    },
}


@pytest.mark.parametrize("table", SPECIFIED)
async def test_specified_columns_come_first_with_their_names_and_lengths(
    url: str, engine: AsyncEngine, sql: Sql, table: str
) -> None:
    if url.startswith("sqlite"):
        columns = {row[1]: row[2] for row in await sql(f"PRAGMA table_info({table})")}
        assert list(columns.items())[: len(SPECIFIED[table])] == list(SPECIFIED[table].items())
    else:
        query = f"SELECT column_name FROM information_schema.columns WHERE table_name = '{table}'"
        named = [row[0] for row in await sql(f"{query} ORDER BY ordinal_position")]
        assert named[: len(SPECIFIED[table])] == list(SPECIFIED[table])


async def test_migrations_leave_what_the_schema_declares(engine: AsyncEngine) -> None:
    def differences(connection: sa.Connection) -> list[object]:
        context = MigrationContext.configure(connection, opts={"compare_server_default": True})
        return list(compare_metadata(context, metadata))

    async with engine.connect() as connection:
        assert await connection.run_sync(differences) == []


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
async def test_sqlite_is_in_wal_mode_with_foreign_keys_and_a_busy_timeout(engine: AsyncEngine) -> None:
    async with engine.connect() as connection:
        assert await connection.scalar(sa.text("PRAGMA journal_mode")) == "wal"
        assert await connection.scalar(sa.text("PRAGMA foreign_keys")) == 1
        assert await connection.scalar(sa.text("PRAGMA busy_timeout")) == 10_000
        assert await connection.scalar(sa.text("PRAGMA secure_delete")) == 1


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
@pytest.mark.skipif(shutil.which("sqlite3") is None, reason="needs the sqlite3 command")
async def test_the_commands_operators_type_read_well(engine: AsyncEngine, file: Path) -> None:
    async with engine.begin() as connection:
        await connection.execute(sa.insert(meters).values(name="a", ip_address="127.0.0.1"))
        for ts in (1_762_857_000_000, 1_762_857_060_005):
            await connection.execute(sa.insert(meter_metrics).values(timestamp=ts, meter_id=1, success_rate=99.5))

    def typed(query: str) -> str:
        command = ["sqlite3", "data/admin.db", query]
        return subprocess.run(command, cwd=file.parent.parent, capture_output=True, text=True, check=True).stdout

    assert typed("SELECT * FROM alarms WHERE resolved_at IS NULL") == ""
    assert typed("SELECT * FROM meter_metrics ORDER BY timestamp DESC LIMIT 10").splitlines() == [
        "2025-11-11 10:31:00.005Z|1|99.5||||",
        "2025-11-11 10:30:00.000Z|1|99.5||||",
    ]


def test_postgresql_gives_room_for_host_names_and_encrypted_secrets() -> None:
    ddl = str(CreateTable(meters).compile(dialect=POSTGRESQL))
    assert "ip_address VARCHAR(255)" in ddl
    assert "password VARCHAR(500)" in ddl
    assert "last_seen TIMESTAMP WITH TIME ZONE" in ddl


@given(st.integers(min_value=0, max_value=4_102_444_800_000), st.integers(min_value=0, max_value=4_102_444_800_000))
def test_instants_come_back_exactly_and_sort_as_text(first: int, second: int) -> None:
    texts = [Instant().process_bind_param(ts, SQLITE) for ts in (first, second)]
    assert [Instant().process_result_value(text, SQLITE) for text in texts] == [first, second]
    assert (str(texts[0]) < str(texts[1])) == (first < second)


@pytest.mark.parametrize(
    ("stored", "ts"),
    [
        ("2025-11-11 10:30:00", 1_762_857_000_000),
        ("2025-11-11 10:30:00.123456", 1_762_857_000_123),
        ("2025-11-11T10:30:00Z", 1_762_857_000_000),
        ("2025-11-11T11:30:00+01:00", 1_762_857_000_000),
        ("yesterday", None),
        (17, None),
        (None, None),
    ],
)
def test_instants_of_older_rows(stored: object, ts: int | None) -> None:
    assert Instant().process_result_value(stored, SQLITE) == ts
