"""From facts to symptoms: what does not look right, with its evidence, before anybody says why. Pure."""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from meterbridge.model import MeterId
from meterbridge.operations.checks import Level, metric_checks
from meterbridge.operations.facts import Facts, MeterFact
from meterbridge.operations.log_search import time_of
from meterbridge.settings import TargetsSettings
from meterbridge.store import Alarm, MeterSummary

_UNREACHABLE = "network_outage"
_OWN_LINK = "own_link"
# Alarms of the installation that routes, outbox and disks are looked at for anyway.
_DELIVERY = ("route_down", "route_contested", "delivery_backlog")
_READING = (
    "connection_loss",
    "circuit_breaker",
    "silence",
    "hdlc_error",
    "association_stuck",
    "authentication_failure",
    "object_failing",
    "worker_crash",
    "worker_hang",
    _UNREACHABLE,
)
"""Alarms about reading a meter: together they are one trouble. Any other is a matter of its own."""
_REFUSED = "meter_unusable"
"""Event of a meter that the service does not start; it is told of with the meter."""
_TOLD_LINES = 2


@dataclass(frozen=True, slots=True)
class Symptom:
    """Something that does not look right.

    Args:
        kind: what sort of thing: `service`, `meter`, `subnet`, `own_link`, `route`, `outbox`, `disk`, `unusable`,
            `metric`, `alarm` or `log`.
        words: what is known of it, by name: rules look at them, and sentences are filled with them.
        since: Unix milliseconds, or None.
        evidence: numbers and lines of the log.
        meter: whose, None for the installation.
        severity: of the worst alarm about it.
    """

    kind: str
    words: Mapping[str, str]
    since: int | None
    evidence: tuple[str, ...]
    meter: MeterId | None = None
    severity: str = "warning"
    meters: tuple[MeterId, ...] = field(default=())


def symptoms_of(facts: Facts, targets: TargetsSettings) -> list[Symptom]:
    """List everything that does not look right.

    Args:
        facts: of this moment.
        targets: what numbers are held against.
    """
    by_meter: dict[MeterId | None, list[Alarm]] = {}
    for alarm in facts.alarms:
        by_meter.setdefault(alarm.meter, []).append(alarm)
    found = [*_service(facts), *_own_link(by_meter.get(None, [])), *_disks(facts, targets), *_routes(facts, targets)]
    found += _outbox(facts)
    subnets = list(_subnets(facts, by_meter))
    gone = {meter for symptom in (*subnets, *found) for meter in symptom.meters}
    own_link = any(symptom.kind == _OWN_LINK for symptom in found)
    found += subnets
    told = (*_DELIVERY, "delivery_quarantined") if facts.outbox and facts.outbox.quarantined else _DELIVERY
    summaries = {row.meter: row for row in facts.metrics}
    failures: dict[object, list[Mapping[str, object]]] = {}
    for line in facts.lines:
        if line.get("event") == "meter_failed":
            failures.setdefault(line.get("meter"), []).append(line)
    refused = {line.get("meter"): str(line.get("reason", "")) for line in facts.lines if line.get("event") == _REFUSED}
    explained: set[MeterId] = set(gone)
    for meter in facts.active:
        opened = by_meter.get(meter.id, [])
        trouble = [alarm for alarm in opened if alarm.type in _READING]
        found += [_alarm(alarm, meter) for alarm in opened if alarm.type not in (*_READING, *told)]
        if facts.running and meter.run_state is None and meter.id in refused:
            explained.add(meter.id)
            found.append(_unusable(meter.id, meter.name, refused[meter.id]))
        elif own_link or meter.id in gone:
            explained.add(meter.id)
        elif meter.run_state == "paused":
            explained.add(meter.id)
            found.append(_paused(meter))
        elif trouble or meter.status == "error":
            explained.add(meter.id)
            events = Counter(facts.events.get(meter.id, {}))
            found.append(_meter(facts, meter, trouble, events, failures.get(meter.id, []), summaries.get(meter.id)))
    found += [_unusable(bad.id, bad.name, bad.problem) for bad in facts.unusable]
    found += [
        _alarm(alarm, None) for alarm in by_meter.get(None, []) if alarm.type not in (*told, _OWN_LINK, "outbox_disk")
    ]
    found += _metrics(facts, targets, explained, bool(facts.running) and _delivers(facts))
    return found + list(_log(facts))


