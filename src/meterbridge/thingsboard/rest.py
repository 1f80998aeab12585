"""ThingsBoard's REST API: one request at a time with login, refresh, retries, and errors a person understands."""

from __future__ import annotations

import asyncio
import json
import random
import ssl
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from pathlib import Path
from time import time
from typing import Any, Self
from urllib.parse import urlsplit

import httpx

from meterbridge.errors import ConfigurationError, ThingsBoardRefused, ThingsBoardUnreachable

Sleep = Callable[[float], Awaitable[None]]
_LOGIN, _REFRESH = "/api/auth/login", "/api/auth/token"
_BUSY = 429
_LONGEST_WORD = 200
_MOST_OCTETS = 67_108_864
_KEPT_HEADERS = ("Retry-After", "Location")


@dataclass(frozen=True, slots=True)
class Credentials:
    """As whom: a user name and its password, or an API key. Secrets are never shown by repr."""

    username: str | None = None
    password: str | None = field(default=None, repr=False)
    api_key: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a server that is busy or away is waited for.

    Args:
        attempts: requests at most for one answer.
        first_s: wait before the second attempt; it doubles from one to the next.
        longest_s: longest wait, also where the server asks for more.
        answer_s: longest wait for an answer.
    """

    attempts: int = 5
    first_s: float = 0.5
    longest_s: float = 30.0
    answer_s: float = 30.0


class ThingsBoardRest:
    """A session with one server; use as an async context manager.

    Args:
        server: base URL, as `server_url` gives it.
        credentials: as whom.
        patience: with a server that is busy or away.
        tls_ca: PEM file of authorities to trust besides none other; None for the system's.
        sleep: waits, seconds.
    """

    def __init__(
        self,
        server: str,
        credentials: Credentials,
        patience: Patience | None = None,
        tls_ca: Path | None = None,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self.server = server
        self._credentials = credentials
        self._patience = patience or Patience()
        self._sleep = sleep
        self._bearer: str | None = None
        self._refresh: str | None = None
        self._renewing = asyncio.Lock()
        self._http = httpx.AsyncClient(
            base_url=server,
            timeout=self._patience.answer_s,
            # To read the system's authorities costs more than a request: only where they are needed.
            verify=_trust(tls_ca) if server.startswith("https:") else False,
            follow_redirects=False,
        )

    async def __aenter__(self) -> Self:
        await self._http.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    async def get(self, path: str, **query: object) -> Any:
        """Return what stands at a path, as parsed JSON; None where nothing does (404).

        Raises:
            ThingsBoardUnreachable, ThingsBoardRefused: as `ask`.
        """
        return await self.ask("GET", path, query=query, missing_ok=True)

    async def ask(
        self,
        method: str,
        path: str,
        body: object = None,
        query: Mapping[str, object] | None = None,
        *,
        missing_ok: bool = False,
        once: bool = False,
    ) -> Any:
        """Make a request and return its answer as parsed JSON, None for an answer without content.

        A busy server (429) is asked again after the time it names; one that fails (5xx) or is away, after a growing
        wait. An expired login is renewed.

        Args:
            method: of HTTP.
            path: below the server's URL.
            body: sent as JSON.
            query: parameters; None is left out.
            missing_ok: answer None where there is no such thing (404).
            once: nobody knows whether a request without an answer was carried out, and this one must not be carried
                out twice: do not repeat it then.

        Raises:
            ThingsBoardUnreachable: no answer, after all attempts.
            ThingsBoardRefused: login, permission, or the server's own reason.
        """
        renewed = False
        for attempt in range(1, self._patience.attempts + 1):
            last = attempt == self._patience.attempts
            bearer = await self._logged_in(path)
            try:
                answer = await self._exchange(
                    method,
                    path,
                    json=body,
                    params={name: _text(value) for name, value in (query or {}).items() if value is not None},
                    headers=self._authority(bearer),
                )
            except httpx.HTTPError as error:
                if last or once or _is_about_tls(error):
                    raise self._away(error) from None
                await self.pause(attempt)
                continue
            if answer.status_code == 401 and not renewed and self._credentials.api_key is None:
                renewed = True
                await self._renew(bearer)
                continue
            if (answer.status_code == _BUSY or (answer.status_code >= 500 and not once)) and not last:
                await self.pause(attempt, answer.headers.get("Retry-After"))
                continue
            return self._judge(method, path, answer, missing_ok)
        raise ThingsBoardUnreachable(f"ThingsBoard at {self.server} does not answer")

    async def _exchange(self, method: str, path: str, **more: Any) -> httpx.Response:
        """Make one request; its answer's size and time are bounded, for nobody knows who answers."""
        content = bytearray()
        try:
            async with (
                asyncio.timeout(self._patience.answer_s),
                self._http.stream(method, path, **more) as answer,
            ):
                async for part in answer.aiter_bytes():
                    content += part
                    if len(content) > _MOST_OCTETS:
                        raise ThingsBoardRefused(f"{self.server} is no ThingsBoard: its answer to {path} has no end")
        except TimeoutError:
            raise httpx.ReadTimeout("no answer in time") from None
        kept = {name: answer.headers[name] for name in _KEPT_HEADERS if name in answer.headers}
        return httpx.Response(answer.status_code, headers=kept, content=bytes(content))

    def _authority(self, bearer: str | None) -> dict[str, str]:
        if self._credentials.api_key is not None:
            return {"X-Authorization": f"ApiKey {self._credentials.api_key}"}
        return {"X-Authorization": f"Bearer {bearer}"} if bearer is not None else {}

    async def _logged_in(self, path: str) -> str | None:
        if self._bearer is None and self._credentials.api_key is None and path not in (_LOGIN, _REFRESH):
            await self._renew(None)
        return self._bearer

    async def _renew(self, stale: str | None) -> None:
        """Get a token in the place of a stale one, by the refresh token, else by logging in."""
        async with self._renewing:
            if self._bearer != stale:
                # Another request of ours was first.
                return
            if self._refresh is not None:
                refresh, self._refresh = self._refresh, None
                answer = await self._post(_REFRESH, {"refreshToken": refresh})
                if answer.is_success:
                    self._keep(answer)
                    return
            user = self._credentials.username
            answer = await self._post(_LOGIN, {"username": user, "password": self._credentials.password})
            if answer.status_code in (400, 401):
                raise ThingsBoardRefused(
                    f"ThingsBoard at {self.server} does not let {user} in: {_reason(answer)}", answer.status_code
                )
            self._judge("POST", _LOGIN, answer, False)
            self._keep(answer)

    async def _post(self, path: str, body: object) -> httpx.Response:
        for attempt in range(1, self._patience.attempts + 1):
            last = attempt == self._patience.attempts
            try:
                answer = await self._exchange("POST", path, json=body)
            except httpx.HTTPError as error:
                if last or _is_about_tls(error):
                    raise self._away(error) from None
                await self.pause(attempt)
                continue
            if last or (answer.status_code != _BUSY and answer.status_code < 500):
                return answer
            await self.pause(attempt, answer.headers.get("Retry-After"))
        raise ThingsBoardUnreachable(f"ThingsBoard at {self.server} does not answer")

    def _keep(self, answer: httpx.Response) -> None:
        try:
            content = answer.json()
            token, refresh, scope = str(content["token"]), content.get("refreshToken"), content.get("scope")
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise ThingsBoardRefused(f"{self.server} is no ThingsBoard: it gives no token for a login") from None
        if scope == "PRE_VERIFICATION_TOKEN":
            raise ThingsBoardRefused(
                f"ThingsBoard at {self.server} asks {self._credentials.username} for a second factor; take an API key"
            )
        if not (token.isascii() and token.isprintable()):
            raise ThingsBoardRefused(f"{self.server} is no ThingsBoard: it gives no token for a login")
        self._bearer, self._refresh = token, refresh

    def _judge(self, method: str, path: str, answer: httpx.Response, missing_ok: bool) -> Any:
        status = answer.status_code
        if answer.is_success:
            if not answer.content:
                return None
            try:
                return answer.json()
            except (ValueError, RecursionError):
                raise ThingsBoardRefused(f"{self.server} is no ThingsBoard: {path} is not answered in JSON") from None
        if status == 404 and missing_ok:
            return None
        if 300 <= status < 400:
            where = _line(answer.headers.get("Location", "another address"))
            raise ThingsBoardRefused(f"{self.server} sends us to {where}: log in there", status)
        reason = _reason(answer)
        if status == 401:
            who = "the API key" if self._credentials.api_key is not None else self._credentials.username
            raise ThingsBoardRefused(f"ThingsBoard at {self.server} does not know {who} any more: {reason}", status)
        if status == 403:
            raise ThingsBoardRefused(
                f"no permission for {method} {path}: {reason}; a tenant administrator is needed", status
            )
        if status == _BUSY:
            raise ThingsBoardUnreachable(f"ThingsBoard at {self.server} is busy: {reason}")
        if status >= 500:
            raise ThingsBoardUnreachable(f"ThingsBoard at {self.server} fails at {method} {path}: {reason}")
        raise ThingsBoardRefused(f"ThingsBoard refuses {method} {path}: {reason}", status)

    def _away(self, error: httpx.HTTPError) -> ThingsBoardUnreachable:
        return ThingsBoardUnreachable(f"ThingsBoard at {self.server} does not answer: {_why(error)}")

    async def pause(self, attempt: int, asked: str | None = None) -> None:
        """Wait before another attempt: as long as the server asks for, else longer from one to the next."""
        wait = _seconds(asked)
        if wait is None:
            # Clients that were turned away together must not come back together.
            wait = self._patience.first_s * 2 ** (attempt - 1) * random.uniform(0.75, 1.25)
        await self._sleep(min(wait, self._patience.longest_s))


