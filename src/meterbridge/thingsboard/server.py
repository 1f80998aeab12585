"""What kind of ThingsBoard a server is: its version, and what follows from it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from meterbridge.errors import ThingsBoardRefused
from meterbridge.thingsboard.alarm_rules import Source
from meterbridge.thingsboard.rest import ThingsBoardRest

OLDEST = (4, 0)
"""Before it the dashboard's map does not exist."""
_RULES_APART = (4, 3)
_ADMIN = "TENANT_ADMIN"


@dataclass(frozen=True, slots=True)
class Server:
    """What was found out from a server.

    Args:
        version: as it says, `unknown` where it does not.
        rules_apart: whether alarm rules are entities of their own; else they are in the device profile.
        activity: where it keeps a device's `active`.
    """

    version: str
    rules_apart: bool
    activity: Source


async def look_at(rest: ThingsBoardRest) -> Server:
    """Find out what a server is, and that we may administer a tenant.

    Raises:
        ThingsBoardRefused: no ThingsBoard, too old, or not with this account.
        ThingsBoardUnreachable: as `ThingsBoardRest.ask`.
    """
    user = await rest.get("/api/auth/user")
    authority = str(user.get("authority", _ADMIN)) if isinstance(user, dict) else _ADMIN
    if authority != _ADMIN:
        raise ThingsBoardRefused(f"this account is a {authority}; a tenant administrator ({_ADMIN}) is needed")
    info = await rest.get("/api/system/info")
    version = str(info.get("version", "unknown")) if isinstance(info, dict) else "unknown"
    numbers = _numbers(version)
    if numbers is not None and numbers < OLDEST:
        oldest = ".".join(map(str, OLDEST))
        raise ThingsBoardRefused(f"ThingsBoard {version} at {rest.server} is too old: {oldest} or newer is needed")
    apart = numbers >= _RULES_APART if numbers is not None else await _has_rules(rest)
    params = await rest.get("/api/system/params")
    kept = isinstance(params, dict) and params.get("persistDeviceStateToTelemetry") is True
    return Server(version, apart, Source.TELEMETRY if kept else Source.SERVER_ATTRIBUTE)


def _numbers(version: str) -> tuple[int, int] | None:
    found = re.match(r"(\d+)\.(\d+)", version)
    return None if found is None else (int(found[1]), int(found[2]))


async def _has_rules(rest: ThingsBoardRest) -> bool:
    """Ask for alarm rules: an older server takes the path for an alarm's id and refuses it."""
    try:
        page: Any = await rest.get("/api/alarm/rules", pageSize=1, page=0)
    except ThingsBoardRefused as refusal:
        if refusal.status in (400, 405):
            return False
        raise
    return isinstance(page, dict) and "data" in page
