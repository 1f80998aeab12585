"""Our client reads the load profile of a meter whose application layer is gurux-dlms: by range and by entry."""

from __future__ import annotations

import datetime as dt
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest

from meterbridge.dlms import AttributeDescriptor, LogicalName, present, present_object
from meterbridge.errors import Interrupted
from meterbridge.meter import DLMSClient, MeterAddress, Timeouts, load_model

pytest.importorskip("gurux_dlms")

ROWS = 2000
LOAD_PROFILE = LogicalName.parse("1-0:99.1.0")
CLOCK = LogicalName.parse("0-0:1.0.0")
FIRST = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
QUARTER = dt.timedelta(minutes=15)
EXPECTED = [(FIRST + QUARTER * row, 1_000_000 + 125 * row) for row in range(ROWS)]


@pytest.fixture(scope="module", params=["hdlc", "wrapper"])
def meter(request: pytest.FixtureRequest, shared: Path, free_port: Callable[[], int]) -> Iterator[MeterAddress]:
    port = free_port()
    script = str(shared / "peers" / "gurux_meter.py")
    process = subprocess.Popen(
        [sys.executable, script, "--port", str(port), "--framing", request.param, "--rows", str(ROWS)],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("READY")
        yield MeterAddress("127.0.0.1", port, request.param, password=b"00000000")
    finally:
        process.terminate()
        process.communicate(timeout=10)


@asynccontextmanager
async def connected(address: MeterAddress) -> AsyncIterator[DLMSClient]:
    client = DLMSClient(address, load_model("generic"), Timeouts(response=20))
    await client.connect()
    try:
        yield client
    finally:
        await client.disconnect()


async def test_the_whole_profile(meter: MeterAddress) -> None:
    async with connected(meter) as client:
        table = await client.read_profile(LOAD_PROFILE)
    assert [(column.name, column.unit, column.scaler) for column in table.columns] == [
        ("clock", None, 0),
        ("active_energy", "Wh", 0),
    ]
    assert table.period == 900
    assert table.rows == EXPECTED


async def test_by_range_and_by_entry(meter: MeterAddress) -> None:
    async with connected(meter) as client:
        start, end = EXPECTED[500][0], EXPECTED[1499][0]
        assert (await client.read_profile(LOAD_PROFILE, start, end)).rows == EXPECTED[500:1500]
        # The same instants, spelt in another zone: this meter looks at the digits alone.
        east = dt.timezone(dt.timedelta(hours=5, minutes=30))
        elsewhere = await client.read_profile(LOAD_PROFILE, start.astimezone(east), end.astimezone(east))
        assert elsewhere.rows == EXPECTED[500:1500]
        assert (await client.read_profile(LOAD_PROFILE, end)).rows == EXPECTED[1499:]
        assert (await client.read_profile(LOAD_PROFILE, entries=(1, 5))).rows == EXPECTED[:5]
        assert (await client.read_profile(LOAD_PROFILE, entries=(1996, 0))).rows == EXPECTED[1995:]
        assert (await client.read_profile(LOAD_PROFILE, EXPECTED[-1][0] + QUARTER)).rows == []


async def test_a_read_broken_off_between_data_blocks_leaves_the_association_usable(meter: MeterAddress) -> None:
    async with connected(meter) as client:
        for exchanges in range(5):
            # As often as that it may go on, and then no more.
            answers = iter([True] * exchanges)
            with pytest.raises(Interrupted):
                await client.read_profile(LOAD_PROFILE, may_go_on=partial(next, answers, False))
            quantity = await client.read_measurement("active_energy")
            assert quantity.unit == "Wh"
        start, end = EXPECTED[500][0], EXPECTED[509][0]
        assert (await client.read_profile(LOAD_PROFILE, start, end)).rows == EXPECTED[500:510]


async def test_in_pieces_each_row_comes_once(meter: MeterAddress) -> None:
    async with connected(meter) as client:
        pieces = [
            piece
            async for piece in client.profile_chunks(LOAD_PROFILE, FIRST, EXPECTED[-1][0], step=dt.timedelta(days=6))
        ]
    assert len(pieces) == 4
    assert [row for piece in pieces for row in piece.rows] == EXPECTED


async def test_its_objects_print_as_named_values(meter: MeterAddress) -> None:
    async with connected(meter) as client:
        values = await client.get([AttributeDescriptor(7, LOAD_PROFILE, index) for index in (1, 3, 4, 5, 6, 7, 8)])
        profile = present_object(7, dict(zip((1, 3, 4, 5, 6, 7, 8), values, strict=True)))
        assert profile["logical_name"] == "1.0.99.1.0.255"
        assert profile["capture_objects"][0] == {
            "class_id": 8,
            "class": "Clock",
            "logical_name": "0.0.1.0.0.255",
            "attribute": 2,
            "attribute_name": "time",
            "data_index": 0,
        }
        assert (profile["capture_period"], profile["sort_method"], profile["entries_in_use"]) == (900, "fifo", ROWS)
        [time, base] = await client.get([AttributeDescriptor(8, CLOCK, index) for index in (2, 9)])
        assert present(8, 2, time).endswith("+00:00")
        assert isinstance(present(8, 9, base), str)
        [unit] = await client.get([AttributeDescriptor(3, LogicalName.parse("1-0:32.7.0"), 3)])
        assert present(3, 3, unit) == {"scaler": -1, "unit": "V"}
        [objects] = await client.get([AttributeDescriptor(15, LogicalName.parse("0-0:40.0.0"), 2)])
        assert present(15, 2, objects)[0]["class_id"] == "8 Clock"
