"""Profile buffers: the quick decoder says what the general one says, whatever the rows look like."""

from __future__ import annotations

import datetime as dt
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meterbridge.dlms import BitString, CompactArray, Data, DataType, Date, DateTime, Time, TypeDescription
from meterbridge.dlms.axdr import decode_value, encode, encode_length
from meterbridge.dlms.profile_rows import BufferDecoder
from meterbridge.errors import RemoteProtocolError

FIRST = dt.datetime(2026, 3, 28, 22, 0, tzinfo=dt.timezone(dt.timedelta(hours=1)))


def octets(when: dt.datetime, **replaced: int) -> bytes:
    content = bytearray(DateTime.from_datetime(when).octets)
    for name, value in replaced.items():
        content[{"weekday": 4, "second": 7, "hundredths": 8, "month": 2}[name]] = value
    return bytes(content)


def clock(when: dt.datetime, **replaced: int) -> Data:
    return Data(DataType.OCTET_STRING, octets(when, **replaced))


def number(value: int) -> Data:
    return Data(DataType.DOUBLE_LONG_UNSIGNED, value)


def buffer(*rows: tuple[Data, ...]) -> bytes:
    return encode(Data(DataType.ARRAY, tuple(Data(DataType.STRUCTURE, row) for row in rows)))


def quarter(row: int) -> dt.datetime:
    return FIRST + dt.timedelta(minutes=15 * row)


def test_uniform_rows() -> None:
    rows = BufferDecoder([0]).rows(buffer(*((clock(quarter(i)), number(1000 + i)) for i in range(500))))
    assert rows == [(quarter(i), 1000 + i) for i in range(500)]
    assert rows[0][0].utcoffset() == dt.timedelta(hours=1)


def test_the_deviation_may_change_among_rows() -> None:
    summer = dt.timezone(dt.timedelta(hours=2))
    times = [FIRST, FIRST.astimezone(summer) + dt.timedelta(hours=4)]
    [(winter_row,), (summer_row,)] = BufferDecoder([0]).rows(buffer(*((clock(when),) for when in times)))
    assert [winter_row.utcoffset(), summer_row.utcoffset()] == [dt.timedelta(hours=1), dt.timedelta(hours=2)]
    assert [winter_row, summer_row] == times


def test_an_unspecified_deviation_leaves_the_time_naive() -> None:
    when = dt.datetime(2026, 1, 1, 12, 30)
    assert BufferDecoder([0]).rows(buffer((clock(when),), (clock(when),))) == [(when,), (when,)]


def test_unspecified_seconds_and_hundredths_count_as_zero() -> None:
    rows = buffer(
        (clock(FIRST, hundredths=0xFF),), (clock(FIRST, second=0xFF, hundredths=50),), (clock(FIRST, weekday=0xFF),)
    )
    assert BufferDecoder([0]).rows(rows) == [(FIRST,), (FIRST.replace(microsecond=500_000),), (FIRST,)]


def test_a_time_with_wildcards_costs_only_itself() -> None:
    wild = clock(FIRST, month=0xFF)
    rows = BufferDecoder([0]).rows(buffer((clock(FIRST), number(1)), (wild, number(2)), (clock(FIRST), number(3))))
    assert rows == [(FIRST, 1), (DateTime(wild.value), 2), (FIRST, 3)]


def test_twelve_octets_outside_a_clock_column_stay_octets() -> None:
    assert BufferDecoder([1]).rows(buffer((clock(FIRST), clock(FIRST)))) == [(octets(FIRST), FIRST)]


def test_date_times_of_their_own_type() -> None:
    typed = Data(DataType.DATE_TIME, DateTime.from_datetime(FIRST))
    assert BufferDecoder([0]).rows(buffer((typed,), (typed,))) == [(FIRST,), (FIRST,)]


def test_null_timestamps_behind_the_first_row() -> None:
    rows = [(clock(FIRST), number(1)), *((Data(DataType.NULL_DATA), number(i)) for i in range(2, 400))]
    assert BufferDecoder([0]).rows(buffer(*rows)) == [(FIRST, 1), *((None, i) for i in range(2, 400))]


def test_each_type_there_is() -> None:
    row = (
        Data(DataType.BOOLEAN, True),
        Data(DataType.BIT_STRING, BitString("1011")),
        Data(DataType.DOUBLE_LONG, -5),
        Data(DataType.VISIBLE_STRING, "abc"),
        Data(DataType.UTF8_STRING, "Zähler"),
        Data(DataType.BCD, 7),
        Data(DataType.INTEGER, -1),
        Data(DataType.LONG64_UNSIGNED, 2**63),
        Data(DataType.FLOAT64, 1.5),
        Data(DataType.DATE, Date(bytes(5))),
        Data(DataType.TIME, Time(bytes(4))),
        Data(DataType.ENUM, 3),
        Data(DataType.STRUCTURE, (number(1),)),
    )
    encoded = buffer(row, row, row)
    assert BufferDecoder().rows(encoded) == decode_value(encoded)
    without = buffer(*[(row[0], *row[2:-1])] * 3)
    assert BufferDecoder().rows(without) == decode_value(without)


