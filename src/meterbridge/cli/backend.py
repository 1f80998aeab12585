"""How commands reach the meters: through the service where it runs, else in its database, saying so."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, TypeVar

import httpx
import typer
from sqlalchemy.ext.asyncio import AsyncEngine

from meterbridge.errors import ConfigurationError, MeterbridgeError, MeterNotFound
from meterbridge.model import host_port
from meterbridge.service import open_vault
from meterbridge.settings import ApiSettings, DatabaseSettings, Settings
from meterbridge.store import MeterRepository, open_database

_T = TypeVar("_T")
_TIMEOUT = 310.0
ConfigOption = Annotated[Path | None, typer.Option("--config", help="Settings file; ./meterbridge.toml unless given.")]
JsonOption = Annotated[bool, typer.Option("--json", help="JSON instead of a table.")]
MeterArgument = Annotated[str, typer.Argument(metavar="ID|NAME", help="Which meter.")]


class Refused(MeterbridgeError):
    """The service runs and said no; its sentence says why."""


class RunningService:
    """The API of the service on this machine.

    Args:
        client: with address and token.
    """

    def __init__(self, client: httpx.Client) -> None:
        self._client = client

    def ask(self, method: str, path: str, body: object = None, **query: object) -> Any:
        """Return what the service answers, as parsed JSON; None for an answer without content.

        Raises:
            MeterNotFound: it knows no such meter.
            ConfigurationError: it does not take what was given.
            Refused: anything else it says no to.
        """
        given = {name: str(value) for name, value in query.items() if value is not None}
        try:
            answer = self._client.request(method, path, json=body, params=given)
        except httpx.HTTPError as error:
            raise Refused(f"the service does not answer: {error}") from None
        if answer.is_success:
            return answer.json() if answer.content else None
        try:
            detail = str(answer.json()["detail"])
        except (ValueError, KeyError):
            detail = f"status {answer.status_code}"
        if answer.status_code == 404:
            raise MeterNotFound(detail)
        if answer.status_code in (409, 422):
            raise ConfigurationError(detail)
        raise Refused(detail)

    def meters(self) -> list[dict[str, Any]]:
        """Return all meters."""
        found: list[dict[str, Any]] = self.ask("GET", "/api/meters")["meters"]
        return found

    def events(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield events, their kind and particulars, until the service ends the stream.

        Raises:
            Refused: it does not answer, or says no.
        """
        try:
            with self._client.stream("GET", "/api/events", timeout=httpx.Timeout(None, connect=2.0)) as answer:
                if not answer.is_success:
                    raise Refused(f"the service sends no events: status {answer.status_code}")
                kind = ""
                for line in answer.iter_lines():
                    name, _, value = line.partition(": ")
                    if name == "event":
                        kind = value
                    elif name == "data":
                        yield kind, json.loads(value)
        except httpx.HTTPError as error:
            raise Refused(f"the service does not answer: {error}") from None

    def id_of(self, id_or_name: str) -> int:
        """Return the id of a meter, by name or by id.

        Raises:
            MeterNotFound: there is none.
        """
        meters = self.meters()
        for key in ("name", "id"):
            for meter in meters:
                if str(meter[key]) == id_or_name:
                    return int(meter["id"])
        raise MeterNotFound(f"there is no meter {id_or_name}")


def running_service(settings: Settings) -> RunningService | None:
    """Return the service of these settings where it runs and its token may be read, else None.

    Raises:
        ConfigurationError: the token may not be read.
    """
    # Imported when needed, here and in other commands: half of what a command takes to start.
    from meterbridge.api import LOCAL_TOKEN

    file = settings.database.key_file.with_name(LOCAL_TOKEN)
    try:
        token = file.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigurationError(f"token file {file} cannot be read: {error.strerror}; be the service's user") from None
    client = httpx.Client(
        base_url=_address(settings.api),
        timeout=httpx.Timeout(_TIMEOUT, connect=2.0),
        verify=_trust(settings.api),
        trust_env=False,
    )
    try:
        # Without the token: another program may have the port of a service that was killed.
        answer = client.get("/healthz")
    except httpx.HTTPError:
        client.close()
        return None
    if answer.status_code not in (200, 429, 503):
        client.close()
        return None
    client.headers["Authorization"] = f"Bearer {token}"
    return RunningService(client)


def say_no_service(what: str) -> None:
    """Say on standard error that no service runs, and what is done instead."""
    typer.echo(f"meterbridge: no service runs here: {what}", err=True)


def in_database(database: DatabaseSettings, work: Callable[[MeterRepository, AsyncEngine], Awaitable[_T]]) -> _T:
    """Do something with the database, upgraded first.

    Args:
        database: which.
        work: is given the meters and the engine.

    Raises:
        StoreError: it cannot be used.
    """

    async def do() -> _T:
        engine = await open_database(database.url)
        try:
            return await work(MeterRepository(engine, open_vault(database)), engine)
        finally:
            await engine.dispose()

    return asyncio.run(do())


def _address(api: ApiSettings) -> str:
    # Listening everywhere includes this machine.
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(api.host, api.host)  # noqa: S104
    return f"{'https' if api.tls_cert else 'http'}://{host_port(host, api.port)}"


def _trust(api: ApiSettings) -> ssl.SSLContext | bool:
    """Trust the service's own certificate and no other, under whatever name it was made out."""
    if api.tls_cert is None:
        return True
    try:
        context = ssl.create_default_context(cafile=str(api.tls_cert))
    except OSError as error:
        raise ConfigurationError(f"{api.tls_cert}: {error.strerror}") from None
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return context
