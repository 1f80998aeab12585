"""`meterbridge run` and the signals systemd sends: SIGHUP reloads, SIGTERM ends it in time."""

from __future__ import annotations

import asyncio
import json
import resource
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from meterbridge.dlms.acse import RLRE
from meterbridge.dlms.hdlc import Control
from meterbridge.simulator import Faithful, FleetOptions, SimulatedFleet
from meterbridge.simulator.behaviour import Action, Send
from meterbridge.store import upgrade
from tests.acceptance.processes import start, stop

METERS = 300
INSERT = "INSERT INTO meters (name, ip_address, port, model, tb_port) VALUES (?, '127.0.0.1', ?, 'microstar', ?)"


@pytest.fixture
def meter_port(free_port: Callable[[], int]) -> Iterator[int]:
    port = free_port()
    process = start("simulate", "--port", str(port))
    assert process.stdout is not None
    assert process.stdout.readline().startswith("READY")
    yield port
    stop(process)


def event(process: subprocess.Popen[str], name: str) -> dict[str, Any]:
    assert process.stdout is not None
    for line in process.stdout:
        if not line.startswith("{"):
            # Libraries log in their own way.
            continue
        found: dict[str, Any] = json.loads(line)
        if found["event"] == name:
            return found
    pytest.fail(f"it ended before it said {name}")


def test_sighup_reloads_and_sigterm_ends_in_time(tmp_path: Path, meter_port: int, free_port: Callable[[], int]) -> None:
    config = tmp_path / "meterbridge.toml"
    config.write_text("[polling]\nperiod_s = 0.2\n")
    process = start("run", folder=tmp_path)
    try:
        event(process, "service_started")
        with closing(sqlite3.connect(tmp_path / "data" / "admin.db")) as connection, connection:
            connection.execute(INSERT, ("one", meter_port, free_port()))
            connection.execute(INSERT, ("nobody there", free_port(), free_port()))
        process.send_signal(signal.SIGHUP)
        found = event(process, "meters_reloaded")
        assert (found["added"], found["removed"], found["changed"], found["untouched"]) == (2, 0, 0, 0)
        event(process, "meter_failed")
        process.send_signal(signal.SIGHUP)
        assert event(process, "meters_reloaded")["untouched"] == 2
        config.write_text("[polling]\nperiod_s = 'often'\n")
        process.send_signal(signal.SIGHUP)
        assert "period_s" in event(process, "reload_failed")["reason"]
        config.write_text("[polling]\nperiod_s = 0.1\n[monitor]\ninterval_s = 30\n")
        process.send_signal(signal.SIGHUP)
        assert event(process, "restart_needed")["section"] == "monitor"
        assert event(process, "meters_reloaded")["changed"] == 2
        event(process, "meter_connected")
    finally:
        began = time.monotonic()
        ended = stop(process)
    assert time.monotonic() - began < 10
    assert ended.code == 0, ended.err
    stopped = json.loads(ended.out.splitlines()[-1])
    assert stopped["event"] == "service_stopped"
    assert stopped["readings"] > 0


class Ears(Faithful):
    """Keeps the newest answers of a meter, and swallows them once it is silent."""

    def __init__(self) -> None:
        self.said: list[bytes] = []
        self.silent = False

    def deliver(self, octets: bytes, now: float) -> Sequence[Action]:
        self.said = [*self.said[-1:], octets]
        return () if self.silent else (Send(octets),)


def says_goodbye(said: Sequence[bytes]) -> bool:
    """Whether the newest answers are RLRE and UA: the client asked for both."""
    released, disconnected = said
    return bytes((0xE6, 0xE7, 0x00, RLRE)) in released and disconnected[5] & 0xEF == Control.UA


async def test_sigterm_releases_hundreds_of_associations_in_time(tmp_path: Path) -> None:
    ears = [Ears() for _ in range(METERS)]
    await upgrade(f"sqlite+aiosqlite:///{tmp_path}/data/admin.db")
    polling = "[polling]\nconnections_per_s = 1000\nresponse_timeout_floor_s = 3\n"
    await asyncio.to_thread((tmp_path / "meterbridge.toml").write_text, polling)
    async with SimulatedFleet(FleetOptions(METERS, port=0), ears) as fleet:
        with closing(sqlite3.connect(tmp_path / "data" / "admin.db")) as connection, connection:
            rows = [(f"m{number}", port, 1) for number, port in enumerate(fleet.ports)]
            connection.executemany(INSERT, rows)
        # Nobody reads its output meanwhile: it must not fill the pipe.
        process = start("run", folder=tmp_path, METERBRIDGE_LOG__LEVEL="error")
        try:
            async with asyncio.timeout(30):
                # Associated, and read at least once: the answers to SNRM and AARQ are not the newest any more.
                while any(len(each.said) < 2 or len(each.said[0]) < 40 for each in ears):
                    await asyncio.sleep(0.1)
            for each in ears[:30]:
                each.silent = True
        finally:
            began = time.monotonic()
            ended = await asyncio.to_thread(stop, process)
        assert time.monotonic() - began < 10
        assert ended.code == 0, ended.err
        assert [number for number, each in enumerate(ears[30:], 30) if not says_goodbye(each.said)] == []
        async with asyncio.timeout(5):
            while any(server.connections for server in fleet.servers):
                await asyncio.sleep(0.05)


async def test_too_few_files_are_an_alarm_and_every_meter_is_read_all_the_same(tmp_path: Path) -> None:
    ears = [Ears() for _ in range(100)]
    await upgrade(f"sqlite+aiosqlite:///{tmp_path}/data/admin.db")
    async with SimulatedFleet(FleetOptions(len(ears), port=0), ears) as fleet:
        with closing(sqlite3.connect(tmp_path / "data" / "admin.db")) as connection, connection:
            connection.executemany(INSERT, [(f"m{number}", port, 1) for number, port in enumerate(fleet.ports)])
        process = start("run", folder=tmp_path, METERBRIDGE_LOG__LEVEL="error")
        # At once: it looks at its limits when it has loaded.
        resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (64, 64))
        try:
            async with asyncio.timeout(30):
                while any(len(each.said) < 2 for each in ears):
                    await asyncio.sleep(0.1)
        finally:
            ended = await asyncio.to_thread(stop, process)
    assert (ended.code, ended.err) == (0, "")
    with closing(sqlite3.connect(tmp_path / "data" / "admin.db")) as connection:
        [(text,)] = connection.execute("SELECT message FROM alarms WHERE alarm_type = 'too_few_files'")
        errors = connection.execute("SELECT last_error FROM meters WHERE last_error LIKE '%open files%'").fetchall()
    assert text.startswith("the limit of open files leaves 16 connections at once for 100 meters")
    assert errors == []
