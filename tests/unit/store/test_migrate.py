"""Creating, upgrading and adopting a SQLite file, and every way it can be unusable."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import pytest

from meterbridge.errors import StoreError
from meterbridge.store import MeterRepository, open_database, upgrade
from tests.unit.store.downgrade import downgrade

OLD = """
CREATE TABLE meters (
    id INTEGER NOT NULL, name VARCHAR(100), ip_address VARCHAR(15), port INTEGER, client_id INTEGER,
    server_id INTEGER, password VARCHAR(50), status VARCHAR(20), tb_enabled BOOLEAN, tb_host VARCHAR(100),
    tb_port INTEGER, tb_token VARCHAR(100), tb_device_name VARCHAR(100), last_seen DATETIME, last_error TEXT,
    error_count INTEGER, PRIMARY KEY (id));
CREATE TABLE meter_metrics (
    id INTEGER PRIMARY KEY, timestamp DATETIME, meter_id INTEGER REFERENCES meters (id), success_rate FLOAT,
    mqtt_rate FLOAT, avg_latency FLOAT, reconnections INTEGER, hdlc_errors INTEGER);
CREATE TABLE alarms (
    id INTEGER PRIMARY KEY, meter_id INTEGER REFERENCES meters (id), alarm_type VARCHAR(50), severity VARCHAR(20),
    message TEXT, created_at DATETIME, resolved_at DATETIME);
