"""Finds lines of the structured log: the current file and the rotated ones, newest last, service running or not."""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from meterbridge.errors import ConfigurationError

LEVELS = ("debug", "info", "warning", "error", "critical")
_LOOK_EVERY = 0.5


@dataclass(frozen=True, slots=True)
class LogFilter:
    """Which lines are wanted.

    Args:
        meter: only lines about this meter; None for all.
        level: least severity, one of `LEVELS`.
        since: not before, Unix milliseconds, or None.
        until: before this, Unix milliseconds, or None.
    """

    meter: int | None = None
    level: str = "debug"
    since: int | None = None
    until: int | None = None

    def wants(self, line: dict[str, Any]) -> bool:
        """Whether a line is wanted."""
        if self.meter is not None and line.get("meter") != self.meter:
            return False
        level = line.get("level")
        if level not in LEVELS or LEVELS.index(level) < LEVELS.index(self.level):
            return False
        at = time_of(line) or 0 if self.since is not None or self.until is not None else 0
        return (self.since is None or at >= self.since) and (self.until is None or at < self.until)


def search(file: Path, wanted: LogFilter, limit: int) -> list[dict[str, Any]]:
    """Return the newest lines that are wanted, oldest of them first. Blocks: not for the event loop.

    Args:
        file: the log file; `file.1` and so on are older.
        wanted: which.
        limit: how many at most.

    Raises:
        ConfigurationError: a file cannot be read. One that is missing is empty.
    """
    found: deque[dict[str, Any]] = deque()
    for path in _newest_first(file):
        here: deque[dict[str, Any]] = deque(maxlen=limit - len(found))
        try:
            if wanted.since is not None and path.stat().st_mtime * 1000 < wanted.since:
                # What was last written before is of no use, and the files behind it are older still.
                break
            with path.open(encoding="utf-8", errors="replace") as lines:
                here.extend(line for line in map(_parsed, lines) if line is not None and wanted.wants(line))
        except FileNotFoundError:
            continue
        except OSError as error:
            raise ConfigurationError(f"log file {path} cannot be read: {error.strerror}") from None
        found.extendleft(reversed(here))
        if len(found) >= limit:
            break
    return list(found)


def follow(file: Path, wanted: LogFilter) -> Iterator[dict[str, Any]]:
    """Yield wanted lines as they are written, for ever, across rotations and cuts. Blocks: not for the event loop."""
    at_end, inode = True, 0
    while True:
        try:
            with file.open(encoding="utf-8", errors="replace") as lines:
                inode = file.stat().st_ino
                if at_end:
                    lines.seek(0, 2)
                part = ""
                while True:
                    part += lines.readline()
                    if part.endswith("\n"):
                        line, part = _parsed(part), ""
                        if line is not None and wanted.wants(line):
                            yield line
                        continue
                    found = file.stat()
                    # Another file, or this one cut to nothing.
                    if found.st_ino != inode or found.st_size < lines.tell():
                        break
                    time.sleep(_LOOK_EVERY)
        except FileNotFoundError:
            time.sleep(_LOOK_EVERY)
        except OSError as error:
            raise ConfigurationError(f"log file {file} cannot be read: {error.strerror}") from None
        at_end = False


def _newest_first(file: Path) -> list[Path]:
    rotated = [path for path in file.parent.glob(f"{file.name}.*") if path.suffix[1:].isdigit()]
    return [file, *sorted(rotated, key=lambda path: int(path.suffix[1:]))]


def _parsed(text: str) -> dict[str, Any] | None:
    # A library's own lines, and one cut short by a crash, are no JSON.
    try:
        line = json.loads(text)
    except ValueError:
        return None
    return line if isinstance(line, dict) else None


def time_of(line: Mapping[str, Any]) -> int | None:
    """Return when a line was written, Unix milliseconds; None for one without a time."""
    try:
        return round(datetime.fromisoformat(str(line.get("timestamp"))).timestamp() * 1000)
    except ValueError:
        return None
