"""Meters over HTTP: what is configured, how it goes, and what can be done about it."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Response
from fastapi.responses import JSONResponse

from meterbridge.api.documents import (
    LinesAnswer,
    MeterAnswer,
    MetersAnswer,
    MetricsAnswer,
    ReadingAnswer,
    StatusAnswer,
    TestAnswer,
    gives,
)
from meterbridge.api.listing import Listing
from meterbridge.api.shapes import MeterChange, MeterPath, counters_shape, meter_shape, reading_shape, test_shape
from meterbridge.errors import MeterNotFound
from meterbridge.meter import load_model
from meterbridge.model import MeterId
from meterbridge.operations import LogFilter, search
from meterbridge.service import Service

Level = Literal["debug", "info", "warning", "error", "critical"]
LimitQuery = Annotated[int, Query(ge=1, le=1_000, description="lines at most")]
LevelQuery = Annotated[Level, Query(description="least severity")]
SinceQuery = Annotated[int | None, Query(ge=0, le=4_102_444_800_000, description="not before, Unix milliseconds")]
UntilQuery = Annotated[int | None, Query(ge=0, le=4_102_444_800_000, description="before this, Unix milliseconds")]


def meter_routes(service: Service, log_file: Path) -> APIRouter:
    """Make the routes under /api/meters.

    Args:
        service: started.
        log_file: of the structured log.
    """
    routes = APIRouter(prefix="/api/meters", tags=["meters"])
    listing = Listing(service.roster)

    @routes.get("", summary="All meters with their state", **gives(MetersAnswer))
    async def list_meters() -> Response:
        running = {status.meter.id: status for status in service.statuses()}
        return Response(await listing.write(running), media_type="application/json")

    @routes.post("", status_code=201, summary="Add a meter and begin to poll it", **gives(MeterAnswer, 201))
    async def add(change: MeterChange) -> dict[str, Any]:
        meter = change.made()
        load_model(meter.model)
        added = await service.repository.add(meter)
        await service.reload_meters()
        return meter_shape(added, None, service.status_of(added.id))

    @routes.get("/{id}", summary="One meter", **gives(MeterAnswer))
    async def one(meter: MeterPath) -> dict[str, Any]:
        return await _one(service, MeterId(meter))

    @routes.patch("/{id}", summary="Change a meter; its worker starts anew", **gives(MeterAnswer))
    async def edit(meter: MeterPath, change: MeterChange) -> dict[str, Any]:
        changed = change.applied_to(await service.repository.get(meter))
        load_model(changed.model)
        await service.repository.update(changed)
        await service.reload_meters()
        return await _one(service, changed.id)

    @routes.delete("/{id}", status_code=204, summary="Remove a meter with its metrics and alarms")
    async def remove(meter: MeterPath) -> Response:
        await service.repository.remove(MeterId(meter))
        await service.reload_meters()
        return Response(status_code=204)

    @routes.get(
        "/{id}/status", summary="One meter: state, counters, troubles, the newest reading", **gives(StatusAnswer)
    )
    async def status(meter: MeterPath) -> dict[str, Any]:
        shape = await _one(service, MeterId(meter))
        running = service.status_of(MeterId(meter))
        reading = service.latest.get(MeterId(meter))
        shape["counters"] = counters_shape(running) if running else None
        shape["reading"] = reading_shape(reading) if reading else None
        return shape

    @routes.get("/{id}/readings", summary="The newest reading", **gives(ReadingAnswer))
    async def readings(meter: MeterPath) -> dict[str, Any]:
        await service.repository.get(meter)
        reading = service.latest.get(MeterId(meter))
        if reading is None:
            raise MeterNotFound(f"meter {meter} gave no reading since the service started")
        return reading_shape(reading)

    @routes.get("/{id}/logs", summary="What the log says about a meter", **gives(LinesAnswer))
    async def logs(
        meter: MeterPath,
        limit: LimitQuery = 100,
        level: LevelQuery = "debug",
        since: SinceQuery = None,
        until: UntilQuery = None,
    ) -> dict[str, Any]:
        await service.repository.get(meter)
        # Files are read in a thread: polling goes on.
        lines = await asyncio.to_thread(search, log_file, LogFilter(meter, level, since, until), limit)
        return {"lines": lines}

    @routes.get("/{id}/metrics", summary="Metrics by interval", **gives(MetricsAnswer))
    async def metrics(
        meter: MeterPath, minutes: Annotated[int, Query(ge=1, le=10_080, description="how far back")] = 60
    ) -> JSONResponse:
        await service.repository.get(meter)
        until = round(time.time() * 1000) + 1
        rows = await service.metrics.meter_metrics(until - minutes * 60_000, until, MeterId(meter))
        shown = [{name: getattr(row, name) for name in row.__dataclass_fields__} for row in rows]
        return JSONResponse({"metrics": shown})

    @routes.post(
        "/{id}/pause", summary="Stop polling a meter until it is resumed or the service restarts", **gives(MeterAnswer)
    )
    async def pause(meter: MeterPath) -> dict[str, Any]:
        await service.fleet.pause(MeterId(meter))
        return await _one(service, MeterId(meter))

    @routes.post("/{id}/resume", summary="Poll a paused meter again", **gives(MeterAnswer))
    async def resume(meter: MeterPath) -> dict[str, Any]:
        await service.fleet.resume(MeterId(meter))
        return await _one(service, MeterId(meter))

    @routes.post("/{id}/restart", summary="End a meter's worker and start a new one", **gives(MeterAnswer))
    async def restart(meter: MeterPath) -> dict[str, Any]:
        await service.fleet.restart(MeterId(meter))
        return await _one(service, MeterId(meter))

    @routes.post("/{id}/test", summary="Read a meter now", **gives(TestAnswer))
    async def test(
        meter: MeterPath, timeout: Annotated[float, Query(ge=1, le=300, description="seconds")] = 60.0
    ) -> dict[str, Any]:
        return test_shape(await service.fleet.test(MeterId(meter), timeout))

    return routes


async def _one(service: Service, meter: MeterId) -> dict[str, Any]:
    found = await service.repository.get(meter)
    return meter_shape(found, await service.repository.state(meter), service.status_of(meter))
