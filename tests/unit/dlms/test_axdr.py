from __future__ import annotations

import time
import tracemalloc

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from meterbridge.dlms import BitString, CompactArray, Data, DataType, TypeDescription
from meterbridge.dlms.axdr import (
    MAX_DEPTH,
    decode,
    decode_at,
    decode_length,
    decode_value,
    decode_value_at,
    encode,
    encode_length,
)
from meterbridge.errors import LocalProtocolError, RemoteProtocolError
from tests.unit.dlms.strategies import SIMPLE, any_data, compact_arrays, examples, long_length, nested, simple_data


def test_every_type_of_the_choice_is_covered() -> None:
    made_here = {DataType.ARRAY, DataType.STRUCTURE, DataType.COMPACT_ARRAY}
    assert set(DataType) == set(SIMPLE) | made_here


@examples(3)
@given(simple_data)
def test_simple_data_survives_the_wire(data: Data) -> None:
    assert decode(encode(data)) == data


@examples(1.5)
@given(any_data)
def test_nested_data_survives_the_wire_and_both_decoders_agree(data: Data) -> None:
    octets = encode(data)
    assert decode(octets) == data
    assert decode_value(octets) == data.plain()


@examples(1)
@given(compact_arrays())
def test_compact_arrays_survive_the_wire(data: Data) -> None:
    assert decode(encode(data)) == data


@examples(1)
@given(any_data, st.binary(max_size=8), st.binary(max_size=8))
def test_data_is_found_where_it_stands(data: Data, before: bytes, behind: bytes) -> None:
    octets = encode(data)
    end = len(before) + len(octets)
    assert decode_at(before + octets + behind, len(before)) == (data, end)
    assert decode_value_at(before + octets + behind, len(before)) == (data.plain(), end)
    if behind:
        with pytest.raises(RemoteProtocolError):
            decode(octets + behind)


@examples(1)
@given(any_data, st.data())
def test_data_cut_short_is_refused(data: Data, draw: st.DataObject) -> None:
    octets = encode(data)
    cut = octets[: draw.draw(st.integers(0, len(octets) - 1))]
    for decoder in (decode, decode_value):
        with pytest.raises(RemoteProtocolError):
            decoder(cut)


@examples(5)
@given(st.binary(max_size=60))
@example(b"\x13\x02\x02\x00\x11\x02\x01")
@example(b"\x13\x01\xff\xff\x01\xff\xff\x00\x01\x00")
def test_arbitrary_octets_raise_nothing_else(octets: bytes) -> None:
    for decoder in (decode, decode_value):
        try:
            decoder(octets)
        except RemoteProtocolError as error:
            assert str(error)


@examples(2)
@given(st.sampled_from([int(kind) for kind in DataType]), st.binary(max_size=40))
def test_arbitrary_octets_behind_a_known_tag_raise_nothing_else(tag: int, octets: bytes) -> None:
    for decoder in (decode, decode_value):
        try:
            decoder(bytes((tag,)) + octets)
        except RemoteProtocolError as error:
            assert str(error)


