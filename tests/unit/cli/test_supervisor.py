"""What systemd is told: sd_notify's datagrams, and when the watchdog gets its sign of life."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from meterbridge.cli.supervisor import Supervisor


class Listener:
    def __init__(self, address: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(address)
        self.socket.setblocking(False)

    def heard(self) -> list[str]:
        found = []
        while True:
            try:
                found.append(self.socket.recv(4096).decode())
            except BlockingIOError:
                return found


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[Listener]:
    # A path of pytest's may be longer than a socket's may be.
    here = Path.cwd()
    os.chdir(tmp_path)
    found = Listener("notify")
    yield found
    found.socket.close()
    os.chdir(here)


def test_its_life_is_told_in_systemds_words(listener: Listener) -> None:
    environment = {"NOTIFY_SOCKET": "notify", "HOME": "/"}
    supervisor = Supervisor(environment, monotonic_ns=lambda: 5_000_000_001)
    assert environment == {"HOME": "/"}
    supervisor.ready("polling 2 meters")
    supervisor.reloading()
    supervisor.ready("one\nline")
    supervisor.stopping("told to stop")
    assert listener.heard() == [
        "READY=1\nSTATUS=polling 2 meters",
        "RELOADING=1\nMONOTONIC_USEC=5000000\nSTATUS=reading the settings again",
        "READY=1\nSTATUS=one line",
        "STOPPING=1\nSTATUS=told to stop",
    ]


def test_an_abstract_socket_is_found() -> None:
    name = f"meterbridge-test-{os.getpid()}"
    found = Listener(f"\0{name}")
    Supervisor({"NOTIFY_SOCKET": f"@{name}"}).ready("up")
    assert found.heard() == ["READY=1\nSTATUS=up"]
    found.socket.close()


def test_nobody_listening_and_a_listener_gone_do_no_harm(tmp_path: Path) -> None:
    for address in ("", str(tmp_path / "gone"), "x" * 200):
        Supervisor({"NOTIFY_SOCKET": address}).ready("up")


@pytest.mark.parametrize(
    ("usec", "owner", "expected"),
    [("30000000", "77", 30.0), ("30000000", "", 30.0), ("30000000", "78", 0.0), ("", "77", 0.0), ("soon", "77", 0.0)],
)
def test_a_watchdog_meant_for_another_process_is_not_ours(usec: str, owner: str, expected: float) -> None:
    assert Supervisor({"WATCHDOG_USEC": usec, "WATCHDOG_PID": owner}, pid=77).watchdog_s == expected


async def test_the_watchdog_is_fed_while_the_loop_turns_and_starves_when_it_does_not(listener: Listener) -> None:
    feeding = asyncio.create_task(Supervisor({"NOTIFY_SOCKET": "notify", "WATCHDOG_USEC": "3000"}).feed())
    for _ in range(1_000):
        await asyncio.sleep(0)
    assert set(listener.heard()) == {"WATCHDOG=1"}
    # No turn of the loop: however long this takes, nobody feeds.
    sum(range(200_000))
    assert listener.heard() == []
    feeding.cancel()


async def test_without_a_watchdog_feeding_ends() -> None:
    await asyncio.wait_for(Supervisor({}).feed(), 1.0)
