"""What ThingsBoard asks, as octets, and what is made of it."""

from __future__ import annotations

import datetime as dt
import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meterbridge.errors import CommandRefused
from meterbridge.thingsboard import rpc, shared

GATEWAY = "v1/gateway/rpc"
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=10,
)
TOPICS = (
    GATEWAY,
    "v1/gateway/attributes",
    "v1/gateway/attributes/response",
    "v1/devices/me/rpc/request/1",
    "v1/devices/me/attributes",
    "v1/devices/me/attributes/response/1",
    "v1/devices/m 0/rpc/request/1",
    "v1/devices/m 0/attributes/shared/pollInterval",
    "v1/devices",
    "",
)


def call(method: str, params: object = None) -> rpc.Call:
    return rpc.Call("m0", 1, method, params, GATEWAY, wrapped=True)


def test_the_three_ways_a_request_comes_and_where_its_answer_goes() -> None:
    body = b'{"method": "setRelay", "params": {"on": true}}'
    params = {"on": True}
    assert rpc.understood("v1/devices/me/rpc/request/12", body) == rpc.Call(
        None, "12", "setRelay", params, "v1/devices/me/rpc/response/12"
    )
    assert rpc.understood("v1/devices/Main m/rpc/request/12", body) == rpc.Call(
        "Main m", "12", "setRelay", params, "v1/devices/Main m/rpc/response/12"
    )
    over_gateway = rpc.understood(GATEWAY, b'{"device": "m0", "data": {"id": 7, "method": "pause", "params": {}}}')
    assert isinstance(over_gateway, rpc.Call)
    assert (over_gateway.device, over_gateway.id, over_gateway.method) == ("m0", 7, "pause")
    topic, payload = rpc.answer(over_gateway, {"state": "paused"})
    assert (topic, json.loads(payload)) == (GATEWAY, {"device": "m0", "id": 7, "data": {"state": "paused"}})


@pytest.mark.parametrize(
    ("method", "params", "command"),
    [
        ("readNow", None, rpc.ReadNow()),
        ("readNow", {}, rpc.ReadNow()),
        ("readNow", "", rpc.ReadNow()),
        ("readNow", "${params}", rpc.ReadNow()),
        ("syncClock", {}, rpc.SyncClock()),
        ("pause", None, rpc.Pause()),
        ("resume", None, rpc.Resume()),
        ("getValue", {"obis": "1-0:1.8.0"}, rpc.GetValue("1-0:1.8.0")),
        ("getValue", {"obis": "0-0:1.0.0", "class": 8}, rpc.GetValue("8:0-0:1.0.0:2")),
        ("getValue", {"obis": "1-0:1.8.0", "class": 3, "attribute": 3}, rpc.GetValue("3:1-0:1.8.0:3")),
        ("getValue", "3:1-0:1.8.0:2", rpc.GetValue("3:1-0:1.8.0:2")),
        ("setRelay", {"on": False}, rpc.SetRelay(False)),
        ("setRelay", True, rpc.SetRelay(True)),
        ("backfill", {"from": 1000, "to": 2000}, rpc.Backfill(1000, 2000)),
        ("backfill", {"from": 1000}, rpc.Backfill(1000, 5_000_000)),
        ("backfill", {"from": "1970-01-01T01:00:01+01:00", "to": 2000}, rpc.Backfill(1000, 2000)),
        ("backfill", {"from": "1970-01-01T00:00:01", "to": 2000}, rpc.Backfill(1000, 2000)),
    ],
)
def test_methods(method: str, params: object, command: rpc.Command) -> None:
    assert rpc.command(call(method, params), 5000.0, dt.UTC) == command


def test_a_request_without_sense_is_answered_where_it_is_known_who_asks() -> None:
    found = rpc.understood("v1/devices/me/rpc/request/5", b"[" * 60_000)
    assert isinstance(found, rpc.Call)
    with pytest.raises(CommandRefused, match="no JSON object with a method"):
        rpc.command(found, 0.0)
    with pytest.raises(CommandRefused, match="no JSON"):
        rpc.understood(GATEWAY, b"[" * 60_000)


