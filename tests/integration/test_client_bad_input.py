"""DLMSClient against meters that misbehave: always a typed error with one line, in time, or the right values."""

from __future__ import annotations

import asyncio
import itertools
import socket
import struct
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import pytest

from meterbridge.dlms import Discarded, Frame, HdlcLink, HdlcParameters
from meterbridge.dlms.acse import AARQ, ConfirmedServiceError
from meterbridge.dlms.hdlc import MAX_FRAME, POLL_FINAL, Control
from meterbridge.dlms.xdlms import GET_REQUEST, ExceptionResponse, GetRequest, GetResponseBlock
from meterbridge.errors import (
    AssociationRefused,
    ConnectFailed,
    ConnectionLost,
    DataAccessError,
    MeterError,
    RemoteProtocolError,
    ResponseTimeout,
    ServiceError,
)
from meterbridge.meter import DLMSClient, MeterAddress, Readout, Timeouts, load_model
from meterbridge.simulator import Faithful, FleetOptions, simulated_meter
from meterbridge.simulator.association import ServerAssociation
from meterbridge.simulator.links import HdlcSide, WrapperSide
from meterbridge.simulator.meter import SimulatedMeter

NOW = 1_790_000_000.0
PASSWORD = b"00000000"
SHORT = Timeouts(connect=2.0, response=0.1)
# Where the exchange is to succeed at the first try, a busy machine must not make it fail.
LONG = Timeouts(connect=5.0, response=5.0)
# Places in the exchange over HDLC: which answer of the meter is meddled with.
UA, AARE, GET = 0, 1, 2

Step = bytes | float | Literal["close", "reset"]
Mangle = Callable[[int, bytes], Iterable[Step]]
Answer = Callable[[bytes], bytes | None]
NOISE = {
    "modem": b"\r\nNEXERRORNO-1\r\n",
    "flags": b"\x7e" * 300,
    "half a frame": bytes.fromhex("7ea0210321"),
    "header alone": bytes.fromhex("7ea7ff"),
    "zeros": bytes(200),
    "wrong check": bytes.fromhex("7ea00721037300007e"),
}


def untouched(number: int, octets: bytes) -> Iterable[Step]:
    return (octets,)


def unanswered(apdu: bytes) -> None:
    """Leave the answer to the simulated meter."""


class Told(ServerAssociation):
    """A simulated meter's association, some of whose answers are told to it."""

    def __init__(self, meter: SimulatedMeter, client: int, answer: Answer) -> None:
        super().__init__(meter, client, Faithful())
        self.answer = answer

    def receive(self, apdu: bytes, now: float) -> bytes:
        answer = self.answer(apdu)
        return super().receive(apdu, now) if answer is None else answer


@dataclass
class Peer:
    """A meter on loopback whose octets pass through `mangle`, and whose APDUs may be made by `answer`."""

    mangle: Mangle = untouched
    answer: Answer = unanswered
    framing: str = "hdlc"
    greeting: Sequence[Step] = ()
    answers: int = 0
    connections: int = 0
    open: set[asyncio.StreamWriter] = field(default_factory=set)

    async def __aenter__(self) -> Peer:
        self.meter = simulated_meter(FleetOptions(), 0)
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for writer in self.open:
            writer.transport.abort()
        await asyncio.sleep(0)

    def _side(self) -> HdlcSide | WrapperSide:
        def associate(client: int) -> ServerAssociation:
            return Told(self.meter, client, self.answer)

        if self.framing == "wrapper":
            return WrapperSide(self.meter.identity, associate)
        return HdlcSide(self.meter.identity, HdlcParameters(), associate)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open.add(writer)
        self.connections += 1
        side = self._side()
        try:
            await self._play(writer, self.greeting)
            while data := await reader.read(4096):
                octets = side.receive(data, NOW)
                if octets:
                    self.answers += 1
                    await self._play(writer, self.mangle(self.answers - 1, octets))
        except ConnectionError:
            pass
        finally:
            self.open.discard(writer)
            writer.close()

    async def _play(self, writer: asyncio.StreamWriter, steps: Iterable[Step]) -> None:
        for step in steps:
            if isinstance(step, bytes):
                writer.write(step)
                await writer.drain()
            elif isinstance(step, float):
                await asyncio.sleep(step)
            else:
                if step == "reset":
                    linger = struct.pack("ii", 1, 0)
                    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                writer.close()

    def client(
        self, timeouts: Timeouts = SHORT, server: int = 1, sap: int = 1, password: bytes = PASSWORD
    ) -> DLMSClient:
        address = MeterAddress("127.0.0.1", self.port, self.framing, sap, server, password=password)
        return DLMSClient(address, load_model("generic"), timeouts)