def _service(facts: Facts) -> Iterator[Symptom]:
    if facts.running:
        return
    last = max((row.newest for row in facts.metrics), default=None)
    told = [_line(line) for line in facts.lines if line.get("level") in ("error", "critical")][-_TOLD_LINES:]
    waiting = facts.outbox.rows if facts.outbox is not None else 0
    yield Symptom(
        "service",
        {},
        last,
        (f"its API does not answer; {len(facts.active)} meters are not read, {waiting} readings wait", *told),
        severity="critical",
    )


def _own_link(alarms: Iterable[Alarm]) -> Iterator[Symptom]:
    for alarm in alarms:
        if alarm.type == _OWN_LINK:
            yield Symptom(_OWN_LINK, {}, alarm.created_at, (alarm.message,), severity="critical")


def _disks(facts: Facts, targets: TargetsSettings) -> Iterator[Symptom]:
    refused = [alarm for alarm in facts.alarms if alarm.type == "outbox_disk"]
    failing = bool(refused) or (facts.outbox is not None and facts.outbox.failing)
    for disk in facts.disks:
        full = failing and "outbox" in disk.what
        if not full and disk.free_percent >= targets.disk_free_warning:
            continue
        critical = full or disk.free_percent < targets.disk_free_critical
        free = (
            f"{disk.free_percent:.1f} % of {disk.total / 1e9:.1f} GB are free, wanted {targets.disk_free_warning:g} %"
        )
        yield Symptom(
            "disk",
            {"what": disk.what, "path": disk.path, "state": "full" if full else "filling"},
            min((alarm.created_at for alarm in refused if alarm.created_at), default=None),
            (f"{disk.path} ({disk.what}): {free}", *(alarm.message for alarm in refused if full)),
            severity="critical" if critical else "warning",
        )


def _routes(facts: Facts, targets: TargetsSettings) -> Iterator[Symptom]:
    names = {meter.id: meter.name for meter in facts.meters}
    for route in facts.routes:
        alarms = [
            alarm
            for alarm in facts.alarms
            if alarm.type in _DELIVERY and alarm.meter == route.meter and route.route in alarm.message
        ]
        types = {alarm.type for alarm in alarms}
        lines = [line for line in facts.lines if line.get("event") == "delivery" and line.get("route") == route.route]
        age = (facts.now - route.oldest_at) / 1000 if route.oldest_at is not None else 0.0
        state = ""
        if "route_contested" in types or route.contested:
            state = "contested"
        elif route.connected is False and (route.reason or "route_down" in types):
            state = "down"
        elif age > targets.backlog_warning_s or "delivery_backlog" in types:
            state = "behind" if route.connected is not None else ""
        if not state:
            continue
        evidence = [alarm.message for alarm in alarms]
        if state == "contested":
            evidence.append(f"{route.reconnects} reconnections since the service started")
        if age > 1:
            evidence.append(f"the oldest reading for it has waited {_span(round(age * 1000))}")
        if facts.outbox is not None:
            evidence.append(f"{facts.outbox.rows} messages wait in the outbox")
        first = next((time_of(line) for line in lines), None)
        since = min((alarm.created_at for alarm in alarms if alarm.created_at), default=first or route.oldest_at)
        server = ":".join(route.route.split(":")[1:3])
        told = route.reason or str(lines[-1].get("reason", "")) if lines or route.reason else ""
        yield Symptom(
            "route",
            {
                "route": route.route,
                "kind": route.route.partition(":")[0],
                "server": server,
                "host": server.rpartition(":")[0],
                "port": server.rpartition(":")[2],
                "id": str(route.meter or ""),
                "name": route.route if route.meter is None else names.get(route.meter, route.route),
                "state": state,
                "reason": told,
            },
            since,
            (*evidence, *(_line(line) for line in lines[-_TOLD_LINES:])),
            route.meter,
            "warning" if state == "behind" and age <= targets.backlog_critical_s else "critical",
        )


