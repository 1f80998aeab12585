"""What people type for a value, and what is written to the meter for it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meterbridge.cli.typed_value import typed_value, value_like
from meterbridge.dlms import BitString, Data, DataType, Date, DateTime, Time
from meterbridge.dlms.axdr import encode
from meterbridge.errors import ConfigurationError

NOON = DateTime(bytes.fromhex("07ea011f060c000000ffc400"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("uint16:5", Data(DataType.LONG_UNSIGNED, 5)),
        ("long-unsigned:0x10", Data(DataType.LONG_UNSIGNED, 16)),
        ("INT8:-1", Data(DataType.INTEGER, -1)),
        ("enum:2", Data(DataType.ENUM, 2)),
        ("uint64:18446744073709551615", Data(DataType.LONG64_UNSIGNED, 2**64 - 1)),
        ("bool:true", Data(DataType.BOOLEAN, True)),
        ("float32:1.5", Data(DataType.FLOAT32, 1.5)),
        ("bits:1010", Data(DataType.BIT_STRING, BitString("1010"))),
        ("octets:00 FF", Data(DataType.OCTET_STRING, b"\x00\xff")),
        ("octet_string:00ff", Data(DataType.OCTET_STRING, b"\x00\xff")),
        ("text:a:b", Data(DataType.OCTET_STRING, b"a:b")),
        ("string: abc", Data(DataType.VISIBLE_STRING, " abc")),
        ("utf8:ü", Data(DataType.UTF8_STRING, "ü")),
        ("obis:1-0:1.8.0", Data(DataType.OCTET_STRING, bytes((1, 0, 1, 8, 0, 255)))),
        ("datetime:2026-01-31T12:00+01:00", Data(DataType.OCTET_STRING, NOON.octets)),
        ("date-time:2026-01-31T12:00+01:00", Data(DataType.DATE_TIME, NOON)),
        ("date:2026-01-31", Data(DataType.DATE, Date(NOON.octets[:5]))),
        ("time:12:30", Data(DataType.TIME, Time(bytes((12, 30, 0, 0))))),
        ("null", Data(DataType.NULL_DATA)),
    ],
)
def test_a_type_in_front(text: str, expected: Data) -> None:
    assert typed_value(text) == expected


@pytest.mark.parametrize("text", ["5", "abc", "1-0:1.8.0", "12:30", "", "array:[]", "structure:[1]", "[1, 2]"])
def test_no_type_in_front(text: str) -> None:
    assert typed_value(text) is None


@pytest.mark.parametrize(
    "text",
    ["uint8:256", "uint8:-1", "int8:x", "bool:perhaps", "octets:0", "bits:12", "obis:1.2", "datetime:noon", "float64:"],
)
def test_a_value_that_does_not_fit_its_type(text: str) -> None:
    with pytest.raises(ConfigurationError):
        typed_value(text)


def structure(*members: Data) -> Data:
    return Data(DataType.STRUCTURE, members)


def array(*elements: Data) -> Data:
    return Data(DataType.ARRAY, elements)


U8, U16 = Data(DataType.UNSIGNED, 1), Data(DataType.LONG_UNSIGNED, 1)


@pytest.mark.parametrize(
    ("present", "text", "expected"),
    [
        (U16, "7", Data(DataType.LONG_UNSIGNED, 7)),
        (Data(DataType.BOOLEAN, True), "false", Data(DataType.BOOLEAN, False)),
        (Data(DataType.VISIBLE_STRING, "x"), "uint8:5", Data(DataType.VISIBLE_STRING, "uint8:5")),
        (Data(DataType.OCTET_STRING, b"text"), "abcd", Data(DataType.OCTET_STRING, b"abcd")),
        (Data(DataType.OCTET_STRING, b"text"), "0xabcd", Data(DataType.OCTET_STRING, b"\xab\xcd")),
        (Data(DataType.OCTET_STRING, b"\x00\x01"), "abcd", Data(DataType.OCTET_STRING, b"\xab\xcd")),
        (Data(DataType.OCTET_STRING, b"\x00\x01"), "word", Data(DataType.OCTET_STRING, b"word")),
        (Data(DataType.OCTET_STRING, bytes(6)), "1.0.1.8.0.255", Data(DataType.OCTET_STRING, b"\1\0\1\x08\0\xff")),
        (
            Data(DataType.OCTET_STRING, bytes(12)),
            "2026-01-31T12:00+01:00",
            Data(DataType.OCTET_STRING, NOON.octets),
        ),
        (structure(U8, U16), "[2, 3]", structure(Data(DataType.UNSIGNED, 2), Data(DataType.LONG_UNSIGNED, 3))),
        (structure(U8, U16), '{"a": 2, "b": null}', structure(Data(DataType.UNSIGNED, 2), Data(DataType.NULL_DATA))),
        (array(U8), "[1, 2, 3]", array(*(Data(DataType.UNSIGNED, i) for i in (1, 2, 3)))),
        (array(), "[]", array()),
        (Data(DataType.NULL_DATA), "uint8:5", Data(DataType.UNSIGNED, 5)),
    ],
)
def test_the_type_of_what_the_meter_holds(present: Data, text: str, expected: Data) -> None:
    assert value_like(present, text) == expected


@pytest.mark.parametrize(
    ("present", "text"),
    [
        (U8, "256"),
        (U8, "one"),
        (structure(U8, U16), "[2]"),
        (structure(U8, U16), "2"),
        (structure(U8, U16), "nonsense"),
        (array(), "[1]"),
        (array(U8), "1"),
        (array(U8), '[[1], "x"]'),
        (Data(DataType.NULL_DATA), "5"),
        (Data(DataType.OCTET_STRING, b""), "0xabc"),
    ],
)
def test_what_does_not_fit_what_the_meter_holds(present: Data, text: str) -> None:
    with pytest.raises(ConfigurationError):
        value_like(present, text)


@given(st.text(max_size=30))
def test_any_text_is_a_value_or_a_clear_refusal(text: str) -> None:
    kinds = [Data(kind, b"" if kind is DataType.OCTET_STRING else None) for kind in DataType]
    for present in (*(kind for kind in kinds if kind.value is not None), U8, structure(U8), array(structure(U8, U16))):
        try:
            encode(value_like(present, text))
        except ConfigurationError:
            continue
    try:
        typed = typed_value(text)
    except ConfigurationError:
        return
    assert typed is None or encode(typed)
