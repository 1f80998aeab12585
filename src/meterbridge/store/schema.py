"""The tables, as the newest migration leaves them.

Declared lengths are the specification's. SQLite does not enforce them; PostgreSQL does, so there the columns that hold
host names or secrets (longer once encrypted) are declared wider. What a meter may hold is checked in `rows`.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator, TypeEngine

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Instant(TypeDecorator[int]):
    """Unix milliseconds in Python; `2025-11-11 10:30:00.000Z` on SQLite, timestamp with time zone on PostgreSQL.

    The text form sorts by time, reads well and compares with what SQLite's `datetime('now', ...)` gives. Older rows
    without zone or fraction are taken as UTC; text that is no time at all reads as None.
    """

    impl = sa.DateTime
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Choose the column type of the database."""
        if dialect.name == "sqlite":
            return dialect.type_descriptor(sa.String(24))
        return dialect.type_descriptor(sa.DateTime(timezone=True))

    def process_bind_param(self, value: int | None, dialect: Dialect) -> object:
        """Milliseconds to what the database stores."""
        if value is None:
            return None
        # Integer arithmetic: a float of today's milliseconds over 1000 may round to a neighbour.
        instant = EPOCH + timedelta(milliseconds=value)
        if dialect.name == "sqlite":
            return instant.isoformat(sep=" ", timespec="milliseconds").replace("+00:00", "Z")
        return instant

    def process_result_value(self, value: object, dialect: Dialect) -> int | None:
        """What the database stores to milliseconds."""
        if isinstance(value, str):
            try:
                value = datetime.fromisoformat(value)
            except ValueError:
                return None
        if not isinstance(value, datetime):
            return None
        aware = value if value.tzinfo is not None else value.replace(tzinfo=UTC)
        return (aware - EPOCH) // timedelta(milliseconds=1)


def _text(length: int, wider: int) -> sa.String:
    return sa.String(length).with_variant(sa.String(wider), "postgresql")


metadata = sa.MetaData()

