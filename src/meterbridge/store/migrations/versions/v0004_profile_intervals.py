"""For which stretches of time each meter's readings are complete."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the table; an old program goes on working without it."""
    op.create_table(
        "profile_intervals",
        sa.Column("meter_id", sa.Integer, sa.ForeignKey("meters.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("begins", sa.BigInteger, primary_key=True, comment="Unix milliseconds, included"),
        sa.Column("ends", sa.BigInteger, nullable=False, comment="Unix milliseconds, not included"),
    )


def downgrade() -> None:
    """Take it away again."""
    op.drop_table("profile_intervals")