def server_url(text: str) -> str:
    """Return the base URL a person means: `http://HOST[:PORT][/PATH]` or https, without a slash at its end.

    Raises:
        ConfigurationError: it is no such URL, or holds a user name or password.
    """
    url = text.strip()
    url = (url if "://" in url else f"http://{url}").rstrip("/")
    try:
        parts = urlsplit(url)
        port = parts.port
        httpx.URL(url)
    except (ValueError, httpx.InvalidURL):
        raise ConfigurationError("the server must be http://HOST[:PORT] or https://HOST[:PORT]") from None
    if "@" in parts.netloc:
        raise ConfigurationError("the server's URL must hold no user name or password")
    bad = parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment or port == 0
    if bad or any(char.isspace() for char in url):
        raise ConfigurationError("the server must be http://HOST[:PORT] or https://HOST[:PORT]")
    return url


def _trust(tls_ca: Path | None) -> ssl.SSLContext | bool:
    if tls_ca is None:
        return True
    try:
        return ssl.create_default_context(cafile=str(tls_ca))
    except OSError as error:
        raise ConfigurationError(f"{tls_ca}: {error.strerror or 'no certificate'}") from None


def _text(value: object) -> str:
    return {True: "true", False: "false"}[value] if isinstance(value, bool) else str(value)


