"""Gathers the facts: from database, log, outbox and disks, and from a running service where there is one."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from typing import Any

from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import AsyncEngine

from meterbridge.delivery import inspection
from meterbridge.errors import ConfigurationError, DeliveryError
from meterbridge.model import Meter, MeterId
from meterbridge.operations.facts import DiskFact, Facts, Live, MeterFact, OutboxFact, Places, RouteFact, UnusableFact
from meterbridge.operations.log_search import LogFilter, search
from meterbridge.store import AlarmRepository, MeterRepository, MeterState, SummaryRepository

_MOST_LINES = 5_000


async def gather(
    repository: MeterRepository, engine: AsyncEngine, places: Places, live: Live | None, now: int, minutes: int
) -> Facts:
    """Gather what is known now; files are read in a thread.

    Args:
        repository: the meters.
        engine: of the same database.
        places: where files lie.
        live: what the running service knows, None where none runs.
        now: Unix milliseconds.
        minutes: length of the window.

    Raises:
        StoreError: the database cannot be read.
    """
    since = now - minutes * 60_000
    loaded = await repository.load_meters()
    states = await repository.states()
    summaries = SummaryRepository(engine)
    run_states = live.run_states if live is not None else {}
    outbox, routes = await asyncio.to_thread(_waiting, places.outbox) if live is None else (live.outbox, live.routes)
    return Facts(
        now,
        since,
        live is not None,
        live.started if live is not None else None,
        tuple(_meter(meter, states.get(meter.id), run_states.get(meter.id)) for meter in loaded.meters),
        tuple(UnusableFact(bad.meter, bad.name or str(bad.meter), bad.text) for bad in loaded.problems),
        tuple(await AlarmRepository(engine).open_alarms()),
        tuple(await summaries.meters(since, now + 1)),
        tuple(await summaries.network(since, now + 1)),
        await summaries.events(since, now + 1),
        live.reachable if live is not None else {},
        routes,
        outbox,
        await asyncio.to_thread(_disks, places),
        await asyncio.to_thread(_lines, places.log, since),
    )


def _meter(meter: Meter, state: MeterState | None, run_state: str | None) -> MeterFact:
    return MeterFact(
        meter.id,
        meter.name,
        meter.ip_address,
        meter.port,
        meter.status,
        state.last_seen if state else None,
        state.last_error if state else None,
        f"{meter.tb_host}:{meter.tb_port}" if meter.tb_enabled else None,
        run_state,
    )


def _waiting(path: Path) -> tuple[OutboxFact | None, tuple[RouteFact, ...]]:
    try:
        summary = inspection.summary(path)
    except DeliveryError:
        return None, ()
    rows, octets = sum(route.rows for route in summary.routes), sum(route.octets for route in summary.routes)
    routes = tuple(
        RouteFact(route.route, _owner(route.route), None, oldest_at=route.oldest_at) for route in summary.routes
    )
    return OutboxFact(rows, octets, summary.quarantined), routes


def _owner(route: str) -> MeterId | None:
    kind, _, rest = route.partition(":")
    number = rest.rpartition(":")[2]
    return MeterId(int(number)) if kind == "device" and number.isdigit() else None


def _disks(places: Places) -> tuple[DiskFact, ...]:
    url = make_url(places.database)
    files: list[tuple[str, Path]] = [("outbox", places.outbox), ("log", places.log)]
    if url.get_backend_name() == "sqlite" and url.database:
        files.insert(0, ("database", Path(url.database)))
    found: dict[int, DiskFact] = {}
    for what, path in files:
        folder = next((part for part in (path.absolute(), *path.absolute().parents) if part.is_dir()), None)
        if folder is None:
            continue
        device, usage = folder.stat().st_dev, shutil.disk_usage(folder)
        known = found.get(device)
        # One line for each file system, whatever lies on it.
        names = what if known is None else f"{known.what}, {what}"
        found[device] = DiskFact(names, str(folder) if known is None else known.path, usage.free, usage.total)
    return tuple(found.values())


def _lines(file: Path, since: int) -> tuple[dict[str, Any], ...]:
    try:
        return tuple(search(file, LogFilter(level="warning", since=since), _MOST_LINES))
    except ConfigurationError:
        # Another user's log: the rest says enough.
        return ()
