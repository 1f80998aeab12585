from __future__ import annotations

import pytest
from hypothesis import given

from meterbridge.dlms import LogicalName
from tests.unit.dlms.strategies import logical_names


@given(logical_names)
def test_every_spelling_reads_back(name: LogicalName) -> None:
    a, b, c, d, e, f = name
    for text in (str(name), name.obis, name.hex(), name.hex().upper(), f"{a}-{b}:{c}.{d}.{e}*{f}", f" {name}\n"):
        assert LogicalName.parse(text) == name
    for text in (f"{a}-{b}:{c}.{d}.{e}.{f}", f"{a}-{b}:{c}.{d}.{e}&{f}", f"{a}.{b}.{c}.{d}.{e}.{f}"):
        assert LogicalName.parse(text) == name
    assert repr(name) == f"LogicalName({name})"


def test_the_last_group_is_255_where_it_is_left_out() -> None:
    assert LogicalName.parse("1-1:32.7.0") == LogicalName.parse("1.1.32.7.0") == bytes((1, 1, 32, 7, 0, 255))
    assert LogicalName.parse("1-1:32.7.0").obis == "1-1:32.7.0"
    assert LogicalName.parse("1-0:1.8.0*1").obis == "1-0:1.8.0*1"


@pytest.mark.parametrize(
    "text",
    ["", "1", "32.7.0", "1-1:32.7", "1-1:32.7.256", "1.1.32.7.0.255.1", "0101200700", "1-1:32.7.-1", "a.b.c.d.e.f"],
)
def test_what_is_no_logical_name(text: str) -> None:
    with pytest.raises(ValueError, match=r"logical name|over 255"):
        LogicalName.parse(text)


@pytest.mark.parametrize("octets", [b"", bytes(5), bytes(7)])
def test_a_logical_name_has_six_octets(octets: bytes) -> None:
    with pytest.raises(ValueError, match="6 octets"):
        LogicalName(octets)
