from __future__ import annotations

import json
import math

import pytest

from meterbridge.errors import ConfigurationError
from meterbridge.meter import load_model
from meterbridge.thingsboard import shared

FIND = load_model("microstar").find


@pytest.mark.parametrize(
    ("value", "seconds"), [(5, 5.0), (0.5, 0.5), ("2.5", 2.5), (300, 300.0), (None, None), ("", None)]
)
def test_intervals(value: object, seconds: float | None) -> None:
    assert shared.poll_interval(value, 0.5, 300.0) == seconds


@pytest.mark.parametrize("value", [0, 0.4, 301, -1, True, "soon", "inf", math.nan, math.inf, [5], {}, 10**400])
def test_intervals_that_are_none(value: object) -> None:
    with pytest.raises(ConfigurationError, match=r"pollInterval must be a number of seconds from 0\.5 to 300"):
        shared.poll_interval(value, 0.5, 300.0)


@pytest.mark.parametrize(
    ("value", "names"),
    [
        ("voltage_l1, current_l1", ("voltage_l1", "current_l1")),
        (["voltage_l1", "voltage_l1"], ("voltage_l1",)),
        ("1-0:1.8.0,1:0-0:96.1.0:2", ("1-0:1.8.0", "1:0-0:96.1.0:2")),
        ("", None),
        ([], None),
        (None, None),
    ],
)
def test_measurements(value: object, names: tuple[str, ...] | None) -> None:
    assert shared.measurements(value, FIND) == names


@pytest.mark.parametrize(
    "value", [5, True, {"a": 1}, [1], [""], "voltage_l1,", "bananas", ["x" * 101], [f"1-0:{n}.8.0" for n in range(101)]]
)
def test_measurements_that_are_none(value: object) -> None:
    with pytest.raises(ConfigurationError, match="measure"):
        shared.measurements(value, FIND)


def test_what_is_told_back() -> None:
    told = json.loads(shared.reported(5.0, ("a", "b"), {"measurements": "no"}))
    assert told == {
        "pollInterval": 5.0, "measurements": "a,b", "pollIntervalError": "", "measurementsError": "no",
    }  # fmt: skip
