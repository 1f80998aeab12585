"""Independent DLMS clients read our simulated meters: what they decode must be what the simulated load says.

The clock stands still, so that the octets on the wire, and what a client may stumble over, are the same every time.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from meterbridge.dlms import DataAccessResult
from meterbridge.simulator import FleetOptions, Identity, Load, LoadOptions, MeterServer, ServerOptions, SimulatedMeter

NOW = 1_764_158_400.0  # 2025-11-26 12:00:00 UTC
OPTIONS = LoadOptions(seed=2024, hertz=60)
EXPECTED = Load(OPTIONS).at(NOW)
FRAMINGS = ("hdlc", "wrapper")
FIVE = {
    "1.1.32.7.0.255": (round(EXPECTED.voltage[0], 1), -1),
    "1.1.31.7.0.255": (round(EXPECTED.current[0], 2), -2),
    "1.1.14.7.0.255": (round(EXPECTED.frequency, 2), -2),
    "1.1.1.7.0.255": (round(EXPECTED.active_import, 1), -1),
    "1.1.1.8.0.255": (EXPECTED.energies.active_import, 0),
}
DEVICE_NAME = b"MBS0000000004711"


async def against_simulator(
    client: Callable[[int], None], framing: str, *, max_pdu: int = 1024, max_information: int = 128
) -> None:
    meter = SimulatedMeter(Load(OPTIONS), Identity(serial="4711", max_pdu=max_pdu, profile_entries=96))
    server = MeterServer(meter, ServerOptions(framing, max_information=max_information), clock=lambda: NOW)
    await server.start("127.0.0.1", 0)
    try:
        await asyncio.to_thread(client, server.port)
    finally:
        await server.close()


def test_the_fleet_is_made_of_such_meters() -> None:
    assert FleetOptions().password == "00000000"
    assert Identity().client == Identity().server == 1


# ---------------------------------------------------------------------------------------------------------------------
# gurux-dlms


class GuruxSession:
    """gurux-dlms builds and parses; this moves octets."""

    def __init__(
        self, port: int, framing: str, client: int = 1, password: str = "00000000", logical_names: bool = True
    ) -> None:
        gurux = pytest.importorskip("gurux_dlms")
        enums = pytest.importorskip("gurux_dlms.enums")
        secure = pytest.importorskip("gurux_dlms.secure")
        authentication = enums.Authentication.LOW if password else enums.Authentication.NONE
        interface = enums.InterfaceType.HDLC if framing == "hdlc" else enums.InterfaceType.WRAPPER
        self.reply_type = gurux.GXReplyData
        self.buffer_type = gurux.GXByteBuffer
        self.client = secure.GXDLMSSecureClient(logical_names, client, 1, authentication, password, interface)
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=5)

    def exchange(self, messages: Any) -> Any:
        """Send messages one by one, asking for what is still due; return the reply."""
        reply = self.reply_type()
        if isinstance(messages, bytes | bytearray):
            messages = [messages]
        for message in messages or []:
            reply.clear()
            self._exchange(message, reply)
            while reply.isMoreData():
                following = self.client.receiverReady(reply)
                if following:
                    self._exchange(following, reply)
        return reply

    def _exchange(self, message: bytes, reply: Any) -> None:
        self.socket.sendall(bytes(message))
        received = self.buffer_type()
        while True:
            data = self.socket.recv(4096)
            assert data, "the simulator closed the connection"
            received.set(data)
            if self.client.getData(received, reply, None):
                return
            received.position = 0

    def open(self) -> None:
        snrm = self.client.snrmRequest()
        if snrm:
            self.client.parseUAResponse(self.exchange(snrm).data)
        self.client.parseAareResponse(self.exchange(self.client.aarqRequest()).data)

    def close(self) -> None:
        self.exchange(self.client.releaseRequest())
        farewell = self.client.disconnectRequest()
        if farewell:
            self.exchange(farewell)
        self.socket.close()

    def read(self, item: Any, attribute: int) -> Any:
        reply = self.exchange(self.client.read(item, attribute))
        assert not reply.error
        return self.client.updateValue(item, attribute, reply.value)

    def write(self, item: Any, attribute: int) -> None:
        assert not self.exchange(self.client.write(item, attribute)).error

    def call(self, messages: Any) -> int:
        return int(self.exchange(messages).error)


@contextmanager
def gurux(port: int, framing: str, **arguments: Any) -> Iterator[GuruxSession]:
    session = GuruxSession(port, framing, **arguments)
    try:
        session.open()
        yield session
        session.close()
    finally:
        session.socket.close()


@pytest.mark.parametrize("framing", FRAMINGS)
async def test_gurux_reads_five_registers_clock_and_names(framing: str) -> None:
    objects = pytest.importorskip("gurux_dlms.objects")

    def client(port: int) -> None:
        with gurux(port, framing) as session:
            for name, (value, scaler) in FIVE.items():
                register = objects.GXDLMSRegister(name)
                session.read(register, 3)
                session.read(register, 2)
                assert register.value == pytest.approx(value), name
                assert register.scaler == pytest.approx(10.0**scaler), name
            clock = objects.GXDLMSClock("0.0.1.0.0.255")
            session.read(clock, 2)
            assert clock.time.value.timestamp() == NOW
            for name, text in (("0.0.42.0.0.255", DEVICE_NAME), ("0.0.96.1.0.255", b"4711")):
                assert bytes(session.read(objects.GXDLMSData(name), 2)) == text

    await against_simulator(client, framing)


@pytest.mark.parametrize("framing", FRAMINGS)
@pytest.mark.parametrize("max_pdu", [100, 1024])
async def test_gurux_reads_a_list_the_objects_and_the_profile(framing: str, max_pdu: int) -> None:
    objects = pytest.importorskip("gurux_dlms.objects")

    def client(port: int) -> None:
        with gurux(port, framing) as session:
            registers = [objects.GXDLMSRegister(name) for name in FIVE]
            values: list[Any] = []
            for message in session.client.readList([(register, 2) for register in registers]):
                reply = session.exchange(message)
                values += reply.value if isinstance(reply.value, list) else []
            assert values == [round(value * 10**-scaler) for value, scaler in FIVE.values()]

            reply = session.exchange(session.client.getObjectsRequest())
            found = {item.logicalName for item in session.client.parseObjects(reply.data, False, False)}
            assert found >= {*FIVE, "0.0.1.0.0.255", "1.0.99.1.0.255", "0.0.40.0.0.255", "0.0.96.3.10.255"}

            profile = objects.GXDLMSProfileGeneric("1.0.99.1.0.255")
            session.read(profile, 3)
            assert len(profile.captureObjects) == 4
            session.read(profile, 7)
            assert profile.entriesInUse == 96
            reply = session.exchange(session.client.readRowsByEntry(profile, 1, 96))
            session.client.updateValue(profile, 2, reply.value)
            assert len(profile.buffer) == 96
            assert profile.buffer[-1][1] == EXPECTED.energies.active_import
            start = dt.datetime.fromtimestamp(NOW - 3600, dt.UTC)
            stop = dt.datetime.fromtimestamp(NOW, dt.UTC)
            reply = session.exchange(session.client.readRowsByRange(profile, start, stop))
            session.client.updateValue(profile, 2, reply.value)
            energies = [Load(OPTIONS).energies(NOW - 3600 + 900 * row).active_import for row in range(5)]
            assert [row[1] for row in profile.buffer] == energies

    await against_simulator(client, framing, max_pdu=max_pdu)


async def test_gurux_reads_segmented_answers() -> None:
    objects = pytest.importorskip("gurux_dlms.objects")

    def client(port: int) -> None:
        with gurux(port, "hdlc") as session:
            reply = session.exchange(session.client.getObjectsRequest())
            assert len(session.client.parseObjects(reply.data, False, False)) > 30
            assert bytes(session.read(objects.GXDLMSData("0.0.42.0.0.255"), 2)) == DEVICE_NAME

    await against_simulator(client, "hdlc", max_information=64)


@pytest.mark.parametrize("framing", FRAMINGS)
async def test_gurux_as_public_client_sees_little(framing: str) -> None:
    objects = pytest.importorskip("gurux_dlms.objects")

    def client(port: int) -> None:
        with gurux(port, framing, client=16, password="") as session:
            assert bytes(session.read(objects.GXDLMSData("0.0.42.0.0.255"), 2)) == DEVICE_NAME
            reply = session.exchange(session.client.getObjectsRequest())
            assert len(session.client.parseObjects(reply.data, False, False)) == 4
            refused = session.exchange(session.client.read(objects.GXDLMSRegister("1.0.1.8.0.255"), 2))
            assert refused.error == DataAccessResult.OBJECT_UNDEFINED

    await against_simulator(client, framing)


@pytest.mark.parametrize("wrong", [{"password": "11111111"}, {"password": ""}, {"client": 2}])
async def test_gurux_is_refused_with_the_wrong_password_or_client(wrong: dict[str, Any]) -> None:
    # Its own exception derives from Exception alone and has no public home.
    def client(port: int) -> None:
        with (
            pytest.raises(Exception, match=r"(?i)rejected|authentication|refused"),
            gurux(port, "hdlc", **wrong),
        ):
            pytest.fail("associated")

    await against_simulator(client, "hdlc")


@pytest.mark.parametrize("framing", FRAMINGS)
@pytest.mark.parametrize("max_pdu", [128, 1024])
async def test_gurux_sets_and_calls(framing: str, max_pdu: int) -> None:
    objects = pytest.importorskip("gurux_dlms.objects")
    kinds = pytest.importorskip("gurux_dlms.enums").DataType
    kept = bytes(range(256)) * 3

    def client(port: int) -> None:
        with gurux(port, framing) as session:
            customer = objects.GXDLMSData("0.0.96.1.1.255")
            customer.setDataType(2, kinds.OCTET_STRING)
            customer.value = kept
            session.write(customer, 2)
            assert bytes(session.read(objects.GXDLMSData("0.0.96.1.1.255"), 2)) == kept

            breaker = objects.GXDLMSDisconnectControl("0.0.96.3.10.255")
            assert session.call(breaker.remoteDisconnect(session.client)) == 0
            assert session.read(breaker, 2) is False
            assert session.call(breaker.remoteReconnect(session.client)) == 0
            assert session.read(breaker, 2) is True

            clock = objects.GXDLMSClock("0.0.1.0.0.255")
            assert session.call(clock.shiftTime(session.client, 300)) == 0
            session.read(clock, 2)
            assert clock.time.value.timestamp() == NOW + 300

            refused = objects.GXDLMSRegister("1.0.1.8.0.255")
            refused.value = 1
            refused.setDataType(2, kinds.UINT32)
            assert session.exchange(session.client.write(refused, 2)).error == DataAccessResult.READ_WRITE_DENIED

    await against_simulator(client, framing, max_pdu=max_pdu)


@pytest.mark.parametrize("framing", FRAMINGS)
async def test_gurux_reads_what_is_set_up(framing: str) -> None:
    objects = pytest.importorskip("gurux_dlms.objects")

    def client(port: int) -> None:
        with gurux(port, framing) as session:
            maximum = objects.GXDLMSExtendedRegister("1.0.1.6.0.255")
            for index in (3, 2, 4, 5):
                session.read(maximum, index)
            assert maximum.value > 0
            demand = objects.GXDLMSDemandRegister("1.0.1.4.0.255")
            for index in (4, 2, 3, 8, 9):
                session.read(demand, index)
            assert (demand.period, demand.numberOfPeriods) == (900, 1)
            calendar = objects.GXDLMSActivityCalendar("0.0.13.0.0.255")
            for index in range(2, 11):
                session.read(calendar, index)
            assert len(calendar.seasonProfileActive) == 2
            scripts = objects.GXDLMSScriptTable("0.0.10.0.106.255")
            session.read(scripts, 2)
            assert [script.id for script in scripts.scripts] == [1, 2]
            limiter = objects.GXDLMSLimiter("0.0.17.0.0.255")
            for index in range(2, 12):
                session.read(limiter, index)
            image = objects.GXDLMSImageTransfer("0.0.44.0.0.255")
            for index in range(2, 8):
                session.read(image, index)
            assert image.imageBlockSize == 128
            push = objects.GXDLMSPushSetup("0.7.25.9.0.255")
            push.logicalName, push.version = "0.0.25.9.0.255", 0
            for index in range(2, 8):
                session.read(push, index)
            assert len(push.pushObjectList) == 3

    await against_simulator(client, framing)


@pytest.mark.parametrize("framing", FRAMINGS)
async def test_gurux_reads_by_short_name(framing: str) -> None:
    def client(port: int) -> None:
        with gurux(port, framing, logical_names=False) as session:
            reply = session.exchange(session.client.getObjectsRequest())
            found = session.client.parseObjects(reply.data, False, False)
            by_name = {item.logicalName: item for item in found}
            for name, (value, _) in FIVE.items():
                register = by_name[name]
                session.read(register, 3)
                session.read(register, 2)
                assert register.value == pytest.approx(value), name
            assert session.read(by_name["0.0.42.0.0.255"], 2) == DEVICE_NAME.decode()
            breaker = by_name["0.0.96.3.10.255"]
            session.exchange(breaker.remoteDisconnect(session.client))
            assert session.read(breaker, 2) is False

    await against_simulator(client, framing)


# ---------------------------------------------------------------------------------------------------------------------
# dlms-cosem


@contextmanager
def dlms_cosem(port: int, framing: str, *, client: int = 1, password: bytes | None = b"00000000") -> Iterator[Any]:
    io = pytest.importorskip("dlms_cosem.io")
    security = pytest.importorskip("dlms_cosem.security")
    client_module = pytest.importorskip("dlms_cosem.client")
    tcp = io.BlockingTcpIO("127.0.0.1", port, timeout=5)
    transport = (io.HdlcTransport if framing == "hdlc" else io.TcpTransport)(
        client_logical_address=client, server_logical_address=1, io=tcp
    )
    authentication = (
        security.NoSecurityAuthentication()
        if password is None
        else security.LowLevelSecurityAuthentication(secret=password)
    )
    reader = client_module.DlmsClient(transport=transport, authentication=authentication, timeout=5)
    try:
        with reader.session():
            yield reader
    finally:
        if tcp.tcp_socket is not None:
            tcp.tcp_socket.close()


def attribute(class_id: int, name: str, index: int) -> Any:
    cosem = pytest.importorskip("dlms_cosem.cosem")
    enumerations = pytest.importorskip("dlms_cosem.enumerations")
    return cosem.CosemAttribute(
        interface=enumerations.CosemInterface(class_id),
        instance=cosem.Obis.from_string(name),
        attribute=index,
    )


@pytest.mark.parametrize("framing", FRAMINGS)
async def test_dlms_cosem_reads_five_registers_clock_and_names(framing: str) -> None:
    utils = pytest.importorskip("dlms_cosem.utils")

    def client(port: int) -> None:
        with dlms_cosem(port, framing) as reader:
            for name, (value, scaler) in FIVE.items():
                raw = utils.parse_as_dlms_data(reader.get(attribute(3, name, 2)))
                assert raw == round(value * 10**-scaler), name
                assert utils.parse_as_dlms_data(reader.get(attribute(3, name, 3)))[0] == scaler, name
            clock = bytes(utils.parse_as_dlms_data(reader.get(attribute(8, "0.0.1.0.0.255", 2))))
            assert clock.hex() == "07e90b1a030c000000000000"
            assert bytes(utils.parse_as_dlms_data(reader.get(attribute(1, "0.0.42.0.0.255", 2)))) == DEVICE_NAME

    await against_simulator(client, framing)


@pytest.mark.parametrize("framing", FRAMINGS)
async def test_dlms_cosem_reads_the_profile_in_blocks(framing: str) -> None:
    utils = pytest.importorskip("dlms_cosem.utils")

    def client(port: int) -> None:
        with dlms_cosem(port, framing) as reader:
            rows = utils.parse_as_dlms_data(reader.get(attribute(7, "1.0.99.1.0.255", 2)))
            assert len(rows) == 96
            assert rows[-1][1] == EXPECTED.energies.active_import

    await against_simulator(client, framing, max_pdu=200)


async def test_dlms_cosem_is_refused_with_the_wrong_password() -> None:
    exceptions = pytest.importorskip("dlms_cosem.exceptions")

    def client(port: int) -> None:
        with (
            pytest.raises(exceptions.DlmsClientException, match="Unable to perform Association"),
            dlms_cosem(port, "wrapper", password=b"wrong"),
        ):
            pytest.fail("associated")

    await against_simulator(client, "wrapper")
