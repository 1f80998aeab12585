"""The installation as a whole over HTTP: health, alarms, outbox, events."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import JSONResponse, PlainTextResponse, StreamingResponse

from meterbridge.api.documents import (
    AcknowledgedAnswer,
    AlarmsAnswer,
    FineAnswer,
    HealthAnswer,
    OutboxAnswer,
    PlanAnswer,
    QualityAnswer,
    gives,
)
from meterbridge.api.events import EventHub
from meterbridge.api.exposition import CONTENT_TYPE, exposition
from meterbridge.api.problem import problem
from meterbridge.api.shapes import alarm_shape
from meterbridge.operations import health_of
from meterbridge.service import DATABASE_FAILING, Inspector, Service
from meterbridge.store import SummaryRepository

MinutesQuery = Annotated[int, Query(ge=1, le=10_080, description="how far back")]


def system_routes(service: Service, inspector: Inspector, hub: EventHub) -> APIRouter:
    """Make the routes that are not about one meter.

    Args:
        service: started.
        inspector: judges it.
        hub: source of events.
    """
    routes = APIRouter(tags=["system"])

    @routes.get("/api/system/health", summary="How the meters did over a window", **gives(HealthAnswer))
    async def health(minutes: MinutesQuery = 60) -> JSONResponse:
        until = round(time.time() * 1000) + 1
        since = until - minutes * 60_000
        report = health_of(
            (await service.repository.load_meters()).meters,
            await SummaryRepository(service.database).meters(since, until),
            await service.alarms.open_alarms(),
            since,
            until,
        )
        return JSONResponse(asdict(report))

    @routes.get(
        "/api/system/qos", summary="Service, meters, servers and metrics against their targets", **gives(QualityAnswer)
    )
    async def qos() -> JSONResponse:
        return JSONResponse(asdict(await inspector.quality(service.repository, service.database)))

    @routes.get(
        "/api/system/plan", summary="What is wrong and what to do about it, most urgent first", **gives(PlanAnswer)
    )
    async def plan() -> JSONResponse:
        return JSONResponse(asdict(await inspector.plan(service.repository, service.database)))

    @routes.get(
        "/api/system/outbox", summary="What waits to be delivered, and over which routes", **gives(OutboxAnswer)
    )
    async def outbox() -> dict[str, Any]:
        stats = service.outbox_stats()
        return {
            "rows": stats.rows,
            "octets": stats.octets,
            "pending": stats.pending,
            "committed": stats.committed,
            "quarantined": stats.quarantined,
            "dropped": sum(loss.rows for loss in stats.losses.values()),
            "losses": [{"meter": meter, **loss._asdict()} for meter, loss in stats.losses.items()],
            "failing": stats.failing,
            "routes": [asdict(route) for route in service.route_stats()],
        }

    @routes.get("/api/alarms", summary="Open alarms, or all of a window", **gives(AlarmsAnswer))
    async def alarms(
        minutes: Annotated[int | None, Query(ge=1, le=525_600, description="all of this window; else the open")] = None,
    ) -> dict[str, Any]:
        if minutes is None:
            found = await service.alarms.open_alarms()
        else:
            until = round(time.time() * 1000) + 1
            found = await service.alarms.alarms(until - minutes * 60_000, until)
        return {"alarms": [alarm_shape(alarm) for alarm in found]}

    @routes.post(
        "/api/alarms/{id}/acknowledge",
        summary="Note that you have seen an alarm; it stays open",
        tags=[],
        **gives(AcknowledgedAnswer),
    )
    async def acknowledge(
        alarm: Annotated[int, Path(alias="id", ge=1, le=2**31 - 1, examples=[1])], request: Request
    ) -> JSONResponse:
        who = request.state.token.name
        if not await service.alarms.acknowledge(alarm, round(time.time() * 1000), who):
            return problem(404, f"there is no alarm {alarm}")
        return JSONResponse({"id": alarm, "acknowledged_by": who})

    @routes.get("/api/events", summary="Readings and alarms as they happen (server-sent events)")
    async def events() -> StreamingResponse:
        return StreamingResponse(hub.subscribe(), media_type="text/event-stream", headers={"Cache-Control": "no-store"})

    @routes.get("/metrics", summary="Metrics for Prometheus", response_class=PlainTextResponse)
    async def metrics() -> PlainTextResponse:
        return PlainTextResponse(await exposition(service), media_type=CONTENT_TYPE)

    @routes.get("/healthz", summary="The process answers", **gives(FineAnswer))
    async def alive() -> dict[str, str]:
        return {"status": "ok"}

    @routes.get("/readyz", summary="Meters are polled, and the database takes what is recorded", **gives(FineAnswer))
    async def ready() -> JSONResponse:
        if service.broken.is_set() or service.bridge is None:
            return problem(503, "the service is not working")
        if (None, DATABASE_FAILING) in service.desk.open:
            return problem(503, "the database cannot be used; meters are polled and readings delivered meanwhile")
        return JSONResponse({"status": "ok"})

    return routes