def _outbox(facts: Facts) -> Iterator[Symptom]:
    if facts.outbox is not None and facts.outbox.quarantined:
        alarms = [alarm for alarm in facts.alarms if alarm.type == "delivery_quarantined"]
        yield Symptom(
            "outbox",
            {"state": "quarantine", "rows": str(facts.outbox.quarantined)},
            min((alarm.created_at for alarm in alarms if alarm.created_at), default=None),
            (f"{facts.outbox.quarantined} messages lie in quarantine", *(alarm.message for alarm in alarms)),
        )


def _subnets(facts: Facts, alarms: Mapping[MeterId | None, list[Alarm]]) -> Iterator[Symptom]:
    """Subnets of at least two meters of which none can be reached, while another meter can."""
    gone = {
        meter.id: alarm
        for meter in facts.active
        for alarm in alarms.get(meter.id, [])
        if alarm.type == _UNREACHABLE and meter.last_seen is not None
    }
    subnets: dict[str, list[MeterFact]] = {}
    for meter in facts.active:
        if (subnet := _subnet(meter.host)) is not None:
            subnets.setdefault(subnet, []).append(meter)
    for subnet, meters in subnets.items():
        if len(meters) < 2 or any(meter.id not in gone for meter in meters):
            continue
        opened = [gone[meter.id] for meter in meters]
        yield Symptom(
            "subnet",
            {"subnet": subnet, "count": str(len(meters)), "host": meters[0].host, "names": _names(meters)},
            min((alarm.created_at for alarm in opened if alarm.created_at), default=None),
            (f"all {len(meters)} meters in {subnet} are unreachable: {_names(meters)}", opened[0].message),
            severity="critical",
            meters=tuple(meter.id for meter in meters),
        )


def _subnet(host: str) -> str | None:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    return str(ipaddress.ip_network((address, 24 if address.version == 4 else 64), strict=False))


def _meter(
    facts: Facts,
    meter: MeterFact,
    alarms: list[Alarm],
    events: Counter[str],
    lines: list[Mapping[str, object]],
    summary: MeterSummary | None,
) -> Symptom:
    error = str(lines[-1]["reason"]) if lines and "reason" in lines[-1] else meter.last_error or ""
    if meter.status != "error" and not lines:
        # The error of a trouble that is over.
        error = ""
    evidence = [f"{alarm.type} since {moment(alarm.created_at)}: {alarm.message}" for alarm in alarms]
    if events:
        counted = ", ".join(f"{count} × {event}" for event, count in events.most_common(5))
        evidence.append(f"within {_span(facts.now - facts.since)}: {counted}")
    if summary is not None and summary.success_rate is not None:
        evidence.append(f"{summary.success_rate:.1f} % of its polls gave a reading")
    evidence.append(f"last seen {moment(meter.last_seen)}")
    types = {alarm.type for alarm in alarms}
    return Symptom(
        "meter",
        {
            **_who(meter),
            "alarms": " ".join(sorted(types)),
            "error": " ".join([error, *(alarm.message for alarm in alarms)]),
            "last_error": error or (alarms[-1].message if alarms else ""),
            "events": " ".join(sorted(events)),
            "network": "gone" if _UNREACHABLE in types or facts.reachable.get(meter.id) is False else "fine",
            "seen": "before" if meter.last_seen is not None else "never",
        },
        min((alarm.created_at for alarm in alarms if alarm.created_at), default=meter.last_seen),
        (*evidence, *(_line(line) for line in lines[-_TOLD_LINES:])),
        meter.id,
        _worst(alarms),
    )


