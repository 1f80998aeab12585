"""The database: meters, metrics and alarms, on SQLite or PostgreSQL."""

from meterbridge.store.account import Account, AccountRepository, check_account
from meterbridge.store.alarms import Alarm, AlarmChange, AlarmOutcome, AlarmRepository, Raise, Resolve, Severity
from meterbridge.store.audit import AuditEntry, AuditRepository
from meterbridge.store.backup import backup_postgresql, backup_sqlite, restore_sqlite
from meterbridge.store.counters import CounterRepository
from meterbridge.store.intervals import IntervalRepository
from meterbridge.store.metrics import Diagnostic, MeterMetrics, MetricsRepository, NetworkMetrics
from meterbridge.store.migrate import open_database, upgrade
from meterbridge.store.overrides import OverrideRepository, Overrides
from meterbridge.store.repository import LoadedMeters, MeterProblem, MeterRepository, MeterState
from meterbridge.store.rotation import rotate
from meterbridge.store.secrets import CREDENTIAL, KeySource, Vault, key_source
from meterbridge.store.summaries import MeterSummary, NetworkSummary, SummaryRepository
from meterbridge.store.tokens import Role, Token, TokenRepository, digest
from meterbridge.store.transfer import fill

__all__ = [
    "CREDENTIAL",
    "Account",
    "AccountRepository",
    "Alarm",
    "AlarmChange",
    "AlarmOutcome",
    "AlarmRepository",
    "AuditEntry",
    "AuditRepository",
    "CounterRepository",
    "Diagnostic",
    "IntervalRepository",
    "KeySource",
    "LoadedMeters",
    "MeterMetrics",
    "MeterProblem",
    "MeterRepository",
    "MeterState",
    "MeterSummary",
    "MetricsRepository",
    "NetworkMetrics",
    "NetworkSummary",
    "OverrideRepository",
    "Overrides",
    "Raise",
    "Resolve",
    "Role",
    "Severity",
    "SummaryRepository",
    "Token",
    "TokenRepository",
    "Vault",
    "backup_postgresql",
    "backup_sqlite",
    "check_account",
    "digest",
    "fill",
    "key_source",
    "open_database",
    "restore_sqlite",
    "rotate",
    "upgrade",
]
