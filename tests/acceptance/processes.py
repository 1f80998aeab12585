"""The `meterbridge` command as its users meet it: a process, its output, its exit code."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

COMMAND = [sys.executable, "-m", "meterbridge"]


@dataclass(frozen=True, slots=True)
class Ended:
    """A process that ended.

    Args:
        code: exit code.
        out: standard output.
        err: standard error.
    """

    code: int
    out: str
    err: str

    def refused_in_one_line(self, code: int) -> str:
        """Return the one line of an error after checking that there is nothing else."""
        assert (self.code, self.out) == (code, ""), self
        [line] = self.err.splitlines()
        assert line.startswith("meterbridge: "), self
        return line


def environment(**extra: str) -> dict[str, str]:
    """Return our environment without settings of whoever runs the tests."""
    own = {name: value for name, value in os.environ.items() if not name.startswith(("METERBRIDGE_", "METER_"))}
    # Services of several tests run side by side, and perhaps one that is not a test's.
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return {**own, "METERBRIDGE_API__PORT": str(port), **extra}


def run(*arguments: str, folder: Path | None = None, timeout: float = 30.0, **variables: str) -> Ended:
    """Run the command to its end."""
    done = subprocess.run(
        [*COMMAND, *arguments],
        cwd=folder,
        env=environment(**variables),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    return Ended(done.returncode, done.stdout, done.stderr)


def start(*arguments: str, folder: Path | None = None, **variables: str) -> subprocess.Popen[str]:
    """Start the command; `stop` ends it."""
    return subprocess.Popen(
        [*COMMAND, *arguments],
        cwd=folder,
        env=environment(**variables),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def stop(process: subprocess.Popen[str], number: signal.Signals = signal.SIGTERM, timeout: float = 15.0) -> Ended:
    """Send a signal and return how the process ended; killed where that takes longer than `timeout` seconds."""
    process.send_signal(number)
    try:
        out, err = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise
    return Ended(process.returncode, out, err)
