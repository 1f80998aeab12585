"""Meters that mean harm: whatever they send, a typed error comes in time, and memory stays bounded."""

from __future__ import annotations

import asyncio
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from meterbridge.dlms import AttributeDescriptor, Data, DataType, Frame, HdlcParameters, LogicalName, Notified
from meterbridge.dlms.axdr import encode, encode_length
from meterbridge.dlms.block_transfer import Block
from meterbridge.dlms.hdlc import POLL_FINAL, RNR, RR, Control
from meterbridge.dlms.hdlc_station import LLC_RESPONSE
from meterbridge.dlms.xdlms import GetResponse, GetResponseBlock
from meterbridge.errors import MeterError, RemoteProtocolError, ResponseTimeout
from meterbridge.meter import Timeouts
from tests.integration.rogue_meter import CLIENT, SERVER, RogueMeter

ANYTHING = AttributeDescriptor(1, LogicalName.parse("0-0:96.1.0"), 2)
QUICK = Timeouts(connect=5, response=0.2, exchange=0.8)
LONG = Timeouts(connect=5, response=5)
MIB = 1 << 20
FRAMINGS = ("hdlc", "wrapper")
BIG = HdlcParameters(2030, 2030, 1, 1)


@contextmanager
def within(seconds: float, mebibytes: float) -> Iterator[None]:
    """The clock and the allocator hold what is promised."""
    tracemalloc.start()
    started = time.monotonic()
    try:
        yield
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert time.monotonic() - started < seconds
    assert peak < mebibytes * MIB


async def refused(meter: RogueMeter, timeouts: Timeouts = QUICK, expected: type[MeterError] = MeterError) -> MeterError:
    async with meter.client(timeouts) as client:
        with pytest.raises(expected) as caught:
            await client.connect()
            results = await client.get([ANYTHING])
            # A refusal of one attribute is an answer; anything else must not have been believed.
            raise AssertionError(f"took {results!r:.60}")
        assert "\n" not in str(caught.value)
        return caught.value


def result(octets: bytes) -> Callable[[RogueMeter, bytes], None]:
    return lambda meter, apdu: meter.send(b"\xc4\x01" + apdu[2:3] + b"\x00" + octets)


FORGED_DATA = {
    "array of 2**32": b"\x01\x84\xff\xff\xff\xff\x11\x01",
    "structure of 2**63": b"\x02\x88\x7f" + b"\xff" * 7 + b"\x11\x01",
    "octet string of 2**32": b"\x09\x84\xff\xff\xff\xffabc",
    "bit string of 2**32": b"\x04\x84\xff\xff\xff\xffabc",
    "compact array of 2**32 nulls": b"\x13\x00\x84\xff\xff\xff\xff",
    "compact array of arrays": b"\x13\x01\xff\xff\x01\xff\xff\x01\xff\xff\x00\x84\x7f\xff\xff\xff",
    "length of length": b"\x09\xff" + b"\xff" * 200,
    "10,000 arrays deep": b"\x01\x01" * 10_000,
    "10,000 structures deep": b"\x02\x02\x00" * 10_000,
}


@pytest.mark.parametrize("name", FORGED_DATA)
@pytest.mark.parametrize("framing", FRAMINGS)
async def test_forged_lengths_in_data(framing: str, name: str) -> None:
    with within(3, 4):
        await refused(RogueMeter(framing, result(FORGED_DATA[name])), LONG, RemoteProtocolError)


@pytest.mark.parametrize(
    "apdu",
    [
        "c403c1" + "84ffffffff" + "0011" * 10,
        "c402c1" + "00" + "00000001" + "00" + "84ffffffff" + "00",
        "c402c1" + "01" + "00000001" + "00" + "03" + "0984ffffffff",
        "e0c8" + "00010000" + "84ffffffff" + "00",
        "e048" + "00010000" + "8400000002" + "00",
        "c4",
        "c401",
        "c402c1",
        "d8",
        "0e",
        "0eff",
    ],
)
@pytest.mark.parametrize("framing", FRAMINGS)
async def test_forged_lengths_in_apdus(framing: str, apdu: str) -> None:
    with within(3, 4):
        await refused(RogueMeter(framing, lambda meter, _: meter.send(bytes.fromhex(apdu))), LONG, RemoteProtocolError)


