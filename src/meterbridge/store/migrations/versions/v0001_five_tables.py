"""The five tables with the columns an old installation has; those it already has are left as they are."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def _text(length: int, wider: int) -> sa.String:
    return sa.String(length).with_variant(sa.String(wider), "postgresql")


def _instant() -> sa.String:
    return sa.String(24).with_variant(sa.DateTime(timezone=True), "postgresql")


def _meter_id(*, nullable: bool = False, primary_key: bool = False) -> sa.Column[int]:
    return sa.Column(
        "meter_id",
        sa.Integer,
        sa.ForeignKey("meters.id", ondelete="CASCADE"),
        nullable=nullable,
        primary_key=primary_key,
    )


def upgrade() -> None:
    """Create the tables that are missing."""
    op.create_table(
        "meters",
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
        sa.Column("last_seen", _instant()),
        sa.Column("last_error", sa.Text),
        sa.Column("error_count", sa.Integer, nullable=False, server_default="0"),
        sqlite_autoincrement=True,
        if_not_exists=True,
    )
    op.create_table(
        "meter_metrics",
        sa.Column("timestamp", _instant(), primary_key=True),
        _meter_id(primary_key=True),
        sa.Column("success_rate", sa.Float, comment="percent"),
        sa.Column("mqtt_rate", sa.Float, comment="percent"),
        sa.Column("avg_latency", sa.Float, comment="milliseconds"),
        sa.Column("reconnections", sa.Integer),
        sa.Column("hdlc_errors", sa.Integer),
        if_not_exists=True,
    )
    op.create_table(
        "alarms",
        sa.Column("id", sa.Integer, primary_key=True),
        _meter_id(nullable=True),
        sa.Column("alarm_type", sa.String(50), nullable=False),
        sa.Column("severity", sa.String(20), nullable=False, comment="critical, warning or info"),
        sa.Column("message", sa.Text, nullable=False),
        sa.Column("created_at", _instant(), nullable=False),
        sa.Column("resolved_at", _instant(), comment="null while open"),
        sqlite_autoincrement=True,
        if_not_exists=True,
    )
    op.create_table(
        "network_metrics",
        sa.Column("timestamp", _instant(), primary_key=True),
        _meter_id(primary_key=True),
        sa.Column("sent", sa.Integer, nullable=False, comment="pings"),
        sa.Column("received", sa.Integer, nullable=False, comment="answers"),
        sa.Column("latency_min", sa.Float, comment="milliseconds"),
        sa.Column("latency_avg", sa.Float, comment="milliseconds"),
        sa.Column("latency_max", sa.Float, comment="milliseconds"),
    )
    op.create_table(
        "dlms_diagnostics",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("timestamp", _instant(), nullable=False),
        _meter_id(),
        sa.Column("event", sa.String(50), nullable=False, comment="what happened, e.g. hdlc_error"),
        sa.Column("count", sa.Integer, nullable=False, server_default="1", comment="times since the last row"),
        sa.Column("detail", sa.Text),
    )


def downgrade() -> None:
    """Drop the tables and all they hold."""
    for table in ("dlms_diagnostics", "network_metrics", "alarms", "meter_metrics", "meters"):
        op.drop_table(table)
