"""Runs migrations on the connection that `meterbridge.store.upgrade` hands over; there is no alembic.ini."""

from __future__ import annotations

from alembic import context

from meterbridge.store.schema import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
with context.begin_transaction():
    context.run_migrations()
