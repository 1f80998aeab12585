from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence

import pytest

from meterbridge.errors import StoreError
from meterbridge.fleet import (
    AlarmDesk,
    DeliveryTally,
    FleetMonitor,
    Histogram,
    MonitorLimits,
    MultiMeterBridge,
    ProcessUse,
    StatusReport,
    render,
)
from meterbridge.meter import Backoff, BackoffSettings
from meterbridge.model import MeterId
from meterbridge.store import Diagnostic, MeterMetrics, NetworkMetrics, Severity
from tests.unit.fleet.fakes import FakeSource, Makers, meter

M1, M2 = MeterId(1), MeterId(2)


class Store:
    def __init__(self) -> None:
        self.metrics: list[MeterMetrics] = []
        self.diagnostics: list[Diagnostic] = []
        self.calls = 0
        self.pruned: list[int] = []
        self.away = False

    async def record(
        self, metrics: Sequence[MeterMetrics], network: Sequence[NetworkMetrics], diagnostics: Sequence[Diagnostic]
    ) -> None:
        self.calls += 1
        if self.away:
            raise StoreError("disk full")
        self.metrics, self.diagnostics = list(metrics), list(diagnostics)

    async def prune(self, before: int) -> int:
        self.pruned.append(before)
        return 0


class Resolved:
    def __init__(self) -> None:
        self.pruned: list[int] = []

    async def prune(self, before: int) -> int:
        self.pruned.append(before)
        return 0


class Desk:
    def __init__(self, interval: float = 60.0) -> None:
        self.resolved = Resolved()
        self.store, self.tally, self.lateness = Store(), DeliveryTally(), Histogram()
        self.now = 0.0
        self.reports: list[StatusReport] = []
        self.alarms = AlarmDesk(lambda: 0.0)
        # A period nobody lives to see: the test moves the counters.
        self.bridge = MultiMeterBridge(
            FakeSource(meter(1), meter(2)),
            Makers(1e6),
            lambda: Backoff(BackoffSettings(), random.Random(1)),
            self.alarms,
            lambda: self.now,
        )
        self.monitor = FleetMonitor(
            self.bridge, self.alarms, self.store, self.resolved, None, self.lateness, self.tally,
            lambda: ProcessUse(self.now * 0.25, 50_000_000),
            MonitorLimits(interval, 1e6, lambda meter: 300.0),
            lambda: 1_700_000_000.0 + self.now, lambda: self.now, self.reports.append, lambda error: None,
        )  # fmt: skip


async def test_metrics_and_resolved_alarms_go_when_they_are_as_old_as_rows_are_kept() -> None:
    desk = Desk(interval=0.0)
    running = asyncio.create_task(desk.monitor.run())
    async with asyncio.timeout(10):
        while not desk.resolved.pruned:
            await asyncio.sleep(0)
        # Once an hour, not with every report.
        while desk.store.calls < 3:
            await asyncio.sleep(0)
        assert desk.store.pruned == desk.resolved.pruned == [1_699_000_000_000]
        desk.now = 3600.0
        while len(desk.resolved.pruned) < 2:
            await asyncio.sleep(0)
        assert desk.store.pruned == desk.resolved.pruned == [1_699_000_000_000, 1_699_003_600_000]
    running.cancel()


async def test_the_report_and_a_row_per_meter_over_the_interval_alone() -> None:
    desk = Desk()
    await desk.bridge.start()
    await asyncio.sleep(0)
    workers = desk.bridge.workers
    await desk.monitor.report()
    one, two = workers[M1].counters, workers[M2].counters
    one.due += 60
    one.polls += 60
    one.successes += 60
    one.latency_total += 3.0
    two.due += 60
    two.polls += 40
    two.successes += 30
    two.skipped += 10
    two.reconnections += 2
    two.link_errors += 5
    two.note("link_error", "wrong FCS")
    desk.tally.queued.update({M1: 60, M2: 30})
    desk.tally.acknowledged.update({M1: 61, M2: 15})
    desk.alarms.raise_alarm(M2, "hdlc_error", Severity.WARNING, "noise")
    for late in (0.001, 0.002, 0.2):
        desk.lateness.observe(late)
    desk.now = 60.0
    report = await desk.monitor.report()
    assert desk.store.metrics == [
        MeterMetrics(report.at, M1, 100.0, 100.0, 50.0, 0, 0),
        MeterMetrics(report.at, M2, 50.0, 50.0, 0.0, 2, 5),
    ]
    assert desk.store.diagnostics == [Diagnostic(report.at, M2, "link_error", 1, "wrong FCS")]
    assert (report.cycles, report.polls, report.readings, report.skipped) == (120, 100, 90, 10)
    assert (report.success_rate, report.mqtt_queued, report.mqtt_acknowledged) == (75.0, 90, 76)
    assert (report.cpu_percent, report.memory_mb, report.seconds) == (25.0, 50.0, 60.0)
    assert report.lateness_p99_ms == pytest.approx(200.0)
    assert report.open_alarms == {"hdlc_error": 1}
    assert [line.name for line in report.worst] == ["m2"]
    text = render(report)
    assert text.startswith("SYSTEM STATUS REPORT")
    assert "success 75.0 %" in text
    assert "hdlc_error" in text
    assert max(len(line) for line in text.splitlines()) <= 110
    desk.now = 120.0
    await desk.monitor.report()
    assert [row.success_rate for row in desk.store.metrics] == [None, None], "nothing was due"
    assert desk.store.diagnostics == []
    assert len(desk.reports) == 3
    await desk.bridge.stop()


async def test_a_report_is_handed_on_even_when_it_cannot_be_stored() -> None:
    desk = Desk()
    desk.store.away = True
    with pytest.raises(StoreError):
        await desk.monitor.report()
    assert desk.reports == [desk.monitor.last]
