"""`meterbridge outbox` beside a running service: what it shows, frees and deletes."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.processes import Ended, run
from tests.integration.delivery_recorder import Recorder
from tests.integration.delivery_site import Site
from tests.integration.test_delivery import until

pytestmark = pytest.mark.xdist_group("delivery")


async def typed(site: Site, *words: str) -> Ended:
    return await asyncio.to_thread(run, "outbox", *words, folder=site.folder, METERBRIDGE_API__PORT=str(site.api_port))


async def status(site: Site) -> dict[str, Any]:
    shown: dict[str, Any] = json.loads((await typed(site, "status", "--json")).out)
    return shown


async def test_what_was_refused_is_freed_while_the_service_runs(tmp_path: Path, free_port: Callable[[], int]) -> None:
    recorder = Recorder(free_port())
    await recorder.start()
    async with Site(tmp_path, 2, recorder.port, free_port, "GW_TOKEN") as site:
        route = f"gateway:127.0.0.1:{recorder.port}"
        with closing(sqlite3.connect(site.outbox)) as db, db:
            db.executemany(
                "INSERT INTO quarantine VALUES (?,1,?,'telemetry','m0',?,?,0,'refused')",
                [(number, route, number, b'{"ts":%d,"values":{"x":1}}' % number) for number in (1, 2, 3)],
            )
        site.start(METERBRIDGE_API__PORT=str(site.api_port))
        log = tmp_path / "out.log"
        await until(lambda: len(recorder.readings()) == 2 and "api_started" in log.read_text(), 30)
        shown = await status(site)
        assert (shown["quarantined"], shown["given_up"]) == (3, [])
        [live] = shown["routes"]
        assert (live["route"], live["connected"], live["refused"], live["contested"]) == (route, True, 0, 0)
        assert live["acknowledged"] > 0
        assert "1 deleted" in (await typed(site, "purge", "2", "--yes")).out
        assert "2 to be sent again" in (await typed(site, "retry", "--all")).out
        await until(lambda: {1, 3} <= set(recorder.readings()["m0"]), 15)
        assert 2 not in recorder.readings()["m0"]
        assert await asyncio.to_thread(site.stop) == 0
        shown = await status(site)
        assert shown["quarantined"] == 0
        assert "connected" not in json.dumps(shown), "nothing is said of connections where none are"
    await recorder.stop()
