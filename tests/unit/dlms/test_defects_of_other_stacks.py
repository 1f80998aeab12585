"""What other stacks stumble over, each by its name: here it must not happen."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from meterbridge.dlms import (
    ApduReceived,
    AssociationOpened,
    AssociationParameters,
    AttributeDescriptor,
    ClientAssociation,
    Conformance,
    Data,
    DataType,
    Discarded,
    HdlcLink,
    HdlcParameters,
    HdlcServerLink,
    LogicalName,
    WrapperLink,
    client_address,
    server_address,
)
from meterbridge.dlms.acse import AARQ, RLRQ, Aare, InitiateResponse, Release
from meterbridge.dlms.axdr import encode
from meterbridge.dlms.xdlms import (
    ExceptionResponse,
    GetRequest,
    GetResponse,
    GetResponseBlock,
    data_access_error,
    encode_results,
)
from meterbridge.errors import ConnectionLost, DataAccessError, ServiceError
from meterbridge.meter import DLMSClient, MeterAddress, Timeouts, load_model

AGREED = InitiateResponse(
    Conformance.GET | Conformance.MULTIPLE_REFERENCES | Conformance.BLOCK_TRANSFER_WITH_GET_OR_READ, 1024
)
ANYTHING = AttributeDescriptor(1, LogicalName.parse("0-0:96.1.0"), 2)
ANSWER = Data(DataType.LONG_UNSIGNED, 2301)

Answers = Callable[[GetRequest], bytes | None]


class Canned:
    """A meter that answers a GET with what it is told to; None closes the connection in the middle of the answer."""

    def __init__(self, answers: Answers, framing: str = "hdlc", parameters: HdlcParameters | None = None) -> None:
        self._answers = answers
        self._link: HdlcServerLink | WrapperLink
        if framing == "hdlc":
            self._link = HdlcServerLink(client_address(1), server_address(1), parameters)
        else:
            self._link = WrapperLink(1, 1)
            self._link.connect()

    def receive(self, data: bytes) -> tuple[bytes, bool]:
        """Take octets in; return what to send, and whether to close behind it."""
        self._link.receive_data(data)
        while (event := self._link.next_event()) is not None:
            if not isinstance(event, ApduReceived):
                continue
            if event.apdu[0] == AARQ:
                self._link.send(Aare(1, 0, 0, AGREED.encode()).encode())
            elif event.apdu[0] == RLRQ:
                self._link.send(Release(response=True).encode())
            else:
                answer = self._answers(GetRequest.decode(event.apdu))
                if answer is None:
                    self._link.send(GetResponse(1, (encode(ANSWER),)).encode())
                    return self._link.data_to_send()[:-4], True
                self._link.send(answer)
        return self._link.data_to_send(), False


@asynccontextmanager
async def served(meter: Canned) -> AsyncIterator[int]:
    """A port of the loopback on which this meter takes one connection."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        closing = False
        while not closing and (data := await reader.read(4096)):
            octets, closing = meter.receive(data)
            writer.write(octets)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


@asynccontextmanager
async def connected(meter: Canned, framing: str = "hdlc") -> AsyncIterator[DLMSClient]:
    async with served(meter) as port:
        address = MeterAddress("127.0.0.1", port, framing, hdlc=HdlcParameters(512, 512, 1, 4))
        client = DLMSClient(address, load_model("generic"), Timeouts(response=5))
        await client.connect()
        try:
            yield client
        finally:
            await client.disconnect()


def normal(data: Data) -> Answers:
    return lambda request: GetResponse(request.invoke_id, (encode(data),)).encode()


async def test_fcs_ending_in_0x7e_is_read_at_once() -> None:
    """One answer in 256 ends so: 600 different ones, and not one of them may wait for a time-out."""
    values = iter(range(600))

    def count(request: GetRequest) -> bytes:
        return GetResponse(request.invoke_id, (encode(Data(DataType.DOUBLE_LONG, next(values))),)).encode()

    started = time.monotonic()
    async with connected(Canned(count)) as client:
        for value in range(600):
            assert await client.get([ANYTHING]) == [value]
    assert time.monotonic() - started < 5


@pytest.mark.parametrize("framing", ["hdlc", "wrapper"])
async def test_peer_closing_mid_answer(framing: str) -> None:
    async with connected(Canned(lambda request: None, framing), framing) as client:
        started = time.monotonic()
        with pytest.raises(ConnectionLost):
            await client.get([ANYTHING])
        assert time.monotonic() - started < 2
        assert not client.connected


@pytest.mark.parametrize("framing", ["hdlc", "wrapper"])
async def test_exception_response_to_a_get(framing: str) -> None:
    answers = iter([ExceptionResponse(1, 1).encode(), None])

    def first_no(request: GetRequest) -> bytes:
        return next(answers) or normal(ANSWER)(request) or b""

    async with connected(Canned(first_no, framing), framing) as client:
        [error] = await client.get([ANYTHING])
        assert isinstance(error, ServiceError)
        assert error.kind == "exception-response"
        assert await client.get([ANYTHING]) == [2301]


