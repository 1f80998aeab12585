"""Rows follow their meter to its new route."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from meterbridge.delivery import rehome
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
    assert rehome(path, wanted) == {"broker:h:1": 1}
    with sqlite3.connect(path) as db:
        found = db.execute("SELECT meter, route FROM outbox ORDER BY id").fetchall()
    assert found == [(1, "gateway:h:1"), (2, "gateway:h:1"), (3, "gateway:h:1"), (9, "broker:h:1")]


def test_no_file_and_a_damaged_one_are_left_to_the_outbox(tmp_path: Path) -> None:
    assert rehome(tmp_path / "none.db", {}) == {}
    (tmp_path / "bad.db").write_bytes(b"no database at all" * 100)
    assert rehome(tmp_path / "bad.db", {}) == {}
    (tmp_path / "empty.db").touch()
    assert rehome(tmp_path / "empty.db", {}) == {}
