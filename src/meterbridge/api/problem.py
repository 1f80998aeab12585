"""Errors as RFC 9457 problem details: one clear sentence each, never a traceback."""

from __future__ import annotations

from http import HTTPStatus

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from meterbridge.errors import ConfigurationError, MeterbridgeError, MeterExists, MeterNotFound, StoreError

MEDIA_TYPE = "application/problem+json"


class Problem(BaseModel):
    """What went wrong (RFC 9457)."""

    type: str = Field(examples=["about:blank"])
    title: str = Field(examples=["Not Found"])
    status: int = Field(examples=[404])
    detail: str = Field(examples=["there is no meter 7"])


def problem(status: int, detail: str, headers: dict[str, str] | None = None) -> JSONResponse:
    """Make the answer for an error.

    Args:
        status: HTTP status code.
        detail: one sentence, without secrets.
        headers: further ones.
    """
    body = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": detail}
    return JSONResponse(body, status, headers, MEDIA_TYPE)


def status_of(error: MeterbridgeError) -> int:
    """Return the HTTP status that says what kind of error it is."""
    if isinstance(error, MeterNotFound):
        return 404
    if isinstance(error, MeterExists):
        return 409
    if isinstance(error, ConfigurationError):
        return 422
    return 503 if isinstance(error, StoreError) else 500


def install(application: FastAPI) -> None:
    """Let an application answer every error with a problem."""

    @application.exception_handler(MeterbridgeError)
    async def ours(_: Request, error: MeterbridgeError) -> JSONResponse:
        return problem(status_of(error), str(error))

    @application.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        # Not what was given: it may be a password.
        where = ".".join(str(part) for part in first["loc"])
        return problem(422, f"{where}: {first['msg']}")

    @application.exception_handler(HTTPException)
    async def refused(_: Request, error: HTTPException) -> JSONResponse:
        return problem(error.status_code, str(error.detail), dict(error.headers or {}))

    @application.exception_handler(500)
    async def broken(_: Request, error: Exception) -> JSONResponse:
        return problem(500, "this is a defect of Meterbridge; the log says more")
