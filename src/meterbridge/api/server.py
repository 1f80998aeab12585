"""Serves the API on the loop of the service."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import uvicorn

from meterbridge.api.access import LOCAL_TOKEN, Access
from meterbridge.api.application import make_application
from meterbridge.api.connections import bounded_protocol
from meterbridge.api.events import EventHub
from meterbridge.api.state_watch import StateWatch
from meterbridge.errors import ConfigurationError
from meterbridge.service import Inspector, Service, live_of
from meterbridge.settings import ApiSettings, Settings
from meterbridge.store import TokenRepository

_MOST_CONNECTIONS = 1_000
_KEEP_ALIVE_S = 30
_BACKLOG = 1_024


def check_exposure(settings: ApiSettings, tokens: int) -> None:
    """Refuse to listen beyond this machine without TLS, or where nobody could have a token.

    Args:
        settings: where to listen, and how.
        tokens: how many there are.

    Raises:
        ConfigurationError: what is missing.
    """
    if _is_loopback(settings.host):
        return
    if settings.tls_cert is None and not settings.behind_proxy:
        raise ConfigurationError(
            f"api.host = {settings.host} is open to others: set api.tls_cert and api.tls_key, "
            "or --behind-proxy where a proxy ends TLS"
        )
    if tokens == 0:
        raise ConfigurationError(
            f"api.host = {settings.host} is open to others and there is no token: meterbridge token add NAME"
        )


class ApiServer:
    """The server; `start` returns when it answers, `stop` when it does no more.

    Args:
        service: started before `start`.
        settings: all of them.
    """

    def __init__(self, service: Service, settings: Settings) -> None:
        self._service = service
        self._settings = settings
        self._hub = EventHub()
        self._listener: socket.socket | None = None
        self._server: _Server | None = None
        self._task: asyncio.Task[None] | None = None
        self._watching: asyncio.Task[None] | None = None

    def bind(self) -> socket.socket:
        """Take the port, before anything is touched that another service may be using; who connects waits for `start`.

        Raises:
            ConfigurationError: it is taken.
        """
        if self._listener is None:
            self._listener = _listen(self._settings.api.host, self._settings.api.port)
        return self._listener

    async def start(self) -> None:
        """Answer.

        Raises:
            ConfigurationError: the port is taken, TLS cannot be set up, or it would be open to everybody.
        """
        listener = self.bind()
        tokens = TokenRepository(self._service.database)
        check_exposure(self._settings.api, len(await tokens.tokens()))
        access = Access(tokens, time.monotonic)
        access.admit_this_machine(self._settings.database.key_file.with_name(LOCAL_TOKEN))
        # Aside: it takes as long as dozens of polls, which are under way already.
        server = await asyncio.to_thread(self._make, access)
        self._service.listen(self._hub.publish)
        self._server = server
        self._task = asyncio.create_task(server.serve([listener]), name="api")
        watch = StateWatch(self._service.statuses, self._hub.publish)
        self._watching = asyncio.create_task(watch.run(lambda: self._hub.followed), name="state watch")

    def _make(self, access: Access) -> _Server:
        api = self._settings.api
        inspector = Inspector(self._settings, lambda: live_of(self._service))
        application = make_application(self._service, inspector, access, self._hub, api, self._settings.log.file)
        config = uvicorn.Config(
            application,
            log_config=None,
            access_log=False,
            lifespan="off",
            server_header=False,
            proxy_headers=api.behind_proxy,
            timeout_keep_alive=_KEEP_ALIVE_S,
            timeout_graceful_shutdown=1,
            http=bounded_protocol(_MOST_CONNECTIONS, _KEEP_ALIVE_S),
            h11_max_incomplete_event_size=16_384,
            ssl_certfile=api.tls_cert,
            ssl_keyfile=api.tls_key,
        )
        try:
            config.load()
        except OSError as error:
            raise ConfigurationError(f"{_names(api.tls_cert, api.tls_key)}: {error.strerror or error}") from None
        return _Server(config)

    async def stop(self) -> None:
        """End all streams and connections, within two seconds."""
        self._hub.close()
        if self._watching is not None:
            self._watching.cancel()
        if self._server is not None and self._task is not None:
            self._server.should_exit = True
            await asyncio.wait([self._task], timeout=2.0)
            self._task.cancel()
        if self._listener is not None:
            self._listener.close()


class _Server(uvicorn.Server):
    """Leaves signals to the service."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _listen(host: str, port: int) -> socket.socket:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        raise ConfigurationError(f"api.host = {host}: {error.strerror}") from None
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        # Bound alone it would not keep others off.
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise ConfigurationError(f"the API cannot listen on {host} port {port}: {error.strerror}") from None
    listener.setblocking(False)
    return listener


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _names(*paths: Path | None) -> str:
    return ", ".join(str(path) for path in paths if path is not None)
