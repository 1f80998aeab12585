"""The log's file: when it is rotated, and what moving, cutting and refusing do to it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from meterbridge.cli.log_file import RotatedFile

DAY = 86_400.0
Write = Callable[[str], None]


class Clock:
    now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "meterbridge.log"


def opened(file: Path, clock: Clock, octets: int = 1_000_000, keep: int = 2) -> tuple[RotatedFile, Write]:
    handler = RotatedFile(file, octets, DAY, keep, clock)

    def write(text: str) -> None:
        handler.handle(logging.makeLogRecord({"msg": text}))

    return handler, write


def held(file: Path) -> dict[str, list[str]]:
    return {path.name: path.read_text().splitlines() for path in sorted(file.parent.iterdir())}


def test_it_is_rotated_by_size_and_so_many_are_kept(file: Path, clock: Clock) -> None:
    handler, write = opened(file, clock, octets=100)
    for number in range(5):
        write(f"{number}" * 60)
    handler.close()
    assert {name: lines[0][0] for name, lines in held(file).items()} == {
        "meterbridge.log": "4",
        "meterbridge.log.1": "3",
        "meterbridge.log.2": "2",
    }


def test_it_is_rotated_by_age(file: Path, clock: Clock) -> None:
    handler, write = opened(file, clock)
    write("monday")
    clock.now += DAY - 1
    write("still monday")
    clock.now += 1
    write("tuesday")
    handler.close()
    assert held(file) == {"meterbridge.log": ["tuesday"], "meterbridge.log.1": ["monday", "still monday"]}


def test_a_restart_does_not_make_it_younger(file: Path, clock: Clock) -> None:
    file.write_text('{"event": "old", "timestamp": "2027-01-15T07:00:00Z"}\n')
    clock.now = 1_800_000_000.0  # 2027-01-15T08:00:00Z
    handler, write = opened(file, clock)
    write("an hour later")
    handler.close()
    clock.now += DAY
    handler, write = opened(file, clock)
    write("a day later")
    handler.close()
    assert [len(lines) for lines in held(file).values()] == [1, 2]


@pytest.mark.parametrize("first", ["no JSON", '{"timestamp": "yesterday"}', "[]", '{"timestamp": 7}', ""])
def test_a_first_line_that_tells_no_time_is_taken_as_new(file: Path, clock: Clock, first: str) -> None:
    file.write_text(f"{first}\n")
    handler, write = opened(file, clock)
    write("x")
    handler.close()
    assert list(held(file)) == ["meterbridge.log"]


def test_logrotate_may_move_it_or_cut_it(file: Path, clock: Clock) -> None:
    handler, write = opened(file, clock)
    write("one")
    file.rename(file.with_name("moved"))
    write("two")
    file.unlink()
    write("three")
    with file.open("r+") as other:  # copytruncate
        other.truncate(0)
    write("four")
    handler.close()
    assert held(file) == {"meterbridge.log": ["four"], "moved": ["one"]}


def test_a_disk_that_refuses_is_one_line_and_logging_goes_on(
    file: Path, clock: Clock, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    handler, write = opened(file, clock)
    write("one")

    def refuse(self: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(RotatedFile, "flush", refuse)
        for _ in range(3):
            write("lost or late")
    write("again")
    with monkeypatch.context() as patch:
        patch.setattr(Path, "stat", refuse)
        write("while nobody can look")
    handler.close()
    assert capsys.readouterr().err == f"meterbridge: log file {file}: No space left on device\n"
    assert held(file)["meterbridge.log"][-2:] == ["again", "while nobody can look"]


def test_a_rotation_that_fails_goes_on_in_the_old_file(
    file: Path, clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    handler, write = opened(file, clock)
    write("one")
    file.with_name("meterbridge.log.1").mkdir()
    (file.with_name("meterbridge.log.1") / "full").touch()
    file.with_name("meterbridge.log.2").mkdir()
    (file.with_name("meterbridge.log.2") / "full").touch()
    clock.now += DAY
    write("two")
    write("three")
    handler.close()
    assert file.read_text().splitlines() == ["one", "two", "three"]
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith(f"meterbridge: log file {file}: ")
