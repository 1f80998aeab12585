"""An installation to be ill-treated: simulated meters, a database, and the service as a process of its own."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Self

from meterbridge.delivery.outbox_file import SCHEMA
from meterbridge.model import Meter, MeterId
from meterbridge.simulator import FleetOptions, SimulatedFleet
from meterbridge.store import MeterRepository, open_database
from tests.acceptance.processes import COMMAND, environment

# What a commit put on disk is written down in the same transaction: nobody can know it better.
JOURNAL = """
CREATE TABLE IF NOT EXISTS journal (device TEXT NOT NULL, ts INTEGER NOT NULL);
CREATE TRIGGER IF NOT EXISTS journal_of_outbox AFTER INSERT ON outbox WHEN new.kind = 'telemetry'
BEGIN INSERT INTO journal VALUES (new.device, new.ts); END;
"""


class Site:
    """One installation.

    Args:
        folder: of its own.
        meters: how many.
        port: of the MQTT server its meters are delivered to.
        free_port: gives ports.
        gateway_token: None takes the broker route.
        settings: more of meterbridge.toml.
        data: where the outbox lies; the folder itself unless given.
    """

    def __init__(
        self,
        folder: Path,
        meters: int,
        port: int,
        free_port: Callable[[], int],
        gateway_token: str | None = None,
        settings: str = "",
        data: Path | None = None,
    ) -> None:
        self.folder = folder
        self.outbox = (data or folder) / "outbox.db"
        self._fleet = SimulatedFleet(FleetOptions(meters, port=0))
        self._port = port
        self.api_port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        route = f'route = "gateway"\ngateway_token = "{gateway_token}"\n' if gateway_token else ""
        (folder / "meterbridge.toml").write_text(
            f'[outbox]\npath = "{self.outbox}"\n'
            "[mqtt]\nbackoff_initial_s = 0.2\nbackoff_max_s = 1.0\n"
            "[polling]\nbackoff_initial_s = 0.1\nconnections_per_s = 1000.0\nperiod_s = 0.5\n"
            f"[api]\nport = {self.api_port}\n"
            f"[delivery]\nack_timeout_s = 2.0\n{route}{settings}"
        )

    async def __aenter__(self) -> Self:
        await self._fleet.__aenter__()
        (self.folder / "data").mkdir()
        engine = await open_database(f"sqlite+aiosqlite:///{self.folder}/data/admin.db")
        try:
            repository = MeterRepository(engine)
            for index, port in enumerate(self._fleet.ports):
                await repository.add(
                    Meter(MeterId(0), f"m{index}", "127.0.0.1", port, model="microstar", tb_port=self._port)
                )
        finally:
            await engine.dispose()
        with closing(sqlite3.connect(self.outbox)) as db:
            db.execute("PRAGMA journal_mode=WAL")
            db.executescript(SCHEMA + JOURNAL)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.kill()
        await self._fleet.__aexit__(None, None, None)

    def allow_relay(self, name: str) -> None:
        """Let a meter's relay be switched, as a person would."""
        with closing(sqlite3.connect(self.folder / "data" / "admin.db")) as db, db:
            db.execute("UPDATE meters SET relay_allowed = 1 WHERE name = ?", (name,))

    def conducts(self, index: int) -> bool:
        """Whether a meter's customer has power."""
        return self._fleet.servers[index].meter.connected

    def start(self, **variables: str) -> None:
        """Run the service."""
        with (self.folder / "out.log").open("ab") as out:
            self._process = subprocess.Popen(
                [*COMMAND, "run"],
                cwd=self.folder,
                env=environment(**variables),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
            )

    def kill(self) -> None:
        """SIGKILL, as a crash would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def stop(self) -> int:
        """SIGTERM; its exit code."""
        assert self._process is not None
        process, self._process = self._process, None
        process.send_signal(signal.SIGTERM)
        return process.wait(timeout=20)

    def committed(self) -> dict[str, list[int]]:
        """Times that were put on disk, by device, in order."""
        times: dict[str, list[int]] = {}
        with closing(sqlite3.connect(self.outbox, timeout=10)) as db:
            for device, ts in db.execute("SELECT device, ts FROM journal ORDER BY rowid"):
                times.setdefault(device, []).append(ts)
        return times

    def waiting(self) -> int:
        """Rows that are on disk now."""
        with closing(sqlite3.connect(self.outbox, timeout=10)) as db:
            (count,) = db.execute("SELECT count(*) FROM outbox").fetchone()
        return int(count)


def tell(figures: str) -> None:
    """Say what was counted; `make soak` shows it at its end."""
    print(figures)
    if file := os.environ.get("METERBRIDGE_FIGURES"):
        with Path(file).open("a", encoding="utf-8") as out:
            out.write(figures + "\n")


def lost(committed: dict[str, list[int]], arrived: dict[str, list[int]]) -> dict[str, list[int]]:
    """Times that did not arrive, by device."""
    missing = {device: sorted(set(times) - set(arrived.get(device, []))) for device, times in committed.items()}
    return {device: times for device, times in missing.items() if times}


def out_of_order(arrived: dict[str, list[int]]) -> list[str]:
    """Devices whose readings did not first arrive in the order of their times."""
    return [device for device, times in arrived.items() if times != sorted(times)]
