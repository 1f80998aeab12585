"""The health report: means, sums, and what was never measured."""

from __future__ import annotations

from meterbridge.model import Meter, MeterId
from meterbridge.operations import health_of
from meterbridge.store import Alarm, MeterSummary

ONE, TWO, RESTING = (Meter(MeterId(number), f"m{number}", "192.0.2.1") for number in (1, 2, 3))


def test_means_of_what_was_measured_and_sums() -> None:
    rows = [
        MeterSummary(ONE.id, 1, 2, 2, 75.0, 50.0, 10.0, 3, 5),
        MeterSummary(MeterId(99), 2, 2, 1, 0.0, 0.0, 9.0, 9, 9),
    ]
    alarms = [
        Alarm(1, ONE.id, "silence", "critical", "m", 1, None),
        Alarm(2, None, "disk_full", "critical", "m", 1, None),
    ]
    report = health_of([ONE, TWO], rows, alarms, 0, 10)
    first, second = report.meters
    assert (first.success_rate, first.mqtt_rate, first.avg_latency) == (75.0, 50.0, 10.0)
    assert (first.reconnections, first.hdlc_errors, first.open_alarms) == (3, 5, ("silence",))
    assert (second.success_rate, second.reconnections, second.open_alarms) == (None, 0, ())
    assert (report.success_rate, report.reconnections, report.open_alarms) == (75.0, 3, 2)


def test_an_inactive_meter_is_left_out_and_nothing_measured_is_no_zero() -> None:
    resting = Meter(RESTING.id, "rest", "192.0.2.1", status="inactive")
    report = health_of([resting], [], [], 0, 10)
    assert (report.meters, report.success_rate, report.mqtt_rate) == ((), None, None)
