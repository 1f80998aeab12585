"""`meterbridge run` as systemd meets it: told when it is ready, reloads and stops, and that it is alive."""

from __future__ import annotations

import signal
import socket
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.processes import start, stop


@pytest.fixture
def listener() -> Iterator[tuple[str, socket.socket]]:
    # pytest's own folders can be longer than the path of a socket may be.
    with (
        tempfile.TemporaryDirectory(prefix="meterbridge-") as folder,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as found,
    ):
        found.bind(f"{folder}/notify")
        found.settimeout(20)
        yield f"{folder}/notify", found


def heard(listener: socket.socket, wanted: str) -> dict[str, str]:
    while True:
        told = dict(line.split("=", 1) for line in listener.recv(4096).decode().splitlines())
        if wanted in told:
            return told


def test_ready_reloading_stopping_and_alive(tmp_path: Path, listener: tuple[str, socket.socket]) -> None:
    address, mouth = listener
    process = start("run", folder=tmp_path, NOTIFY_SOCKET=address, WATCHDOG_USEC="600000")
    try:
        assert heard(mouth, "READY")["STATUS"] == "polling 0 meters"
        # It is said last: whoever waits for it finds the API listening.
        assert process.stdout is not None
        assert any("api_started" in line for line in iter(process.stdout.readline, ""))
        for _ in range(3):
            assert heard(mouth, "WATCHDOG") == {"WATCHDOG": "1"}
        before = time.monotonic_ns() // 1000
        process.send_signal(signal.SIGHUP)
        assert before < int(heard(mouth, "RELOADING")["MONOTONIC_USEC"]) < time.monotonic_ns() // 1000
        assert heard(mouth, "READY")["STATUS"] == "polling 0 meters"
        (tmp_path / "meterbridge.toml").write_text("[polling]\nperiod_s = 'often'\n")
        process.send_signal(signal.SIGHUP)
        heard(mouth, "RELOADING")
        assert "the last reload failed" in heard(mouth, "READY")["STATUS"]
    finally:
        ended = stop(process)
    assert heard(mouth, "STOPPING")["STATUS"] == "told to stop"
    assert ended.code == 0, ended
