"""The SYSTEM STATUS REPORT: what it says, and the table people read. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from meterbridge.model import MeterId
from meterbridge.store import MeterMetrics

_WORST = 10


@dataclass(frozen=True, slots=True)
class MeterLine:
    """What the report tells of one meter.

    Args:
        name: for people.
        link: where its poller stands, in words.
        network: verdict of the network monitor.
        troubles: open alarms' types.
        metrics: its interval.
    """

    name: str
    link: str
    network: str
    troubles: tuple[str, ...]
    metrics: MeterMetrics


@dataclass(frozen=True, slots=True)
class StatusReport:
    """The fleet over one interval.

    Args:
        at: end of the interval, Unix milliseconds.
        seconds: its length.
        meters: configured and active.
        running: meters with a worker at work.
        paused: meters paused by a person.
        cycles: polls that were due.
        polls: polls made.
        readings: polls that gave a reading.
        skipped: polls left out because the one before was still under way.
        success_rate: readings in percent of cycles; None when none was due.
        mqtt_queued: readings put into the outbox.
        mqtt_acknowledged: readings acknowledged by MQTT.
        latency_ms: mean time of an answer; None without one.
        lateness_p50_ms: how late polls began, median; None without one.
        lateness_p99_ms: 99th percentile of the same.
        reconnections: associations opened again.
        hdlc_errors: damaged frames.
        restarts: workers that crashed or hung since the start.
        open_alarms: by type.
        network: meters by verdict of the network monitor.
        cpu_percent: of one core, of the whole process.
        memory_mb: resident memory of the process, 10**6 octets.
        worst: the meters with the lowest success rate below 100 %, at most ten.
    """

    at: int
    seconds: float
    meters: int
    running: int
    paused: int
    cycles: int
    polls: int
    readings: int
    skipped: int
    success_rate: float | None
    mqtt_queued: int
    mqtt_acknowledged: int
    latency_ms: float | None
    lateness_p50_ms: float | None
    lateness_p99_ms: float | None
    reconnections: int
    hdlc_errors: int
    restarts: int
    open_alarms: dict[str, int]
    network: dict[str, int]
    cpu_percent: float
    memory_mb: float
    worst: tuple[MeterLine, ...]


def worst_of(lines: Iterable[MeterLine]) -> tuple[MeterLine, ...]:
    """Return the meters with the lowest success rate below 100 %, at most ten."""
    bad = [line for line in lines if line.metrics.success_rate is not None and line.metrics.success_rate < 100.0]
    return tuple(sorted(bad, key=lambda line: (line.metrics.success_rate or 0.0, line.name))[:_WORST])


def alarm_counts(open_alarms: Iterable[tuple[MeterId | None, str]]) -> dict[str, int]:
    """Count open alarms by type."""
    return dict(sorted(Counter(type_ for _, type_ in open_alarms).items()))


def render(report: StatusReport) -> str:
    """Write a report as text of about 100 columns."""
    rows = [
        ("meters", f"{report.running} running, {report.paused} paused, {report.meters} in all"),
        (
            "cycles",
            f"{report.cycles} due, {report.readings} readings, success {_percent(report.success_rate)}, "
            f"{report.skipped} skipped",
        ),
        (
            "time",
            f"answer {_ms(report.latency_ms)} mean, lateness {_ms(report.lateness_p50_ms)} median, "
            f"{_ms(report.lateness_p99_ms)} p99",
        ),
        ("MQTT", f"{report.mqtt_queued} queued, {report.mqtt_acknowledged} acknowledged"),
        (
            "links",
            f"{report.reconnections} reconnections, {report.hdlc_errors} HDLC errors, {report.restarts} restarts",
        ),
        ("network", _counts(report.network)),
        ("alarms", _counts(report.open_alarms)),
        ("process", f"CPU {report.cpu_percent:.1f} % of one core, {report.memory_mb:.0f} MB"),
    ]
    text = [f"SYSTEM STATUS REPORT, the last {report.seconds:.0f} s"]
    text += [f"  {name:<8} {what}" for name, what in rows]
    if report.worst:
        text.append(f"  {'meter':<20} {'success':>8} {'errors':>6} {'reconn.':>7}  state, network, alarms")
    for line in report.worst:
        metrics = line.metrics
        what = ", ".join((line.link, line.network, *line.troubles))
        text.append(
            f"  {line.name[:20]:<20} {_percent(metrics.success_rate):>8} {metrics.hdlc_errors:>6} "
            f"{metrics.reconnections:>7}  {what}"
        )
    return "\n".join(text) + "\n"


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f} %"


def _ms(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f} ms"


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{number} {name}" for name, number in counts.items()) or "none"