async def read_once(client: DLMSClient) -> Readout:
    await client.connect()
    try:
        return await client.read_measurements()
    finally:
        await client.disconnect()


async def failure(client: DLMSClient, within: float = 5.0) -> MeterError:
    """Read, and return the error it ends with; it must come in time, be one line, and leave nothing open."""
    async with asyncio.timeout(within):
        with pytest.raises(MeterError) as caught:
            await read_once(client)
    message = str(caught.value)
    assert message
    assert "\n" not in message
    assert "00000000" not in message
    assert not client.connected
    return caught.value


def at(place: int, change: Callable[[bytes], Iterable[Step]], always: bool = False) -> Mangle:
    """Meddle with one answer, or with it and all that follow."""

    def mangle(number: int, octets: bytes) -> Iterable[Step]:
        return change(octets) if number == place or (always and number > place) else (octets,)

    return mangle


def assert_whole(readout: Readout) -> None:
    assert readout.errors == {}
    assert {name: quantity.unit for name, quantity in readout.values.items()} == {
        "voltage_l1": "V",
        "current_l1": "A",
        "frequency": "Hz",
        "active_power": "W",
        "active_energy": "Wh",
    }


@pytest.mark.parametrize("framing", ["hdlc", "wrapper"])
async def test_a_good_meter_is_read(framing: str) -> None:
    async with Peer(framing=framing) as peer:
        assert_whole(await read_once(peer.client(LONG)))


# ---- who we are, who they are


@pytest.mark.parametrize("framing", ["hdlc", "wrapper"])
async def test_a_wrong_password_is_refused(framing: str) -> None:
    async with Peer(framing=framing) as peer:
        error = await failure(peer.client(LONG, password=b"s3cret-x"))
    assert isinstance(error, AssociationRefused)
    assert (error.result, error.diagnostic) == (1, 13)
    assert "s3cret-x" not in str(error)


@pytest.mark.parametrize("framing", ["hdlc", "wrapper"])
async def test_a_wrong_client_sap_is_refused(framing: str) -> None:
    async with Peer(framing=framing) as peer:
        assert isinstance(await failure(peer.client(LONG, sap=2)), AssociationRefused)


@pytest.mark.parametrize("framing", ["hdlc", "wrapper"])
async def test_a_wrong_server_address_is_silence_that_names_the_address(framing: str) -> None:
    async with Peer(framing=framing) as peer:
        error = await failure(peer.client(server=77))
        assert isinstance(error, ResponseTimeout)
        assert f"127.0.0.1:{peer.port}, client 1, server 77" in str(error)


async def test_a_closed_port_is_named(free_port: Callable[[], int]) -> None:
    port = free_port()
    error = await failure(DLMSClient(MeterAddress("127.0.0.1", port), load_model("generic"), SHORT))
    assert isinstance(error, ConnectFailed)
    assert f"127.0.0.1:{port}" in str(error)


async def test_an_unknown_host_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    error = await failure(DLMSClient(MeterAddress("nowhere.invalid"), load_model("generic"), SHORT))
    assert isinstance(error, ConnectFailed)
    assert "'nowhere.invalid'" in str(error)


async def test_a_host_that_cannot_be_one_is_named() -> None:
    assert isinstance(await failure(DLMSClient(MeterAddress("a..b"), load_model("generic"), SHORT)), ConnectFailed)


# ---- silence


