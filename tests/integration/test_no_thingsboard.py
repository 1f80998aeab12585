"""Whatever else answers where a ThingsBoard should: one clear sentence, and no secret goes astray."""

from __future__ import annotations

import asyncio
import gzip
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from meterbridge.errors import ConfigurationError, MeterbridgeError, ThingsBoardRefused, ThingsBoardUnreachable
from meterbridge.thingsboard.rest import Credentials, Patience, ThingsBoardRest, server_url
from meterbridge.thingsboard.server import look_at

LOGIN = Credentials("user@example.org", "opensesame-42")
TOKEN = b'{"token": "secret-bearer", "refreshToken": "r"}'


def answer(body: bytes, status: str = "200 OK", *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Connection: close", *headers]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


class Somebody:
    """Answers a login as told, everything else as told too, and keeps what it heard."""

    def __init__(self, login: bytes, rest: bytes) -> None:
        self.heard: list[bytes] = []
        self._login, self._rest = login, rest
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.read(65_536)
            self.heard.append(head)
            writer.write(self._login if b"/api/auth/login" in head else self._rest)
            await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()


@asynccontextmanager
async def somebody(login: bytes, rest: bytes) -> AsyncIterator[Somebody]:
    there = Somebody(login, rest)
    server = await asyncio.start_server(there.serve, "127.0.0.1", 0)
    there.port = server.sockets[0].getsockname()[1]
    async with server:
        yield there


async def said(url: str, credentials: Credentials = LOGIN, answer_s: float = 10.0) -> MeterbridgeError:
    """The error of looking at a server; one line, without secrets and without what steers a terminal."""
    with pytest.raises((ThingsBoardRefused, ThingsBoardUnreachable)) as caught:
        async with ThingsBoardRest(url, credentials, Patience(2, 0.01, 0.01, answer_s)) as rest:
            await look_at(rest)
    text = str(caught.value)
    assert text.isprintable()
    assert len(text) < 500
    assert "opensesame" not in text
    assert "secret-bearer" not in text
    return caught.value


HTML = answer(b"<!doctype html><title>Router</title>", "200 OK", "Content-Type: text/html")
BOMB = answer(gzip.compress(bytes(70_000_000), 1), "200 OK", "Content-Encoding: gzip")
NESTED = answer(b"[" * 200_000)
OTHERS: list[tuple[str, bytes, bytes, str]] = [
    ("a web page", HTML, HTML, "is no ThingsBoard: /api/auth/login is not answered in JSON"),
    ("nothing", answer(b"", "204 No Content"), HTML, "is no ThingsBoard: it gives no token for a login"),
    ("a list", answer(b"[1]"), HTML, "is no ThingsBoard: it gives no token for a login"),
    ("nesting", NESTED, NESTED, "is no ThingsBoard: /api/auth/login is not answered in JSON"),
    ("a token of two lines", answer(b'{"token": "a\\nb"}'), HTML, "it gives no token for a login"),
    ("a token beyond ASCII", answer('{"token": "\u00fc"}'.encode()), HTML, "it gives no token for a login"),
    ("a page later", answer(TOKEN), HTML, "is no ThingsBoard: /api/auth/user is not answered in JSON"),
    ("nesting later", answer(TOKEN), NESTED, "is no ThingsBoard: /api/auth/user is not answered in JSON"),
    ("a bomb", answer(TOKEN), BOMB, "is no ThingsBoard: its answer to /api/auth/user has no end"),
    ("no gzip", answer(TOKEN), answer(b"{}", "200 OK", "Content-Encoding: gzip"), "does not answer"),
    ("no HTTP", b"SSH-2.0-OpenSSH_9.6\r\n\r\n", b"", "does not answer"),
    ("colours", answer(b'{"message": "\\u001b[31mred"}', "400 Bad Request"), b"", r"in: \[31mred"),
    ("a busy one", answer(b"", "503 Service Unavailable"), b"", "fails at POST /api/auth/login: status 503"),
]


@pytest.mark.parametrize(("login", "rest", "text"), [row[1:] for row in OTHERS], ids=[row[0] for row in OTHERS])
async def test_what_is_no_thingsboard_is_said_to_be_none(login: bytes, rest: bytes, text: str) -> None:
    async with somebody(login, rest) as there:
        error = await said(f"http://127.0.0.1:{there.port}")
        assert text.replace("\\", "") in str(error)


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "307 Temporary Redirect", "308 Permanent Redirect"])
async def test_neither_password_nor_token_follow_to_another_host(status: str) -> None:
    async with somebody(answer(TOKEN), answer(b"{}")) as other:
        sent_on = answer(b"", status, f"Location: http://127.0.0.1:{other.port}/")
        for login in (sent_on, answer(TOKEN)):
            async with somebody(login, sent_on) as there:
                error = await said(f"http://127.0.0.1:{there.port}")
                assert f"sends us to http://127.0.0.1:{other.port}/: log in there" in str(error)
                key = await said(f"http://127.0.0.1:{there.port}", Credentials(api_key="key-1"))
                assert "log in there" in str(key)
        assert other.heard == []


async def test_a_server_that_drips_is_given_up_in_time() -> None:
    async def drip(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
        while not writer.is_closing():
            writer.write(b" ")
            await asyncio.sleep(0.01)

    server = await asyncio.start_server(drip, "127.0.0.1", 0)
    async with server, asyncio.timeout(5):
        error = await said(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", answer_s=0.2)
    assert "does not answer: no answer in time" in str(error)


async def test_https_where_http_is_spoken_and_the_other_way_round() -> None:
    async with somebody(answer(TOKEN), answer(b"{}")) as there:
        error = await said(f"https://127.0.0.1:{there.port}")
        assert "it speaks no TLS there; http:// or another port may be meant" in str(error)
        # To knock again changes nothing about it.
        assert len(there.heard) == 1
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server = await asyncio.start_server(Somebody(b"", b"").serve, "127.0.0.1", 0, ssl=context)
    async with server:
        error = await said(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        assert isinstance(error, ThingsBoardUnreachable)
        assert "does not answer" in str(error)


@pytest.mark.parametrize(
    "text", ["http://", "http://tb:99999", "http://tb:x", "http://xn--\u00fc", "http://[::1", "tb?x=1"]
)
def test_what_is_no_url_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match="the server must be http"):
        server_url(text)


async def test_nobody_there(free_port: Callable[[], int]) -> None:
    assert isinstance(await said(f"http://127.0.0.1:{free_port()}"), ThingsBoardUnreachable)
    assert isinstance(await said("http://no-such-host.invalid"), ThingsBoardUnreachable)
