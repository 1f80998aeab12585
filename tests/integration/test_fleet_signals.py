"""`meterbridge run` and the signals systemd sends: SIGHUP reloads, SIGTERM ends it in time."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.processes import start, stop

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
