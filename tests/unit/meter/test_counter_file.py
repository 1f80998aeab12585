"""The invocation counter in a file: no value twice, whatever dies, and never from 0 again by mistake."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from meterbridge.errors import ConfigurationError, LocalProtocolError
from meterbridge.meter.counter_file import FileCounter

TAKE = """
import sys
from pathlib import Path
from meterbridge.meter.counter_file import FileCounter
counter = FileCounter(Path(sys.argv[1]), ahead=3)
print(*(counter.next_counter() for _ in range(50)))
"""


def test_what_is_taken_is_on_disk_before_it_is_used(tmp_path: Path) -> None:
    path = tmp_path / "made" / "title.counter"
    counter = FileCounter(path, ahead=4)
    assert not path.exists()
    assert counter.next_counter() == 0
    assert path.read_text() == "4\n"
    assert path.stat().st_mode & 0o077 == 0
    assert [counter.next_counter() for _ in range(4)] == [1, 2, 3, 4]
    assert path.read_text() == "8\n"
    # A process that dies here loses 5, 6 and 7; the next one does not use them.
    assert FileCounter(path).next_counter() == 8


def test_it_goes_forward_only(tmp_path: Path) -> None:
    counter = FileCounter(tmp_path / "counter", ahead=4)
    counter.advance_to(100)
    assert counter.next_counter() == 100
    counter.advance_to(50)
    assert counter.next_counter() == 101
    counter.advance_to(103)
    assert [counter.next_counter() for _ in range(2)] == [103, 104]
    counter.advance_to(5000)
    assert counter.next_counter() == 5000
    assert FileCounter(tmp_path / "counter").next_counter() == 5004


def test_processes_share_it_and_none_gets_the_same(tmp_path: Path) -> None:
    command = [sys.executable, "-c", TAKE, str(tmp_path / "counter")]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    values = [int(value) for process in processes for value in process.communicate(timeout=30)[0].split()]
    assert len(values) == len(set(values)) == 150


@pytest.mark.parametrize("content", ["", "-1", "abc", "1 2", "9" * 20, "\xff"])
def test_a_file_that_holds_no_counter_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "counter"
    path.write_text(content, "latin-1")
    with pytest.raises(ConfigurationError, match="holds no invocation counter"):
        FileCounter(path).next_counter()
    assert path.read_text("latin-1") == content


def test_a_place_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="cannot be kept in"):
        FileCounter(tmp_path / "file" / "counter").next_counter()


def test_the_last_counter_ends_it(tmp_path: Path) -> None:
    path = tmp_path / "counter"
    path.write_text(str((1 << 32) - 1))
    counter = FileCounter(path)
    assert counter.next_counter() == 0xFFFFFFFF
    with pytest.raises(LocalProtocolError, match="exhausted"):
        counter.next_counter()
