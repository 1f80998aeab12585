"""JSON for ThingsBoard: exact numbers, nothing JSON cannot hold, packing that loses no reading."""

from __future__ import annotations

import json
import math

from hypothesis import given
from hypothesis import strategies as st

from meterbridge.model import Meter, MeterId, Quantity, Reading
from meterbridge.thingsboard import attributes, telemetry


def reading(**values: object) -> Reading:
    return Reading(MeterId(1), 1699734567000, {name: Quantity(value, None, "") for name, value in values.items()})


def test_telemetry_is_the_specifications_example() -> None:
    encoded = telemetry(reading(voltage_l1=136.5, current_l1=1.33, frequency=60.0, active_energy=56281.0))
    assert encoded == (
        b'{"ts":1699734567000,"values":{"voltage_l1":136.5,"current_l1":1.33,"frequency":60.0,"active_energy":56281.0}}'
    )


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_number_reads_back_as_itself(number: float) -> None:
    encoded = telemetry(reading(x=number))
    assert encoded is not None
    assert math.copysign(1.0, json.loads(encoded)["values"]["x"]) == math.copysign(1.0, number)
    assert json.loads(encoded)["values"]["x"] == number


def test_what_json_cannot_hold_is_left_out() -> None:
    encoded = telemetry(reading(a=math.nan, b=math.inf, c=-math.inf, d=None, ok=True, text="é", octets=b"\x01\xff"))
    assert encoded is not None
    assert json.loads(encoded)["values"] == {"ok": True, "text": "é", "octets": "01ff"}
    assert telemetry(reading(a=math.nan)) is None
    assert telemetry(reading()) is None


def test_a_lone_surrogate_still_makes_utf8() -> None:
    encoded = telemetry(reading(text="a\ud800b"))
    assert encoded is not None
    assert json.loads(encoded.decode())["values"]["text"] == "a?b"


def test_attributes_are_the_specifications() -> None:
    meter = Meter(MeterId(1), "Main", "10.0.0.5", password="secret")
    assert json.loads(attributes(meter, "1.2", 1762857000999)) == {
        "meter_name": "Main",
        "ip_address": "10.0.0.5",
        "port": 3333,
        "client_sap": 1,
        "firmware_version": "1.2",
        "last_connection": "2025-11-11T10:30:00Z",
    }
    assert set(json.loads(attributes(meter, None, None))) == {"meter_name", "ip_address", "port", "client_sap"}
