"""Frozen values that travel between rooms."""

from __future__ import annotations

import pytest

from meterbridge.meter import MeterAddress
from meterbridge.model import host_port


@pytest.mark.parametrize(
    ("host", "written"), [("meter.example", "meter.example:3333"), ("::1", "[::1]:3333"), ("10.0.0.1", "10.0.0.1:3333")]
)
def test_an_address_is_written_as_it_can_be_typed(host: str, written: str) -> None:
    assert host_port(host, 3333) == written
    assert str(MeterAddress(host)).startswith(f"{written}, ")
