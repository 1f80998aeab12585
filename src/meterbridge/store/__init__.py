"""The database: meters, metrics and alarms, on SQLite or PostgreSQL."""

from meterbridge.store.adoption import backup_sqlite
from meterbridge.store.migrate import open_database, upgrade
from meterbridge.store.repository import LoadedMeters, MeterProblem, MeterRepository, MeterState

__all__ = [
    "LoadedMeters",
    "MeterProblem",
    "MeterRepository",
    "MeterState",
    "backup_sqlite",
    "open_database",
    "upgrade",
]
