"""How ThingsBoard's REST API is reached, and what was provisioned there for all meters together."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the table; an old program goes on working without it."""
    op.create_table(
        "thingsboard",
        sa.Column("id", sa.Integer, primary_key=True, comment="1: there is one row at most"),
        sa.Column("server", sa.String(255), nullable=False, comment="base URL of the REST API"),
        sa.Column("username", sa.String(255)),
        sa.Column("password", sa.String(1000), comment="encrypted"),
        sa.Column("api_key", sa.String(1000), comment="encrypted"),
        sa.Column("mqtt_host", sa.String(255), nullable=False),
        sa.Column("mqtt_port", sa.Integer, nullable=False),
        sa.Column("gateway_token", sa.String(500), comment="encrypted"),
    )


def downgrade() -> None:
    """Take it away again."""
    op.drop_table("thingsboard")
