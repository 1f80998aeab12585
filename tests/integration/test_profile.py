"""DLMSClient reading profiles: selections as the meter gets them, rows as the caller gets them."""

from __future__ import annotations

import datetime as dt

import pytest

from meterbridge.dlms import Data, DataType, DateTime, LogicalName
from meterbridge.errors import ConfigurationError, DataAccessError, RemoteProtocolError
from meterbridge.meter import DLMSClient, MeterAddress, ProfileTable, load_model
from meterbridge.simulator import FleetOptions, MeterServer, simulated_meter
from tests.integration.told_meter import (
    Place,
    ToldMeter,
    array,
    capture_object,
    double_long_unsigned,
    long_unsigned,
    octets,
    place,
    scaler_unit,
    structure,
)

LOAD_PROFILE = LogicalName.parse("1-0:99.1.0")
NULL = Data(DataType.NULL_DATA)
WINTER = dt.timezone(dt.timedelta(hours=1))
FIRST = dt.datetime(2026, 1, 1, tzinfo=WINTER)
QUARTER = dt.timedelta(minutes=15)
NOW = 1_790_000_000.0


def stamp(when: dt.datetime) -> Data:
    return octets(DateTime.from_datetime(when).octets)


def profile(*rows: tuple[Data, ...], period: int = 900, sort_method: int = 1, **others: Data) -> ToldMeter:
    objects = array(
        capture_object(8, "0-0:1.0.0"),
        capture_object(3, "1-0:1.8.0"),
        capture_object(1, "0-0:96.10.1"),
        capture_object(5, "1-0:1.4.0", 3),
    )
    values: dict[Place, Data] = {
        place(7, "1-0:99.1.0", 2): array(*(structure(*row) for row in rows)),
        place(7, "1-0:99.1.0", 3): others.get("objects", objects),
        place(7, "1-0:99.1.0", 4): double_long_unsigned(period),
        place(7, "1-0:99.1.0", 5): Data(DataType.ENUM, sort_method),
        place(8, "0-0:1.0.0", 2): stamp(FIRST),
        place(3, "1-0:1.8.0", 3): scaler_unit(1, 30),
        place(5, "1-0:1.4.0", 4): scaler_unit(-3, 27),
    }
    return ToldMeter(values)


def row(minutes: int | None, energy: Data | int, status: Data | int = 0, demand: Data | int = 0) -> tuple[Data, ...]:
    when = NULL if minutes is None else stamp(FIRST + dt.timedelta(minutes=minutes))
    rest = [value if isinstance(value, Data) else double_long_unsigned(value) for value in (energy, status, demand)]
    return (when, *rest)


async def test_columns_are_resolved_and_values_scaled() -> None:
    async with profile(row(0, 100, 7, 1234), row(15, 101, 0, 5)).connected() as client:
        table = await client.read_profile(LOAD_PROFILE)
    assert [(column.name, column.unit, column.scaler, column.attribute_name) for column in table.columns] == [
        ("clock", None, 0, "time"),
        ("active_energy", "Wh", 1, "value"),
        ("0-0:96.10.1", None, 0, "value"),
        ("1-0:1.4.0:3", "W", -3, "last_average_value"),
    ]
    assert table.rows == [(FIRST, 1000, 7, 1.234), (FIRST + QUARTER, 1010, 0, 0.005)]
    assert table.period == 900
    assert table.clock == 0
    assert next(table.records())["0-0:96.10.1"] == 7


