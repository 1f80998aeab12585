"""Packing loses no reading, keeps order and stays within the bound."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from meterbridge.delivery import DeviceRoute, Endpoint, GatewayRoute, Kind, Message, Row, Unsendable
from meterbridge.delivery.packing import by_device, in_a_row, merged
from meterbridge.model import MeterId

DEVICES = st.sampled_from(["a", 'quote"', "é", "long" * 20])


def rows(points: list[tuple[str, int]], payload: str = '{"ts":%d,"values":{"x":1}}') -> list[Row]:
    return [
        Row(number, MeterId(1), "r", "telemetry", device, ts, (payload % ts).encode(), 0)
        for number, (device, ts) in enumerate(points)
    ]


@given(st.lists(st.tuples(DEVICES, st.integers(0, 10**12)), max_size=60), st.integers(60, 700))
def test_readings_of_many_devices(points: list[tuple[str, int]], bound: int) -> None:
    sent = rows(points)
    got: dict[str, list[int]] = {}
    messages = by_device("t", sent, {}, bound)
    for message in messages:
        assert len(message.payload) <= bound or len(message.rows) == 1
        content = json.loads(message.payload)
        assert sum(map(len, content.values())) == len(message.rows)
        for device, items in content.items():
            got.setdefault(device, []).extend(item["ts"] for item in items)
    assert [row for message in messages for row in message.rows] == sent
    assert got == {d: [ts for device, ts in points if device == d] for d, _ in points}


@given(st.lists(st.tuples(DEVICES, st.integers(0, 99)), max_size=30), st.integers(60, 300))
def test_attributes_of_many_devices(points: list[tuple[str, int]], bound: int) -> None:
    sent = rows(points, '{"a":%d}')
    messages = merged("t", sent, {}, bound)
    assert [row for message in messages for row in message.rows] == sent
    last: dict[str, int] = {}
    for message in messages:
        assert len(message.payload) <= bound + 10 or len(message.rows) == 1
        content = json.loads(message.payload)
        assert len(content) == len(message.rows)
        last.update({device: value["a"] for device, value in content.items()})
    assert last == dict(points)


@given(st.lists(st.integers(0, 10**12), max_size=60), st.integers(60, 700))
def test_readings_of_one_device(times: list[int], bound: int) -> None:
    sent = rows([("a", ts) for ts in times])
    messages = in_a_row("t", sent, bound)
    got: list[int] = []
    for message in messages:
        assert len(message.payload) <= bound or len(message.rows) == 1
        content = json.loads(message.payload)
        got += [item["ts"] for item in (content if isinstance(content, list) else [content])]
        assert isinstance(content, dict) == (len(message.rows) == 1)
    assert got == times


def test_what_thingsboard_never_takes_is_not_sent() -> None:
    big = Row(1, MeterId(1), "r", Kind.TELEMETRY, "a", 1, b"x" * 70_000, 0)
    good = Row(2, MeterId(1), "r", Kind.TELEMETRY, "a", 1, b'{"ts":1,"values":{}}', 0)
    for route in (GatewayRoute(Endpoint("h", 1, "c"), "p"), DeviceRoute(Endpoint("h", 1, "c"), MeterId(1))):
        bad, sent = route.pack([big, good])
        assert isinstance(bad, Unsendable)
        assert isinstance(sent, Message)
        assert sent.rows == (good,)
