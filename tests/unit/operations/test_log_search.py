"""Lines of the log: the newest that are wanted, across rotated files, whatever else lies between them."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from meterbridge.operations import LogFilter, follow, search

STAMP = "2025-11-11T10:30:{:02d}.000000Z"


def write(file: Path, *numbers: int, level: str = "info", meter: int | None = 1) -> None:
    with file.open("a") as out:
        for number in numbers:
            line = {"event": f"e{number}", "level": level, "meter": meter, "timestamp": STAMP.format(number)}
            out.write(json.dumps(line) + "\n")


def events(file: Path, wanted: LogFilter | None = None, limit: int = 100) -> list[str]:
    return [line["event"] for line in search(file, wanted or LogFilter(), limit)]


def test_the_newest_come_last_across_rotations(tmp_path: Path) -> None:
    file = tmp_path / "m.log"
    write(tmp_path / "m.log.10", 1)
    write(tmp_path / "m.log.2", 2, 3)
    write(tmp_path / "m.log.1", 4, 5)
    write(file, 6, 7)
    assert events(file) == [f"e{number}" for number in range(1, 8)]
    assert events(file, limit=3) == ["e5", "e6", "e7"]
    assert events(file, limit=2) == ["e6", "e7"]


def test_meter_level_and_time(tmp_path: Path) -> None:
    file = tmp_path / "m.log"
    write(file, 1, meter=1)
    write(file, 2, meter=12, level="error")
    write(file, 3, meter=None, level="warning")
    assert events(file, LogFilter(meter=1)) == ["e1"]
    assert events(file, LogFilter(level="warning")) == ["e2", "e3"]
    assert events(file, LogFilter(since=1_762_857_002_000)) == ["e2", "e3"]


def test_what_is_no_line_of_ours_is_passed_over(tmp_path: Path) -> None:
    file = tmp_path / "m.log"
    file.write_bytes(b'plain\n[1]\n"x"\n\xff\xfe\n{"event": "cut\n{"level": 3}\n{"level": "info", "timestamp": 7}\n')
    assert len(search(file, LogFilter(), 10)) == 1
    assert search(file, LogFilter(since=1), 10) == []
    assert search(tmp_path / "none.log", LogFilter(), 10) == []


def test_following_goes_on_in_a_file_that_was_moved_or_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "m.log"
    write(file, 1, 2, 3)

    def cut() -> None:
        os.truncate(file, 0)
        write(file, 5)

    def move() -> None:
        file.rename(tmp_path / "m.log.1")
        write(file, 6)

    doing = iter([lambda: write(file, 4), cut, move])
    # What would be a sleep is when the file changes.
    monkeypatch.setattr(time, "sleep", lambda _: next(doing)())
    lines = follow(file, LogFilter())
    assert [next(lines)["event"] for _ in range(3)] == ["e4", "e5", "e6"]
