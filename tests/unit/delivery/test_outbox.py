"""The outbox on a running loop: tickets, a disk that refuses, shutdown."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from meterbridge.delivery import Dropped, Event, Limits, Outbox, SetAside, StorageFailed, StorageRecovered, Ticket
from meterbridge.delivery.outbox_file import OutboxFile, open_file
from meterbridge.errors import DeliveryError
from meterbridge.model import MeterId

METER = MeterId(7)


def put(outbox: Outbox, ts: int) -> Ticket:
    return outbox.put(METER, "r", "m7", ts, b'{"ts":1}')


def peek(outbox: Outbox) -> list[int]:
    page = outbox.peek("r", 0, 1000)
    return [] if page is None else [row.ts for row in page.rows]


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.005)


async def test_a_ticket_is_true_once_another_connection_sees_the_row(tmp_path: Path) -> None:
    outbox = await Outbox.open(tmp_path / "o.db")
    assert await outbox.put(METER, "r", "m7", 5, b"{}") is True
    with sqlite3.connect(tmp_path / "o.db") as other:
        assert other.execute("SELECT meter, device, ts, payload FROM outbox").fetchall() == [(7, "m7", 5, b"{}")]
    assert outbox.stats().committed == 1
    await outbox.close()


async def test_one_cancelled_waiter_does_not_cancel_the_others(tmp_path: Path) -> None:
    outbox = await Outbox.open(tmp_path / "o.db")
    ticket = outbox.put(METER, "r", "m7", 1, b"{}")

    async def wait() -> bool:
        return await ticket

    first, second = asyncio.create_task(wait()), asyncio.create_task(wait())
    await asyncio.sleep(0)
    first.cancel()
    assert await second is True
    await outbox.close()


async def test_close_commits_what_is_pending_and_then_refuses(tmp_path: Path) -> None:
    outbox = await Outbox.open(tmp_path / "o.db", interval_s=60)
    for ts in range(100):
        put(outbox, ts)
    await outbox.close()
    with pytest.raises(DeliveryError, match="closed"):
        put(outbox, 101)
    outbox = await Outbox.open(tmp_path / "o.db")
    assert peek(outbox) == list(range(100))
    await outbox.close()


async def test_what_sqlite_cannot_hold_is_refused_where_it_is_put(tmp_path: Path) -> None:
    outbox = await Outbox.open(tmp_path / "o.db")
    with pytest.raises(DeliveryError):
        outbox.put(METER, "r", "bad\ud800", 1, b"{}")
    with pytest.raises(DeliveryError):
        outbox.put(METER, "r", "m7", 1 << 63, b"{}")
    assert await outbox.put(METER, "r", "é", 1, b"{}") is True
    await outbox.close()


async def test_a_locked_file_is_reported_once_and_recovers_with_everything_in_order(tmp_path: Path) -> None:
    events: list[Event] = []
    outbox = await Outbox.open(tmp_path / "o.db", listener=events.append, interval_s=0.01, retry_s=0.01)
    assert isinstance(outbox._file, OutboxFile)
    outbox._file._db.execute("PRAGMA busy_timeout=0")
    other = sqlite3.connect(tmp_path / "o.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    for ts in range(50):
        put(outbox, ts)
        await asyncio.sleep(0.002)
    await until(lambda: events)
    assert outbox.stats().failing
    other.execute("ROLLBACK")
    other.close()
    await asyncio.wait_for(outbox.flush(), 10)
    assert [type(event) for event in events] == [StorageFailed, StorageRecovered]
    assert peek(outbox) == list(range(50))
    assert outbox.stats().losses == {}
    await outbox.close()


async def test_who_flushes_knows_what_happened_before_though_nothing_was_left_to_wait_for(tmp_path: Path) -> None:
    events: list[Event] = []
    outbox = await Outbox.open(tmp_path / "o.db", listener=events.append, interval_s=0.01, retry_s=0.01)
    assert isinstance(outbox._file, OutboxFile)
    outbox._file._db.execute("PRAGMA busy_timeout=0")
    with sqlite3.connect(tmp_path / "o.db", isolation_level=None) as other:
        other.execute("BEGIN IMMEDIATE")
        put(outbox, 1)
        await until(lambda: events)
        other.execute("ROLLBACK")
    by = time.monotonic() + 10
    # The loop is held meanwhile: what the writer reports stays queued.
    while outbox.stats().committed == 0:
        assert time.monotonic() < by
    assert [type(event) for event in events] == [StorageFailed]
    await outbox.flush()
    assert [type(event) for event in events] == [StorageFailed, StorageRecovered]
    other.close()
    await outbox.close()


async def test_a_file_that_may_not_grow_keeps_a_bounded_memory_and_counts_what_it_gave_up(tmp_path: Path) -> None:
    events: list[Event] = []
    limits = Limits(memory_rows=100)
    outbox = await Outbox.open(tmp_path / "o.db", limits, events.append, interval_s=0.01, retry_s=0.01)
    assert isinstance(outbox._file, OutboxFile)
    # SQLITE_FULL, just as a full disk gives it.
    outbox._file._db.execute("PRAGMA max_page_count=1")
    big = b"x" * 8000
    for ts in range(300):
        outbox.put(METER, "r", "m7", ts, big)
    await until(lambda: any(isinstance(event, StorageFailed) for event in events))
    assert 0 < outbox.stats().pending <= 100
    outbox._file._db.execute("PRAGMA max_page_count=1000000")
    await asyncio.wait_for(outbox.flush(), 10)
    kept = peek(outbox)
    lost = sum(event.rows for event in events if isinstance(event, Dropped))
    assert kept == list(range(300 - len(kept), 300))
    assert len(kept) + lost == 300
    assert outbox.stats().losses[METER].rows == lost
    await outbox.close()


async def test_a_file_damaged_while_in_use_is_replaced_and_what_memory_holds_is_kept(tmp_path: Path) -> None:
    events: list[Event] = []
    path = tmp_path / "o.db"
    outbox = await Outbox.open(path, listener=events.append, interval_s=0.01, retry_s=0.01)
    for ts in range(300):
        outbox.put(METER, "r", "m7", ts, b"x" * 500)
    await outbox.flush()
    assert isinstance(outbox._file, OutboxFile)
    outbox._file._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.write(b"\xa5" * size)
    # The reader has not cached these pages: it is the one that notices.
    await until(lambda: not peek(outbox) and any(isinstance(event, SetAside) for event in events))
    assert await asyncio.wait_for(outbox.put(METER, "r", "m7", 1000, b"{}"), 10) is True
    assert peek(outbox) == [1000]
    names = [Path(event.path).name for event in events if isinstance(event, SetAside)]
    assert all(name.startswith("o.db.corrupt-") for name in names)
    await outbox.close()


async def test_a_disk_that_is_full_at_the_start_is_waited_for_and_older_rows_come_after_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "o.db"
    outbox = await Outbox.open(path, interval_s=0.01)
    for ts in range(5):
        await outbox.put(METER, "r", "m7", ts, b"{}")
    await outbox.close()
    full = True

    def no_room(*arguments: object) -> OutboxFile:
        if full:
            error = sqlite3.OperationalError("database or disk is full")
            error.sqlite_errorcode = sqlite3.SQLITE_FULL
            raise DeliveryError("cannot be opened") from error
        return open_file(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr("meterbridge.delivery.outbox.open_file", no_room)
    events: list[Event] = []
    rewound: list[bool] = []
    outbox = await Outbox.open(path, listener=events.append, interval_s=0.01, retry_s=0.01)
    outbox.wake("r", lambda: None, lambda: rewound.append(True))
    for ts in range(5, 8):
        outbox.put(METER, "r", "m7", ts, b"{}")
    await until(lambda: events)
    assert isinstance(events[0], StorageFailed)
    assert peek(outbox) == [5, 6, 7], "published from memory"
    full = False
    await asyncio.wait_for(outbox.flush(), 10)
    assert peek(outbox) == list(range(8))
    assert rewound == [True]
    assert (outbox.stats().rows, outbox.stats().failing, outbox.stats().losses) == (8, False, {})
    await outbox.close()


@pytest.mark.parametrize("refused", [False, True])
async def test_what_was_published_from_memory_just_as_the_disk_recovered_does_not_reach_it(
    tmp_path: Path, refused: bool
) -> None:
    outbox = await Outbox.open(tmp_path / "o.db", interval_s=0.01, retry_s=0.01)
    file = outbox._file
    full, entered, go = True, threading.Event(), threading.Event()

    def write(*arguments: object) -> list[Dropped]:
        if full:
            error = sqlite3.OperationalError("database or disk is full")
            error.sqlite_errorcode = sqlite3.SQLITE_FULL
            raise error
        entered.set()
        go.wait(10)
        return OutboxFile.write(file, *arguments)  # type: ignore[arg-type]

    file.write = write  # type: ignore[method-assign]
    put(outbox, 1)
    await until(lambda: outbox.stats().failing)
    full = False
    await until(entered.is_set)
    # The commit that ends the failure is being written; this one comes too late for it, and is read from memory.
    late = put(outbox, 2)
    page = outbox.peek("r", 0, 10)
    assert page is not None
    assert [row.ts for row in page.rows] == [1, 2]
    if refused:
        outbox.quarantine(page.rows[1:], "no")
    else:
        outbox.remove(page.rows[1:])
    go.set()
    assert await asyncio.wait_for(late, 10) is True
    assert peek(outbox) == [1]
    with sqlite3.connect(tmp_path / "o.db") as other:
        assert other.execute("SELECT ts FROM outbox").fetchall() == [(1,)]
        assert other.execute("SELECT count(*) FROM quarantine").fetchone() == (int(refused),)
    assert (outbox.stats().rows, outbox.stats().pending) == (1, 0)
    await outbox.close()
