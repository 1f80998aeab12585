"""Programs of the system that `meterbridge service` works through, and what they say when they refuse."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator

from meterbridge.errors import MeterbridgeError

UNIT = "meterbridge.service"
WITHOUT = "without systemd run `meterbridge run` under a supervisor of your own"


class SystemRefused(MeterbridgeError):
    """A program of the system is not there or said no; its own words say why."""


def call(program: str, *words: str) -> str:
    """Run a program to its end and return its output.

    Raises:
        SystemRefused: it is not there, or ended with another code than 0.
    """
    done = subprocess.run(  # noqa: S603  (its words are ours)
        [_found(program), *words], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        said = [line.strip() for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        if said and "not been booted with systemd" in said[0]:
            raise SystemRefused(f"systemd does not run here: {WITHOUT}")
        raise SystemRefused(f"{program} {' '.join(words)}: {said[0] if said else f'exit code {done.returncode}'}")
    return done.stdout


def lines_of(program: str, *words: str) -> Iterator[str]:
    """Run a program and yield the lines it writes, as it writes them.

    Raises:
        SystemRefused: it is not there, or ended with another code than 0.
    """
    with subprocess.Popen(  # noqa: S603  (its words are ours)
        [_found(program), *words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        said = ""
        try:
            if process.stdout is not None:
                yield from process.stdout
            if process.stderr is not None:
                said = process.stderr.read().strip().partition("\n")[0]
            process.wait()
        finally:
            process.terminate()
    if process.returncode != 0:
        raise SystemRefused(f"{program}: {said or f'exit code {process.returncode}'}")


def _found(program: str) -> str:
    # Debian keeps useradd where a user's PATH does not reach.
    path = shutil.which(program) or shutil.which(program, path="/usr/sbin:/sbin")
    if path is None:
        raise SystemRefused(
            f"{program} is not here: {WITHOUT}" if program in ("systemctl", "journalctl") else f"{program} is not here"
        )
    return path