@given(st.sampled_from(TOPICS), st.binary(max_size=200) | JSON.map(lambda value: json.dumps(value).encode()))
def test_whatever_comes_is_understood_or_refused_in_one_line(topic: str, payload: bytes) -> None:
    try:
        found = rpc.understood(topic, payload)
        if isinstance(found, rpc.Call):
            rpc.command(found, 1.7e9, dt.UTC)
    except CommandRefused as error:
        assert "\n" not in str(error)
        assert len(str(error)) < 400


@given(st.sampled_from(rpc.METHODS), JSON)
def test_whatever_the_params_are_a_command_or_a_reason_comes_out(method: str, params: Any) -> None:
    try:
        command = rpc.command(call(method, params), 1.7e9, dt.UTC)
    except CommandRefused as error:
        assert method in str(error)
    else:
        assert rpc.described(command)[0] == method


def test_an_answer_survives_tb_gateway_and_fits_a_message() -> None:
    _, payload = rpc.answer(call("x"), rpc.failure('it\'s "no" use: \ud800 é'))
    assert b"'" not in payload
    payload.decode("ascii")
    assert json.loads(payload)["data"]["error"].startswith('it\'s "no" use')
    _, payload = rpc.answer(call("x"), {"value": "y" * 70_000})
    assert len(payload) < 500
    assert "more than a message takes" in json.loads(payload)["data"]["error"]


def test_values_as_json_can_hold_them() -> None:
    assert rpc.plain(math.nan) == "nan"
    assert rpc.plain(b"\x01\xff") == "01ff"
    assert rpc.plain([1, (2.5, None, dt.date(2026, 1, 2))]) == [1, [2.5, None, "2026-01-02"]]
    assert rpc.plain(True) is True


def test_shared_attributes_come_as_answers_and_as_changes() -> None:
    def of(topic: str, content: object) -> dict[str, object]:
        found = rpc.understood(topic, json.dumps(content).encode())
        assert isinstance(found, rpc.SharedAttributes)
        return found.values

    both = {"pollInterval": None, "measurements": None}
    assert of("v1/devices/me/attributes", {"pollInterval": 5, "other": 1}) == {"pollInterval": 5}
    assert of("v1/devices/me/attributes", {"deleted": ["measurements", "x"]}) == {"measurements": None}
    assert of("v1/devices/me/attributes/response/1", {"shared": {"pollInterval": 5}}) == {**both, "pollInterval": 5}
    assert of("v1/devices/me/attributes/response/1", {}) == both
    assert of("v1/gateway/attributes", {"device": "m0", "data": {"pollInterval": 5}}) == {"pollInterval": 5}
    answer = {"id": 1, "device": "m0", "values": {"measurements": "a"}}
    assert of("v1/gateway/attributes/response", answer) == {**both, "measurements": "a"}
    own = json.loads(shared.reported(5.0, ("a",), {}))
    assert of("v1/devices/me/attributes", own) == {}, "sent back by a plain broker"
    topic = "v1/devices/m0/attributes/shared/"
    assert rpc.understood(topic + "measurements", b"a,b") == rpc.SharedAttributes("m0", {"measurements": "a,b"})
    assert rpc.understood(topic + "pollInterval", b"2.5") == rpc.SharedAttributes("m0", {"pollInterval": 2.5})
    assert rpc.understood(topic + "other", b"2.5") == rpc.SharedAttributes("m0", {})


def test_how_shared_attributes_are_asked_for() -> None:
    topic, payload = rpc.asks_for_shared(None, 4)
    assert (topic, json.loads(payload)) == (
        "v1/devices/me/attributes/request/4",
        {"sharedKeys": "pollInterval,measurements"},
    )
    topic, payload = rpc.asks_for_shared("m0", 5)
    assert topic == "v1/gateway/attributes/request"
    assert json.loads(payload) == {"id": 5, "device": "m0", "client": False, "keys": ["pollInterval", "measurements"]}
