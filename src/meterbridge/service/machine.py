"""What the service asks of the machine it runs on."""

from __future__ import annotations

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


def allow_files(wanted: int) -> None:
    """Raise the limit of open files to as many, as far as the system allows."""
    # A connection for each meter soon passes the usual soft limit of 1024.
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def make_folder(folder: Path) -> None:
    """Make a folder and those above it.

    Raises:
        ConfigurationError: it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(f"folder {folder} cannot be made: {error.strerror}") from None
