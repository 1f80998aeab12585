"""DLMSClient against a meter that knows short names only: what it asks for, and what it makes of the answers."""

from __future__ import annotations

import pytest

from meterbridge.dlms import AttributeDescriptor, Data, DataType, LogicalName, MethodDescriptor
from meterbridge.errors import ConfigurationError, DataAccessError
from meterbridge.meter import MeterAddress
from tests.integration.told_meter import (
    ToldMeter,
    array,
    capture_object,
    double_long_unsigned,
    long_unsigned,
    name,
    octets,
    scaler_unit,
    structure,
    unsigned,
)

VOLTAGE, CLOCK, PROFILE, BREAKER = 0x1000, 0xFEF0, 0x2000, 0x3000


def listed(base_name: int, class_id: int, obis: str) -> Data:
    signed = base_name - 0x10000 if base_name & 0x8000 else base_name
    return structure(Data(DataType.LONG, signed), long_unsigned(class_id), unsigned(0), name(obis))


def meter() -> ToldMeter:
    rows = array(
        listed(VOLTAGE, 3, "1-0:32.7.0"),
        listed(CLOCK, 8, "0-0:1.0.0"),
        listed(PROFILE, 7, "1-0:99.1.0"),
        listed(BREAKER, 70, "0-0:96.3.10"),
        listed(0xFA00, 12, "0-0:40.0.0"),
    )
    times = [bytes.fromhex(f"07ea0101ff00{quarter:02x}00ff800000") for quarter in (0, 15, 30)]
    return ToldMeter(
        names={
            0xFA08: rows,
            VOLTAGE + 8: long_unsigned(2301),
            VOLTAGE + 16: scaler_unit(-1, 35),
            CLOCK + 8: octets(times[0]),
            PROFILE + 8: array(*(structure(octets(when), long_unsigned(2300 + i)) for i, when in enumerate(times))),
            PROFILE + 16: array(capture_object(8, "0-0:1.0.0"), capture_object(3, "1-0:32.7.0")),
            PROFILE + 24: double_long_unsigned(900),
            PROFILE + 32: Data(DataType.ENUM, 1),
        }
    )


async def test_measurements_are_read_with_scaler_and_unit() -> None:
    async with meter().connected("sn") as client:
        for _ in range(3):
            readout = await client.read_measurements(["1-0:32.7.0", "clock", "3:1-0:99.99.0:2"])
            assert readout.values["1-0:32.7.0"] == (230.1, "V", "1.0.32.7.0.255")
            assert readout.values["clock"].value == "2026-01-01T00:00:00"
            assert str(readout.errors["3:1-0:99.99.0:2"]) == "object-undefined"


async def test_objects_come_with_their_base_names() -> None:
    async with meter().connected("sn") as client:
        rows = await client.read_objects()
        assert [(row.class_id, row.logical_name.obis, row.base_name) for row in rows] == [
            (3, "1-0:32.7.0", VOLTAGE),
            (8, "0-0:1.0.0", CLOCK),
            (7, "1-0:99.1.0", PROFILE),
            (70, "0-0:96.3.10", BREAKER),
            (12, "0-0:40.0.0", 0xFA00),
        ]


async def test_the_object_list_is_read_once() -> None:
    told = meter()
    async with told.connected("sn") as client:
        await client.read_objects()
        told.names.pop(0xFA08)
        assert (await client.read_measurement("1-0:32.7.0")).value == 230.1


async def test_a_profile_by_entry() -> None:
    told = meter()
    async with told.connected("sn") as client:
        table = await client.read_profile(LogicalName.parse("1-0:99.1.0"), entries=(1, 3))
        assert [row[1] for row in table.rows] == [230.0, 230.1, 230.2]
        selection = told.selections[-1]
        assert selection is not None
        assert (selection.selector, selection.parameters.plain()) == (2, (1, 3, 1, 0))


async def test_attributes_are_written_and_methods_called_by_writing() -> None:
    told = meter()
    breaker = LogicalName.parse("0-0:96.3.10")
    async with told.connected("sn") as client:
        await client.set(AttributeDescriptor(70, breaker, 4), Data(DataType.ENUM, 2))
        assert await client.action(MethodDescriptor(70, breaker, 2)) is None
        await client.action(MethodDescriptor(8, LogicalName.parse("0-0:1.0.0"), 6), Data(DataType.LONG, 5))
        assert told.written == [
            (BREAKER + 24, Data(DataType.ENUM, 2)),
            (BREAKER + 0x28, Data(DataType.INTEGER, 0)),
            (CLOCK + 0x88, Data(DataType.LONG, 5)),
        ]
        told.writable = False
        with pytest.raises(DataAccessError, match="read-write-denied"):
            await client.set(AttributeDescriptor(70, breaker, 4), Data(DataType.ENUM, 1))
        with pytest.raises(DataAccessError, match="object-undefined"):
            await client.set(AttributeDescriptor(3, breaker, 2), Data(DataType.ENUM, 1))


def test_a_referencing_that_is_none() -> None:
    with pytest.raises(ConfigurationError, match="neither ln nor sn"):
        _ = MeterAddress("127.0.0.1", referencing="xx").short_names
