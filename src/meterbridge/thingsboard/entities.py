"""ThingsBoard's entities, found, made and changed: each step looks first, so that it may be repeated."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from meterbridge.errors import ThingsBoardRefused, ThingsBoardUnreachable
from meterbridge.thingsboard.rest import ThingsBoardRest

_PAGE = 100
_ATTEMPTS = 4
_NOT_OURS = ("version", "createdTime")
_NO_ID = "00000000-0000-0000-0000-000000000000"


@dataclass(frozen=True, slots=True)
class Change:
    """What became, or would become, of one thing.

    Args:
        thing: `device profile`, `device`, `dashboard` …
        name: which.
        action: `create`, `update`, `delete`, `keep` (nothing to do) or `leave` (not ours to change).
        why: for people, where the action alone does not say it.
    """

    thing: str
    name: str
    action: str
    why: str = ""


class Entities:
    """Makes changes, or in a dry run only tells of them.

    Args:
        rest: a session of a tenant administrator.
        report: told of each thing that was looked at.
        dry_run: change nothing; ids of what does not exist yet are all zeroes.
    """

    def __init__(self, rest: ThingsBoardRest, report: Callable[[Change], None], dry_run: bool = False) -> None:
        self.rest = rest
        self.dry_run = dry_run
        self._report = report

    def note(self, thing: str, name: str, action: str, why: str = "") -> None:
        """Tell of one thing."""
        self._report(Change(thing, name, action, why))

    async def create(
        self,
        thing: str,
        name: str,
        find: Callable[[], Awaitable[dict[str, Any] | None]],
        path: str,
        body: Mapping[str, Any],
        query: Mapping[str, object] | None = None,
    ) -> dict[str, Any]:
        """Make what was not found. A cut connection does not tell whether it was made: then it is looked for again.

        Returns:
            The entity, with its id.
        """
        if self.dry_run:
            self.note(thing, name, "create")
            return {**body, "id": {"id": _NO_ID}}
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                made = await self.rest.ask("POST", path, dict(body), query, once=True)
                break
            except ThingsBoardUnreachable:
                made = await find()
                if made is not None:
                    break
                if attempt == _ATTEMPTS:
                    raise
                await self.rest.pause(attempt)
        id_of(made)
        self.note(thing, name, "create")
        return dict(made)

    async def update(
        self, thing: str, name: str, path: str, body: Mapping[str, Any], query: Mapping[str, object] | None = None
    ) -> None:
        """Replace something by its new form; doing so twice is doing it once."""
        if not self.dry_run:
            # Without its version the newest is meant: a repeated request must not collide with itself.
            content = {key: value for key, value in body.items() if key not in _NOT_OURS}
            await self.rest.ask("POST", path, content, query)
        self.note(thing, name, "update")

    async def delete(
        self, thing: str, name: str, path: str, query: Mapping[str, object] | None = None, why: str = ""
    ) -> None:
        """Delete something; that it is gone already is no error."""
        if not self.dry_run:
            await self.rest.ask("DELETE", path, query=query, missing_ok=True)
        self.note(thing, name, "delete", why)

    async def all(self, path: str, **query: object) -> list[dict[str, Any]]:
        """Return all pages of a listing; nothing where there is no such listing."""
        found: list[dict[str, Any]] = []
        page = 0
        while True:
            content = await self.rest.get(path, pageSize=_PAGE, page=page, **query)
            if not isinstance(content, dict):
                return found
            found += content.get("data") or []
            if not content.get("hasNext"):
                return found
            page += 1

    async def device(self, name: str) -> dict[str, Any] | None:
        """Find a device by its name."""
        found = await self.rest.get("/api/tenant/devices", deviceName=name)
        return dict(found) if isinstance(found, dict) else None

    async def token_of(self, device: dict[str, Any]) -> str:
        """Return a device's access token.

        Raises:
            ThingsBoardRefused: it has credentials of another kind.
        """
        found = await self.rest.get(f"/api/device/{id_of(device)}/credentials")
        kind, token = (found or {}).get("credentialsType"), (found or {}).get("credentialsId")
        if kind != "ACCESS_TOKEN" or not isinstance(token, str) or not token:
            raise ThingsBoardRefused(
                f"device {device.get('name')!r} has credentials of type {kind}; Meterbridge needs an access token"
            )
        return token


def id_of(entity: Mapping[str, Any]) -> str:
    """Return an entity's id.

    Raises:
        ThingsBoardRefused: it has none, so it is no entity.
    """
    try:
        return str(entity["id"]["id"])
    except (KeyError, TypeError):
        raise ThingsBoardRefused("the server answers with something that is no entity of ThingsBoard") from None


def exists(entity: Mapping[str, Any]) -> bool:
    """Whether an entity is more than a dry run's stand-in."""
    return id_of(entity) != _NO_ID


def covers(there: object, wanted: object) -> bool:
    """Whether what is there says all that is wanted; servers add defaults of their own."""
    if isinstance(wanted, Mapping):
        if not isinstance(there, Mapping):
            return False
        return all(covers(there.get(key), value) for key, value in wanted.items())
    if isinstance(wanted, list):
        if not isinstance(there, list) or len(there) != len(wanted):
            return False
        return all(covers(a, b) for a, b in zip(there, wanted, strict=True))
    if isinstance(wanted, bool) or isinstance(there, bool):
        return there is wanted
    return there == wanted
