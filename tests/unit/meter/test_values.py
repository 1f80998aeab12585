"""Decoded data as people and JSON take it."""

from __future__ import annotations

import pytest

from meterbridge.dlms import BitString
from meterbridge.meter.values import displayed

CLOCK = bytes.fromhex("07e90b0b020a1e00ff8000 00")


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (b"MBS 1.4", "MBS 1.4"),
        (b"\x00\xab", "00AB"),
        (b"", ""),
        (b"tab\t", "74616209"),
        (7, 7),
        (None, None),
        (True, True),
        ([1, [b"a", b"\x01"]], [1, ["a", "01"]]),
        (BitString("0101"), "0101"),
    ],
)
def test_displayed(value: object, shown: object) -> None:
    assert displayed(value) == shown


def test_only_the_time_of_a_clock_is_a_time() -> None:
    assert str(displayed(CLOCK, 8, 2)).startswith("2025-11-11")
    assert displayed(CLOCK, 1, 2) == CLOCK.hex().upper()