def test_a_compact_array() -> None:
    description = TypeDescription(
        DataType.STRUCTURE,
        0,
        (TypeDescription(DataType.OCTET_STRING), TypeDescription(DataType.LONG_UNSIGNED)),
    )
    rows = tuple(Data(DataType.STRUCTURE, (clock(quarter(i)), Data(DataType.LONG_UNSIGNED, i))) for i in range(3))
    encoded = encode(Data(DataType.COMPACT_ARRAY, CompactArray(description, rows)))
    assert BufferDecoder([0], 2).rows(encoded) == [(quarter(i), i) for i in range(3)]


def test_no_rows() -> None:
    assert BufferDecoder([0], 2).rows(b"\x01\x00") == []
    assert BufferDecoder().columns_at(b"\xff\x01\x00", 1) == ([], 3)


CELLS = st.one_of(
    st.integers(0, 2**32 - 1).map(number),
    st.integers(-128, 127).map(lambda value: Data(DataType.INTEGER, value)),
    st.just(Data(DataType.NULL_DATA)),
    st.binary(max_size=3).map(lambda value: Data(DataType.OCTET_STRING, value)),
    st.sampled_from(["", "a", "b" * 130]).map(lambda value: Data(DataType.VISIBLE_STRING, value)),
    st.text("01", max_size=9).map(lambda bits: Data(DataType.BIT_STRING, BitString(bits))),
    st.booleans().map(lambda value: Data(DataType.BOOLEAN, value)),
)


@given(st.data())
def test_any_rows_are_what_the_general_decoder_says(data: st.DataObject) -> None:
    width = data.draw(st.integers(1, 4))
    kinds = data.draw(st.lists(st.tuples(*[CELLS] * width), min_size=1, max_size=3))
    runs = data.draw(st.lists(st.tuples(st.integers(0, len(kinds) - 1), st.integers(1, 40)), max_size=6))
    encoded = buffer(*(kinds[kind] for kind, count in runs for _ in range(count)))
    assert BufferDecoder().rows(encoded) == decode_value(encoded)


@given(st.binary(max_size=60), st.integers(0, 3))
def test_any_octets_are_rows_or_refused(noise: bytes, width: int) -> None:
    for start in (b"", b"\x01", b"\x01\x02\x02\x02", b"\x01\x03\x02\x02\x09\x0c"):
        for decoder in (BufferDecoder(), BufferDecoder([0], width)):
            try:
                decoder.rows(start + noise)
            except RemoteProtocolError:
                continue


@pytest.mark.parametrize(
    ("encoded", "says"),
    [
        (buffer((number(1), number(2)), (number(1),)), "a row of 1 values in a profile of 2 columns"),
        (encode(Data(DataType.ARRAY, (number(1),))), "a row of 1 values"),
        (b"\x00", "no array"),
        (b"\x01\x82\xff\xff\x02\x01\x00", "65535 rows announced"),
        (buffer((number(1),)) + b"\x00", "octets behind"),
        (buffer((number(1),), (number(1),))[:-1], "cut short"),
        (b"\x01\x01", "announced"),
        (b"", "cut short"),
    ],
)
def test_what_is_no_buffer_is_refused(encoded: bytes, says: str) -> None:
    with pytest.raises(RemoteProtocolError, match=says):
        BufferDecoder().rows(encoded)


def alternating(count: int) -> bytes:
    texts = ("a", "bb", "ccc")
    rows: list[tuple[Data, ...]] = [(number(i), Data(DataType.VISIBLE_STRING, texts[i % 3])) for i in range(count)]
    return buffer(*rows)


def test_rows_of_which_no_two_look_alike_take_no_longer_than_with_the_general_decoder() -> None:
    encoded = alternating(3000)

    def seconds(decode: Any) -> float:
        fastest = 1e9
        for _ in range(5):
            started = time.perf_counter()
            decode(encoded)
            fastest = min(fastest, time.perf_counter() - started)
        return fastest

    assert BufferDecoder().rows(encoded) == decode_value(encoded)
    assert seconds(BufferDecoder().rows) < 3 * seconds(decode_value)


def test_two_thousand_rows_come_quickly() -> None:
    """The goal is 5 ms, which the benchmark shows; a test on a busy machine holds the order of magnitude."""
    content = b"".join(b"\x02\x02\x09\x0c" + octets(quarter(i)) + b"\x06\x00\x0f\x42\x40" for i in range(2000))
    encoded = b"\x01" + encode_length(2000) + content
    decoder = BufferDecoder([0])
    fastest = 1e9
    for _ in range(10):
        started = time.perf_counter()
        rows = decoder.rows(encoded)
        fastest = min(fastest, time.perf_counter() - started)
    assert rows[-1] == (quarter(1999), 1_000_000)
    assert fastest < 0.02
