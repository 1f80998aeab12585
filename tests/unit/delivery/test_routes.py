"""Routes: topics, and names that a topic cannot hold."""

from __future__ import annotations

import pytest

from meterbridge.delivery import BrokerRoute, Endpoint, Message, Row, Unsendable, check_device_name
from meterbridge.errors import ConfigurationError
from meterbridge.model import MeterId


def row(device: str, kind: str = "telemetry", number: int = 1) -> Row:
    return Row(number, MeterId(1), "broker:h:1884", kind, device, 1, b"{}", 0)


def test_a_broker_topic_holds_the_devices_name() -> None:
    route = BrokerRoute(Endpoint("h", 1884, "c"))
    rows = [row("Main meter é"), row("b", "attributes", 2)]
    assert route.name == "broker:h:1884"
    assert route.pack(rows) == [
        Message("v1/devices/Main meter é/telemetry", b"{}", (rows[0],)),
        Message("v1/devices/b/attributes", b"{}", (rows[1],)),
    ]


@pytest.mark.parametrize("name", ["", "a/b", "a+", "#", "a\x00", "a\nb", "\x7f", "\ud800", "x" * 70_000])
def test_a_name_no_topic_level_can_hold_is_refused_and_stops_no_other_row(name: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        check_device_name(name)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 200
    bad, good = BrokerRoute(Endpoint("h", 1884, "c")).pack([row(name), row("ok")])
    assert isinstance(bad, Unsendable)
    assert isinstance(good, Message)


def test_no_secret_shows() -> None:
    shown = repr(Endpoint("h", 1, "c", username="TOKEN", password="SECRET"))
    assert "TOKEN" not in shown
    assert "SECRET" not in shown
