"""AlarmMirror, through Outgoing and Destinations to an outbox that only remembers."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from meterbridge.delivery import RouteSettings
from meterbridge.errors import ConfigurationError
from meterbridge.model import INSTALLATION, Meter, MeterId
from meterbridge.service.counters import ServiceCounters
from meterbridge.service.destinations import Destinations
from meterbridge.service.mirror import AlarmMirror
from meterbridge.service.outgoing import Outgoing
from meterbridge.store import Raise, Resolve, Severity

NOW = 1_762_857_000_000
SERVICE = "Meterbridge service"
GATEWAY = RouteSettings("GW", gateway_at=("tb.example", 1883), other_types={SERVICE: "meterbridge-service"})


class Remembering:
    """In the place of outbox and publisher."""

    def __init__(self) -> None:
        self.rows: list[tuple[MeterId, str, str, int, dict[str, Any]]] = []

    def put(self, meter: MeterId, route: str, device: str, ts: int, payload: bytes, kind: object) -> None:
        self.rows.append((meter, route, device, ts, json.loads(payload)))

    def add(self, route: object) -> None:
        """Serve a route."""

    def remove(self, route: str) -> None:
        """Serve it no more."""

    def dismiss(self, route: str, device: str) -> None:
        """Say that a device has gone."""


class Bench:
    def __init__(self, service_name: str = SERVICE, settings: RouteSettings = GATEWAY) -> None:
        self.kept = Remembering()
        self.destinations = Destinations()
        self.destinations.use(settings)
        self.destinations.publisher = self.kept  # type: ignore[assignment]
        self.outgoing = Outgoing(self.destinations, ServiceCounters(), service_name)
        self.outgoing.outbox = self.kept  # type: ignore[assignment]
        self.mirror = AlarmMirror(self.outgoing, lambda: self.destinations.common, lambda: NOW)
        self.destinations.listener = lambda _meter: self.mirror.delivering()

    def told(self) -> list[tuple[str, int, str]]:
        """Route, number of alarms and worst severity of what was put for the installation."""
        return [
            (route, values["bridge_alarms"], values["bridge_alarm_severity"])
            for meter, route, device, _, values in self.kept.rows
            if meter == INSTALLATION and device == SERVICE
        ]


def meter(number: int, host: str = "tb.example", port: int = 1883, token: str | None = None) -> Meter:
    return Meter(MeterId(number), f"m{number}", "192.0.2.1", tb_host=host, tb_port=port, tb_token=token)


def raised(type_: str, severity: Severity = Severity.CRITICAL, owner: MeterId | None = None) -> Raise:
    return Raise(owner, type_, severity, f"{type_} happened", NOW)


def test_what_belongs_to_no_meter_is_told_when_there_is_a_way_and_when_it_changes() -> None:
    bench = Bench()
    bench.mirror.changed(raised("outbox_disk"))
    assert bench.told() == []
    bench.destinations.add(meter(1))
    bench.destinations.add(meter(2))
    way = "gateway:tb.example:1883"
    assert bench.told() == [(way, 1, "critical")]
    bench.mirror.changed(raised("route_down", Severity.WARNING))
    bench.mirror.changed(Resolve(None, "outbox_disk", NOW))
    bench.mirror.changed(Resolve(None, "route_down", NOW))
    assert bench.told()[1:] == [(way, 2, "critical"), (way, 1, "warning"), (way, 0, "none")]
    assert "energy_backwards" not in bench.kept.rows[-1][-1]
    assert bench.kept.rows[-2][-1]["bridge_alarm"] == "route_down: route_down happened"


def test_what_an_earlier_run_left_open_is_told_and_that_nothing_is_open_too() -> None:
    bench = Bench()
    bench.destinations.add(meter(1))
    assert bench.told() == [("gateway:tb.example:1883", 0, "none")]


def test_alarms_of_meters_do_not_mix_with_those_of_the_installation() -> None:
    bench = Bench()
    bench.destinations.add(meter(1))
    bench.mirror.changed(raised("silence", owner=MeterId(1)))
    assert [(row[0], row[-1]["bridge_alarms"]) for row in bench.kept.rows] == [(INSTALLATION, 0), (MeterId(1), 1)]


def test_the_way_is_one_that_meters_share_and_changes_with_them() -> None:
    bench = Bench()
    bench.destinations.add(meter(1, token="T1"))
    assert not bench.told()
    bench.destinations.add(meter(2, "127.0.0.1", 1884))
    bench.destinations.add(meter(3))
    assert [route for route, *_ in bench.told()] == ["broker:127.0.0.1:1884", "gateway:tb.example:1883"]
    bench.destinations.add(replace(meter(3), tb_host="127.0.0.1", tb_port=1884))
    assert bench.destinations.common == "broker:127.0.0.1:1884"
    for number in (2, 3):
        bench.destinations.leave(MeterId(number), None)
    bench.mirror.changed(raised("database_failing"))
    assert len(bench.told()) == 3


def test_without_a_name_nothing_is_told() -> None:
    bench = Bench(service_name="")
    bench.destinations.add(meter(1))
    bench.mirror.changed(raised("outbox_disk"))
    assert bench.kept.rows == []


def test_no_meter_takes_the_name() -> None:
    bench = Bench()
    with pytest.raises(ConfigurationError, match="'m1' would be device 'Meterbridge service', which is Meterbridge's"):
        bench.destinations.add(replace(meter(1), tb_device_name=SERVICE))
