"""The outbox's file: bounds, order, quarantine, damage. Time is an argument."""

from __future__ import annotations

import itertools
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from meterbridge.delivery.events import Dropped
from meterbridge.delivery.outbox_file import Limits, Loss, OutboxFile, Reader, Removal, damaged_files, open_file
from meterbridge.delivery.row import Row
from meterbridge.errors import DeliveryError
from meterbridge.model import MeterId

LAST = (1 << 63) - 1
_ids = itertools.count(1)


def put(meter: int, ts: int, *, route: str = "r", at: int = 0, payload: bytes = b"12345678") -> Row:
    return Row(next(_ids), MeterId(meter), route, "telemetry", f"m{meter}", ts, payload, at)


def removal(row: Row) -> Removal:
    return Removal(row.id, len(row.payload))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "outbox.db"


@pytest.fixture
def reader(path: Path) -> Iterator[Reader]:
    reader = Reader(path)
    yield reader
    reader.close()


def test_rows_of_a_route_come_back_in_order_until_removed(path: Path, reader: Reader) -> None:
    file = OutboxFile(path, Limits())
    file.write([put(1, 10), put(2, 11, route="other"), put(1, 12)], [], [], 0)
    rows = reader.peek("r", 0, 10, LAST)
    assert [row.ts for row in rows] == [10, 12]
    assert reader.peek("r", rows[0].id, 10, LAST) == rows[1:]
    file.write([], [removal(rows[0])], [], 0)
    assert reader.peek("r", 0, 10, LAST) == rows[1:]
    assert (file.rows, file.octets) == (2, 16)
    file.close()


def test_an_id_is_not_given_twice_while_the_process_lives(path: Path, reader: Reader) -> None:
    file = OutboxFile(path, Limits())
    file.write([put(1, 1)], [], [], 0)
    (first,) = reader.peek("r", 0, 10, LAST)
    file.write([], [removal(first)], [], 0)
    file.write([put(1, 2)], [], [], 0)
    assert [row.ts for row in reader.peek("r", first.id, 10, LAST)] == [2]
    file.close()


@pytest.mark.parametrize(
    ("limits", "now", "reason"),
    [
        (Limits(rows=2), 0, "rows"),
        (Limits(octets=16), 0, "octets"),
        (Limits(age_s=1), 1101, "age"),
    ],
)
def test_past_a_bound_the_oldest_go_and_are_counted_by_meter(
    path: Path, reader: Reader, limits: Limits, now: int, reason: str
) -> None:
    file = OutboxFile(path, limits)
    puts = [put(1, 10, at=0), put(2, 11, at=50), put(1, 12, at=100), put(1, 13, at=101), put(2, 14, at=200)]
    dropped = file.write(puts, [], [], now)
    assert sorted(dropped, key=lambda loss: loss.meter) == [
        Dropped(MeterId(1), 2, 10, reason),
        Dropped(MeterId(2), 1, 11, reason),
    ]
    assert [row.ts for row in reader.peek("r", 0, 10, LAST)] == [13, 14]
    assert (file.rows, file.octets) == (2, 16)
    file.close()


def test_what_was_given_up_is_counted_by_meter_in_the_file(path: Path) -> None:
    file = OutboxFile(path, Limits(rows=2))
    file.write([put(1, 10), put(2, 11), put(1, 12)], [], [], 100)
    file.write([put(2, 13)], [], [], 200, given_up=[Dropped(MeterId(1), 5, 7, "storage")])
    file.close()
    again = OutboxFile(path, Limits(rows=2))
    assert again.losses == {1: Loss(6, 7, 200), 2: Loss(1, 11, 200)}
    again.close()


def test_quarantine_is_bounded_too(path: Path) -> None:
    file = OutboxFile(path, Limits(rows=3))
    for ts in range(5):
        row = put(1, ts, at=ts)
        file.write([row], [], [], 10)
        dropped = file.write([], [], [(row, "refused")], 10)
    assert dropped == [Dropped(MeterId(1), 1, 1, "rows")]
    assert (file.quarantined, file.losses) == (3, {1: Loss(2, 0, 10)})
    file.close()


def test_a_row_dropped_and_then_acknowledged_does_not_upset_the_counts(path: Path, reader: Reader) -> None:
    file = OutboxFile(path, Limits(rows=1))
    file.write([put(1, 1)], [], [], 0)
    (row,) = reader.peek("r", 0, 10, LAST)
    file.write([put(1, 2)], [], [], 0)
    file.write([], [removal(row), removal(row)], [], 0)
    assert (file.rows, file.octets) == (1, 8)
    file.close()


def test_quarantine_takes_a_row_out_of_the_way_and_survives(path: Path, reader: Reader) -> None:
    file = OutboxFile(path, Limits())
    file.write([put(1, 1), put(1, 2)], [], [], 0)
    rows = reader.peek("r", 0, 10, LAST)
    file.write([], [], [(rows[1], "refused")], 0)
    assert reader.peek("r", 0, 10, LAST) == rows[:1]
    file.close()
    again = OutboxFile(path, Limits())
    assert (again.rows, again.quarantined) == (1, 1)
    assert again.next_id > rows[1].id
    again.close()


