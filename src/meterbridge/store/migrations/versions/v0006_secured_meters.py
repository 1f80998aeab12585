"""How meters are authenticated and ciphered, and the invocation counters of their keys."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def _text(length: int, wider: int) -> sa.String:
    return sa.String(length).with_variant(sa.String(wider), "postgresql")


def _columns() -> list[sa.Column[object]]:
    return [
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
    ]


def upgrade() -> None:
    """Add them; an old program goes on working, every new column has a default."""
    for column in _columns():
        op.add_column("meters", column)
    op.create_table(
        "invocation_counters",
        sa.Column("name", sa.String(64), primary_key=True, comment="digest of system title and block cipher key"),
        sa.Column("next", sa.BigInteger, nullable=False, comment="first value that nobody has put by"),
    )


def downgrade() -> None:
    """Take them away again, and with them every key."""
    op.drop_table("invocation_counters")
    for column in reversed(_columns()):
        op.drop_column("meters", column.name)
