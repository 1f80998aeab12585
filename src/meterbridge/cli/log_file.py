"""The log's file: rotated by size and by age, and happy with others who move it away."""

from __future__ import annotations

import json
import logging
import logging.handlers
import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from io import TextIOWrapper
from pathlib import Path


class RotatedFile(logging.handlers.RotatingFileHandler):
    """Writes lines to a file; `file.1` is the one before, and so on.

    A file that was moved or deleted, as logrotate does, is made anew with the next line, without a signal; one that was
    cut to nothing (`copytruncate`) is gone on with. A disk that refuses lines is told of once on standard error.

    Args:
        file: where to write; its folder exists.
        octets: size at which it is rotated.
        age_s: age of its first line at which it is rotated, seconds.
        keep: rotated files kept.
        clock: Unix time, seconds.

    Raises:
        OSError: it cannot be opened.
    """

    def __init__(
        self, file: Path, octets: int, age_s: float, keep: int, clock: Callable[[], float] = time.time
    ) -> None:
        self._age_s = age_s
        self._clock = clock
        self._began = 0.0
        self._refused = False
        super().__init__(file, maxBytes=octets, backupCount=keep, encoding="utf-8")

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line."""
        self._follow()
        super().emit(record)

    def flush(self) -> None:
        """Hand on what was written."""
        super().flush()
        self._refused = False

    def shouldRollover(self, record: logging.LogRecord) -> bool:  # noqa: N802  (the library's name)
        """Whether a line belongs into a new file."""
        return self._clock() - self._began >= self._age_s or bool(super().shouldRollover(record))

    def doRollover(self) -> None:  # noqa: N802  (the library's name)
        """Begin a new file; where that fails the old one goes on."""
        try:
            super().doRollover()
        except OSError as error:
            self._say(error)
            self._began = self._clock()
            if self.stream is None:
                self.stream = self._open()

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  (the library's name)
        """Say once what keeps lines from being written; a traceback for each would bury it."""
        error = sys.exc_info()[1]
        if isinstance(error, OSError):
            self._say(error)
        else:
            super().handleError(record)

    def _open(self) -> TextIOWrapper:
        self._began = _first_line(Path(self.baseFilename)) or self._clock()
        return super()._open()

    def _follow(self) -> None:
        """Leave a file that has another name by now."""
        if self.stream is None:
            return
        with suppress(OSError):
            if os.path.samestat(Path(self.baseFilename).stat(), os.fstat(self.stream.fileno())):
                return
        self.acquire()
        try:
            with suppress(OSError):
                self.stream.close()
            # The next line opens it anew.
            self.stream = None
        finally:
            self.release()

    def _say(self, error: OSError) -> None:
        if not self._refused:
            self._refused = True
            with suppress(OSError):
                sys.stderr.write(f"meterbridge: log file {self.baseFilename}: {error.strerror}\n")


def _first_line(file: Path) -> float | None:
    """Time of a file's first line, Unix seconds; None where there is none or it tells no time."""
    with suppress(OSError, ValueError, KeyError, TypeError), file.open(encoding="utf-8", errors="replace") as lines:
        return datetime.fromisoformat(json.loads(lines.readline(65_536))["timestamp"]).timestamp()
    return None
