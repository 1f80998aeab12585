"""The QoS report: service, meters, broker, gateway, ThingsBoard and metrics, each against its target. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from meterbridge.operations.checks import Check, Level, least, metric_checks, most
from meterbridge.operations.facts import Facts
from meterbridge.settings import TargetsSettings

_ROLES = ("broker", "gateway", "ThingsBoard")
_SEVERITY = (Level.OK, Level.UNKNOWN, Level.WARNING, Level.CRITICAL)


@dataclass(frozen=True, slots=True)
class Quality:
    """All checks, and the worst of them (`unknown` counts as `ok`); `at` in Unix milliseconds."""

    at: int
    level: Level
    running: bool
    checks: tuple[Check, ...]


def quality_of(facts: Facts, targets: TargetsSettings) -> Quality:
    """Check an installation.

    Args:
        facts: of this moment, probes among them.
        targets: wanted values.
    """
    checks = (
        _service(facts),
        _reachable(facts, targets),
        *_servers(facts),
        *_metrics(facts, targets),
        _backlog(facts, targets),
        _quarantine(facts),
        _alarms(facts),
        *_disks(facts, targets),
    )
    worst = max((check.level for check in checks), key=_SEVERITY.index)
    return Quality(facts.now, Level.OK if worst is Level.UNKNOWN else worst, facts.running, checks)


def _service(facts: Facts) -> Check:
    if not facts.running:
        return Check("service", Level.CRITICAL, "not running", "running", detail="its API does not answer")
    up = (facts.now - facts.started) / 1000 if facts.started is not None else None
    return Check("service", Level.OK, "running" if up is None else f"running for {up:.0f} s", "running", up)


def _reachable(facts: Facts, targets: TargetsSettings) -> Check:
    known = {meter.name: facts.reachable.get(meter.id) for meter in facts.active}
    told = {name: state for name, state in known.items() if state is not None}
    missing = [name for name, state in told.items() if not state]
    share = 100.0 * (len(told) - len(missing)) / len(told) if told else None
    detail = f"{len(told) - len(missing)} of {len(known)} meters answer"
    if missing:
        detail += f"; not: {', '.join(missing[:10])}{' …' if len(missing) > 10 else ''}"
    return least("meters_reachable", share, "%", targets.reachable_warning, targets.reachable_critical, detail)


def _servers(facts: Facts) -> Iterable[Check]:
    for role in _ROLES:
        probes = [probe for probe in facts.probes if probe.role == role]
        name = role.lower()
        if not probes:
            yield Check(name, Level.UNKNOWN, "not used", "answers")
        for probe in probes:
            level = Level.UNKNOWN if probe.ok is None else Level.OK if probe.ok else Level.CRITICAL
            yield Check(name, level, probe.told, "answers", detail=probe.where)


def _metrics(facts: Facts, targets: TargetsSettings) -> list[Check]:
    active = {meter.id for meter in facts.active}
    rows = [row for row in facts.metrics if row.meter in active]
    pings = [row for row in facts.network if row.meter in active]
    return metric_checks(rows, pings, (facts.now - facts.since) / 3_600_000, targets)


def _backlog(facts: Facts, targets: TargetsSettings) -> Check:
    oldest = min((route.oldest_at for route in facts.routes if route.oldest_at is not None), default=None)
    age = 0.0 if oldest is None else max(0.0, (facts.now - oldest) / 1000)
    rows = facts.outbox.rows if facts.outbox is not None else 0
    detail = f"{rows} messages wait"
    return most("backlog", age, "s", targets.backlog_warning_s, targets.backlog_critical_s, detail)


def _quarantine(facts: Facts) -> Check:
    rows = facts.outbox.quarantined if facts.outbox is not None else 0
    return most("quarantine", float(rows), "messages", 0, float("inf"))


def _alarms(facts: Facts) -> Check:
    critical = sum(alarm.severity == "critical" for alarm in facts.alarms)
    warning = sum(alarm.severity == "warning" for alarm in facts.alarms)
    level = Level.CRITICAL if critical else Level.WARNING if warning else Level.OK
    return Check("alarms", level, f"{critical} critical, {warning} warning", "none open", float(critical + warning))


def _disks(facts: Facts, targets: TargetsSettings) -> list[Check]:
    return [
        least(
            "disk_free",
            disk.free_percent,
            "%",
            targets.disk_free_warning,
            targets.disk_free_critical,
            f"{disk.path} ({disk.what}), {disk.free / 1e9:.1f} GB",
        )
        for disk in facts.disks
    ]
