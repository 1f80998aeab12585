"""An installation to be measured: simulators in processes of their own, a broker, and the service as a process."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from meterbridge.store import open_database

_COMMAND = (sys.executable, "-m", "meterbridge")
REPORT_EVERY = 5.0
_START_LIMIT = 120.0
# Simulated meters in one process: more processes than cores help nobody.
_METERS_PER_SIMULATOR = 2500
_FAULTS = """
[[fault]]
kind = "refused-connection"
meters = "0-{dead}"
[[fault]]
kind = "slow"
meters = "{slow_from}-{slow_to}"
delay = 2.0
[[fault]]
kind = "garbage-before"
meters = "{noisy_from}-{noisy_to}"
size = 64
"""


@contextmanager
def simulators(count: int, folder: Path, faults: bool) -> Iterator[int]:
    first, options = 10_000, []
    if faults:
        tenth, noisy = count // 10, count // 20
        script = folder / "faults.toml"
        script.write_text(
            _FAULTS.format(
                dead=tenth - 1,
                slow_from=tenth,
                slow_to=2 * tenth - 1,
                noisy_from=2 * tenth,
                noisy_to=2 * tenth + noisy - 1,
            )
        )
        options = ["--faults", str(script)]
    with ExitStack() as stack:
        for start in range(0, count, count if faults else _METERS_PER_SIMULATOR):
            number = min(count - start, count if faults else _METERS_PER_SIMULATOR)
            arguments = ["simulate", "--count", str(number), "--port", str(first + start), *options]
            process = stack.enter_context(_process(arguments, folder, subprocess.PIPE))
            assert process.stdout is not None
            line = process.stdout.readline()
            if not line.startswith("READY"):
                raise RuntimeError(f"the simulator does not start: {line!r}")
        yield first


@contextmanager
def service(folder: Path, *, core: int | None = None, **variables: str) -> Iterator[Path]:
    """Run the service, on one core where one is given; yields its log."""
    log = folder / "logs" / "meterbridge.log"
    with _process(["run"], folder, subprocess.DEVNULL, **variables) as process:
        if core is not None:
            # Before it has made its threads: they inherit it.
            os.sched_setaffinity(process.pid, {core})
        yield log


@contextmanager
def _process(arguments: Sequence[str], folder: Path, output: int, **more: str) -> Iterator[subprocess.Popen[str]]:
    source = Path(__file__).resolve().parent.parent / "src"
    variables = {
        **os.environ,
        "PYTHONPATH": str(source),
        "METERBRIDGE_MONITOR__INTERVAL_S": str(REPORT_EVERY),
        "METERBRIDGE_LOG__ROTATE_OCTETS": "1000000000",
        **more,
    }
    process = subprocess.Popen([*_COMMAND, *arguments], cwd=folder, env=variables, stdout=output, text=True)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()


def fill(folder: Path, count: int, first: int, broker_port: int) -> None:
    async def make() -> None:
        engine = await open_database(f"sqlite+aiosqlite:///{folder}/data/admin.db")
        await engine.dispose()

    asyncio.run(make())
    with closing(sqlite3.connect(folder / "data" / "admin.db")) as connection, connection:
        connection.executemany(
            "INSERT INTO meters (name, ip_address, port, tb_port, model) VALUES (?, '127.0.0.1', ?, ?, 'microstar')",
            [(f"meter-{number}", first + number, broker_port) for number in range(count)],
        )


def wait_until_connected(log: Path, count: int, began: float) -> float | None:
    deadline = time.monotonic() + _START_LIMIT
    while time.monotonic() < deadline:
        time.sleep(0.5)
        times: dict[int, str] = {}
        for event in events(log):
            if event["event"] == "meter_connected":
                times.setdefault(event["meter"], event["timestamp"])
        if len(times) >= count:
            return max(datetime.fromisoformat(text).timestamp() for text in times.values()) - began
    return None


def events(log: Path) -> Iterator[dict[str, Any]]:
    if not log.exists():
        return
    for line in log.read_text(encoding="utf-8").splitlines():
        # The last line may be half written.
        if line.endswith("}"):
            yield json.loads(line)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