@pytest.mark.parametrize("framing", ["hdlc", "wrapper"])
@pytest.mark.parametrize("size", [1, 7, 100])
async def test_a_list_that_needs_blocks(framing: str, size: int) -> None:
    text = Data(DataType.OCTET_STRING, bytes(300))
    octets = encode_results((encode(text), data_access_error(4), encode(ANSWER)))

    def block(request: GetRequest) -> bytes:
        number = (request.block_number or 0) + 1
        part = octets[(number - 1) * size : number * size]
        return GetResponseBlock(request.invoke_id, number * size >= len(octets), number, part).encode()

    async with connected(Canned(block, framing), framing) as client:
        first, second, third = await client.get([ANYTHING] * 3)
    assert (first, third) == (bytes(300), 2301)
    assert isinstance(second, DataAccessError)


@pytest.mark.parametrize("framing", ["hdlc", "wrapper"])
@pytest.mark.parametrize("size", [127, 128, 255, 256, 65_536])
async def test_octet_strings_of_any_length(framing: str, size: int) -> None:
    content = bytes(index * 31 & 0xFF for index in range(size))
    whole = encode(Data(DataType.OCTET_STRING, content))

    def answer(request: GetRequest) -> bytes:
        if framing == "hdlc":
            return GetResponse(request.invoke_id, (whole,)).encode()
        # 65,536 octets do not fit a wrapper.
        number = (request.block_number or 0) + 1
        part = whole[(number - 1) * 30_000 : number * 30_000]
        return GetResponseBlock(request.invoke_id, number * 30_000 >= len(whole), number, part).encode()

    async with connected(Canned(answer, framing, HdlcParameters(512, 512, 4, 1)), framing) as client:
        assert await client.get([ANYTHING]) == [content]


def opened_with(aare: bytes) -> AssociationOpened:
    association = ClientAssociation(WrapperLink(1, 1), AssociationParameters())
    association.open()
    assert association.next_event() is None
    association.receive_data(bytes.fromhex("000100010001") + len(aare).to_bytes(2, "big") + aare)
    event = association.next_event()
    assert isinstance(event, AssociationOpened)
    return event


@pytest.mark.parametrize("title", [None, b"MBS00001"])
def test_aare_without_a_respond_title(title: bytes | None) -> None:
    aare = Aare(1, 0, 0, AGREED.encode(), system_title=title)
    assert Aare.decode(aare.encode()) == aare
    assert opened_with(aare.encode()).negotiated == AGREED


@pytest.mark.parametrize(
    "name",
    ["60857406080201", "60857405080201", "6085740508020100", "2a0301", "01", ""],
    ids=["other arcs", "the standard's", "one arc more", "another tree", "one octet", "nothing"],
)
def test_mechanism_oid_of_ziv(name: str) -> None:
    """Its arcs are not the standard's; a name that decides nothing must not cost an association that was accepted."""
    octets = bytes.fromhex(name)
    inner = Aare(1, 0, 0, AGREED.encode()).encode()[2:]
    content = inner + b"\x88\x02\x07\x80" + bytes((0x89, len(octets))) + octets
    assert opened_with(bytes((0x61, len(content))) + content).negotiated == AGREED


async def test_null_in_a_column() -> None:
    """Rows leave out what is as in the row before: nulls in any column, the clock's or another."""

    def row(*cells: Data) -> Data:
        return Data(DataType.STRUCTURE, cells)

    null = Data(DataType.NULL_DATA)
    stamp = Data(DataType.OCTET_STRING, bytes(12))
    buffer = Data(DataType.ARRAY, (row(stamp, ANSWER), row(null, ANSWER), row(stamp, null), row(null, null)))
    async with connected(Canned(normal(buffer))) as client:
        [rows] = await client.get([ANYTHING])
    assert rows == [(bytes(12), 2301), (None, 2301), (bytes(12), None), (None, None)]


@pytest.mark.parametrize("window", range(1, 8))
def test_windows_of_every_size(window: int) -> None:
    parameters = HdlcParameters(32, 32, window, window)
    client = HdlcLink(client_address(1), server_address(1), parameters)
    server = HdlcServerLink(client_address(1), server_address(1), parameters)
    client.connect()
    question, answer = bytes(range(200)), bytes(range(250)) * 4
    asked = told = False
    for _ in range(100):
        server.receive_data(client.data_to_send())
        while (event := server.next_event()) is not None:
            if isinstance(event, ApduReceived):
                assert event.apdu == question
                server.send(answer)
        client.receive_data(server.data_to_send())
        while (event := client.next_event()) is not None:
            assert not isinstance(event, Discarded)
            if isinstance(event, ApduReceived):
                assert event.apdu == answer
                told = True
        if not asked:
            asked = True
            client.send(question)
    assert told
