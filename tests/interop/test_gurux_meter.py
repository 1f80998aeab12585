"""Our client reads a meter whose application layer is gurux-dlms, running as a process of its own."""

from __future__ import annotations

import datetime as dt
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest

from meterbridge.dlms import (
    AttributeDescriptor,
    Data,
    DataType,
    DateTime,
    Discarded,
    HdlcParameters,
    LogicalName,
    SelectiveAccess,
)
from meterbridge.errors import AssociationRefused, DataAccessError, ResponseTimeout, ServiceError
from meterbridge.meter import DLMSClient, MeterAddress, Timeouts, load_model

pytest.importorskip("gurux_dlms")

FIVE = {
    "voltage_l1": (230.1, "V"),
    "current_l1": (5.12, "A"),
    "frequency": (49.98, "Hz"),
    "active_power": (1180.0, "W"),
    "active_energy": (1234567.0, "Wh"),
}
PROFILE = AttributeDescriptor(7, LogicalName.parse("1-0:99.1.0"), 2)
CLOCK = AttributeDescriptor(8, LogicalName.parse("0-0:1.0.0"), 2)
ROWS = 300
FIRST_ROW = dt.datetime(2026, 1, 1)
FRAMINGS = ("hdlc", "wrapper")
PATIENT = Timeouts(response=5)
SMALL = HdlcParameters(64, 64)
WINDOW = HdlcParameters(128, 128, 1, 4)

Start = Callable[..., int]


