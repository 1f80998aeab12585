"""Before any request is looked at: how often, how big, by whom. Plain ASGI, around the whole application."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from meterbridge.api.access import Access
from meterbridge.api.problem import problem
from meterbridge.errors import StoreError
from meterbridge.store import Role

OPEN = frozenset({"/healthz", "/readyz"})
"""What a supervisor asks without a token; says nothing but yes or no."""
_READING = frozenset({"GET", "HEAD", "OPTIONS"})
_MOST_CLIENTS = 10_000
# Fewer than connections: one that waits can always be found.
_MOST_AT_ONCE = 500
_BODY_S = 10.0


class Gate:
    """Lets through who has a token and keeps within limits; without a role of operator nothing can be changed.

    Args:
        inner: the application.
        access: looks up tokens.
        max_body: octets of a request's body at most.
        per_s: requests of one address at most, per second.
        monotonic: seconds.
    """

    def __init__(
        self, inner: ASGIApp, access: Access, max_body: int, per_s: float, monotonic: Callable[[], float]
    ) -> None:
        self._inner = inner
        self._access = access
        self._max_body = max_body
        self._per_s = per_s
        self._monotonic = monotonic
        self._clients: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._at_work = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._inner(scope, receive, send)
            return
        refusal = await self._refusal(scope)
        if refusal is not None:
            await refusal(scope, receive, send)
            return
        self._at_work += 1
        try:
            await self._inner(scope, self._bounded(receive), send)
        finally:
            self._at_work -= 1

    def _bounded(self, receive: Receive) -> Receive:
        """A body no longer than is allowed, and not for ever on its way."""
        left, until = self._max_body, asyncio.get_running_loop().time() + _BODY_S
        more = True

        async def bounded() -> Message:
            nonlocal left, more
            try:
                async with asyncio.timeout_at(until if more else None):
                    message = await receive()
            except TimeoutError:
                raise HTTPException(408, f"the body of the request did not come within {_BODY_S:g} s") from None
            left -= len(message.get("body", b""))
            more = message.get("more_body", False)
            if left < 0:
                raise HTTPException(413, self._too_big())
            return message

        return bounded

    async def _refusal(self, scope: Scope) -> ASGIApp | None:
        client = scope["client"][0] if scope.get("client") else ""
        if scope["path"] in OPEN:
            # Of its own account: whoever asks too much here must not shut out the supervisor beside it.
            client += scope["path"]
        if not self._take(client):
            return problem(429, "too many requests; try again in a second", {"Retry-After": "1"})
        headers = Headers(scope=scope)
        length = headers.get("content-length", "0")
        if not (length.isascii() and length.isdigit()) or int(length[:20]) > self._max_body:
            return problem(413, self._too_big())
        if scope["path"] in OPEN:
            return None
        if self._at_work >= _MOST_AT_ONCE:
            return problem(503, f"{_MOST_AT_ONCE} requests are answered already", {"Retry-After": "1"})
        try:
            token = await self._access.bearer(headers.get("authorization", ""))
        except StoreError as error:
            return problem(503, str(error))
        if token is None:
            return problem(401, "a bearer token is needed (meterbridge token add)", {"WWW-Authenticate": "Bearer"})
        if scope["method"] not in _READING and token.role is not Role.OPERATOR:
            return problem(403, f"a {token.role} may look but change nothing: this takes an operator's token")
        scope.setdefault("state", {})["token"] = token
        return None

    def _too_big(self) -> str:
        return f"a request's body may have {self._max_body} octets"

    def _take(self, client: str) -> bool:
        """Take one request from what an address has left: a bucket of two seconds' worth."""
        now = self._monotonic()
        left, at = self._clients.pop(client, (2 * self._per_s, now))
        left = min(2 * self._per_s, left + (now - at) * self._per_s)
        allowed = left >= 1
        self._clients[client] = (left - 1 if allowed else left, now)
        if len(self._clients) > _MOST_CLIENTS:
            self._clients.popitem(last=False)
        return allowed
