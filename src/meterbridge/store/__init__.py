"""The database: meters, metrics and alarms, on SQLite or PostgreSQL."""

from meterbridge.store.adoption import backup_sqlite
from meterbridge.store.alarms import Alarm, AlarmChange, AlarmOutcome, AlarmRepository, Raise, Resolve, Severity
from meterbridge.store.metrics import Diagnostic, MeterMetrics, MetricsRepository, NetworkMetrics
from meterbridge.store.migrate import open_database, upgrade
from meterbridge.store.repository import LoadedMeters, MeterProblem, MeterRepository, MeterState

__all__ = [
    "Alarm",
    "AlarmChange",
    "AlarmOutcome",
    "AlarmRepository",
    "Diagnostic",
    "LoadedMeters",
    "MeterMetrics",
    "MeterProblem",
    "MeterRepository",
    "MeterState",
    "MetricsRepository",
    "NetworkMetrics",
    "Raise",
    "Resolve",
    "Severity",
    "backup_sqlite",
    "open_database",
    "upgrade",
]