@pytest.mark.parametrize("place", [UA, AARE, GET])
@pytest.mark.parametrize("framing", ["hdlc", "wrapper"])
async def test_silence_in_the_middle_of_an_answer_times_out(framing: str, place: int) -> None:
    place = place if framing == "hdlc" else max(place - 1, 0)
    async with Peer(at(place, lambda octets: (octets[: len(octets) // 2],), always=True), framing=framing) as peer:
        assert isinstance(await failure(peer.client()), ResponseTimeout)


async def test_one_octet_at_a_time_is_no_silence_but_buys_no_time_for_ever() -> None:
    trickle = [step for _ in range(200) for step in (b"\x7e", 0.01)]
    async with Peer(at(GET, lambda octets: trickle, always=True)) as peer:
        started = time.monotonic()
        assert isinstance(await failure(peer.client()), ResponseTimeout)
        assert time.monotonic() - started < 1.5


@pytest.mark.parametrize("place", [UA, AARE, GET])
async def test_an_answer_lost_once_is_asked_for_again(place: int) -> None:
    async with Peer(at(place, lambda octets: (octets[:7],))) as peer:
        assert_whole(await read_once(peer.client(Timeouts(2.0, 0.3))))


async def test_an_answer_that_comes_late_is_not_taken_for_the_next_one() -> None:
    values = itertools.count(1000)

    def counted(apdu: bytes) -> bytes | None:
        if apdu[0] != GET_REQUEST:
            return None
        return bytes((0xC4, 1, apdu[2], 0, 0x12)) + next(values).to_bytes(2, "big")

    # The first answer arrives behind the repeated request, whose own answer then follows it.
    async with Peer(at(GET, lambda octets: (0.4, octets)), counted) as peer:
        client = peer.client(Timeouts(2.0, 0.3))
        await client.connect()
        first = (await client.read_measurement("1:0-0:96.1.0:2")).value
        second = (await client.read_measurement("1:0-0:96.1.0:2")).value
        await client.disconnect()
    assert isinstance(first, int)
    assert isinstance(second, int)
    assert second > first


async def test_after_a_time_out_the_next_connection_works() -> None:
    async with Peer(at(GET, lambda octets: (1.0, octets))) as peer:
        client = peer.client()
        assert isinstance(await failure(client), ResponseTimeout)
        client.timeouts = LONG
        assert_whole(await read_once(client))
        assert peer.connections == 2


# ---- the connection goes


@pytest.mark.parametrize("how", ["close", "reset"])
async def test_a_meter_that_ends_the_connection_at_once(how: Literal["close", "reset"]) -> None:
    async with Peer(greeting=(how,)) as peer:
        error = await failure(peer.client(LONG))
    assert isinstance(error, (ConnectionLost, ConnectFailed))


@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.parametrize("place", [UA, AARE, GET])
@pytest.mark.parametrize("share", [0, 2])
async def test_a_meter_that_ends_the_connection_midway(how: Literal["close", "reset"], place: int, share: int) -> None:
    def cut(octets: bytes) -> Iterable[Step]:
        return (octets[: len(octets) // share] if share else b"", how)

    async with Peer(at(place, cut)) as peer:
        client = peer.client(LONG)
        error = await failure(client)
        assert isinstance(error, ConnectionLost)
        assert f"127.0.0.1:{peer.port}" in str(error)
        assert_whole(await read_once(client))


async def test_a_connection_lost_between_two_reads_is_noticed() -> None:
    async with Peer() as peer:
        client = peer.client(LONG)
        await client.connect()
        for writer in peer.open:
            writer.close()
        async with asyncio.timeout(5):
            while client.connected:
                await asyncio.sleep(0.005)
        with pytest.raises(MeterError):
            await client.read_measurements()
        await client.disconnect()


@pytest.mark.parametrize(("place", "kind"), [(UA, AssociationRefused), (AARE, ConnectionLost), (GET, ConnectionLost)])
async def test_a_meter_that_answers_dm(place: int, kind: type[MeterError]) -> None:
    dm = Frame(b"\x03", b"\x03", Control.DM | POLL_FINAL).encode()
    async with Peer(at(place, lambda octets: (dm,))) as peer:
        assert isinstance(await failure(peer.client(LONG)), kind)


async def test_a_cancelled_connect_leaves_no_socket() -> None:
    async with Peer(at(UA, lambda octets: (b"",))) as peer:
        task = asyncio.create_task(peer.client(LONG).connect())
        async with asyncio.timeout(5):
            while not peer.answers:
                await asyncio.sleep(0.005)
            task.cancel()
            await asyncio.wait([task])
            while peer.open:
                await asyncio.sleep(0.005)
        assert task.cancelled()


# ---- garbage


@pytest.mark.parametrize("noise", NOISE.values(), ids=NOISE.keys())
@pytest.mark.parametrize("place", [UA, AARE, GET])
async def test_garbage_before_and_behind_an_answer_is_skipped(noise: bytes, place: int) -> None:
    async with Peer(at(place, lambda octets: (noise + octets + noise,))) as peer:
        # A header that promises a long frame may hide the answer once: then it is asked for again.
        assert_whole(await read_once(peer.client(Timeouts(2.0, 0.5))))


@pytest.mark.parametrize("noise", NOISE.values(), ids=NOISE.keys())
@pytest.mark.parametrize("place", [UA, AARE, GET])
async def test_garbage_inside_an_answer_costs_one_repetition(noise: bytes, place: int) -> None:
    async with Peer(at(place, lambda octets: (octets[:9] + noise + octets[9:],))) as peer:
        assert_whole(await read_once(peer.client(Timeouts(2.0, 0.3))))


async def test_garbage_on_connection_is_skipped() -> None:
    async with Peer(greeting=(b"CONNECT 9600\r\n~~~\x7e\x7e",)) as peer:
        assert_whole(await read_once(peer.client(Timeouts(2.0, 0.5))))


@pytest.mark.parametrize(
    "noise", [b"\x00\x01\x00\x01\x00", b"NEXERRORNO-1", bytes(8), b"\x00\x01\x00\x02\x00\x01\x00\x00"]
)
async def test_garbage_before_a_wrapper_is_skipped(noise: bytes) -> None:
    async with Peer(at(1, lambda octets: (noise + octets,)), framing="wrapper") as peer:
        assert_whole(await read_once(peer.client(LONG)))


class WatchedAddress(MeterAddress):
    """An address whose link can be looked into."""

    def link(self) -> HdlcLink:
        link = super().link()
        assert isinstance(link, HdlcLink)
        LINKS.append(link)
        return link


LINKS: list[HdlcLink] = []


@pytest.mark.parametrize("place", [UA, GET])
@pytest.mark.parametrize(
    "garbage",
    [bytes(range(256)) * 64, b"\x7e" * 16_384, bytes.fromhex("7ea7ff0303") * 4096, b"\x7e\xa0\x07" * 5000],
    ids=["all octets", "flags", "long headers", "short headers"],
)
async def test_endless_garbage_ends_in_time_within_bounds(place: int, garbage: bytes) -> None:
    held: list[int] = []

    def look(_: Discarded) -> None:
        held.append(len(LINKS[-1]._decoder._buffer))

    async with Peer(at(place, lambda octets: itertools.repeat(garbage), always=True)) as peer:
        address = WatchedAddress("127.0.0.1", peer.port, password=PASSWORD)
        client = DLMSClient(address, load_model("generic"), Timeouts(2.0, 0.1), look)
        started = time.monotonic()
        error = await failure(client, within=10.0)
    assert isinstance(error, ResponseTimeout)
    assert time.monotonic() - started < 5.0
    assert max(held, default=0) <= MAX_FRAME + 2


# ---- well-formed, and yet no answer


async def test_an_undefined_object_among_good_ones_costs_only_itself() -> None:
    async with Peer() as peer:
        client = peer.client(LONG)
        await client.connect()
        readout = await client.read_measurements(["voltage_l1", "3:1-0:99.99.0:2", "active_energy"])
        await client.disconnect()
    assert list(readout.values) == ["voltage_l1", "active_energy"]
    assert isinstance(readout.errors["3:1-0:99.99.0:2"], DataAccessError)


async def test_one_object_under_two_names_leaves_the_others_their_values() -> None:
    async with Peer() as peer:
        client = peer.client(LONG)
        await client.connect()
        readout = await client.read_measurements(["voltage_l1", "1-0:32.7.0", "active_energy"])
        alone = await client.read_measurements(["active_energy"])
        await client.disconnect()
    assert not readout.errors
    assert readout.values["voltage_l1"] == readout.values["1-0:32.7.0"]
    assert readout.values["active_energy"] == alone.values["active_energy"]


def instead_of(tag: int, octets: bytes) -> Answer:
    return lambda apdu: octets if apdu[0] == tag else None


@pytest.mark.parametrize("framing", ["hdlc", "wrapper"])
@pytest.mark.parametrize(
    "refusal", [ExceptionResponse(1, 1).encode(), ConfirmedServiceError(1, 6, 4).encode()], ids=["exception", "service"]
)
async def test_an_error_in_place_of_an_aare_is_a_service_error(framing: str, refusal: bytes) -> None:
    async with Peer(answer=instead_of(AARQ, refusal), framing=framing) as peer:
        assert isinstance(await failure(peer.client(LONG)), ServiceError)


@pytest.mark.parametrize("aare", ["61", "6100", "6103a20101", "61ff", "610fa109060760857405080101a203020100"])
async def test_a_malformed_aare_is_the_meters_fault(aare: str) -> None:
    async with Peer(answer=instead_of(AARQ, bytes.fromhex(aare))) as peer:
        assert isinstance(await failure(peer.client(LONG)), RemoteProtocolError)


async def test_a_refused_get_leaves_the_association_open() -> None:
    refused = ExceptionResponse(2, 2).encode()
    async with Peer(answer=lambda apdu: refused if apdu[0] == GET_REQUEST else None) as peer:
        client = peer.client(LONG)
        await client.connect()
        readout = await client.read_measurements()
        assert client.connected
        await client.disconnect()
    assert readout.values == {}
    assert len(readout.errors) == 5
    assert all(isinstance(error, ServiceError) for error in readout.errors.values())


async def test_a_refused_list_is_read_one_by_one_from_then_on() -> None:
    asked: list[int] = []

    def no_lists(apdu: bytes) -> bytes | None:
        if apdu[0] == GET_REQUEST:
            asked.append(apdu[1])
            if apdu[1] == 3:
                return ExceptionResponse(1, 2).encode()
        return None

    async with Peer(answer=no_lists) as peer:
        client = peer.client(LONG)
        await client.connect()
        assert_whole(await client.read_measurements())
        assert_whole(await client.read_measurements())
        await client.disconnect()
    # One list refused; then values with scalers, then values alone.
    assert asked == [3] + [1] * 10 + [1] * 5


@pytest.mark.parametrize(
    "response",
    [
        lambda apdu: bytes((0xC4, 3, apdu[2], 1, 0)),
        lambda apdu: bytes((0xC4, 9, apdu[2], 0, 0)),
        lambda apdu: bytes((0xC4,)),
        lambda apdu: bytes((0xC4, 3, apdu[2], 10)) + b"\x00\x09\x84\xff\xff\xff\xff" * 10,
        lambda apdu: bytes((0xC4, 3, apdu[2], 10)) + b"\x00\x01\xff" * 10,
        lambda apdu: GetResponseBlock(apdu[2] & 15, False, 7, b"\x0a").encode(),
        lambda apdu: GetResponseBlock(apdu[2] & 15, False, 1, b"").encode(),
    ],
    ids=["too few", "unknown type", "cut short", "huge string", "cut array", "block 7", "empty block"],
)
async def test_a_malformed_answer_is_the_meters_fault(response: Callable[[bytes], bytes]) -> None:
    async with Peer(answer=lambda apdu: response(apdu) if apdu[0] == GET_REQUEST else None) as peer:
        assert isinstance(await failure(peer.client(LONG)), RemoteProtocolError)


async def test_an_answer_to_another_request_is_no_answer() -> None:
    def other(apdu: bytes) -> bytes | None:
        if apdu[0] != GET_REQUEST:
            return None
        invoke_id = (GetRequest.decode(apdu).invoke_id + 5) & 15
        return bytes((0xC4, 1, 0xC0 | invoke_id, 1, 4))

    async with Peer(answer=other) as peer:
        assert isinstance(await failure(peer.client()), ResponseTimeout)


async def test_a_strange_scaler_costs_only_its_own_measurement() -> None:
    def strange(apdu: bytes) -> bytes | None:
        if apdu[0] != GET_REQUEST or apdu[1] != 3:
            return None
        good = b"\x00\x12\x00\x64\x00\x02\x02\x0f\xff\x16\x23"
        return bytes((0xC4, 3, apdu[2], 4)) + good + b"\x00\x12\x00\x64\x00\x09\x02\x0f\xff"

    async with Peer(answer=strange) as peer:
        client = peer.client(LONG)
        await client.connect()
        readout = await client.read_measurements(["voltage_l1", "current_l1"])
        await client.disconnect()
    assert readout.values["voltage_l1"].value == 10.0
    assert isinstance(readout.errors["current_l1"], RemoteProtocolError)


async def test_a_strange_object_list_is_the_meters_fault() -> None:
    async with Peer(
        answer=lambda apdu: bytes((0xC4, 1, apdu[2], 0, 1, 1, 0x11, 5)) if apdu[0] == 0xC0 else None
    ) as peer:
        client = peer.client(LONG)
        await client.connect()
        with pytest.raises(RemoteProtocolError):
            await client.read_objects()
        await client.disconnect()


async def test_goodbye_to_a_silent_meter_takes_no_longer_than_two_time_outs() -> None:
    async with Peer(at(GET, lambda octets: (b"",), always=True)) as peer:
        client = peer.client()
        await client.connect()
        started = time.monotonic()
        await client.disconnect()
        assert time.monotonic() - started < 1.0
        assert not client.connected
