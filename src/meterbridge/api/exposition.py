"""What Prometheus scrapes, read from the counters the service keeps anyway."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from meterbridge.delivery import OutboxStats, PublisherStats
from meterbridge.fleet import OpenAlarm, RunState, WorkerStatus
from meterbridge.model import MeterId
from meterbridge.service import Service

CONTENT_TYPE = CONTENT_TYPE_LATEST


async def exposition(service: Service) -> str:
    """Write the metrics of this moment."""
    moment = _Moment(
        service.statuses(),
        list(service.desk.open.items()),
        service.outbox_stats(),
        service.route_stats(),
        service.not_heard,
    )
    # In a thread: thousands of lines would hold up polls.
    return await asyncio.to_thread(_written, moment)


@dataclass(frozen=True, slots=True)
class _Moment:
    """What is looked at on the loop; the counters in it go on counting."""

    statuses: list[WorkerStatus]
    alarms: list[tuple[tuple[MeterId | None, str], OpenAlarm]]
    outbox: OutboxStats
    routes: list[PublisherStats]
    not_heard: int


def _written(moment: _Moment) -> str:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(list(_metrics(moment))))
    return generate_latest(registry).decode()


class _Collector:
    def __init__(self, metrics: list[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        return self._metrics


def _metrics(moment: _Moment) -> Iterator[Metric]:
    up = GaugeMetricFamily("meterbridge_meter_running", "1 while a meter is polled.", labels=["meter", "name"])
    counters = {
        name: CounterMetricFamily(f"meterbridge_meter_{name}", text, labels=["meter", "name"])
        for name, text in (
            ("due", "Polls that were due."),
            ("successes", "Polls that gave a reading."),
            ("failures", "Polls that gave none."),
            ("skipped", "Polls left out because the one before was under way."),
            ("reconnections", "Associations opened again."),
            ("link_errors", "Damaged frames and noise on the line."),
        )
    }
    latency = CounterMetricFamily("meterbridge_meter_answer_seconds", "Time of all answers.", labels=["meter", "name"])
    for status in moment.statuses:
        labels = [str(status.meter.id), status.meter.name]
        up.add_metric(labels, float(status.state is RunState.RUNNING))
        for name, family in counters.items():
            family.add_metric(labels, getattr(status.counters, name))
        latency.add_metric(labels, status.counters.latency_total)
    yield from (up, *counters.values(), latency)
    alarms = GaugeMetricFamily("meterbridge_alarms_open", "Alarms that are open.", labels=["type", "severity"])
    open_alarms: dict[tuple[str, str], int] = {}
    for (_, type_), alarm in moment.alarms:
        key = (str(type_), str(alarm.severity))
        open_alarms[key] = open_alarms.get(key, 0) + 1
    for (type_, severity), number in open_alarms.items():
        alarms.add_metric([type_, severity], number)
    yield alarms
    yield CounterMetricFamily(
        "meterbridge_messages_not_heard",
        "Messages of servers that were too large, or came too fast to be looked at.",
        moment.not_heard,
    )
    outbox = moment.outbox
    yield GaugeMetricFamily("meterbridge_outbox_rows", "Messages waiting on disk.", outbox.rows)
    yield GaugeMetricFamily("meterbridge_outbox_octets", "Their payload, octets.", outbox.octets)
    yield GaugeMetricFamily("meterbridge_outbox_quarantined", "Messages put aside.", outbox.quarantined)
    yield GaugeMetricFamily("meterbridge_outbox_failing", "1 while the disk refuses messages.", float(outbox.failing))
    dropped = CounterMetricFamily(
        "meterbridge_outbox_dropped", "Messages given up since the outbox was begun.", labels=["meter"]
    )
    for meter, loss in outbox.losses.items():
        dropped.add_metric([str(meter)], loss.rows)
    yield dropped
    yield from _routes(moment.routes, time.time())


_ROUTE_COUNTERS = {
    "published": "Messages sent, those sent again included.",
    "acknowledged": "Messages with PUBACK.",
    "refused": "PUBACKs that said no.",
    "quarantined": "Messages put aside because the server does not take them.",
    "resent": "Messages sent again after a connection was lost.",
    "reconnects": "Connections after the first.",
}


def _routes(routes: Iterable[PublisherStats], now: float) -> Iterator[Metric]:
    counters = {
        name: CounterMetricFamily(f"meterbridge_route_{name}", text, labels=["route"])
        for name, text in _ROUTE_COUNTERS.items()
    }
    gauges = {
        name: GaugeMetricFamily(f"meterbridge_route_{name}", text, labels=["route"])
        for name, text in (
            ("connected", "1 while the server answers."),
            ("unacknowledged", "MQTT messages on their way, without PUBACK."),
            ("oldest_seconds", "Age of the oldest message waiting on disk, 0 where none waits."),
            ("contested", "How often in a row another client seems to have taken the connection away."),
        )
    }
    for route in routes:
        for name, family in counters.items():
            family.add_metric([route.route], getattr(route, name))
        gauges["connected"].add_metric([route.route], float(route.connected))
        gauges["unacknowledged"].add_metric([route.route], route.unacknowledged)
        age = 0.0 if route.oldest_at is None else max(0.0, now - route.oldest_at / 1000)
        gauges["oldest_seconds"].add_metric([route.route], round(age, 3))
        gauges["contested"].add_metric([route.route], route.contested)
    yield from (*gauges.values(), *counters.values())
