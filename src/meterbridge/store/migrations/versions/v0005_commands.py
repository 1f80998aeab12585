"""Commands from outside: whose relay may be switched, what was asked for, and what holds in place of the settings."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add them; an old program goes on working without."""
    instant = sa.String(24).with_variant(sa.DateTime(timezone=True), "postgresql")
    op.add_column("meters", sa.Column("relay_allowed", sa.Boolean, nullable=False, server_default=sa.false()))
    op.create_table(
        "audit",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("timestamp", instant, nullable=False),
        sa.Column("meter_id", sa.Integer, nullable=False),
        sa.Column("meter_name", sa.String(100), nullable=False),
        sa.Column("origin", sa.Text, nullable=False, comment="who asked"),
        sa.Column("action", sa.String(100), nullable=False, comment="the method, e.g. setRelay"),
        sa.Column("parameters", sa.Text, nullable=False, comment="JSON"),
        sa.Column("outcome", sa.Text, comment="done, or why not; null while it is not known"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "meter_overrides",
        sa.Column("meter_id", sa.Integer, sa.ForeignKey("meters.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("poll_interval", sa.Float, comment="seconds, null for what is configured"),
        sa.Column("measurements", sa.Text, comment="JSON list, null for what the model polls"),
    )


def downgrade() -> None:
    """Take them away again."""
    op.drop_table("meter_overrides")
    op.drop_table("audit")
    op.drop_column("meters", "relay_allowed")
