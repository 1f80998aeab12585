"""An old installation's `admin.db`, which has the tables but no version: recognise, back up, make ready to migrate.

Rows, ids and columns stay as they are; an old program can go on using the file.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import sqlalchemy as sa

from meterbridge.errors import StoreError
from meterbridge.store.backup import backup_sqlite

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
ADDED = {"model", "framing", "physical", "relay_allowed"}
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
