"""A check: something measured held against its target. Pure."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from meterbridge.settings import TargetsSettings
from meterbridge.store import MeterSummary, NetworkSummary

_SETTLED = 3


class Level(enum.StrEnum):
    """Outcome of a check; `unknown` where nothing could be measured, which is no fault."""

    OK = "ok"
    WARNING = "warning"
    CRITICAL = "critical"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Check:
    """One check.

    Args:
        name: what was checked.
        level: its outcome.
        measured: what was found, with its unit.
        target: what is wanted, with its unit.
        value: the number behind `measured`, None where there is none.
        detail: what a person should know besides, or empty.
    """

    name: str
    level: Level
    measured: str
    target: str
    value: float | None = None
    detail: str = ""


def least(name: str, value: float | None, unit: str, warning: float, critical: float, detail: str = "") -> Check:
    """Check that a number is no less than a target; None is unknown."""
    wanted = f"≥ {warning:g} {unit}"
    if value is None:
        return Check(name, Level.UNKNOWN, "nothing measured", wanted, None, detail)
    level = Level.CRITICAL if value < critical else Level.WARNING if value < warning else Level.OK
    return Check(name, level, f"{_shown(value)} {unit}", wanted, value, detail)


def most(name: str, value: float | None, unit: str, warning: float, critical: float, detail: str = "") -> Check:
    """Check that a number is no more than a target; None is unknown."""
    wanted = f"≤ {warning:g} {unit}"
    if value is None:
        return Check(name, Level.UNKNOWN, "nothing measured", wanted, None, detail)
    level = Level.CRITICAL if value > critical else Level.WARNING if value > warning else Level.OK
    return Check(name, level, f"{_shown(value)} {unit}", wanted, value, detail)


def _shown(value: float) -> str:
    return f"{value:.0f}" if value.is_integer() else f"{value:.1f}"


def metric_checks(
    rows: Sequence[MeterSummary], pings: Sequence[NetworkSummary], hours: float, targets: TargetsSettings
) -> list[Check]:
    """Hold metrics of one meter, or of many, against the targets.

    Args:
        rows: of the window, one a meter; rates are judged from the third interval on.
        pings: likewise.
        hours: that one meter's rows span; numbers per hour are per meter.
        targets: wanted values.
    """
    meters = len(rows) or 1
    # Right after a start what is under way is missing in the rates.
    settled = [row for row in rows if row.intervals >= _SETTLED]
    sent = sum(row.sent for row in pings)
    lost = 100.0 * (sent - sum(row.received for row in pings)) / sent if sent else None
    reconnections = sum(row.reconnections for row in rows) / meters / hours if rows and hours > 0 else None
    errors = sum(row.hdlc_errors for row in rows) / meters / hours if rows and hours > 0 else None
    per_hour = "an hour and meter"
    return [
        least(
            "success_rate",
            mean(row.success_rate for row in settled),
            "%",
            targets.success_rate_warning,
            targets.success_rate_critical,
        ),
        least(
            "mqtt_rate",
            mean(row.mqtt_rate for row in settled),
            "%",
            targets.mqtt_rate_warning,
            targets.mqtt_rate_critical,
        ),
        most(
            "latency",
            mean(row.avg_latency for row in rows),
            "ms",
            targets.latency_warning_ms,
            targets.latency_critical_ms,
        ),
        most("ping_loss", lost, "%", targets.loss_warning, targets.loss_critical),
        most("reconnections", reconnections, per_hour, targets.reconnections_warning, targets.reconnections_critical),
        most("hdlc_errors", errors, per_hour, targets.hdlc_errors_warning, targets.hdlc_errors_critical),
    ]


def mean(values: Iterable[float | None]) -> float | None:
    """Return the mean of what is known, None for nothing."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