async def test_nulls_stand_for_what_can_be_known_without_them() -> None:
    rows = [row(0, 100, 7), row(None, NULL), row(None, 102, NULL), row(60, 103), row(None, 104)]
    async with profile(*rows).connected() as client:
        filled = await client.read_profile(LOAD_PROFILE)
        raw = await client.read_profile(LOAD_PROFILE, fill_nulls=False)
    assert [(when, energy) for when, energy, *_ in filled.rows] == [
        (FIRST, 1000),
        (FIRST + QUARTER, 1000),
        (FIRST + 2 * QUARTER, 1020),
        (FIRST + 4 * QUARTER, 1030),
        (FIRST + 5 * QUARTER, 1040),
    ]
    assert [filled.rows[2][2], raw.rows[2][2]] == [0, None]
    assert [values[0] for values in raw.rows] == [FIRST, None, None, FIRST + 4 * QUARTER, None]
    assert raw.rows[1][1] is None


async def test_nulls_of_a_profile_that_begins_with_the_newest_row() -> None:
    async with profile(row(60, 4), row(None, 3), sort_method=2).connected() as client:
        table = await client.read_profile(LOAD_PROFILE)
    assert [values[0] for values in table.rows] == [FIRST + 4 * QUARTER, FIRST + 3 * QUARTER]


@pytest.mark.parametrize(("period", "sort_method"), [(0, 1), (900, 3)])
async def test_nulls_that_cannot_be_known_stay(period: int, sort_method: int) -> None:
    rows = (row(0, 1), row(None, 2))
    async with profile(*rows, period=period, sort_method=sort_method).connected() as client:
        assert [values[0] for values in (await client.read_profile(LOAD_PROFILE)).rows] == [FIRST, None]


async def test_a_null_in_front_of_all_rows_stays() -> None:
    async with profile(row(None, NULL), row(15, 5)).connected() as client:
        assert [values[:2] for values in (await client.read_profile(LOAD_PROFILE)).rows] == [
            (None, None),
            (FIRST + QUARTER, 50),
        ]


async def test_a_range_is_asked_for_in_the_meter_s_own_time() -> None:
    told = profile(row(0, 1), row(15, 2), row(30, 3))
    async with told.connected() as client:
        start = dt.datetime(2025, 12, 31, 23, 15, tzinfo=dt.UTC)
        table = await client.read_profile(LOAD_PROFILE, start, start + QUARTER)
    selection = told.asked[-1].selection
    assert selection is not None
    restricting, first, last, selected = selection.parameters.plain()
    assert (selection.selector, restricting[0], restricting[2:], selected) == (1, 8, (2, 0), [])
    assert [DateTime(first).to_datetime(), DateTime(last).to_datetime()] == [FIRST + QUARTER, FIRST + 2 * QUARTER]
    assert DateTime(first).deviation == -60
    # This meter gives all it has, whatever it is asked.
    assert [values[0] for values in table.rows] == [FIRST + QUARTER, FIRST + 2 * QUARTER]


async def test_a_naive_range_is_the_meter_s_local_time() -> None:
    told = profile(row(0, 1), row(15, 2))
    async with told.connected() as client:
        table = await client.read_profile(LOAD_PROFILE, dt.datetime(2026, 1, 1, 0, 10))
    selection = told.asked[-1].selection
    assert selection is not None
    assert DateTime(selection.parameters.plain()[1]).deviation is None
    assert [values[0] for values in table.rows] == [FIRST + QUARTER]


async def test_what_a_profile_is_made_of_is_read_once() -> None:
    told = profile(row(0, 1))
    async with told.connected() as client:
        await client.read_profile(LOAD_PROFILE)
        before = len(told.asked)
        await client.read_profile(LOAD_PROFILE, entries=(1, 0))
    assert len(told.asked) == before + 1


async def test_a_scaler_the_meter_does_not_tell_leaves_values_raw_and_says_so() -> None:
    told = profile(row(0, 100))
    told.values.pop(place(3, "1-0:1.8.0", 3))
    async with told.connected() as client:
        table = await client.read_profile(LOAD_PROFILE)
    assert (table.rows[0][1], table.columns[1].scaler, table.columns[1].unit) == (100, None, None)