def _seconds(asked: str | None) -> float | None:
    """Read Retry-After: seconds, or a date."""
    if asked is None:
        return None
    if asked.strip().isdigit():
        return float(asked)
    try:
        return max(0.0, parsedate_to_datetime(asked).timestamp() - time())
    except ValueError:
        return None


def _reason(answer: httpx.Response) -> str:
    """Return what the server says about an error, in one short line."""
    try:
        content = json.loads(answer.content)
        said = str(content["message"])
    except (ValueError, KeyError, TypeError, RecursionError):
        said = ""
    return _line(said) or f"status {answer.status_code}"


def _line(said: str) -> str:
    """One short line of what a server says, without what would steer a terminal."""
    return "".join(char for char in " ".join(said.split()) if char.isprintable())[:_LONGEST_WORD]


def _is_about_tls(error: BaseException) -> bool:
    """Whether a connection failed over TLS: a certificate that is not trusted, or a port that speaks none."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLError):
            return True
        cause = cause.__cause__ or cause.__context__
    return False


def _why(error: httpx.HTTPError) -> str:
    if isinstance(error, httpx.TimeoutException):
        return "no answer in time"
    if _is_about_tls(error) and "WRONG_VERSION_NUMBER" in str(error):
        return "it speaks no TLS there; http:// or another port may be meant"
    return _line(str(error)) or type(error).__name__
