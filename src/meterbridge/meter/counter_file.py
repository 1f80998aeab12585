"""An invocation counter in a file: kept over crashes, and shared by processes that use the same system title."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from meterbridge.dlms.counters import COUNTER_END
from meterbridge.errors import ConfigurationError, LocalProtocolError


class FileCounter:
    """Takes a stretch of counters out of a file before it uses one of them; what is left of it after a crash is lost.

    The file holds the first counter that nobody has taken, as decimal digits.

    Args:
        path: the file; made where it is missing, its folder too.
        ahead: counters taken at once.
    """

    def __init__(self, path: Path, ahead: int = 64) -> None:
        self._path = path
        self._ahead = ahead
        self._next = self._end = self._least = 0

    def next_counter(self) -> int:
        """Return the next counter.

        Raises:
            LocalProtocolError: there is none left.
            ConfigurationError: the file cannot be used, or holds no counter.
        """
        if self._next >= self._end:
            self._take()
        value = self._next
        self._next += 1
        return value

    def advance_to(self, least: int) -> None:
        """Return nothing less than `least` from now on; never goes back."""
        self._least = max(self._least, least)
        self._next = max(self._next, least)

    def _take(self) -> None:
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with _locked(self._path.with_name(f"{self._path.name}.lock")):
                start = max(self._read(), self._least)
                if start >= COUNTER_END:
                    raise LocalProtocolError("the invocation counter is exhausted: the meter needs new keys")
                end = min(start + self._ahead, COUNTER_END)
                self._write(end)
        except OSError as error:
            raise ConfigurationError(
                f"the invocation counter cannot be kept in {self._path}: {error.strerror or error}"
            ) from None
        self._next, self._end = start, end

    def _read(self) -> int:
        try:
            text = self._path.read_text("ascii").strip()
        except FileNotFoundError:
            return 0
        except UnicodeDecodeError:
            text = ""
        if not text.isdecimal() or int(text) > COUNTER_END:
            # To begin at 0 again would use counters twice.
            raise ConfigurationError(f"{self._path} holds no invocation counter")
        return int(text)

    def _write(self, end: int) -> None:
        fresh = self._path.with_name(f"{self._path.name}.new")
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(f"{end}\n")
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self._path)
        folder = os.open(self._path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