def test_a_file_that_is_no_database_is_set_aside_with_its_octets(path: Path) -> None:
    path.write_bytes(b"this is not a database, whatever its name says" * 100)
    told: list[tuple[Path, str]] = []
    file = open_file(path, Limits(), 1234, lambda target, reason: told.append((target, reason)))
    assert file.rows == 0
    ((target, reason),) = told
    assert target.read_bytes().startswith(b"this is not")
    assert "database" in reason
    file.close()


def test_a_damaged_page_is_found_when_the_file_is_opened(path: Path) -> None:
    file = OutboxFile(path, Limits())
    file.write([put(1, ts, payload=b"x" * 500) for ts in range(500)], [], [], 0)
    file.close()
    content = bytearray(path.read_bytes())
    content[4096 * 8 : 4096 * 30] = b"\xa5" * (4096 * 22)
    path.write_bytes(content)
    told: list[Path] = []
    open_file(path, Limits(), 5, lambda target, _reason: told.append(target)).close()
    assert [target.name for target in told] == ["outbox.db.corrupt-5"]


def filled(path: Path) -> None:
    file = OutboxFile(path, Limits())
    file.write([put(1, ts, payload=b"x" * 500) for ts in range(500)], [], [], 0)
    file.close()


def overwrite(path: Path, position: int, octets: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(position)
        file.write(octets)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: os.truncate(path, 50),
        lambda path: os.truncate(path, 5000),
        lambda path: os.truncate(path, 150_000),
        lambda path: overwrite(path, 0, b"\xa5" * 100),
        lambda path: overwrite(path, 100, b"\xa5" * 300),
        lambda path: overwrite(path, 4096 * 20, b"\xa5" * 4096),
        # A write version SQLite does not know makes it read-only, as a file that may not be written is.
        lambda path: overwrite(path, 18, b"\x03"),
    ],
    ids=["no header", "cut after a page", "cut in the middle", "header", "schema", "page", "read-only"],
)
def test_a_file_that_cannot_be_used_is_set_aside_and_a_new_one_begun(path: Path, spoil: Callable[[Path], None]) -> None:
    filled(path)
    spoil(path)
    spoilt = path.read_bytes()
    told: list[tuple[Path, str]] = []
    file = open_file(path, Limits(), 7, lambda target, reason: told.append((target, reason)))
    file.write([put(1, 1)], [], [], 0)
    assert file.rows == 1
    file.close()
    ((target, reason),) = told
    assert target.read_bytes() == spoilt
    assert "\n" not in reason
    assert damaged_files(path) == [target]


def crashed(path: Path, commits: int) -> Path:
    """An outbox left as a crash leaves it, its rows in the log alone; return the log."""
    file = OutboxFile(path, Limits())
    for ts in range(commits):
        file.write([put(1, ts, payload=b"x" * 500)], [], [], 0)
    left = {name: Path(f"{path}{name}").read_bytes() for name in ("", "-wal")}
    file.close()
    for name, octets in left.items():
        Path(f"{path}{name}").write_bytes(octets)
    return Path(f"{path}-wal")


@pytest.mark.parametrize(("position", "kept"), [(0, 0), (10_000, None), (120_000, None)])
def test_a_damaged_log_is_told_and_a_copy_of_it_kept(path: Path, position: int, kept: int | None) -> None:
    log = crashed(path, 40)
    overwrite(log, position, b"\xa5" * 64)
    spoilt = log.read_bytes()
    told: list[Path] = []
    file = open_file(path, Limits(), 9, lambda target, _reason: told.append(target))
    assert file.rows < 40
    assert kept in (None, file.rows)
    file.write([put(1, 1000)], [], [], 0)
    file.close()
    assert [target.read_bytes() for target in told] == [spoilt]
    assert damaged_files(path) == told


def test_a_log_as_a_crash_or_a_power_cut_leaves_it_is_no_damage(path: Path) -> None:
    log = crashed(path, 40)
    open_file(path, Limits(), 9, lambda *_: pytest.fail("nothing is damaged")).close()
    path.unlink()
    log = crashed(path, 40)
    # The last transaction only half on disk: nobody was told that it was there.
    os.truncate(log, log.stat().st_size - 3000)
    file = open_file(path, Limits(), 9, lambda *_: pytest.fail("nothing is damaged"))
    assert file.rows == 39
    file.close()
    assert [found.name for found in path.parent.iterdir()] == ["outbox.db"]


def test_a_database_of_something_else_is_left_alone(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("CREATE TABLE outbox (id INTEGER PRIMARY KEY, letter TEXT)")
    before = path.read_bytes()
    with pytest.raises(DeliveryError, match="no such column"):
        open_file(path, Limits(), 0, lambda *_: pytest.fail("it is not ours"))
    assert len(before) <= path.stat().st_size


def test_no_folder_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(DeliveryError, match="cannot be opened"):
        open_file(tmp_path / "missing" / "outbox.db", Limits(), 0, lambda *_: None)
