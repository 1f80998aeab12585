"""FleetMonitor: every interval the SYSTEM STATUS REPORT and the rows that keep it; in between, an eye on workers."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from meterbridge.errors import StoreError
from meterbridge.fleet.alarms import AlarmDesk
from meterbridge.fleet.bridge import MultiMeterBridge, RunState, WorkerStatus
from meterbridge.fleet.histogram import Histogram
from meterbridge.fleet.network import NetworkMonitor, Verdict
from meterbridge.fleet.report import MeterLine, StatusReport, alarm_counts, worst_of
from meterbridge.model import Meter, MeterId
from meterbridge.store import Diagnostic, MeterMetrics, NetworkMetrics

_SUPERVISE_EVERY = 5.0
_PRUNE_EVERY = 3600.0
# Meters counted before the loop may go on: a few milliseconds' worth.
_AT_ONCE = 100


class MetricsStore(Protocol):
    """Where intervals are kept: the store's MetricsRepository."""

    async def record(
        self, metrics: Sequence[MeterMetrics], network: Sequence[NetworkMetrics], diagnostics: Sequence[Diagnostic]
    ) -> None:
        """Write one interval in one transaction."""

    async def prune(self, before: int) -> int:
        """Delete what is older."""


class Ageing(Protocol):
    """What else grows old with the metrics: the store's AlarmRepository."""

    async def prune(self, before: int) -> int:
        """Delete what was over before a time, Unix milliseconds."""


@dataclass(frozen=True, slots=True)
class ProcessUse:
    """What the process has used: CPU seconds since its start, resident memory in octets."""

    cpu: float
    memory: int


@dataclass(slots=True)
class DeliveryTally:
    """Readings put into the outbox and readings acknowledged, by meter, since the start."""

    queued: Counter[MeterId] = field(default_factory=Counter)
    acknowledged: Counter[MeterId] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class MonitorLimits:
    """How the monitor works.

    Args:
        interval: seconds between reports.
        retention: seconds that rows are kept, and alarms once they are resolved.
        hang_after: seconds a poll of a meter may take.
    """

    interval: float
    retention: float
    hang_after: Callable[[Meter], float]


@dataclass(frozen=True, slots=True)
class _Seen:
    """Counters of one meter at the end of the last interval."""

    due: int = 0
    polls: int = 0
    successes: int = 0
    skipped: int = 0
    reconnections: int = 0
    latency_total: float = 0.0
    link_errors: int = 0
    events: Mapping[str, int] = field(default_factory=dict)
    queued: int = 0
    acknowledged: int = 0


_NEVER = _Seen()


@dataclass(frozen=True, slots=True)
class Interval:
    """What one interval came to: the report and its rows."""

    report: StatusReport
    metrics: list[MeterMetrics]
    network: list[NetworkMetrics]
    diagnostics: list[Diagnostic]


