"""The application: routes, errors and the gate in front of them."""

from __future__ import annotations

import time
from pathlib import Path

from fastapi import FastAPI

from meterbridge import __version__
from meterbridge.api.access import Access
from meterbridge.api.events import EventHub
from meterbridge.api.gate import Gate
from meterbridge.api.history import history_routes
from meterbridge.api.meters import meter_routes
from meterbridge.api.problem import Problem, install
from meterbridge.api.system import system_routes
from meterbridge.service import Inspector, Service
from meterbridge.settings import ApiSettings


def make_application(
    service: Service, inspector: Inspector, access: Access, hub: EventHub, settings: ApiSettings, log_file: Path
) -> FastAPI:
    """Make the application.

    Args:
        service: started.
        inspector: judges it.
        access: looks up tokens.
        hub: source of events.
        settings: limits.
        log_file: of the structured log.
    """
    application = FastAPI(
        title="Meterbridge",
        version=__version__,
        # Their pages load scripts from elsewhere.
        docs_url=None,
        redoc_url=None,
        openapi_url="/api/openapi.json",
        responses={
            code: {"model": Problem, "description": text}
            for code, text in (
                (400, "the body is no JSON"),
                (401, "no token, or not a known one"),
                (403, "the token may not"),
                (404, "no such meter or alarm"),
                (409, "another meter has the name, or it cannot be done now"),
                (413, "the body is too big"),
                (422, "a value is not allowed"),
                (429, "too many requests"),
                (503, "the database cannot be used"),
            )
        },
    )
    install(application)
    application.include_router(meter_routes(service, log_file))
    application.include_router(history_routes(service))
    application.include_router(system_routes(service, inspector, hub))
    application.add_middleware(
        Gate,
        access=access,
        max_body=settings.max_body_octets,
        per_s=settings.requests_per_s,
        monotonic=time.monotonic,
    )
    return application
