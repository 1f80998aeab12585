"""A real Mosquitto for tests: started on a loopback port, stopped by pid."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import time
from pathlib import Path

START_SECONDS = 10.0


class Mosquitto:
    """One broker in a folder of its own; sessions and queued messages outlive stop() and start().

    Args:
        folder: where its configuration, log and store go.
        port: free loopback port; it stays the same over restarts.

    Raises:
        RuntimeError: mosquitto is not installed.
    """

    host = "127.0.0.1"

    def __init__(self, folder: Path, port: int) -> None:
        # Debian puts it where a user's PATH does not reach.
        program = shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
        if program is None:
            raise RuntimeError("mosquitto is not installed; `make test` installs it (or: apt-get install mosquitto)")
        self.port = port
        self.log = folder / "mosquitto.log"
        self._command = [program, "-c", str(folder / "mosquitto.conf")]
        self._process: subprocess.Popen[bytes] | None = None
        (folder / "mosquitto.conf").write_text(
            f"listener {port} {self.host}\n"
            "allow_anonymous true\n"
            "persistence true\n"
            f"persistence_location {folder}/\n"
            # Started by root it would become the user mosquitto, who may not write here.
            f"user {pwd.getpwuid(os.getuid()).pw_name}\n"
            "max_queued_messages 0\n"
            "log_dest stderr\n"
        )

    def use(self, configuration: Path) -> None:
        """Start with another configuration file from now on; it has to name the same port."""
        self._command[-1] = str(configuration)

    @property
    def configuration(self) -> Path:
        """File it is started with."""
        return Path(self._command[-1])

    @property
    def pid(self) -> int:
        """Process id while it runs.

        Raises:
            RuntimeError: it does not run.
        """
        if self._process is None:
            raise RuntimeError("this mosquitto does not run")
        return self._process.pid

    def start(self) -> None:
        """Run it and return once it listens; nothing when it already runs.

        Raises:
            RuntimeError: it ended at once or did not listen within START_SECONDS; with the end of its log.
        """
        if self._process is not None:
            return
        with self.log.open("ab") as log:
            before = log.tell()
            self._process = subprocess.Popen(self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        give_up = time.monotonic() + START_SECONDS
        while self._process.poll() is None and time.monotonic() < give_up:
            # Its own word, for a connection may be answered by whoever else has the port.
            if b" running" in self.log.read_bytes()[before:]:
                return
            time.sleep(0.01)
        self.stop(kill=True)
        end = self.log.read_text(errors="replace")[-500:]
        raise RuntimeError(f"mosquitto does not listen on {self.host}:{self.port}; its log ends:\n{end}")

    def stop(self, *, kill: bool = False) -> None:
        """End it and wait until it is gone; nothing when it does not run.

        Args:
            kill: SIGKILL, as a crash would: what it had not stored is lost.
        """
        if self._process is None:
            return
        process, self._process = self._process, None
        process.send_signal(signal.SIGKILL if kill else signal.SIGTERM)
        try:
            process.wait(timeout=START_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
