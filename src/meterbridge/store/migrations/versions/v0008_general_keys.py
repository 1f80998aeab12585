"""Keys of general-ciphering that are wrapped or agreed, and signatures of every APDU."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def _columns() -> list[sa.Column[object]]:
    return [
        sa.Column("general_key", sa.String(20), comment="of general-ciphering"),
        sa.Column("master_key", sa.String(64).with_variant(sa.String(500), "postgresql"), comment="KEK"),
        sa.Column("signed", sa.Boolean, nullable=False, server_default=sa.false()),
        sa.Column("agreement_key", sa.Text, comment="our private key, PEM"),
        sa.Column("meter_agreement_key", sa.Text, comment="public key or certificate, PEM"),
    ]


def upgrade() -> None:
    """Add them; an old program goes on working, every new column has a default."""
    for column in _columns():
        op.add_column("meters", column)


def downgrade() -> None:
    """Take them away again, and with them the keys."""
    for column in reversed(_columns()):
        op.drop_column("meters", column.name)