@pytest.mark.parametrize(
    "aare",
    [
        "6184ffffffff" + "a109",
        "61" + "84ffffff",
        "6105" + "a184ffffff",
        "6180" + "00" * 50,
        "61" + "03" + "a2ff03",
        "61" + "820fff" + "be" * 0xFFF,
        "6109be070405" + "0800065f1f",
        "61",
    ],
)
@pytest.mark.parametrize("framing", FRAMINGS)
async def test_forged_lengths_in_the_aare(framing: str, aare: str) -> None:
    with within(3, 4):
        await refused(RogueMeter(framing, aare=bytes.fromhex(aare)), LONG)


@pytest.mark.parametrize(
    ("framing", "head"),
    [
        ("wrapper", "0001000100 01ffff c401c1"),
        ("hdlc", "7ea7ff"),
        ("hdlc", "7ea7ff030313"),
        ("wrapper", "0001"),
    ],
)
async def test_a_frame_that_is_never_finished(framing: str, head: str) -> None:
    meter = RogueMeter(framing, lambda meter, _: meter.raw(bytes.fromhex(head)))
    with within(3, 4):
        await refused(meter, QUICK, ResponseTimeout)


def frame(control: int, information: bytes = b"", segmented: bool = False) -> bytes:
    return Frame(CLIENT, SERVER, control, information, segmented).encode()


def segments(size: int, head: bytes = LLC_RESPONSE) -> Callable[[RogueMeter, bytes], bytes]:
    """Answer whatever comes with one more segment."""
    sent = 0

    def more(meter: RogueMeter, data: bytes) -> bytes:
        nonlocal sent
        part = (head if sent == 0 else b"") + bytes(size)
        # N(S) as it is due, N(R) as the one request wants it.
        number, sent = 1 + sent & 7, sent + 1
        return frame(2 << 5 | POLL_FINAL | number << 1, part, segmented=True)

    return more


@pytest.mark.parametrize("size", [0, 1, 120, 2000])
async def test_hdlc_segments_without_end(size: int) -> None:
    meter = RogueMeter("hdlc", octets=segments(size), parameters=BIG)
    with within(12, 12):
        await refused(meter, QUICK, ResponseTimeout)


@pytest.mark.parametrize("control", [RR, RNR])
@pytest.mark.parametrize("many", [1, 500])
async def test_floods_of_rr_and_rnr(control: int, many: int) -> None:
    flood = frame(2 << 5 | POLL_FINAL | control) * many
    meter = RogueMeter("hdlc", octets=lambda meter, data: flood)
    with within(4, 8):
        await refused(meter, QUICK, ResponseTimeout)


@pytest.mark.parametrize(
    "octets",
    [
        frame(Control.UA | POLL_FINAL) * 300,
        Frame(b"\x21", SERVER, Control.DM).encode() * 300,
        frame(0x30 | 6, LLC_RESPONSE + b"\xc4") * 300,
        frame(Control.UI, LLC_RESPONSE + b"\xc4\x01\xc9\x00\x11\x05") * 300,
        frame(0xFF) * 300,
    ],
    ids=["UA", "for others", "out of sequence", "UI with another's answer", "unknown"],
)
async def test_floods_of_frames_out_of_turn(octets: bytes) -> None:
    meter = RogueMeter("hdlc", octets=lambda meter, data: octets)
    with within(5, 8):
        await refused(meter, QUICK, ResponseTimeout)


# So small that the time ends before the bound on octets does, on a machine however fast.
@pytest.mark.parametrize("size", [1, 20])
@pytest.mark.parametrize("framing", FRAMINGS)
async def test_data_blocks_without_end(framing: str, size: int) -> None:
    number = 0

    def block(meter: RogueMeter, apdu: bytes) -> None:
        nonlocal number
        number += 1
        meter.send(GetResponseBlock(apdu[2] & 15, False, number, bytes(size)).encode())

    with within(6, 20):
        error = await refused(RogueMeter(framing, block, parameters=BIG), QUICK, ResponseTimeout)
    assert "in full" in str(error)


