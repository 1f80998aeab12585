"""Two services never share a database or an outbox."""

from __future__ import annotations

from pathlib import Path

import pytest

from meterbridge.errors import ConfigurationError
from meterbridge.service import Service
from meterbridge.settings import DatabaseSettings, LogSettings, OutboxSettings, Settings


def settings(folder: Path, database: str, outbox: str) -> Settings:
    return Settings(
        database=DatabaseSettings(url=f"sqlite+aiosqlite:///{folder}/{database}", key_file=folder / "secrets.key"),
        outbox=OutboxSettings(path=folder / outbox),
        log=LogSettings(file=folder / "meterbridge.log"),
    )


@pytest.mark.parametrize(
    ("database", "outbox", "held"),
    [
        ("a.db", "outbox.db", "outbox.db.lock"),
        ("b.db", "outbox.db", "outbox.db.lock"),
        ("a.db", "other.db", "a.db.lock"),
    ],
)
async def test_the_second_says_so_and_disturbs_nothing(tmp_path: Path, database: str, outbox: str, held: str) -> None:
    first = Service(settings(tmp_path, "a.db", "outbox.db"))
    await first.start()
    try:
        second = Service(settings(tmp_path, database, outbox))
        with pytest.raises(ConfigurationError, match=f"another service runs here: it holds {tmp_path / held};"):
            await second.start()
        await second.stop()
        assert not (tmp_path / "b.db").exists()
        # Where it could not have both it keeps neither.
        third = Service(settings(tmp_path, "c.db", "other.db"))
        await third.start()
        await third.stop()
    finally:
        await first.stop()
    again = Service(settings(tmp_path, database, outbox))
    await again.start()
    await again.stop()
