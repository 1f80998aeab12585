"""History over HTTP: have a time of a meter's load profile read back, and see how far that is."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query

from meterbridge.api.documents import BackfillAnswer, gives
from meterbridge.api.shapes import MeterPath
from meterbridge.meter import Interval
from meterbridge.model import MeterId
from meterbridge.service import Service

_LATEST = 4_102_444_800_000
FromQuery = Annotated[int, Query(alias="from", ge=0, le=_LATEST, description="included, Unix milliseconds")]
ToQuery = Annotated[int, Query(alias="to", ge=0, le=_LATEST, description="not included, Unix milliseconds")]


def history_routes(service: Service) -> APIRouter:
    """Make the routes under /api/meters/{id}/backfill.

    Args:
        service: started.
    """
    routes = APIRouter(prefix="/api/meters", tags=["meters"])

    @routes.post(
        "/{id}/backfill",
        status_code=202,
        summary="Have a time of the load profile read back between polls",
        **gives(BackfillAnswer, 202),
    )
    async def request(meter: MeterPath, start: FromQuery, end: ToQuery) -> dict[str, Any]:
        found = await service.repository.get(meter)
        wanted = service.history.request(found, Interval(start, end))
        return _shape(service, found.id, wanted)

    @routes.get("/{id}/backfill", summary="How much of a time is still to be read back", **gives(BackfillAnswer))
    async def progress(meter: MeterPath, start: FromQuery, end: ToQuery) -> dict[str, Any]:
        found = await service.repository.get(meter)
        return _shape(service, found.id, Interval(start, end))

    return routes


def _shape(service: Service, meter: MeterId, asked: Interval) -> dict[str, Any]:
    return {
        "meter": meter,
        "from": asked.start,
        "to": asked.end,
        "missing_ms": service.history.missing(meter, asked),
    }
