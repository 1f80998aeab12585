"""What the service asks of the machine it runs on."""

from __future__ import annotations

import fcntl
import os
import resource
import time
from pathlib import Path

from meterbridge.errors import ConfigurationError
from meterbridge.fleet import ProcessUse


def process_use() -> ProcessUse:
    """CPU seconds and resident memory of this process."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        memory = pages * resource.getpagesize()
    except (OSError, IndexError, ValueError):
        # Not Linux: the peak has to do.
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return ProcessUse(time.process_time(), memory)


# Database, outbox, log, pings and the API's own connections.
_OWN_FILES = 1_280


def allow_files(connections: int) -> int:
    """Raise the limit of open files to what so many connections to meters take, as far as the system allows.

    Returns:
        How many files may be open now.
    """
    wanted = connections + _OWN_FILES
    # A connection for each meter soon passes the usual soft limit of 1024.
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return max(soft, wanted)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return wanted


def room_for_meters(files: int, wanted: int) -> int:
    """Return how many connections to meters there may be at once, so that the service itself has files left. Pure.

    Args:
        files: how many may be open.
        wanted: connections that the settings allow.
    """
    # A service that cannot open its own files ends; a meter that waits for its turn is only late.
    return max(1, min(wanted, max(files - _OWN_FILES, files // 2 - 16)))


class Hold:
    """A file that one process at a time may hold; the system lets go of it with the process, however that ends.

    Args:
        path: of the file; it is made, and stays.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: int | None = None

    def take(self) -> None:
        """Take it.

        Raises:
            ConfigurationError: another process holds it, or it cannot be made.
        """
        try:
            file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise ConfigurationError(f"{self._path} cannot be made: {error.strerror}") from None
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(file)
            raise ConfigurationError(
                f"another service runs here: it holds {self._path}; stop it, or give this one a database and an"
                " outbox.path of its own"
            ) from None
        self._file = file

    def let_go(self) -> None:
        """Let go of it, where it is held."""
        if self._file is not None:
            os.close(self._file)
            self._file = None


def make_folder(folder: Path) -> None:
    """Make a folder and those above it.

    Raises:
        ConfigurationError: it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(f"folder {folder} cannot be made: {error.strerror}") from None
