"""Connections of the API: what asks nothing gives way, what is at work stays."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest
import uvicorn
from starlette.exceptions import HTTPException
from starlette.types import Message, Receive, Scope, Send

from meterbridge.api import gate as gates
from meterbridge.api.access import Access
from meterbridge.api.connections import bounded_protocol
from meterbridge.api.gate import Gate
from meterbridge.store import Role

ASK = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
MOST = 3


@asynccontextmanager
async def served(port: int, patience_s: float, most: int = MOST) -> AsyncIterator[asyncio.Event]:
    """An application that answers at once, or on /slow once the event is set."""
    go_on = asyncio.Event()

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/slow":
            await go_on.wait()
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    protocol = bounded_protocol(most, patience_s)
    config = uvicorn.Config(application, "127.0.0.1", port, http=protocol, log_config=None, lifespan="off")
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve())
    async with asyncio.timeout(20):
        while not server.started:
            await asyncio.sleep(0.01)
        try:
            yield go_on
        finally:
            go_on.set()
            server.should_exit = True
            await task


async def status(reader: asyncio.StreamReader) -> int:
    """Of the next answer; 0 where the connection has ended."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        return 0
    return int(head.split()[1])


async def test_silent_connections_give_way_to_one_that_asks(free_port_number: int) -> None:
    async with served(free_port_number, 60.0):
        silent = [await asyncio.open_connection("127.0.0.1", free_port_number) for _ in range(20)]
        # Half a head is not a request either.
        silent[-1][1].write(ASK[:10])
        async with httpx.AsyncClient() as client:
            assert (await client.get(f"http://127.0.0.1:{free_port_number}/")).status_code == 204
        gone = [await status(reader) for reader, _ in silent[: 20 - MOST]]
        assert gone == [0] * (20 - MOST)
        silent[-1][1].write(ASK[10:])
        assert await status(silent[-1][0]) == 204
        for _, writer in silent:
            writer.close()


async def test_what_is_at_work_stays_and_who_comes_then_has_to_wait(free_port_number: int) -> None:
    async with served(free_port_number, 60.0) as go_on:
        busy = [await asyncio.open_connection("127.0.0.1", free_port_number) for _ in range(MOST)]
        for _, writer in busy:
            writer.write(ASK.replace(b"/ ", b"/slow ", 1))
        await asyncio.sleep(0.2)
        late, late_writer = await asyncio.open_connection("127.0.0.1", free_port_number)
        assert await status(late) == 0
        late_writer.close()
        go_on.set()
        assert [await status(reader) for reader, _ in busy] == [204] * MOST
        for _, writer in busy:
            writer.close()


async def test_patience_ends_for_the_first_request_and_for_the_next(free_port_number: int) -> None:
    async with served(free_port_number, 0.3, 10) as go_on:
        never, half, again, slow = [await asyncio.open_connection("127.0.0.1", free_port_number) for _ in range(4)]
        half[1].write(ASK[:10])
        again[1].write(ASK)
        slow[1].write(ASK.replace(b"/ ", b"/slow ", 1))
        assert await status(again[0]) == 204
        assert [await status(connection[0]) for connection in (never, half, again)] == [0, 0, 0]
        # An answer may take as long as it takes.
        go_on.set()
        assert await status(slow[0]) == 204
        for _, writer in (never, half, again, slow):
            writer.close()


@pytest.fixture
def free_port_number(free_port: object) -> int:
    port: int = free_port()  # type: ignore[operator]
    return port


class _Everybody:
    """Access for all."""

    async def bearer(self, header: str) -> object:
        return type("Token", (), {"role": Role.OPERATOR})


def scope_of(path: str) -> Scope:
    return {"type": "http", "path": path, "method": "GET", "headers": [], "client": ("192.0.2.1", 1)}


async def asked(gate: Gate, path: str, receive: Receive) -> int:
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    await gate(scope_of(path), receive, send)
    return int(sent[0]["status"])


async def nothing() -> Message:
    return {"type": "http.request", "body": b"", "more_body": False}


async def test_supervisors_are_answered_while_all_else_is_too_much(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gates, "_MOST_AT_ONCE", 2)
    go_on = asyncio.Event()

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/slow":
            await go_on.wait()
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    access: Access = _Everybody()  # type: ignore[assignment]
    gate = Gate(application, access, 100, 2.0, lambda: 0.0)
    slow = [asyncio.create_task(asked(gate, "/slow", nothing)) for _ in range(2)]
    await asyncio.sleep(0)
    assert await asked(gate, "/api/meters", nothing) == 503
    assert await asked(gate, "/healthz", nothing) == 204
    go_on.set()
    assert await asyncio.gather(*slow) == [204, 204]
    assert await asked(gate, "/api/meters", nothing) == 204
    # Four in two seconds' worth are used up; the supervisor has its own.
    assert await asked(gate, "/api/meters", nothing) == 429
    assert [await asked(gate, "/readyz", nothing) for _ in range(5)] == [204, 204, 204, 204, 429]


async def test_a_body_that_does_not_come_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gates, "_BODY_S", 0.05)
    waited: list[object] = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            while (await receive()).get("more_body"):
                pass
        except HTTPException as error:
            waited.append(error.status_code)
        await send({"type": "http.response.start", "status": 204, "headers": []})

    pieces = [{"type": "http.request", "body": b"x", "more_body": True}]

    async def stalled() -> Message:
        if pieces:
            return pieces.pop()
        await asyncio.Event().wait()
        raise AssertionError

    gate = Gate(application, _Everybody(), 100, 2.0, lambda: 0.0)  # type: ignore[arg-type]
    await asked(gate, "/api/meters", stalled)
    assert waited == [408]
