"""Who may use the API, and who has seen an alarm."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add them; an old program goes on working, the new columns may be empty."""
    instant = sa.String(24).with_variant(sa.DateTime(timezone=True), "postgresql")
    op.create_table(
        "api_tokens",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("name", sa.String(100), nullable=False, unique=True),
        sa.Column("role", sa.String(20), nullable=False, comment="viewer or operator"),
        sa.Column("digest", sa.String(64), nullable=False, unique=True, comment="SHA-256 of the token, hex"),
        sa.Column("created_at", instant, nullable=False),
    )
    op.add_column("alarms", sa.Column("acknowledged_at", instant, comment="when a person had seen it"))
    op.add_column("alarms", sa.Column("acknowledged_by", sa.String(100), comment="name of that person's token"))


def downgrade() -> None:
    """Take them away again."""
    op.drop_column("alarms", "acknowledged_by")
    op.drop_column("alarms", "acknowledged_at")
    op.drop_table("api_tokens")
