"""`meterbridge backfill` as a process, against a simulated meter."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.acceptance.processes import Ended, run, start, stop

QUARTER_MS = 900_000


@pytest.fixture
def site(tmp_path: Path, free_port: Callable[[], int]) -> Iterator[Path]:
    port = free_port()
    process = start("simulate", "--port", str(port))
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == f"READY {port}-{port}\n"
        assert run("add", "Main", "127.0.0.1", "--port", str(port), folder=tmp_path).code == 0
        yield tmp_path
    finally:
        stop(process)


def in_outbox(folder: Path) -> list[tuple[int, dict[str, float]]]:
    with closing(sqlite3.connect(folder / "data" / "outbox.db")) as connection:
        rows = connection.execute("SELECT ts, payload FROM outbox WHERE kind = 'telemetry' ORDER BY id").fetchall()
    return [(ts, json.loads(payload)["values"]) for ts, payload in rows]


def test_a_day_is_in_the_outbox_once(site: Path) -> None:
    day = (int(time.time()) // 86_400 - 2) * 86_400
    begins, ends = (time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime(t)) for t in (day, day + 86_400))
    done = run("backfill", "Main", "--from", begins, "--to", ends, "--json", folder=site)
    assert done.code == 0, done
    shown = json.loads(done.out)
    assert (shown["meter"], shown["name"], shown["rows"], shown["pieces"], shown["undated"]) == (1, "Main", 96, 6, 0)
    rows = in_outbox(site)
    assert [ts for ts, _ in rows] == list(range(day * 1000, (day + 86_400) * 1000, QUARTER_MS))
    assert all(set(values) == {"active_energy", "active_energy_export", "reactive_energy"} for _, values in rows)
    told = run("backfill", "1", "--from", ends, "--to", ends.replace("T00:00", "T01:00"), folder=site)
    assert told.code == 0, told
    assert told.out.startswith("Main: 4 rows from ")


def test_what_cannot_be(site: Path) -> None:
    backwards = run("backfill", "Main", "--from", "2026-01-02", "--to", "2026-01-01", folder=site)
    assert "before it begins" in backwards.refused_in_one_line(2)
    assert run("backfill", "Nobody", "--from", "2026-01-01", folder=site).code == 2
    assert run("edit", "Main", "--port", "1", folder=site).code == 0
    assert run("backfill", "Main", "--from", "2026-01-01", folder=site).code == 3


def test_a_running_service_reads_it_back_between_its_polls(site: Path, free_port: Callable[[], int]) -> None:
    port = str(free_port())
    service = start("run", folder=site, METERBRIDGE_API__PORT=port)
    assert service.stdout is not None
    try:
        assert any("api_started" in line for line in service.stdout)

        def typed(begins: str, ends: str) -> Ended:
            options = ("--from", begins, "--to", ends, "--json")
            return run("backfill", "Main", *options, folder=site, METERBRIDGE_API__PORT=port)

        day = (int(time.time()) // 86_400 - 2) * 86_400
        begins, ends = (time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime(t)) for t in (day, day + 7200))
        while (done := typed(begins, ends)).code == 2 and "gave no reading yet" in done.err:
            time.sleep(0.2)
        assert done.code == 0, done
        shown = {"meter": 1, "from": day * 1000, "to": (day + 7200) * 1000, "missing_ms": 0}
        assert json.loads(done.out) == shown
        rows = [ts for ts, values in in_outbox(site) if "active_energy_export" in values]
        assert rows == list(range(day * 1000, (day + 7200) * 1000, QUARTER_MS))
        assert "max_age_days" in typed("2020-01-01", "2020-01-02").refused_in_one_line(2)
    finally:
        stop(service)