CREATE TABLE network_metrics (id INTEGER PRIMARY KEY, meter_id INTEGER, ping_ms FLOAT NOT NULL);
INSERT INTO meters VALUES
    (3, 'Main', '192.0.2.10', 3333, 1, 1, '00000000', 'active', 1, '127.0.0.1', 1884, NULL, 'Main',
     '2025-11-11 10:30:00.123456', 'timeout', 7),
    (5, 'Main', '192.0.2.11', 3333, 16, 1, '22222222', 'inactive', 1, '127.0.0.1', 1883, 'tok', NULL, NULL, NULL, 0),
    (9, 'Bad', '192.0.2.12', 'x', 1, 1, '33333333', 'active', 1, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
INSERT INTO meter_metrics VALUES (1, '2025-11-11 10:30:00.000000', 3, 85.0, 75.0, 3500.0, 4, 2);
INSERT INTO alarms VALUES (1, 3, 'hdlc_error', 'warning', 'bad frames', '2025-11-11 10:30:00', NULL);
INSERT INTO network_metrics VALUES (1, 3, 12.5);
"""


@pytest.fixture
def url(sqlite_url: str) -> str:
    return sqlite_url


def make(file: Path, script: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(file)) as connection:
        connection.executescript(script)


def rows(file: Path, query: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(file)) as connection:
        return connection.execute(query).fetchall()


def backups(file: Path) -> list[Path]:
    return sorted(file.parent.glob(f"{file.name}.backup-*"))


def mode(file: Path) -> int:
    return file.stat().st_mode & 0o777


async def failure(url: str) -> str:
    with pytest.raises(StoreError) as caught:
        await upgrade(url)
    assert "\n" not in str(caught.value)
    return str(caught.value)


async def test_folder_and_file_are_created_and_others_may_not_read(url: str, file: Path) -> None:
    assert await upgrade(url) is None
    assert mode(file) == 0o640
    assert await upgrade(url) is None
    assert backups(file) == []


async def test_a_per_cent_sign_and_a_blank_in_the_path_do_no_harm(tmp_path: Path) -> None:
    file = tmp_path / "50 % of it" / "admin.db"
    await upgrade(f"sqlite+aiosqlite:///{file}")
    assert rows(file, "SELECT COUNT(*) FROM meters") == [(0,)]


async def test_a_url_without_driver_is_completed(file: Path) -> None:
    await upgrade(f"sqlite:///{file}")
    assert rows(file, "SELECT COUNT(*) FROM meters") == [(0,)]


async def test_migrations_go_down_and_up_again(url: str, file: Path) -> None:
    await upgrade(url)
    for revision in ("0001", "base"):
        await downgrade(url, revision)
        if revision == "0001":
            assert "model" not in {row[1] for row in rows(file, "PRAGMA table_info(meters)")}
    assert rows(file, "SELECT name FROM sqlite_master WHERE name = 'meters'") == []
    await upgrade(url)
    assert rows(file, "SELECT COUNT(*) FROM meters") == [(0,)]


async def test_several_processes_may_migrate_at_once(url: str, file: Path) -> None:
    program = f"import asyncio; from meterbridge.store import upgrade; asyncio.run(upgrade({url!r}))"
    source = str(Path(__file__).parents[3] / "src")
    started = [
        await asyncio.create_subprocess_exec(sys.executable, "-c", program, env={**os.environ, "PYTHONPATH": source})
        for _ in range(3)
    ]
    assert [await process.wait() for process in started] == [0, 0, 0]
    assert rows(file, "SELECT COUNT(*) FROM alembic_version") == [(1,)]


async def test_an_old_installation_is_backed_up_and_adopted_with_its_rows(url: str, file: Path) -> None:
    make(file, OLD)
    backup = await upgrade(url)
    assert backup is not None
    assert backups(file) == [backup]
    assert mode(backup) == 0o640
    assert rows(backup, "SELECT id, name FROM meters") == [(3, "Main"), (5, "Main"), (9, "Bad")]

    engine = await open_database(url)
    repository = MeterRepository(engine)
    loaded = await repository.load_meters()
    states = await repository.states()
    await repository.record_seen([meter.id for meter in loaded.meters], 1_762_857_060_000)
    await repository.remove(loaded.meters[0].id)
    await engine.dispose()
    main, namesake = loaded.meters
    assert (main.id, main.name, main.password, main.model, main.framing) == (3, "Main", "00000000", "generic", "hdlc")
    assert (namesake.id, namesake.name, namesake.device_name, namesake.tb_token) == (5, "Main #5", "Main", "tok")
    assert [(problem.meter, problem.name) for problem in loaded.problems] == [(9, "Bad")]
    assert states[main.id].last_seen == 1_762_857_000_123
    assert states[main.id].error_count == 7
    assert rows(file, "SELECT ping_ms FROM network_metrics_old") == [(12.5,)]
    assert backups(file) == [backup]


async def test_metrics_and_alarms_of_an_old_installation_stay(url: str, file: Path) -> None:
    make(file, OLD)
    await upgrade(url)
    assert rows(file, "SELECT success_rate FROM meter_metrics ORDER BY timestamp DESC LIMIT 10") == [(85.0,)]
    assert rows(file, "SELECT message FROM alarms WHERE resolved_at IS NULL") == [("bad frames",)]


async def test_an_old_program_can_still_write_after_adoption(url: str, file: Path) -> None:
    make(file, OLD)
    await upgrade(url)
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute(
            "INSERT INTO meters (name, ip_address, port, client_id, server_id, password, status, tb_enabled)"
            " VALUES ('New', '192.0.2.13', 3333, 1, 1, '0', 'active', 1)"
        )
    engine = await open_database(url)
    assert (await MeterRepository(engine).get("New")).model == "generic"
    await engine.dispose()


async def test_a_failed_adoption_changes_nothing(url: str, file: Path) -> None:
    make(file, OLD + "CREATE TABLE network_metrics_old (x);")
    before = rows(file, "SELECT sql FROM sqlite_master")
    assert "network_metrics_old" in await failure(url)
    assert rows(file, "SELECT sql FROM sqlite_master") == before


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("CREATE TABLE songs (id)", "not Meterbridge's, it holds other tables: songs"),
        ("CREATE TABLE meters (id, name)", "table meters has no column ip_address, port, "),
        (
            OLD.replace("error_count INTEGER,", "error_count INTEGER, site INTEGER NOT NULL,").split("INSERT")[0],
            "table meters demands a value for the unknown column site",
        ),
    ],
)
async def test_a_foreign_database_is_refused_untouched(url: str, file: Path, script: str, expected: str) -> None:
    make(file, script)
    before = rows(file, "SELECT sql FROM sqlite_master")
    assert expected in await failure(url)
    assert rows(file, "SELECT sql FROM sqlite_master") == before
    assert backups(file) == []


async def test_a_newer_schema_is_refused(url: str, file: Path) -> None:
    await upgrade(url)
    make(file, "UPDATE alembic_version SET version_num = '9999'")
    assert await failure(url) == (
        f"database {file}: its schema 9999 is newer than this program; install the newer program or restore a backup"
    )


def test_a_file_that_is_no_database_is_refused(url: str, file: Path) -> None:
    file.parent.mkdir()
    file.write_text("not a database, but long enough to be taken for a page of one" * 50)
    assert asyncio.run(failure(url)) == f"database {file}: file is not a database"


def test_a_folder_that_cannot_be_made_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    message = asyncio.run(failure(f"sqlite+aiosqlite:///{tmp_path}/taken/admin.db"))
    assert "cannot be opened for writing" in message


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is read-only for root")
def test_a_read_only_folder_is_one_clear_line(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    message = asyncio.run(failure(f"sqlite+aiosqlite:///{tmp_path}/admin.db"))
    assert message == f"database {tmp_path}/admin.db: cannot be opened for writing: Permission denied"


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("sqlite+aiosqlite://", "must be a plain file"),
        ("sqlite+aiosqlite:///:memory:", "must be a plain file"),
        ("mysql://root:hunter2@db/x", "not mysql"),
        ("hunter2", "cannot be parsed"),
    ],
)
async def test_other_databases_are_refused_without_showing_the_url(url: str, expected: str) -> None:
    message = await failure(url)
    assert expected in message
    assert "hunter2" not in message
