"""Facts as tests need them: a healthy installation, and what is changed of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from meterbridge.model import MeterId
from meterbridge.operations import Facts, OutboxFact, ProbeFact, RouteFact
from meterbridge.operations.facts import DiskFact, MeterFact
from meterbridge.store import Alarm, MeterSummary, NetworkSummary

NOW = 1_790_000_000_000
SINCE = NOW - 900_000
ROUTE = "broker:192.0.2.1:1884"


def meter(number: int, **changes: Any) -> MeterFact:
    made = MeterFact(
        MeterId(number), f"m{number}", f"192.0.2.{10 + number}", 3333, "active", NOW - 500, None, "192.0.2.1:1884"
    )
    return replace(made, **{"run_state": "running", **changes})


def alarm(number: int | None, type_: str, message: str = "told", severity: str = "critical") -> Alarm:
    meter_id = None if number is None else MeterId(number)
    return Alarm(abs(hash((number, type_))) % 1_000, meter_id, type_, severity, message, NOW - 60_000, None)


def failed(number: int, reason: str, kind: str = "ResponseTimeout") -> dict[str, Any]:
    return {
        "timestamp": "2026-09-21T14:13:00.000000Z",
        "level": "warning",
        "event": "meter_failed",
        "meter": number,
        "name": f"m{number}",
        "kind": kind,
        "reason": reason,
    }


def disconnected(reason: str, route: str = ROUTE) -> dict[str, Any]:
    told = {"what": "Disconnected", "route": route, "reason": reason, "delay": 1.0, "meter": None}
    return {"timestamp": "2026-09-21T14:13:00.000000Z", "level": "warning", "event": "delivery", **told}


def summary(number: int, **values: Any) -> MeterSummary:
    """One meter over the window, on target unless told otherwise."""
    made = MeterSummary(MeterId(number), SINCE + 60_000, NOW - 1_000, 15, 100.0, 100.0, 80.0, 0, 0)
    return replace(made, **values)


def healthy(meters: int = 3) -> Facts:
    """Meters that are read, and everything on target."""
    numbers = range(1, meters + 1)
    return Facts(
        NOW,
        SINCE,
        True,
        NOW - 3_600_000,
        tuple(meter(number) for number in numbers),
        metrics=tuple(summary(n) for n in numbers),
        network=tuple(NetworkSummary(MeterId(n), 6, 6) for n in numbers),
        reachable={MeterId(n): True for n in numbers},
        routes=(RouteFact(ROUTE, None, True, "", NOW - 200),),
        outbox=OutboxFact(3, 300, 0),
        disks=(DiskFact("database, outbox, log", "/var/lib/meterbridge", 50, 100),),
        probes=(
            ProbeFact("broker", "192.0.2.1:1884", True, "answers"),
            ProbeFact("gateway", "192.0.2.1:1884", True, "2 subscriptions at the broker"),
        ),
    )