@given(st.integers(0, 0xFFFFFFFF))
@example(0x7F)
@example(0x80)
@example(0xFF)
@example(0x100)
@example(0xFFFF)
@example(0x10000)
def test_lengths(length: int) -> None:
    octets = encode_length(length)
    assert decode_length(octets, 0) == (length, len(octets))
    assert len(octets) == (1 if length < 0x80 else 1 + (length.bit_length() + 7) // 8)
    for cut in range(len(octets)):
        with pytest.raises(RemoteProtocolError):
            decode_length(octets[:cut], 0)


@pytest.mark.parametrize("octets", [b"\x80", b"\x85\x00\x00\x00\x00\x01", b"\xff" * 200])
def test_lengths_that_are_none(octets: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        decode_length(octets, 0)


@pytest.mark.parametrize("size", [127, 128, 255, 256, 65535, 65536])
def test_octet_strings_at_the_edges_of_the_length_field(size: int) -> None:
    content = bytes(index & 0xFF for index in range(size))
    octets = encode(Data(DataType.OCTET_STRING, content))
    head = {127: "7f", 128: "8180", 255: "81ff", 256: "820100", 65535: "82ffff", 65536: "83010000"}[size]
    assert octets == b"\x09" + bytes.fromhex(head) + content
    assert decode_value(octets) == content


@pytest.mark.parametrize(
    ("octets", "value"),
    [
        ("00", None),
        ("0300", False),
        ("03ff", True),
        ("04 0b ac20", BitString("10101100001")),
        ("0400", BitString("")),
        ("05 ffffffff", -1),
        ("06 ffffffff", 0xFFFFFFFF),
        ("0a 03 414243", "ABC"),
        ("0a 02 e900", "é\0"),
        ("0c 02 c3a9", "é"),
        ("0c 01 e9", "é"),
        ("0d 42", 0x42),
        ("0f 80", -128),
        ("10 8000", -32768),
        ("11 ff", 255),
        ("12 ffff", 65535),
        ("14 8000000000000000", -(1 << 63)),
        ("15 ffffffffffffffff", (1 << 64) - 1),
        ("16 1e", 30),
        ("17 42280000", 42.0),
        ("18 4045000000000000", 42.0),
        ("01 02 11 01 11 02", [1, 2]),
        ("02 02 11 01 00", (1, None)),
        ("0100", []),
        ("0200", ()),
        # A compact array of long-unsigned, and one of structures of unsigned and octet-string.
        ("13 12 04 0001 0002", [1, 2]),
        ("13 02 02 11 09 07 01 02 aabb 02 01 cc", [(1, b"\xaa\xbb"), (2, b"\xcc")]),
        ("13 01 0002 11 04 01020304", [[1, 2], [3, 4]]),
        # A column of nulls between others, as meters send it.
        ("13 02 03 06 00 12 0c 00000001 0002 00000003 0004", [(1, None, 2), (3, None, 4)]),
    ],
)
def test_octets_written_by_hand(octets: str, value: object) -> None:
    assert decode_value(bytes.fromhex(octets)) == value


@pytest.mark.parametrize(
    "octets",
    [
        nested(MAX_DEPTH + 1),
        nested(100_000),
        b"\x01" + long_length(0xFFFFFFFF) + b"\x00" * 100,
        b"\x02" + long_length(0xFFFFFFFF) + b"\x00" * 100,
        b"\x09" + long_length(0xFFFFFFFF) + b"\x00" * 100,
        b"\x04" + long_length(0xFFFFFFFF) + b"\x00" * 100,
        # Compact arrays: 2^32 octets of contents; 65,535 to the power of ten nulls; nothing at all, but many times.
        b"\x13\x11" + long_length(0xFFFFFFFF),
        b"\x13" + b"\x01\xff\xff" * 10 + b"\x00" + b"\x01\x00",
        b"\x13" + b"\x01\xff\xff" * 10 + b"\x11" + b"\x01\x00",
        b"\x13\x01\xff\xff\x02\x02\x01\xff\xff\x00\x11" + b"\x82\xff\xff" + b"\x00" * 0xFFFF,
        b"\x13" + b"\x01\x00\x01" * 100 + b"\x11" + b"\x01\x00",
        b"\x13\x02\x02\x11" + b"\x01\x03\xe8\x00" + b"\x82\x40\x00" + b"\x00" * 0x4000,
    ],
    ids=lambda octets: octets[:12].hex(),
)
def test_forged_data_is_refused_at_once(octets: bytes) -> None:
    tracemalloc.start()
    started = time.process_time()
    try:
        for decoder in (decode, decode_value):
            with pytest.raises(RemoteProtocolError):
                decoder(octets)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4 << 20
    assert time.process_time() - started < 0.5


def test_a_long_array_of_nulls_takes_few_octets_of_memory_each() -> None:
    """Nothing says more values in fewer octets."""
    count = 1 << 18
    octets = b"\x01" + encode_length(count) + bytes(count)
    for decoder in (decode, decode_value):
        tracemalloc.start()
        try:
            assert len(decoder(octets)[1] if decoder is decode else decoder(octets)) == count
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < 24 * count


def test_nesting_is_accepted_up_to_its_bound() -> None:
    assert decode_value(nested(MAX_DEPTH)) is not None


@pytest.mark.parametrize(
    "data",
    [
        Data(DataType.UNSIGNED, 256),
        Data(DataType.INTEGER, -129),
        Data(DataType.LONG, "1"),
        Data(DataType.BCD, 256),
        Data(DataType.OCTET_STRING, None),
        Data(DataType.VISIBLE_STRING, "€"),
        Data(DataType.UTF8_STRING, "\ud800"),
        Data(DataType.BIT_STRING, "01"),
        Data(DataType.DATE_TIME, b""),
        Data(
            DataType.COMPACT_ARRAY,
            CompactArray(TypeDescription(DataType.COMPACT_ARRAY), (Data(DataType.COMPACT_ARRAY, None),)),
        ),
    ],
    ids=repr,
)
def test_values_that_do_not_fit_their_type_are_our_fault(data: Data) -> None:
    with pytest.raises(LocalProtocolError):
        encode(data)


def test_bits_are_counted_from_the_first() -> None:
    bits = BitString("100")
    assert (bits[0], bits[1], str(bits)) == (True, False, "100")
