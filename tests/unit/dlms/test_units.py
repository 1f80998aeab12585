from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meterbridge.dlms import scaled, unit_symbol


@pytest.mark.parametrize(
    ("code", "symbol"),
    [
        (27, "W"),
        (28, "VA"),
        (29, "var"),
        (30, "Wh"),
        (32, "varh"),
        (33, "A"),
        (35, "V"),
        (44, "Hz"),
        (13, "m³"),
        (9, "°C"),
    ],
)
def test_units_of_the_table(code: int, symbol: str) -> None:
    assert unit_symbol(code) == symbol


def test_units_outside_of_the_table() -> None:
    assert unit_symbol(255) is None
    assert unit_symbol(200) == "unit 200"


@pytest.mark.parametrize(
    ("raw", "scaler", "value"),
    [
        (1365, -1, 136.5),
        (133, -2, 1.33),
        (6000, -2, 60.0),
        (1815, -1, 181.5),
        (562810, -1, 56281.0),
        (3, -1, 0.3),
        (7, 3, 7000),
    ],
)
def test_values_of_the_installation(raw: int, scaler: int, value: float) -> None:
    assert scaled(raw, scaler) == value


@given(st.integers(-(1 << 63), (1 << 64) - 1), st.integers(-128, -1))
def test_a_negative_scaler_is_correctly_rounded(raw: int, scaler: int) -> None:
    assert scaled(raw, scaler) == float(Fraction(raw, 10**-scaler))


@given(st.integers(-(1 << 63), (1 << 64) - 1), st.integers(0, 127))
def test_a_positive_scaler_is_exact(raw: int, scaler: int) -> None:
    assert scaled(raw, scaler) == raw * 10**scaler


@pytest.mark.parametrize("scaler", [-129, 128])
def test_scalers_that_do_not_exist(scaler: int) -> None:
    with pytest.raises(ValueError, match="scaler"):
        scaled(1, scaler)
