"""Rows follow their meter to its new route."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

from meterbridge.delivery import Homes, Outbox, rehome
from meterbridge.delivery.events import Event, Stranded
from meterbridge.delivery.inspection import retry
from meterbridge.delivery.outbox_file import Limits, OutboxFile
from meterbridge.delivery.row import Row
from meterbridge.model import MeterId


def test_rows_of_unused_routes_move_and_those_of_unknown_meters_are_told(tmp_path: Path) -> None:
    path = tmp_path / "outbox.db"
    file = OutboxFile(path, Limits())
    routes = [(1, "broker:h:1"), (2, "device:h:1:2"), (3, "gateway:h:1"), (9, "broker:h:1")]
    file.write(
        [Row(n, MeterId(m), route, "telemetry", "d", n, b"{}", 0) for n, (m, route) in enumerate(routes, 1)], [], [], 0
    )
    file.close()
    wanted = {MeterId(1): "gateway:h:1", MeterId(2): "gateway:h:1", MeterId(3): "gateway:h:1"}
    # What a meter that does not deliver would use is not in use.
    assert rehome(path, Homes(wanted, {"gateway:h:1"})) == {"broker:h:1": 1}
    with sqlite3.connect(path) as db:
        found = db.execute("SELECT meter, route FROM outbox ORDER BY id").fetchall()
    assert found == [(1, "gateway:h:1"), (2, "gateway:h:1"), (3, "gateway:h:1"), (9, "broker:h:1")]


def test_no_file_and_a_damaged_one_are_left_to_the_outbox(tmp_path: Path) -> None:
    nobody = Homes({}, set())
    assert rehome(tmp_path / "none.db", nobody) == {}
    (tmp_path / "bad.db").write_bytes(b"no database at all" * 100)
    assert rehome(tmp_path / "bad.db", nobody) == {}
    (tmp_path / "empty.db").touch()
    assert rehome(tmp_path / "empty.db", nobody) == {}


async def told(events: list[Event], event: Event) -> None:
    async with asyncio.timeout(10):
        while event not in events:
            await asyncio.sleep(0.005)


async def test_rows_follow_their_meter_while_the_outbox_is_open(tmp_path: Path) -> None:
    events: list[Event] = []
    rewound: list[str] = []
    outbox = await Outbox.open(tmp_path / "o.db", listener=events.append, interval_s=0.01)
    outbox.wake("gateway:h:1", lambda: None, lambda: rewound.append("gateway:h:1"))
    for ts, (meter, route) in enumerate([(1, "broker:h:1"), (2, "gateway:h:1"), (1, "broker:h:1"), (9, "device:x:9")]):
        outbox.put(MeterId(meter), route, f"m{meter}", ts, b"{}")
    await outbox.flush()
    outbox.put(MeterId(1), "broker:h:1", "m1", 4, b"{}")
    # Not yet on disk: what was put before moves all the same.
    outbox.rehome(Homes({MeterId(1): "gateway:h:1", MeterId(2): "gateway:h:1"}, {"gateway:h:1"}))
    await told(events, Stranded(1, ("device:x:9",)))
    await outbox.flush()
    page = outbox.peek("gateway:h:1", 0, 10)
    assert page is not None
    assert [(row.meter, row.ts) for row in page.rows] == [(1, 0), (2, 1), (1, 2), (1, 4)]
    assert rewound == ["gateway:h:1"]
    page = outbox.peek("device:x:9", 0, 10)
    assert page is not None
    outbox.quarantine(page.rows, "no")
    await outbox.flush()
    # Freed by a person, once its meter is there again: it does not go back to where nobody is.
    outbox.rehome(Homes({MeterId(9): "gateway:h:1"}, {"gateway:h:1"}))
    await told(events, Stranded(0, ()))
    assert retry(tmp_path / "o.db", None) == 1
    async with asyncio.timeout(10):
        while not (page := outbox.peek("gateway:h:1", 3, 10)) or MeterId(9) not in {row.meter for row in page.rows}:
            await asyncio.sleep(0.02)
    await outbox.close()


async def test_a_file_that_is_locked_moves_its_rows_later(tmp_path: Path) -> None:
    events: list[Event] = []
    outbox = await Outbox.open(tmp_path / "o.db", listener=events.append, interval_s=0.01, retry_s=0.01)
    assert isinstance(outbox._file, OutboxFile)
    outbox._file._db.execute("PRAGMA busy_timeout=0")
    await outbox.put(MeterId(1), "broker:h:1", "m1", 1, b"{}")
    other = sqlite3.connect(tmp_path / "o.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    outbox.rehome(Homes({MeterId(1): "gateway:h:1"}, {"gateway:h:1"}))
    async with asyncio.timeout(10):
        while not outbox.stats().failing:
            await asyncio.sleep(0.005)
    other.execute("ROLLBACK")
    other.close()
    await told(events, Stranded(0, ()))
    page = outbox.peek("gateway:h:1", 0, 10)
    assert page is not None
    assert [row.ts for row in page.rows] == [1]
    await outbox.close()
