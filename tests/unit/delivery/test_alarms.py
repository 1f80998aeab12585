"""Alarms of delivery open with what happened and resolve when it is over. Time is an argument."""

from __future__ import annotations

from pathlib import Path

from meterbridge.delivery import (
    Connected,
    DeliveryAlarms,
    Disconnected,
    Dropped,
    Loss,
    OutboxStats,
    PublisherStats,
    Quarantined,
    SetAside,
    StorageFailed,
    StorageRecovered,
    Stranded,
)
from meterbridge.model import MeterId
from meterbridge.store import Severity

ONE = MeterId(1)


class Desk:
    def __init__(self) -> None:
        self.open: dict[tuple[MeterId | None, str], tuple[Severity, str]] = {}

    def raise_alarm(self, meter: MeterId | None, type_: str, severity: Severity, message: str) -> None:
        self.open[meter, type_] = (severity, message)

    def resolve(self, meter: MeterId | None, type_: str) -> None:
        self.open.pop((meter, type_), None)


def outbox(quarantined: int = 0) -> OutboxStats:
    return OutboxStats(0, 0, 0, 0, quarantined, {}, False)


def route(oldest_at: int | None, contested: int = 0, name: str = "broker:h:1") -> PublisherStats:
    return PublisherStats(name, None, True, "", 0, 0, 0, 0, 0, 0, 0, oldest_at, contested)


def test_a_bound_says_how_many_and_since_when_and_ends_with_the_losses() -> None:
    desk = Desk()
    alarms = DeliveryAlarms(desk, 60, 900)
    alarms.happened(Dropped(ONE, 3, 1_762_857_000_000, "rows"), 1000.0)
    alarms.happened(Dropped(ONE, 4, 1_762_857_001_000, "rows"), 1001.0)
    severity, message = desk.open[ONE, "outbox_bound"]
    assert severity is Severity.CRITICAL
    assert message.startswith("7 readings since 2025-11-11 10:30:00 UTC")
    alarms.look(outbox(), [], 1200.0)
    assert desk.open
    alarms.look(outbox(), [], 1400.0)
    assert not desk.open


def test_a_disk_a_damaged_file_and_a_quarantine(tmp_path: Path) -> None:
    desk = Desk()
    alarms = DeliveryAlarms(desk, 60, 900)
    aside = tmp_path / "outbox.db.corrupt-1"
    aside.touch()
    alarms.happened(StorageFailed("disk full"), 0.0)
    alarms.happened(SetAside(str(aside), "malformed"), 0.0)
    alarms.happened(Quarantined(ONE, "m1", 1, "refused"), 0.0)
    alarms.look(outbox(quarantined=1), [], 10.0)
    assert {type_ for _, type_ in desk.open} == {"outbox_disk", "outbox_corrupt", "delivery_quarantined"}
    alarms.happened(StorageRecovered(), 11.0)
    aside.unlink()
    alarms.look(outbox(), [], 12.0)
    assert not desk.open


def test_a_route_that_is_down_for_long_and_a_backlog() -> None:
    desk = Desk()
    alarms = DeliveryAlarms(desk, 60, 900)
    alarms.happened(Disconnected("broker:h:1", "refused", 1.0), 0.0)
    alarms.happened(Disconnected("device:h:1:1", "refused", 1.0, ONE), 50.0)
    own = route(None, name="device:h:1:1")
    alarms.look(outbox(), [route(None), own], 59.0)
    assert not desk.open
    alarms.happened(Disconnected("broker:h:1", "no route", 1.0), 60.0)
    alarms.look(outbox(), [route(0), own], 1000.0)
    assert set(desk.open) == {(None, "route_down"), (ONE, "route_down"), (None, "delivery_backlog")}
    assert "no route" in desk.open[None, "route_down"][1]
    alarms.happened(Connected("broker:h:1"), 1001.0)
    alarms.look(outbox(), [route(1_000_000), own], 1001.0)
    assert set(desk.open) == {(ONE, "route_down")}
    # Its meter goes by another route now, or has gone: nobody misses this one.
    alarms.look(outbox(), [route(None)], 1002.0)
    assert not desk.open


def test_rows_that_nobody_sends_are_an_alarm_until_they_are_sent_or_gone() -> None:
    desk = Desk()
    alarms = DeliveryAlarms(desk, 60, 900)
    alarms.happened(Stranded(3, ("device:h:1:1", "device:h:1:2")), 0.0)
    assert desk.open[None, "outbox_stranded"] == (
        Severity.WARNING,
        "3 messages wait for device:h:1:1, device:h:1:2, which no meter delivers to any more.",
    )
    alarms.look(outbox(), [], 1.0)
    assert desk.open
    alarms.happened(Stranded(0, ()), 2.0)
    alarms.look(outbox(), [], 3.0)
    assert not desk.open


def test_what_an_earlier_run_left_open_ends() -> None:
    desk = Desk()
    for key in ((None, "route_down"), (None, "outbox_disk"), (ONE, "delivery_quarantined"), (ONE, "outbox_bound")):
        desk.open[key] = (Severity.WARNING, "")
    alarms = DeliveryAlarms(desk, 60, 900)
    alarms.adopt(list(desk.open), 0.0)
    alarms.look(outbox(), [], 1.0)
    assert set(desk.open) == {(ONE, "outbox_bound")}
    alarms.look(outbox(), [], 400.0)
    assert not desk.open


def test_a_route_that_another_client_takes_away() -> None:
    desk = Desk()
    alarms = DeliveryAlarms(desk, 60, 900)
    alarms.look(outbox(), [route(None, contested=6)], 1.0)
    severity, message = desk.open[None, "route_contested"]
    assert severity is Severity.CRITICAL
    assert "broker:h:1 was closed 6 times" in message
    assert "another client" in message
    alarms.look(outbox(), [route(None)], 2.0)
    assert not desk.open


def test_what_was_given_up_is_counted_on_over_a_restart_and_a_pause() -> None:
    desk = Desk()
    desk.open[ONE, "outbox_bound"] = (Severity.CRITICAL, "")
    alarms = DeliveryAlarms(desk, 60, 900)
    alarms.adopt(list(desk.open), 1000.0, {ONE: Loss(12, 1_762_857_000_000, 900_000)})
    alarms.happened(Dropped(ONE, 3, 1_762_857_900_000, "age"), 1001.0)
    assert desk.open[ONE, "outbox_bound"][1].startswith("15 readings since 2025-11-11 10:30:00 UTC")
    # As a pause of the meter does.
    desk.resolve(ONE, "outbox_bound")
    alarms.look(outbox(), [], 1002.0)
    assert desk.open[ONE, "outbox_bound"][1].startswith("15 readings")


def test_the_alarm_of_a_damaged_file_outlives_a_restart_until_all_are_moved_away(tmp_path: Path) -> None:
    desk = Desk()
    desk.open[None, "outbox_corrupt"] = (Severity.CRITICAL, "")
    asides = [tmp_path / f"outbox.db.corrupt-{number}" for number in (1, 2)]
    for aside in asides:
        aside.touch()
    alarms = DeliveryAlarms(desk, 60, 900)
    alarms.adopt(list(desk.open), 0.0, aside=asides)
    asides[1].unlink()
    alarms.look(outbox(), [], 1.0)
    assert desk.open
    asides[0].unlink()
    alarms.look(outbox(), [], 2.0)
    assert not desk.open
    desk.open[None, "outbox_corrupt"] = (Severity.CRITICAL, "")
    DeliveryAlarms(desk, 60, 900).adopt(list(desk.open), 0.0)
    assert not desk.open
