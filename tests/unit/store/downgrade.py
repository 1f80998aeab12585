"""A database taken back to an older schema."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import command
from alembic.config import Config

from meterbridge.store.engine import database_url, make_engine
from meterbridge.store.migrate import MIGRATIONS


async def downgrade(url: str, revision: str) -> None:
    """Undo the migrations after a revision."""
    engine = make_engine(database_url(url), migrating=True)

    def down(connection: sa.Connection) -> None:
        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS))
        config.attributes["connection"] = connection
        command.downgrade(config, revision)

    async with engine.begin() as connection:
        await connection.run_sync(down)
    await engine.dispose()