class FleetMonitor:
    """Makes reports; the differences to the last one are kept here, so there is one of it.

    Args:
        bridge: whose meters.
        desk: whose alarms.
        store: takes the rows.
        alarms: loses what was resolved as long ago as rows are kept.
        network: whose pings, or None.
        lateness: of all polls; emptied at each report.
        tally: what was delivered.
        use: what the process has used.
        limits: how often, how long.
        wall: Unix time, seconds.
        monotonic: seconds.
        listener: takes each report; must return at once.
        failed: takes what went wrong in writing.
    """

    def __init__(
        self,
        bridge: MultiMeterBridge,
        desk: AlarmDesk,
        store: MetricsStore,
        alarms: Ageing,
        network: NetworkMonitor | None,
        lateness: Histogram,
        tally: DeliveryTally,
        use: Callable[[], ProcessUse],
        limits: MonitorLimits,
        wall: Callable[[], float],
        monotonic: Callable[[], float],
        listener: Callable[[StatusReport], None],
        failed: Callable[[StoreError], None],
    ) -> None:
        self._bridge = bridge
        self._desk = desk
        self._store = store
        self._alarms = alarms
        self._network = network
        self._lateness = lateness
        self._tally = tally
        self._use = use
        self._limits = limits
        self._wall = wall
        self._monotonic = monotonic
        self._listener = listener
        self._failed = failed
        self._seen: dict[MeterId, _Seen] = {}
        self._since = monotonic()
        self._used = use()
        self._restarts: set[asyncio.Task[None]] = set()
        self.last: StatusReport | None = None

    async def run(self) -> None:
        """Report for ever; a database that cannot be written is told of and tried again with the next interval."""
        report_at = self._monotonic() + self._limits.interval
        prune_at = self._monotonic()
        while True:
            await asyncio.sleep(max(0.0, min(_SUPERVISE_EVERY, report_at - self._monotonic())))
            # Kept until they end, or the loop might forget them in the middle.
            self._restarts.update(self._bridge.supervise(self._limits.hang_after))
            self._restarts = {task for task in self._restarts if not task.done()}
            now = self._monotonic()
            if now < report_at:
                continue
            report_at = max(report_at + self._limits.interval, now)
            try:
                await self.report()
                if now >= prune_at:
                    prune_at = now + _PRUNE_EVERY
                    before = round((self._wall() - self._limits.retention) * 1000)
                    await self._store.prune(before)
                    await self._alarms.prune(before)
            except StoreError as error:
                self._failed(error)

    async def report(self) -> StatusReport:
        """Make a report over the time since the last one, hand it on and write its rows.

        Raises:
            StoreError: the rows could not be written; the report was handed on all the same.
        """
        interval = await self.measure()
        self.last = interval.report
        self._listener(interval.report)
        await self._store.record(interval.metrics, interval.network, interval.diagnostics)
        return interval.report

    async def measure(self) -> Interval:
        """End the interval: count what happened since the last one, without holding up the polls meanwhile."""
        at = round(self._wall() * 1000)
        now = self._monotonic()
        seconds, self._since = now - self._since, now
        statuses = self._bridge.statuses()
        verdicts = self._network.verdicts if self._network is not None else {}
        metrics: list[MeterMetrics] = []
        diagnostics: list[Diagnostic] = []
        lines: list[MeterLine] = []
        total: Counter[str] = Counter()
        latency = 0.0
        seen: dict[MeterId, _Seen] = {}
        for number, status in enumerate(statuses, 1):
            if number % _AT_ONCE == 0:
                await asyncio.sleep(0)
            meter = status.meter.id
            before, after = self._seen.get(meter, _NEVER), self._look(status)
            seen[meter] = after
            row = _metrics(meter, at, before, after)
            metrics.append(row)
            diagnostics += _diagnostics(meter, at, before, after, status)
            lines.append(
                MeterLine(status.meter.name, status.link, verdicts.get(meter, Verdict.UNKNOWN), status.troubles, row)
            )
            for name in ("due", "polls", "successes", "skipped", "queued", "acknowledged"):
                total[name] += getattr(after, name) - getattr(before, name)
            total["reconnections"] += row.reconnections
            total["hdlc_errors"] += row.hdlc_errors
            latency += after.latency_total - before.latency_total
        self._seen = seen
        use, used = self._use(), self._used
        self._used = use
        report = StatusReport(
            at=at,
            seconds=seconds,
            meters=len(statuses),
            running=sum(status.state is RunState.RUNNING for status in statuses),
            paused=sum(status.state is RunState.PAUSED for status in statuses),
            cycles=total["due"],
            polls=total["polls"],
            readings=total["successes"],
            skipped=total["skipped"],
            success_rate=_rate(total["successes"], total["due"]),
            mqtt_queued=total["queued"],
            mqtt_acknowledged=total["acknowledged"],
            latency_ms=_mean_ms(latency, total["successes"]),
            lateness_p50_ms=_milliseconds(self._lateness.quantile(0.5)),
            lateness_p99_ms=_milliseconds(self._lateness.quantile(0.99)),
            reconnections=total["reconnections"],
            hdlc_errors=total["hdlc_errors"],
            restarts=sum(status.crashes for status in statuses),
            open_alarms=alarm_counts(self._desk.open),
            network={str(verdict): number for verdict, number in sorted(Counter(verdicts.values()).items())},
            cpu_percent=100.0 * (use.cpu - used.cpu) / seconds if seconds > 0 else 0.0,
            memory_mb=use.memory / 1e6,
            worst=worst_of(lines),
        )
        self._lateness.clear()
        network = self._network.metrics(at) if self._network is not None else []
        return Interval(report, metrics, network, diagnostics)

    def _look(self, status: WorkerStatus) -> _Seen:
        counters, meter = status.counters, status.meter.id
        return _Seen(
            counters.due,
            counters.polls,
            counters.successes,
            counters.skipped,
            counters.reconnections,
            counters.latency_total,
            counters.link_errors,
            dict(counters.events),
            self._tally.queued[meter],
            self._tally.acknowledged[meter],
        )


def _metrics(meter: MeterId, at: int, before: _Seen, after: _Seen) -> MeterMetrics:
    successes = after.successes - before.successes
    return MeterMetrics(
        at,
        meter,
        _rate(successes, after.due - before.due),
        _rate(after.acknowledged - before.acknowledged, after.queued - before.queued),
        _mean_ms(after.latency_total - before.latency_total, successes),
        after.reconnections - before.reconnections,
        after.link_errors - before.link_errors,
    )


def _diagnostics(meter: MeterId, at: int, before: _Seen, after: _Seen, status: WorkerStatus) -> list[Diagnostic]:
    return [
        Diagnostic(at, meter, event, count - before.events.get(event, 0), status.counters.details.get(event))
        for event, count in after.events.items()
        if count > before.events.get(event, 0)
    ]


def _rate(part: int, whole: int) -> float | None:
    # What ends an interval may belong to the one before: never more than all.
    return None if whole <= 0 else min(100.0, 100.0 * part / whole)


def _mean_ms(total: float, number: int) -> float | None:
    return None if number <= 0 else 1000.0 * total / number


def _milliseconds(seconds: float | None) -> float | None:
    return None if seconds is None else 1000.0 * seconds
