"""State changes as events: what differs from the last look, and nothing else."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from meterbridge.api.state_watch import StateWatch
from meterbridge.fleet import RunState, WorkerCounters, WorkerStatus
from meterbridge.model import Meter, MeterId


def status(number: int) -> WorkerStatus:
    return WorkerStatus(Meter(MeterId(number), "m", "h"), RunState.RUNNING, "associated", (), 0, WorkerCounters())


def test_only_changes_are_told() -> None:
    now = [status(1), status(2)]
    told: list[tuple[str, dict[str, object]]] = []
    watch = StateWatch(lambda: now, lambda kind, body: told.append((kind, body)))
    watch.look()
    watch.look()
    assert told == []
    now[0] = replace(now[0], state=RunState.PAUSED, link="")
    now[1] = replace(now[1], troubles=("silence",))
    watch.look()
    assert told == [
        ("state", {"meter": 1, "run_state": "paused", "link": "", "troubles": []}),
        ("state", {"meter": 2, "run_state": "running", "link": "associated", "troubles": ["silence"]}),
    ]
    told.clear()
    now[:] = [now[0], status(3)]
    watch.look()
    assert [(body["meter"], body["run_state"]) for _, body in told] == [(3, "running"), (2, None)]


async def test_while_nobody_follows_nothing_is_looked_at() -> None:
    def never() -> list[WorkerStatus]:
        raise AssertionError

    watching = asyncio.create_task(StateWatch(never, lambda *_: None).run(lambda: False))
    await asyncio.sleep(0)
    watching.cancel()
    assert (await asyncio.gather(watching, return_exceptions=True))[0].__class__ is asyncio.CancelledError
