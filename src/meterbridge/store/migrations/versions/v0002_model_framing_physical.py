"""What the first scripts had wired in: the meter's model, framing and physical address; and the indexes."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

INDEXES = (
    ("ix_meter_metrics_meter_id", "meter_metrics", ["meter_id", "timestamp"]),
    ("ix_alarms_meter_id", "alarms", ["meter_id", "alarm_type", "resolved_at"]),
    ("ix_network_metrics_meter_id", "network_metrics", ["meter_id", "timestamp"]),
    ("ix_dlms_diagnostics_meter_id", "dlms_diagnostics", ["meter_id", "timestamp"]),
)


def upgrade() -> None:
    """Add them; an old program goes on working, every new column has a default."""
    op.add_column("meters", sa.Column("model", sa.String(50), nullable=False, server_default="generic"))
    op.add_column("meters", sa.Column("framing", sa.String(20), nullable=False, server_default="hdlc"))
    op.add_column("meters", sa.Column("physical", sa.Integer))
    op.create_index("uq_meters_name", "meters", ["name"], unique=True)
    for name, table, columns in INDEXES:
        op.create_index(name, table, columns)


def downgrade() -> None:
    """Take them away again."""
    for name, table, _ in reversed(INDEXES):
        op.drop_index(name, table)
    op.drop_index("uq_meters_name", "meters")
    for column in ("physical", "framing", "model"):
        op.drop_column("meters", column)