async def test_an_element_of_an_attribute_and_values_that_are_no_numbers() -> None:
    objects = array(capture_object(3, "1-0:1.8.0"), capture_object(3, "1-0:2.8.0", 2, 3))
    told = profile((octets(b"text"), long_unsigned(5)), objects=objects)
    async with told.connected() as client:
        table = await client.read_profile(LOAD_PROFILE)
        assert table.rows == [(b"text", 5)]
        assert table.columns[1].name == "1-0:2.8.0[3]"
        with pytest.raises(ConfigurationError, match="captures no time"):
            await client.read_profile(LOAD_PROFILE, FIRST)


async def test_rows_that_do_not_fit_are_refused_and_the_profile_described_anew() -> None:
    told = profile(row(0, 1)[:3])
    async with told.listening() as port:
        client = DLMSClient(MeterAddress("127.0.0.1", port, "wrapper"), load_model("generic"))
        await client.connect()
        with pytest.raises(RemoteProtocolError, match="3 values in a profile of 4 columns"):
            await client.read_profile(LOAD_PROFILE)
        assert not client.connected
        told.values[place(7, "1-0:99.1.0", 2)] = array(structure(*row(0, 1)))
        await client.connect()
        assert len((await client.read_profile(LOAD_PROFILE)).rows) == 1
        await client.disconnect()


@pytest.mark.parametrize(
    ("start", "end", "entries", "says"),
    [
        (FIRST, FIRST - QUARTER, None, "ends at"),
        (FIRST, FIRST.replace(tzinfo=None), None, "time zone"),
        (FIRST, None, (1, 2), "not by both"),
        (None, None, (0, 2), "count from 1"),
        (None, None, (5, 2), "count from 1"),
        (None, None, (1, 2**32), "count from 1"),
    ],
)
async def test_a_selection_that_cannot_be(
    start: dt.datetime | None, end: dt.datetime | None, entries: tuple[int, int] | None, says: str
) -> None:
    async with profile(row(0, 1)).connected() as client:
        with pytest.raises(ConfigurationError, match=says):
            await client.read_profile(LOAD_PROFILE, start, end, entries=entries)


async def test_a_profile_that_is_none() -> None:
    async with ToldMeter().connected() as client:
        with pytest.raises(DataAccessError, match="object-undefined"):
            await client.read_profile(LOAD_PROFILE)


# ---- against the simulator


@pytest.mark.parametrize("referencing", ["ln", "sn"])
async def test_the_simulated_meter_s_profile_in_pieces_is_the_profile(referencing: str) -> None:
    meter = simulated_meter(FleetOptions(), 0)
    server = MeterServer(meter, clock=lambda: NOW)
    await server.start("127.0.0.1", 0)
    address = MeterAddress("127.0.0.1", server.port, password=b"00000000", referencing=referencing)
    client = DLMSClient(address, load_model("generic"))
    await client.connect()
    try:
        whole = await client.read_profile(LOAD_PROFILE)
        assert len(whole.rows) == meter.identity.profile_entries
        times = [values[0] for values in whole.rows]
        assert times == [times[0] + QUARTER * i for i in range(len(times))]
        assert [column.unit for column in whole.columns] == [None, "Wh", "Wh", "varh"]
        day = [values for values in whole.rows if times[200] <= values[0] <= times[296]]
        assert (await client.read_profile(LOAD_PROFILE, times[200], times[296])).rows == day
        assert (await client.read_profile(LOAD_PROFILE, entries=(201, 297))).rows == day
        pieces: list[ProfileTable] = [
            piece
            async for piece in client.profile_chunks(LOAD_PROFILE, times[200], times[296], step=dt.timedelta(hours=5))
        ]
        assert [values for piece in pieces for values in piece.rows] == day
        assert len(pieces) == 5
        assert pieces[-1].end == times[296]
        [one] = [piece async for piece in client.profile_chunks(LOAD_PROFILE, times[200], times[296])]
        assert one.rows == day
    finally:
        await client.disconnect()
        await server.close()
