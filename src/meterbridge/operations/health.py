"""The health report: how each meter did over a window, from the rows the monitor wrote. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from meterbridge.model import Meter, MeterId
from meterbridge.operations.checks import mean
from meterbridge.store import Alarm, MeterSummary


@dataclass(frozen=True, slots=True)
class MeterHealth:
    """One meter over the window.

    Args:
        meter: whose.
        name: for people.
        success_rate: mean of the intervals', percent; None where nothing was measured.
        mqtt_rate: likewise, readings acknowledged by MQTT.
        avg_latency: likewise, milliseconds.
        reconnections: in all.
        hdlc_errors: in all.
        open_alarms: types of what is open now, sorted.
    """

    meter: MeterId
    name: str
    success_rate: float | None
    mqtt_rate: float | None
    avg_latency: float | None
    reconnections: int
    hdlc_errors: int
    open_alarms: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Health:
    """The fleet over the window.

    Args:
        since: its beginning, Unix milliseconds.
        until: its end.
        meters: each active meter, in the order of their ids.
        success_rate: mean over meters that were measured, percent, or None.
        mqtt_rate: likewise.
        avg_latency: likewise, milliseconds.
        reconnections: in all.
        hdlc_errors: in all.
        open_alarms: how many are open now, those without a meter included.
    """

    since: int
    until: int
    meters: tuple[MeterHealth, ...]
    success_rate: float | None
    mqtt_rate: float | None
    avg_latency: float | None
    reconnections: int
    hdlc_errors: int
    open_alarms: int


def health_of(
    meters: Iterable[Meter], summaries: Sequence[MeterSummary], open_alarms: Sequence[Alarm], since: int, until: int
) -> Health:
    """Sum up a window.

    Args:
        meters: configured; inactive ones are left out.
        summaries: of the window.
        open_alarms: open now.
        since: beginning of the window, Unix milliseconds.
        until: its end.
    """
    rows = {row.meter: row for row in summaries}
    types: dict[MeterId | None, set[str]] = {}
    for alarm in open_alarms:
        types.setdefault(alarm.meter, set()).add(alarm.type)
    lines = tuple(
        _line(meter, rows.get(meter.id), types.get(meter.id, set())) for meter in meters if meter.status != "inactive"
    )
    return Health(
        since,
        until,
        lines,
        mean([line.success_rate for line in lines]),
        mean([line.mqtt_rate for line in lines]),
        mean([line.avg_latency for line in lines]),
        sum(line.reconnections for line in lines),
        sum(line.hdlc_errors for line in lines),
        len(open_alarms),
    )


def _line(meter: Meter, row: MeterSummary | None, types: set[str]) -> MeterHealth:
    return MeterHealth(
        meter.id,
        meter.name,
        row.success_rate if row else None,
        row.mqtt_rate if row else None,
        row.avg_latency if row else None,
        row.reconnections if row else 0,
        row.hdlc_errors if row else 0,
        tuple(sorted(types)),
    )
