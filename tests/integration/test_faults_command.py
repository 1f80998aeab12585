"""`meterbridge simulate --faults FILE --control-port P` as a process, on its own event loop."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "meterbridge", "simulate", *arguments]


def port_range(free_port: Callable[[], int], count: int) -> int:
    for _ in range(100):
        first = free_port()
        if first + count > 65_535:
            continue
        try:
            sockets = [socket.create_server(("127.0.0.1", first + index)) for index in range(count)]
        except OSError:
            continue
        for held in sockets:
            held.close()
        return first
    raise AssertionError("no free range of ports")


@contextmanager
def simulating(*arguments: str) -> Iterator[tuple[int, subprocess.Popen[str]]]:
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(command(*arguments), stdout=subprocess.PIPE, text=True, env=environment)
    try:
        assert process.stdout is not None
        word, port = process.stdout.readline().split()
        assert word == "CONTROL"
        assert process.stdout.readline().startswith("READY ")
        yield int(port), process
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


class Control:
    def __init__(self, port: int) -> None:
        self.file = socket.create_connection(("127.0.0.1", port), timeout=10).makefile("rw")

    def ask(self, **request: Any) -> dict[str, Any]:
        self.file.write(json.dumps(request) + "\n")
        self.file.flush()
        answer: dict[str, Any] = json.loads(self.file.readline())
        assert answer["ok"], answer
        return answer


def test_a_script_and_the_control_port_work_together(tmp_path: Path, free_port: Callable[[], int]) -> None:
    script = tmp_path / "faults.toml"
    script.write_text('[[fault]]\nkind = "refused-connection"\nmeters = "0"\n')
    first = port_range(free_port, 3)
    arguments = ("--count", "3", "--port", str(first), "--faults", str(script), "--control-port", "0")
    with simulating(*arguments) as (port, process):
        control = Control(port)
        with pytest.raises(ConnectionResetError), socket.create_connection(("127.0.0.1", first), timeout=10) as refused:
            refused.recv(1)
            pytest.fail("closed in good order")

        victim = socket.create_connection(("127.0.0.1", first + 1), timeout=10)
        number = control.ask(do="add", fault={"kind": "power-cut", "meters": 1})["fault"]
        with pytest.raises(ConnectionResetError), victim:
            victim.recv(1)
            pytest.fail("closed in good order")
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", first + 1), timeout=10)
        control.ask(do="remove", fault=number)
        while not control.ask(do="meters")["meters"][1]["powered"]:
            pass
        socket.create_connection(("127.0.0.1", first + 1), timeout=10).close()

        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0


def test_a_wrong_script_is_one_line_and_exit_2(tmp_path: Path) -> None:
    script = tmp_path / "faults.toml"
    script.write_text('[[fault]]\nkind = "slow"\ndealy = 2\n')
    ended = subprocess.run(command("--faults", str(script)), capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 2
    assert ended.stderr == f"meterbridge: {script}: fault 1: slow: unknown key dealy\n"
    assert ended.stdout == ""
