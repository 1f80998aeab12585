"""`meterbridge demo` as a process: what it promises unattended, how it ends, what stops it from starting."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import signal
import socket
import struct
import subprocess
import termios
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.acceptance.processes import COMMAND, Ended, environment, run, start, stop

KEYS = ["meters", "polls", "published", "received", "lost", "p50_ms", "p99_ms"]


@pytest.fixture
def ports(free_port: Callable[[], int]) -> tuple[int, int]:
    """Ports for the broker, and for the first of two meters."""
    while True:
        first = free_port()
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", first + 1))
            except (OSError, OverflowError):
                continue
        return free_port(), first


def options(ports: tuple[int, int]) -> tuple[str, ...]:
    return ("--broker-port", str(ports[0]), "--meter-port", str(ports[1]))


def assert_all_arrived(ended: Ended) -> None:
    assert (ended.code, ended.err) == (0, ""), ended
    result = json.loads(ended.out.splitlines()[-1])
    assert list(result) == KEYS
    assert (result["meters"], result["lost"]) == (2, 0)
    assert result["published"] == result["received"] > 0
    assert 0 < result["p50_ms"] <= result["p99_ms"]


def assert_free(ports: tuple[int, int]) -> None:
    for port in (ports[0], ports[1], ports[1] + 1):
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", port)) != 0, f"something still listens on {port}"


def wait_for_log(process: subprocess.Popen[str], folder: Path, text: str) -> None:
    """Wait until the log says so; `process` writes it and is killed where it does not."""
    log = folder / "data" / "demo.log"
    give_up = time.monotonic() + 30
    while not (log.exists() and text in log.read_text()):
        if process.poll() is not None or time.monotonic() > give_up:
            process.kill()
            pytest.fail(f"{text} never came up in the log: {process.communicate()[1]}")
        time.sleep(0.05)


def test_unattended_twice_in_one_folder(tmp_path: Path, ports: tuple[int, int]) -> None:
    for _ in range(2):
        assert_all_arrived(run("demo", "--duration", "2", "--json", *options(ports), folder=tmp_path))
    assert_free(ports)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_cleanly(tmp_path: Path, ports: tuple[int, int], number: signal.Signals) -> None:
    process = start("demo", "--json", *options(ports), folder=tmp_path)
    wait_for_log(process, tmp_path, "meter_connected")
    assert_all_arrived(stop(process, number))
    assert_free(ports)


@pytest.mark.parametrize("which", [0, 1, 2], ids=["broker", "first meter", "second meter"])
def test_a_port_that_is_taken_is_named(tmp_path: Path, ports: tuple[int, int], which: int) -> None:
    taken = (ports[0], ports[1], ports[1] + 1)[which]
    with socket.create_server(("127.0.0.1", taken)):
        ended = run("demo", "--duration", "2", "--json", *options(ports), folder=tmp_path)
    assert str(taken) in ended.refused_in_one_line(2)


def test_a_folder_that_cannot_be_one_is_named(tmp_path: Path, ports: tuple[int, int]) -> None:
    (tmp_path / "file").touch()
    ended = run("demo", "--duration", "2", "--json", "--data", "file", *options(ports), folder=tmp_path)
    assert "file" in ended.refused_in_one_line(2)


def test_it_leaves_real_meters_alone(tmp_path: Path, ports: tuple[int, int]) -> None:
    assert_all_arrived(run("demo", "--duration", "1", "--json", *options(ports), folder=tmp_path))
    database = tmp_path / "data" / "admin.db"
    subprocess.run(["sqlite3", database, "UPDATE meters SET name = 'cellar' WHERE id = 1"], check=True)
    ended = run("demo", "--duration", "1", "--json", *options(ports), folder=tmp_path)
    assert "cellar" in ended.refused_in_one_line(2)
    query = ["sqlite3", str(database), "SELECT name FROM meters WHERE id = 1"]
    assert subprocess.run(query, check=True, capture_output=True, text=True).stdout == "cellar\n"


def test_a_terminal_shows_the_table(tmp_path: Path, ports: tuple[int, int]) -> None:
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
    with subprocess.Popen(
        [*COMMAND, "demo", "--duration", "2", *options(ports)],
        cwd=tmp_path,
        env=environment(TERM="xterm"),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    ) as process:
        os.close(theirs)
        shown = b""
        try:
            while part := os.read(ours, 65_536):
                shown += part
        except OSError:
            # Linux reports the end of a terminal as an error.
            pass
        finally:
            os.close(ours)
    text = shown.decode()
    assert process.returncode == 0, text[-2000:]
    assert "What an MQTT subscriber receives" in text
    assert "demo-1" in text
    assert "published readings arrived." in text