@pytest.mark.parametrize("kind", ["data", "general"])
async def test_a_reassembly_bomb(kind: str) -> None:
    number = 0

    def block(meter: RogueMeter, apdu: bytes) -> None:
        nonlocal number
        number += 1
        if kind == "general":
            meter.send(Block(number, 0, bytes(65_000), False, False, 8).encode())
        else:
            meter.send(GetResponseBlock(apdu[2] & 15, False, number, bytes(65_000)).encode())

    with within(15, 70):
        error = await refused(RogueMeter("wrapper", block), LONG, RemoteProtocolError)
    assert "more than 4194304" in str(error)


@pytest.mark.parametrize("framing", FRAMINGS)
@pytest.mark.parametrize(
    "block",
    [
        Block(1, 0, b"x", False, False, 8),
        Block(9, 0, b"x" * 100, False, False, 8),
        Block(1, 0, b"", True, False, 8),
        Block(1, 9, b"x", False, False, 8),
        Block(1, 0, b"x", False, True, 63),
    ],
    ids=["the same", "ahead", "nothing", "acknowledging what was not sent", "streaming"],
)
async def test_storms_of_general_blocks(framing: str, block: Block) -> None:
    with within(5, 8):
        await refused(RogueMeter(framing, lambda meter, _: meter.send(*[block.encode()] * 5)))


@pytest.mark.parametrize("framing", FRAMINGS)
async def test_a_trickle_of_general_blocks_ends_with_the_exchange(framing: str) -> None:
    number = 0

    def block(meter: RogueMeter, apdu: bytes) -> None:
        nonlocal number
        number += 1
        meter.send(Block(number & 0xFFFF, 0, b"x", False, False, 8).encode())

    with within(4, 12):
        error = await refused(RogueMeter(framing, block), QUICK, ResponseTimeout)
    assert "in full" in str(error)


@pytest.mark.parametrize("framing", FRAMINGS)
async def test_notifications_without_end_are_no_answer(framing: str) -> None:
    pushed = bytes.fromhex("0f000000010000")

    def push(meter: RogueMeter, apdu: bytes) -> None:
        meter.send(*[pushed] * 20)

    with within(6, 8):
        await refused(RogueMeter(framing, push), QUICK, ResponseTimeout)


@pytest.mark.parametrize("how", ["wrapper", "hdlc", "hdlc UI"])
async def test_what_a_meter_says_unasked_disturbs_no_request(how: str) -> None:
    pushed = bytes.fromhex("c20000030100200700ff021105")
    notified: list[Notified] = []

    def answer(meter: RogueMeter, apdu: bytes) -> None:
        value = GetResponse(apdu[2] & 15, (encode(Data(DataType.UNSIGNED, 7)),)).encode()
        if how == "hdlc UI":
            meter.raw(frame(Control.UI, LLC_RESPONSE + pushed))
            meter.send(value)
        else:
            # On HDLC the first ends the meter's turn: without a poll the second never comes.
            meter.send(pushed, value)

    meter = RogueMeter(how.partition(" ")[0], answer)
    async with meter.client(LONG, notified.append) as client:
        await client.connect()
        started = time.monotonic()
        for _ in range(3):
            assert await client.get([ANYTHING]) == [7]
        assert time.monotonic() - started < 2
    assert [event.apdu for event in notified] == [pushed] * 3


async def test_fifty_of_them_at_once_stay_bounded() -> None:
    """What one may hold is small enough for many of them to try."""
    meters = [RogueMeter("hdlc", octets=segments(2000), parameters=BIG) for _ in range(50)]
    quick = Timeouts(connect=20, response=1, exchange=1)

    async def one(meter: RogueMeter) -> None:
        async with meter.client(quick) as client:
            with pytest.raises(MeterError):
                await client.connect()
                await client.get([ANYTHING])

    with within(20, 50 * 1.5 + 20):
        await asyncio.gather(*map(one, meters))


def test_lengths_are_as_forged() -> None:
    assert encode_length(0xFFFFFFFF) == bytes.fromhex("84ffffffff")
