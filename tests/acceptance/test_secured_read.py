"""`meterbridge read` with HLS and ciphering, as a process; keys come from options, files and the environment."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.acceptance.processes import run, start, stop
from tests.acceptance.test_read import simulated

EK, AK = bytes(range(16)).hex(), bytes(range(0xD0, 0xE0)).hex()
SECURED = ("--auth", "hls-gmac", "--system-title", b"MTB00001".hex())
KEYS = ("--key", EK, "--auth-key", AK)
FIVE = {"voltage_l1", "current_l1", "frequency", "active_power", "active_energy"}


@pytest.fixture(scope="module")
def meter(free_port: Callable[[], int]) -> Iterator[str]:
    yield from simulated(free_port(), "--auth", "hls-gmac", *KEYS)


@pytest.fixture
def counter(tmp_path: Path) -> tuple[str, str]:
    return "--counter-file", str(tmp_path / "counter")


def test_keys_on_the_command_line_twice_with_one_counter(meter: str, counter: tuple[str, str]) -> None:
    for _ in range(2):
        ended = run("read", meter, *SECURED, *KEYS, *counter, "--json")
        assert (ended.code, ended.err) == (0, "")
        content = json.loads(ended.out)
        assert content["errors"] == {}
        assert set(content["values"]) == FIVE
        assert EK not in ended.out
    assert int(Path(counter[1]).read_text()) > 64


def test_keys_from_files_and_the_meters_own_counter(meter: str, counter: tuple[str, str], tmp_path: Path) -> None:
    (tmp_path / "ek").write_text(f"{EK}\n")
    (tmp_path / "ak").write_text(AK.upper())
    options = ("--key", f"@{tmp_path / 'ek'}", "--auth-key", f"@{tmp_path / 'ak'}", "--counter-object", "0-0:43.1.0")
    ended = run("read", meter, "voltage_l1", *SECURED, *options, *counter, "--json")
    assert (ended.code, ended.err) == (0, "")


def test_a_list_of_objects(meter: str, counter: tuple[str, str]) -> None:
    ended = run("objects", meter, *SECURED, *KEYS, *counter, "--dedicated", "--json")
    assert (ended.code, ended.err) == (0, "")
    assert len(json.loads(ended.out)) > 30


def test_wrong_keys_are_a_refused_association(meter: str, counter: tuple[str, str]) -> None:
    ended = run("read", meter, *SECURED, "--key", AK, "--auth-key", EK, *counter)
    assert ended.code == 4
    assert "deciphering error" in ended.err
    assert len(ended.err.splitlines()) == 1


def test_no_proof_is_a_refused_association(meter: str) -> None:
    ended = run("read", meter)
    assert ended.code == 4
    assert ended.out == ""


@pytest.mark.parametrize("framing", ["hdlc", "wrapper"])
def test_an_independent_meter(
    framing: str, shared: Path, free_port: Callable[[], int], counter: tuple[str, str]
) -> None:
    port = free_port()
    peer = str(shared / "peers" / "gurux_meter.py")
    command = [sys.executable, peer, "--port", str(port), "--framing", framing, "--auth", "hls-gmac", "--rows", "4"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("READY")
        ended = run(
            "read", f"127.0.0.1:{port}", "1-0:32.7.0", "--framing", framing, *SECURED, *KEYS, *counter, "--json"
        )
        assert (ended.code, ended.err) == (0, "")
        assert json.loads(ended.out)["values"]["1-0:32.7.0"] == {
            "value": 230.1,
            "unit": "V",
            "logical_name": "1.0.32.7.0.255",
        }
    finally:
        process.terminate()
        process.wait(10)


@pytest.mark.parametrize("form", ["{} {}", "{}={}"])
def test_the_process_list_shows_no_key(form: str) -> None:
    """Nobody answers: the command waits, and whoever asks for its arguments sees none of its secrets."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        host = f"127.0.0.1:{silent.getsockname()[1]}"
        given = [form.format(option, value) for option, value in (("--key", EK), ("--auth-key", AK))]
        words = [word for each in (*given, form.format("--password", "s3cret")) for word in each.split(" ")]
        process = start("read", host, *SECURED, *words, "--timeout", "60")
        try:
            silent.accept()  # it is far behind its start by then
            shown = Path(f"/proc/{process.pid}/cmdline").read_bytes()
        finally:
            ended = stop(process, signal.SIGINT)
    assert shown.count(b"x" * len(EK)) == 2
    for secret in (EK, AK, "s3cret"):
        assert secret.encode() not in shown
        assert secret not in ended.out + ended.err
    assert host.encode() in shown
