"""An old installation's `admin.db`, which has the tables but no version: recognise, back up, make ready to migrate.

Rows, ids and columns stay as they are; an old program can go on using the file.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import sqlalchemy as sa

from meterbridge.errors import StoreError

REQUIRED = {
    "meters": [
        "id",
        "name",
        "ip_address",
        "port",
        "client_id",
        "server_id",
        "password",
        "status",
        "tb_enabled",
        "tb_host",
        "tb_port",
        "tb_token",
        "tb_device_name",
        "last_seen",
        "last_error",
        "error_count",
    ],
    "meter_metrics": [
        "timestamp",
        "meter_id",
        "success_rate",
        "mqtt_rate",
        "avg_latency",
        "reconnections",
        "hdlc_errors",
    ],
    "alarms": ["id", "meter_id", "alarm_type", "severity", "message", "created_at", "resolved_at"],
}
ADDED = {"model", "framing", "physical"}
OURS = ("network_metrics", "dlms_diagnostics")


def adopt(connection: sa.Connection, file: Path) -> Path:
    """Back up an unversioned database and clear what the migrations would collide with.

    Args:
        connection: in a transaction that holds the write lock, so nothing changes between backup and migration.
        file: the SQLite file behind it.

    Returns:
        The backup.

    Raises:
        StoreError: not the tables of an old installation; nothing is changed then.
    """
    _recognise(connection, file)
    backup = backup_sqlite(file, datetime.now(UTC))
    inspector = sa.inspect(connection)
    for table in OURS:
        if inspector.has_table(table):
            # Their columns were never fixed, so the old rows are kept under another name.
            connection.execute(sa.text(f"ALTER TABLE {table} RENAME TO {table}_old"))
    _make_names_unique(connection)
    return backup


def backup_sqlite(file: Path, now: datetime) -> Path:
    """Copy a live SQLite database consistently to `<file>.backup-<timestamp>` beside it, unreadable for others.

    Args:
        file: the database.
        now: time zone aware; goes into the name, in UTC.

    Returns:
        The copy.

    Raises:
        StoreError: it cannot be written, or a backup of that name exists.
    """
    target = file.with_name(f"{file.name}.backup-{now.astimezone(UTC):%Y%m%dT%H%M%S.%fZ}")
    try:
        os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o640))
        with closing(sqlite3.connect(file)) as source, closing(sqlite3.connect(target)) as copy:
            source.backup(copy)
    except OSError as error:
        raise StoreError(f"backup {target}: {error.strerror}") from None
    except sqlite3.Error as error:
        raise StoreError(f"backup {target}: {error}") from None
    return target


def _recognise(connection: sa.Connection, file: Path) -> None:
    inspector = sa.inspect(connection)
    tables = set(inspector.get_table_names())
    if "meters" not in tables:
        raise StoreError(f"database {file}: not Meterbridge's, it holds other tables: {', '.join(sorted(tables)[:5])}")
    for table in sorted(tables & REQUIRED.keys()):
        columns = {column["name"]: column for column in inspector.get_columns(table)}
        if missing := [name for name in REQUIRED[table] if name not in columns]:
            raise StoreError(f"database {file}: table {table} has no column {', '.join(missing)}")
        for name, column in columns.items():
            if name in ADDED and table == "meters":
                raise StoreError(f"database {file}: table meters has a column {name} but no schema version")
            mandatory = not column["nullable"] and column["default"] is None and not column.get("primary_key")
            if name not in REQUIRED[table] and mandatory:
                raise StoreError(f"database {file}: table {table} demands a value for the unknown column {name}")


def _make_names_unique(connection: sa.Connection) -> None:
    """Give later namesakes a name with their id; the device their readings go to stays what it was."""
    connection.execute(
        sa.text(
            "UPDATE meters"
            " SET tb_device_name = COALESCE(tb_device_name, name), name = SUBSTR(name, 1, 85) || ' #' || id"
            " WHERE EXISTS (SELECT 1 FROM meters AS other WHERE other.name = meters.name AND other.id < meters.id)"
        )
    )