meters = sa.Table(
    "meters",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("name", sa.String(100), nullable=False),
    sa.Column("ip_address", _text(15, 255), nullable=False),
    sa.Column("port", sa.Integer, nullable=False, server_default="3333"),
    sa.Column("client_id", sa.Integer, nullable=False, server_default="1"),
    sa.Column("server_id", sa.Integer, nullable=False, server_default="1"),
    sa.Column("password", _text(50, 500), nullable=False, server_default="00000000"),
    sa.Column("status", sa.String(20), nullable=False, server_default="active"),
    sa.Column("tb_enabled", sa.Boolean, nullable=False, server_default=sa.true()),
    sa.Column("tb_host", _text(100, 255), nullable=False, server_default="127.0.0.1"),
    sa.Column("tb_port", sa.Integer, nullable=False, server_default="1884"),
    sa.Column("tb_token", _text(100, 500)),
    sa.Column("tb_device_name", sa.String(100)),
    sa.Column("last_seen", Instant()),
    sa.Column("last_error", sa.Text),
    sa.Column("error_count", sa.Integer, nullable=False, server_default="0"),
    sa.Column("model", sa.String(50), nullable=False, server_default="generic"),
    sa.Column("framing", sa.String(20), nullable=False, server_default="hdlc"),
    sa.Column("physical", sa.Integer),
    sa.Column("relay_allowed", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("authentication", sa.String(20)),
    sa.Column("hls_secret", _text(64, 500)),
    sa.Column("system_title", sa.String(16), comment="our own, hex"),
    sa.Column("meter_system_title", sa.String(16), comment="hex"),
    sa.Column("block_cipher_key", _text(64, 500), comment="EK"),
    sa.Column("authentication_key", _text(64, 500), comment="AK"),
    sa.Column("security_suite", sa.Integer, nullable=False, server_default="0"),
    sa.Column("security_policy", sa.String(20)),
    sa.Column("general_ciphering", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("dedicated_key", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("signing_key", sa.Text, comment="our private key, PEM"),
    sa.Column("meter_signing_key", sa.Text, comment="public key or certificate, PEM"),
    sa.Column("counter_object", sa.String(32), comment="OBIS code"),
    sa.Column("referencing", sa.String(2), nullable=False, server_default="ln"),
    sa.Column("general_key", sa.String(20), comment="of general-ciphering"),
    sa.Column("master_key", _text(64, 500), comment="KEK"),
    sa.Column("signed", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("agreement_key", sa.Text, comment="our private key, PEM"),
    sa.Column("meter_agreement_key", sa.Text, comment="public key or certificate, PEM"),
    sa.Index("uq_meters_name", "name", unique=True),
    # An id never comes back after its meter is removed: queued readings and logs still name it.
    sqlite_autoincrement=True,
)

meter_metrics = sa.Table(
    "meter_metrics",
    metadata,
    sa.Column("timestamp", Instant(), primary_key=True),
    sa.Column("meter_id", sa.ForeignKey("meters.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("success_rate", sa.Float, comment="percent"),
    sa.Column("mqtt_rate", sa.Float, comment="percent"),
    sa.Column("avg_latency", sa.Float, comment="milliseconds"),
    sa.Column("reconnections", sa.Integer),
    sa.Column("hdlc_errors", sa.Integer),
    sa.Index("ix_meter_metrics_meter_id", "meter_id", "timestamp"),
)

alarms = sa.Table(
    "alarms",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("meter_id", sa.ForeignKey("meters.id", ondelete="CASCADE")),
    sa.Column("alarm_type", sa.String(50), nullable=False),
    sa.Column("severity", sa.String(20), nullable=False, comment="critical, warning or info"),
    sa.Column("message", sa.Text, nullable=False),
    sa.Column("created_at", Instant(), nullable=False),
    sa.Column("resolved_at", Instant(), comment="null while open"),
    sa.Column("acknowledged_at", Instant(), comment="when a person had seen it"),
    sa.Column("acknowledged_by", sa.String(100), comment="name of that person's token"),
    sa.Index("ix_alarms_meter_id", "meter_id", "alarm_type", "resolved_at"),
    sqlite_autoincrement=True,
)

api_tokens = sa.Table(
    "api_tokens",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("name", sa.String(100), nullable=False, unique=True),
    sa.Column("role", sa.String(20), nullable=False, comment="viewer or operator"),
    sa.Column("digest", sa.String(64), nullable=False, unique=True, comment="SHA-256 of the token, hex"),
    sa.Column("created_at", Instant(), nullable=False),
)

network_metrics = sa.Table(
    "network_metrics",
    metadata,
    sa.Column("timestamp", Instant(), primary_key=True),
    sa.Column("meter_id", sa.ForeignKey("meters.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("sent", sa.Integer, nullable=False, comment="pings"),
    sa.Column("received", sa.Integer, nullable=False, comment="answers"),
    sa.Column("latency_min", sa.Float, comment="milliseconds"),
    sa.Column("latency_avg", sa.Float, comment="milliseconds"),
    sa.Column("latency_max", sa.Float, comment="milliseconds"),
    sa.Index("ix_network_metrics_meter_id", "meter_id", "timestamp"),
)

dlms_diagnostics = sa.Table(
    "dlms_diagnostics",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("timestamp", Instant(), nullable=False),
    sa.Column("meter_id", sa.ForeignKey("meters.id", ondelete="CASCADE"), nullable=False),
    sa.Column("event", sa.String(50), nullable=False, comment="what happened, e.g. hdlc_error"),
    sa.Column("count", sa.Integer, nullable=False, server_default="1", comment="times since the last row"),
    sa.Column("detail", sa.Text),
    sa.Index("ix_dlms_diagnostics_meter_id", "meter_id", "timestamp"),
)

profile_intervals = sa.Table(
    "profile_intervals",
    metadata,
    sa.Column("meter_id", sa.ForeignKey("meters.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("begins", sa.BigInteger, primary_key=True, comment="Unix milliseconds, included"),
    sa.Column("ends", sa.BigInteger, nullable=False, comment="Unix milliseconds, not included"),
)

audit = sa.Table(
    "audit",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("timestamp", Instant(), nullable=False),
    # No foreign key: what was done to a meter outlives it.
    sa.Column("meter_id", sa.Integer, nullable=False),
    sa.Column("meter_name", sa.String(100), nullable=False),
    sa.Column("origin", sa.Text, nullable=False, comment="who asked"),
    sa.Column("action", sa.String(100), nullable=False, comment="the method, e.g. setRelay"),
    sa.Column("parameters", sa.Text, nullable=False, comment="JSON"),
    sa.Column("outcome", sa.Text, comment="done, or why not; null while it is not known"),
    sqlite_autoincrement=True,
)

meter_overrides = sa.Table(
    "meter_overrides",
    metadata,
    sa.Column("meter_id", sa.ForeignKey("meters.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("poll_interval", sa.Float, comment="seconds, null for what is configured"),
    sa.Column("measurements", sa.Text, comment="JSON list, null for what the model polls"),
)

invocation_counters = sa.Table(
    "invocation_counters",
    metadata,
    sa.Column("name", sa.String(64), primary_key=True, comment="digest of system title and block cipher key"),
    # Of a pair of title and key, not of a meter: it outlives the meter, or a value would be used again.
    sa.Column("next", sa.BigInteger, nullable=False, comment="first value that nobody has put by"),
)

thingsboard = sa.Table(
    "thingsboard",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, comment="1: there is one row at most"),
    sa.Column("server", sa.String(255), nullable=False, comment="base URL of the REST API"),
    sa.Column("username", sa.String(255)),
    sa.Column("password", sa.String(1000), comment="encrypted"),
    sa.Column("api_key", sa.String(1000), comment="encrypted"),
    sa.Column("mqtt_host", sa.String(255), nullable=False),
    sa.Column("mqtt_port", sa.Integer, nullable=False),
    sa.Column("gateway_token", sa.String(500), comment="encrypted"),
)
