"""Copies of a database, and the way back to one: an old installation's too, after it was adopted."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import subprocess
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy.engine import make_url

from meterbridge.errors import StoreError
from meterbridge.model import Meter, MeterId
from meterbridge.store import (
    KeySource,
    MeterRepository,
    Vault,
    backup_postgresql,
    backup_sqlite,
    open_database,
    restore_sqlite,
    upgrade,
)
from tests.postgres import Postgres, program
from tests.unit.store.test_migrate import OLD, make, mode, rows

NOW = datetime(2025, 11, 11, 10, 30, tzinfo=UTC)
STAMP = "20251111T103000.000000Z"


async def add(url: str, name: str) -> None:
    engine = await open_database(url)
    await MeterRepository(engine).add(Meter(MeterId(0), name, "127.0.0.1"))
    await engine.dispose()


async def test_an_adopted_installation_goes_back_to_what_it_was(sqlite_url: str, file: Path) -> None:
    make(file, OLD)
    before = dump(file)
    adopted = await upgrade(sqlite_url)
    assert adopted is not None
    engine = await open_database(sqlite_url)
    meters = MeterRepository(engine, Vault(KeySource(file.with_name("secrets.key"), writable=True)))
    await meters.seal()
    await meters.add(Meter(MeterId(0), "added since", "127.0.0.1"))
    await engine.dispose()
    assert dump(file) != before

    kept = restore_sqlite(file, adopted, NOW)

    assert kept == file.with_name(f"admin.db.backup-{STAMP}")
    assert dump(file) == before
    assert not [path for path in file.parent.iterdir() if path.name.endswith(("-wal", "-shm"))]
    # As the old scripts ask: in the clear, without a version, with their own extra columns.
    assert rows(file, "SELECT password, tb_token FROM meters WHERE id = 5") == [("22222222", "tok")]
    assert rows(file, "SELECT id, ping_ms FROM network_metrics") == [(1, 12.5)]
    make(file, "UPDATE meters SET status = 'error', error_count = error_count + 1 WHERE id = 3")
    assert rows(kept, "SELECT COUNT(*) FROM meters WHERE name = 'added since'") == [(1,)]
    # And forward again.
    assert await upgrade(sqlite_url) is not None
    assert rows(file, "SELECT status, error_count, model FROM meters WHERE id = 3") == [("error", 8, "generic")]


async def test_a_backup_is_whole_while_the_database_is_used_and_stands_alone(sqlite_url: str, file: Path) -> None:
    engine = await open_database(sqlite_url)
    await MeterRepository(engine).add(Meter(MeterId(0), "Main", "127.0.0.1"))
    copy = backup_sqlite(file, NOW)
    await engine.dispose()
    assert (mode(copy), rows(copy, "SELECT name FROM meters")) == (0o640, [("Main",)])
    assert {path.name for path in file.parent.iterdir()} == {file.name, copy.name}
    with pytest.raises(StoreError, match="File exists"):
        backup_sqlite(file, NOW)


async def test_a_database_in_use_is_not_replaced(sqlite_url: str, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("meterbridge.store.backup._BUSY_S", 0.05)
    await add(sqlite_url, "Main")
    copy = backup_sqlite(file, NOW)
    engine = await open_database(sqlite_url)
    async with engine.connect() as connection:
        await connection.exec_driver_sql("SELECT * FROM meters")
        with pytest.raises(StoreError, match="in use; stop the service first"):
            restore_sqlite(file, copy, NOW + timedelta(seconds=1))
    await engine.dispose()
    assert {path.name for path in file.parent.iterdir()} == {file.name, copy.name}


def test_a_backup_that_is_none_changes_nothing(sqlite_url: str, file: Path, tmp_path: Path) -> None:
    asyncio.run(add(sqlite_url, "Main"))
    before = dump(file)
    text = tmp_path / "text"
    text.write_text("no database, and long enough to be taken for a page of one" * 50)
    songs = tmp_path / "songs.db"
    make(songs, "CREATE TABLE songs (id)")
    cut = tmp_path / "cut.db"
    cut.write_bytes(file.read_bytes()[:20_000])
    for bad, reason in (
        (tmp_path / "none", "there is none"),
        (tmp_path, "there is none"),
        (text, "not a database"),
        (songs, "no table meters"),
        (cut, "damaged|malformed"),
    ):
        with pytest.raises(StoreError, match=reason):
            restore_sqlite(file, bad, NOW)
    assert dump(file) == before
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_invocation_counters_never_go_back(sqlite_url: str, file: Path) -> None:
    asyncio.run(add(sqlite_url, "Main"))
    make(file, "INSERT INTO invocation_counters (name, next) VALUES ('a', 100), ('b', 100)")
    copy = backup_sqlite(file, NOW)
    make(
        file,
        "UPDATE invocation_counters SET next = 300 WHERE name = 'a'; DELETE FROM invocation_counters WHERE name = 'b';"
        "INSERT INTO invocation_counters (name, next) VALUES ('c', 7); DELETE FROM meters;",
    )
    restore_sqlite(file, copy, NOW + timedelta(seconds=1))
    assert rows(file, "SELECT name FROM meters") == [("Main",)]
    far = 100 + (1 << 24)
    assert rows(file, "SELECT name, next FROM invocation_counters ORDER BY name") == [("a", far), ("b", far), ("c", 7)]


def test_a_lost_database_comes_back(sqlite_url: str, file: Path) -> None:
    asyncio.run(add(sqlite_url, "Main"))
    copy = shutil.move(backup_sqlite(file, NOW), file.parent.with_suffix(".copy"))
    file.unlink()
    assert restore_sqlite(file, Path(copy), NOW) is None
    assert (mode(file), rows(file, "SELECT name FROM meters")) == (0o640, [("Main",)])


@pytest.mark.parametrize("damage", ["not a database", "pages overwritten"])
def test_a_damaged_database_is_put_aside_as_it_is(sqlite_url: str, file: Path, damage: str) -> None:
    asyncio.run(add(sqlite_url, "Main"))
    backup = backup_sqlite(file, NOW)
    found = bytearray(file.read_bytes())
    if damage == "not a database":
        found[:] = b"garbage"
    else:
        found[4096 : 9 * 4096] = b"\x5a" * (8 * 4096)
    file.write_bytes(found)
    file.with_name(f"{file.name}-wal").write_bytes(b"its log")
    kept = restore_sqlite(file, backup, NOW + timedelta(seconds=1))
    assert kept is not None
    assert kept.read_bytes() == found
    assert not file.with_name(f"{file.name}-wal").exists()
    assert rows(file, "SELECT name FROM meters") == [("Main",)]


def test_an_invocation_counter_does_not_go_back_with_a_backup(sqlite_url: str, file: Path) -> None:
    asyncio.run(upgrade(sqlite_url))
    make(file, "INSERT INTO invocation_counters VALUES ('a', 5000)")
    copy = backup_sqlite(file, NOW)
    make(file, "UPDATE invocation_counters SET next = 900000")
    restore_sqlite(file, copy, NOW + timedelta(seconds=1))
    assert rows(file, "SELECT next FROM invocation_counters") == [(5000 + (1 << 24),)]
    assert rows(copy, "SELECT next FROM invocation_counters") == [(5000,)]


def test_postgresql_is_dumped_and_comes_back(
    postgresql_url: str, postgres: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asyncio.run(add(postgresql_url, "Main"))
    made = backup_postgresql(make_url(postgresql_url), tmp_path / "new", NOW)
    assert (mode(made), made.name.endswith(f".backup-{STAMP}.dump")) == (0o640, True)
    other = postgres.create()
    for name, value in postgres.environment().items():
        monkeypatch.setenv(name, value)
    subprocess.run([program("pg_restore"), "--clean", "--if-exists", f"--dbname={other}", made], check=True)
    assert postgres.sql("SELECT name FROM meters", other) == "Main\n"
    postgres.drop(other)


def test_a_dump_that_fails_is_one_line_and_leaves_no_file(
    postgresql_url: str, postgres: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = make_url(postgresql_url)
    with pytest.raises(StoreError) as caught:
        backup_postgresql(url.set(password="hunter2"), tmp_path, NOW)
    assert "password authentication failed" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "hunter2" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(StoreError, match="pg_dump is not installed here"):
        backup_postgresql(url, tmp_path, NOW)


def dump(file: Path) -> list[str]:
    with closing(sqlite3.connect(file)) as connection:
        return list(connection.iterdump())