@contextmanager
def meter_process(script: Path, port: int, *options: str) -> Iterator[int]:
    process = subprocess.Popen(
        [sys.executable, str(script), "--port", str(port), "--rows", str(ROWS), *options],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("READY"), f"the meter ended with {process.poll()}"
        yield port
    finally:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()


@pytest.fixture(scope="module")
def start(shared: Path, free_port: Callable[[], int]) -> Iterator[Start]:
    """Call it with the meter's options for the port it listens on; one process for each set of options."""
    script = shared / "peers" / "gurux_meter.py"
    running: dict[tuple[str, ...], tuple[int, object]] = {}

    def begin(*options: str) -> int:
        if options not in running:
            process = meter_process(script, free_port(), *options)
            running[options] = (process.__enter__(), process)
        return running[options][0]

    yield begin
    for _, process in running.values():
        process.__exit__(None, None, None)  # type: ignore[attr-defined]


@asynccontextmanager
async def reading(
    port: int,
    framing: str = "hdlc",
    *,
    physical: int | None = None,
    hdlc: HdlcParameters | None = None,
    timeouts: Timeouts = PATIENT,
    discarded: list[Discarded] | None = None,
) -> AsyncIterator[DLMSClient]:
    address = MeterAddress(
        "127.0.0.1",
        port,
        framing,
        physical=physical,
        password=b"00000000",
        hdlc=hdlc or HdlcParameters(),
    )
    client = DLMSClient(address, load_model("generic"), timeouts, discarded.append if discarded is not None else None)
    await client.connect()
    try:
        yield client
    finally:
        await client.disconnect()


async def reads_the_five(client: DLMSClient, times: int = 1) -> None:
    for _ in range(times):
        readout = await client.read_measurements()
        assert readout.errors == {}
        assert {name: (quantity.value, quantity.unit) for name, quantity in readout.values.items()} == FIVE


def stamped(rows: object) -> list[tuple[dt.datetime | None, int]]:
    assert isinstance(rows, list)
    return [(DateTime(bytes(stamp)).to_datetime(), value) for stamp, value in rows]


def expected_rows(first: int, last: int) -> list[tuple[dt.datetime, int]]:
    """Rows by entry, counted from one, both ends included; the meter's clock keeps UTC."""
    return [
        ((FIRST_ROW + dt.timedelta(minutes=15 * row)).replace(tzinfo=dt.UTC), 1_000_000 + 125 * row)
        for row in range(first - 1, last)
    ]


@pytest.mark.parametrize("framing", FRAMINGS)
async def test_everything_a_reader_wants(start: Start, framing: str) -> None:
    discarded: list[Discarded] = []
    async with reading(start("--framing", framing), framing, discarded=discarded) as client:
        await reads_the_five(client, times=3)
        readout = await client.read_measurements(["logical_device_name", "firmware_version", "clock"])
        assert readout.values["logical_device_name"].value == "SIM0000000000000"
        assert readout.values["firmware_version"].value == "FW-1.0.3"
        [clock] = await client.get([CLOCK])
        now = DateTime(bytes(clock)).to_datetime()
        assert now is not None
        assert abs(now - dt.datetime.now(dt.UTC)) < dt.timedelta(minutes=1)
        objects = await client.read_objects()
        assert {(item.class_id, item.logical_name.obis) for item in objects} >= {
            (8, "0-0:1.0.0"),
            (3, "1-0:32.7.0"),
            (7, "1-0:99.1.0"),
            (15, "0-0:40.0.0"),
        }
        [voltage] = [item for item in objects if item.logical_name.obis == "1-0:32.7.0"]
        assert voltage.attribute_access == {1: 1, 2: 1, 3: 1}
        [rows] = await client.get([PROFILE])
        assert stamped(rows) == expected_rows(1, ROWS)
    assert discarded == []


@pytest.mark.parametrize("framing", FRAMINGS)
async def test_a_profile_by_range_and_by_entry(start: Start, framing: str) -> None:
    clock = Data(
        DataType.STRUCTURE,
        (
            Data(DataType.LONG_UNSIGNED, 8),
            Data(DataType.OCTET_STRING, bytes(CLOCK.logical_name)),
            Data(DataType.INTEGER, 2),
            Data(DataType.LONG_UNSIGNED, 0),
        ),
    )
    moments = [
        Data(
            DataType.OCTET_STRING,
            DateTime.from_datetime((FIRST_ROW + dt.timedelta(hours=hours)).replace(tzinfo=dt.UTC)).octets,
        )
        for hours in (1, 3)
    ]
    by_range = SelectiveAccess(1, Data(DataType.STRUCTURE, (clock, *moments, Data(DataType.ARRAY, ()))))
    by_entry = SelectiveAccess(
        2,
        Data(
            DataType.STRUCTURE,
            (
                Data(DataType.DOUBLE_LONG_UNSIGNED, 10),
                Data(DataType.DOUBLE_LONG_UNSIGNED, 14),
                Data(DataType.LONG_UNSIGNED, 1),
                Data(DataType.LONG_UNSIGNED, 0),
            ),
        ),
    )
    async with reading(start("--framing", framing), framing) as client:
        for selection, rows in ((by_range, expected_rows(5, 13)), (by_entry, expected_rows(10, 14))):
            [found] = await client.get([AttributeDescriptor(7, PROFILE.logical_name, 2, selection)])
            assert stamped(found) == rows


@pytest.mark.parametrize("framing", FRAMINGS)
async def test_lists_in_blocks(start: Start, framing: str) -> None:
    async with reading(start("--framing", framing, "--max-pdu", "100"), framing) as client:
        await reads_the_five(client, times=2)
        assert len(await client.read_objects()) == 10
        [rows] = await client.get([PROFILE])
        assert stamped(rows) == expected_rows(1, ROWS)


@pytest.mark.parametrize(
    "hdlc", [HdlcParameters(), SMALL, WINDOW, HdlcParameters(2030, 2030, 7, 7), HdlcParameters(16, 16)]
)
@pytest.mark.parametrize("options", [("--max-info", "64"), ("--window", "4"), ("--max-info", "64", "--max-pdu", "100")])
async def test_segments_and_windows(start: Start, hdlc: HdlcParameters, options: tuple[str, ...]) -> None:
    discarded: list[Discarded] = []
    async with reading(start(*options), hdlc=hdlc, discarded=discarded) as client:
        await reads_the_five(client)
        [rows] = await client.get([PROFILE])
        assert stamped(rows) == expected_rows(1, ROWS)
    assert discarded == []


@pytest.mark.parametrize("physical", [None, 17, 2836])
async def test_addresses_of_each_length(start: Start, physical: int | None) -> None:
    async with reading(start("--framing", "hdlc"), physical=physical) as client:
        await reads_the_five(client)


@pytest.mark.parametrize(
    "options", [("--drop", "0.04"), ("--corrupt", "0.04"), ("--drop", "0.02", "--corrupt", "0.02")]
)
@pytest.mark.parametrize("hdlc", [HdlcParameters(), WINDOW], ids=["window 1", "window 4"])
async def test_a_line_that_loses_and_damages_ends_in_right_values(
    start: Start, hdlc: HdlcParameters, options: tuple[str, ...]
) -> None:
    port = start(*options, "--window", "4")
    # The meter rolls its own dice: a connection that gives up is made anew, a value is never wrong.
    timeouts = Timeouts(response=0.15, retransmissions=2)
    right = 0
    for _ in range(10):
        try:
            async with reading(port, hdlc=hdlc, timeouts=timeouts) as client:
                await reads_the_five(client, times=5)
                [rows] = await client.get([PROFILE])
                assert stamped(rows) == expected_rows(1, ROWS)
                right += 1
        except ResponseTimeout:
            continue
        if right == 2:
            break
    assert right == 2


@pytest.mark.parametrize("framing", FRAMINGS)
async def test_what_the_meter_refuses_is_said(start: Start, framing: str) -> None:
    port = start("--framing", framing)
    async with reading(port, framing) as client:
        nothing = AttributeDescriptor(3, LogicalName.parse("1-0:99.99.99"), 2)
        refused, clock = await client.get([nothing, CLOCK])
        assert isinstance(refused, DataAccessError)
        assert refused.result == 4
        assert len(clock) == 12
    wrong = MeterAddress("127.0.0.1", port, framing, password=b"wrong")
    with pytest.raises(AssociationRefused, match="authentication failure") as caught:
        await DLMSClient(wrong, load_model("generic"), PATIENT).connect()
    assert "wrong" not in str(caught.value)
    # Without a password at all this meter stumbles, and says so with an exception-response.
    with pytest.raises((AssociationRefused, ServiceError)):
        await DLMSClient(MeterAddress("127.0.0.1", port, framing), load_model("generic"), PATIENT).connect()