def _who(meter: MeterFact) -> dict[str, str]:
    return {"id": str(meter.id), "name": meter.name, "host": meter.host, "port": str(meter.port)}


def _paused(meter: MeterFact) -> Symptom:
    return Symptom("paused", _who(meter), meter.last_seen, ("a person paused it",), meter.id, "info")


def _unusable(id_: MeterId, name: str, problem: str) -> Symptom:
    return Symptom("unusable", {"id": str(id_), "name": name, "problem": problem}, None, (problem,), id_, "critical")


def _alarm(alarm: Alarm, meter: MeterFact | None) -> Symptom:
    who = _who(meter) if meter is not None else {"id": "", "name": "the installation", "host": "", "port": ""}
    since = datetime.fromtimestamp((alarm.created_at or 0) / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    words = {**who, "type": alarm.type, "message": alarm.message, "since": since}
    return Symptom("alarm", words, alarm.created_at, (alarm.message,), alarm.meter, alarm.severity)


def _metrics(facts: Facts, targets: TargetsSettings, explained: set[MeterId], delivers: bool) -> Iterator[Symptom]:
    metrics, network = {row.meter: row for row in facts.metrics}, {row.meter: row for row in facts.network}
    hours = (facts.now - facts.since) / 3_600_000
    for meter in facts.active:
        if meter.id in explained:
            continue
        rows = [metrics[meter.id]] if meter.id in metrics else []
        pings = [network[meter.id]] if meter.id in network else []
        for check in metric_checks(rows, pings, hours, targets):
            # Readings that a route keeps waiting are told of with the route.
            if check.level in (Level.OK, Level.UNKNOWN) or (check.name == "mqtt_rate" and not delivers):
                continue
            yield Symptom(
                "metric",
                {**_who(meter), "metric": check.name, "measured": check.measured, "target": check.target},
                rows[0].oldest if rows else None,
                (f"{check.name} {check.measured}, wanted {check.target}, within {_span(facts.now - facts.since)}",),
                meter.id,
                str(check.level),
            )


def _delivers(facts: Facts) -> bool:
    return all(route.connected is not False for route in facts.routes)


def _log(facts: Facts) -> Iterator[Symptom]:
    """Errors of our own: nothing a meter or a server does is logged as one."""
    last = facts.started or facts.since
    errors = [
        line for line in facts.lines if line.get("level") in ("error", "critical") and line.get("event") != _REFUSED
    ]
    recent = [line for line in errors if (time_of(line) or 0) >= last]
    by_event: dict[str, list[Mapping[str, object]]] = {}
    for line in recent:
        by_event.setdefault(str(line.get("event")), []).append(line)
    for event, lines in by_event.items():
        yield Symptom(
            "log",
            {"event": event, "reason": str(lines[-1].get("reason", ""))},
            time_of(lines[0]),
            (f"{len(lines)} × {event} within {_span(facts.now - facts.since)}", _line(lines[-1])),
            severity=str(lines[-1].get("level")) if lines[-1].get("level") == "critical" else "warning",
        )


def _worst(alarms: list[Alarm]) -> str:
    order = ("critical", "warning", "info")
    return min((alarm.severity for alarm in alarms if alarm.severity in order), key=order.index, default="warning")


def _names(meters: list[MeterFact]) -> str:
    shown = ", ".join(meter.name for meter in meters[:10])
    return shown if len(meters) <= 10 else f"{shown} and {len(meters) - 10} more"


def _line(line: Mapping[str, object]) -> str:
    rest = (f"{key}={value}" for key, value in line.items() if key not in ("timestamp", "level", "event", "exception"))
    return f"log: {str(line.get('timestamp', ''))[:19]}Z {line.get('event')} {' '.join(rest)}"[:300]


def moment(at: int | None) -> str:
    """Write a time for people, Unix milliseconds."""
    return "never" if at is None else datetime.fromtimestamp(at / 1000, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def _span(ms: int) -> str:
    seconds = ms / 1000
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
