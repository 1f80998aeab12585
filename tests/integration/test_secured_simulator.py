"""Our client against our simulated meter: every mechanism, policy, suite and form; and what must be refused."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from meterbridge.dlms import (
    AttributeDescriptor,
    Credentials,
    Data,
    DataType,
    HdlcParameters,
    Keys,
    LogicalName,
    Mechanism,
    MethodDescriptor,
    ReservedCounter,
    SecurityContext,
    SecurityPolicy,
    SecuritySuite,
)
from meterbridge.errors import (
    AssociationRefused,
    AuthenticationFailed,
    ConfigurationError,
    MeterError,
    RemoteProtocolError,
)
from meterbridge.meter import DLMSClient, MeterAddress, Timeouts, load_model
from meterbridge.simulator import (
    Identity,
    Load,
    LoadOptions,
    MeterServer,
    SecurityOptions,
    ServerOptions,
    SimulatedMeter,
)

NOW = 1_764_158_400.0
SECRET = b"secret of both"
TITLE = b"MTB00001"
EK, AK = bytes(range(16)), bytes(range(0xD0, 0xE0))
KEYS = Keys(EK, AK)
COUNTER_OBJECT = LogicalName.parse("0-0:43.1.0")
OBJECT_LIST = AttributeDescriptor(15, LogicalName.parse("0-0:40.0.0"), 2)
CUSTOMER = AttributeDescriptor(1, LogicalName.parse("0-0:96.1.1"), 2)
BREAKER = AttributeDescriptor(70, LogicalName.parse("0-0:96.3.10"), 2)
BREAKER_OFF = MethodDescriptor(70, BREAKER.logical_name, 1)
PROFILE = AttributeDescriptor(7, LogicalName.parse("1-0:99.1.0"), 2)


@asynccontextmanager
async def simulated(
    security: SecurityOptions,
    framing: str = "hdlc",
    max_pdu: int = 1024,
    password: bytes = b"00000000",
    general_blocks: bool = False,
) -> AsyncIterator[tuple[MeterAddress, SimulatedMeter]]:
    identity = Identity(
        serial="4711", max_pdu=max_pdu, profile_entries=40, password=password, general_blocks=general_blocks
    )
    meter = SimulatedMeter(Load(LoadOptions(seed=5)), identity, security=security.of_meter(4711))
    server = MeterServer(meter, ServerOptions(framing), clock=lambda: NOW)
    await server.start("127.0.0.1", 0)
    try:
        yield MeterAddress("127.0.0.1", server.port, framing, hdlc=HdlcParameters(128, 128)), meter
    finally:
        await server.close()


def client(
    address: MeterAddress, credentials: Credentials, start: int = 1, *, counter_object: LogicalName | None = None
) -> DLMSClient:
    return DLMSClient(
        replace(address, credentials=credentials),
        load_model("generic"),
        Timeouts(2, 2),
        counter=ReservedCounter(start),
        counter_object=counter_object,
    )


async def reads(reader: DLMSClient) -> list[int]:
    await reader.connect()
    try:
        values = [await reader.read_measurement("1-0:32.7.0") for _ in range(2)]
        assert 200 < float(str(values[0].value)) < 260
        [objects, rows] = await reader.get([OBJECT_LIST, PROFILE])
        assert len(rows) == 40
        return [row[0] for row in objects]
    finally:
        await reader.disconnect()


@pytest.mark.parametrize("framing", ["hdlc", "wrapper"])
@pytest.mark.parametrize("policy", [SecurityPolicy(policy) for policy in (0, 0x10, 0x20, 0x30)])
@pytest.mark.parametrize(
    "mechanism",
    [Mechanism.LLS, Mechanism.HLS_MD5, Mechanism.HLS_SHA1, Mechanism.HLS_GMAC, Mechanism.HLS_SHA256],
)
async def test_every_mechanism_and_policy(mechanism: Mechanism, policy: SecurityPolicy, framing: str) -> None:
    options = SecurityOptions(mechanism, KEYS, policy=policy, secret=SECRET)
    credentials = Credentials(mechanism, SECRET, SecurityContext(TITLE, KEYS, policy=policy))
    async with simulated(options, framing, max_pdu=200) as (address, _):
        assert 15 in await reads(client(address, credentials))


@pytest.mark.parametrize("general", [False, True])
@pytest.mark.parametrize("dedicated", [False, True])
@pytest.mark.parametrize("suite", SecuritySuite)
async def test_every_suite_and_form(suite: SecuritySuite, dedicated: bool, general: bool) -> None:
    keys = Keys(bytes(range(suite.key_size)), bytes(range(0x80, 0x80 + suite.key_size)))
    context = SecurityContext(TITLE, keys, suite, general=general)
    credentials = Credentials(Mechanism.HLS_GMAC, None, context, dedicated=dedicated)
    async with simulated(SecurityOptions(keys=keys, suite=suite), password=b"") as (address, _):
        assert 15 in await reads(client(address, credentials))


@pytest.mark.parametrize("suite", [SecuritySuite.P256_AES_128, SecuritySuite.P384_AES_256])
async def test_ecdsa(suite: SecuritySuite) -> None:
    ours, theirs, stranger = (ec.generate_private_key(suite.curve) for _ in range(3))
    shared = Keys(bytes(suite.key_size), bytes(suite.key_size))
    keys = replace(shared, signing=theirs, peer_signing=ours.public_key())
    async with simulated(SecurityOptions(Mechanism.HLS_ECDSA, keys, suite)) as (address, _):
        honest = replace(shared, signing=ours, peer_signing=theirs.public_key())
        counter = 1
        for wrong in (replace(honest, signing=stranger), replace(honest, peer_signing=stranger.public_key())):
            context = SecurityContext(TITLE, wrong, suite)
            with pytest.raises(AuthenticationFailed):
                await client(address, Credentials(Mechanism.HLS_ECDSA, None, context), counter).connect()
            counter += 1000
        context = SecurityContext(TITLE, honest, suite)
        assert 15 in await reads(client(address, Credentials(Mechanism.HLS_ECDSA, None, context), counter))


@pytest.mark.parametrize("framing", ["hdlc", "wrapper"])
@pytest.mark.parametrize("general_blocks", [False, True])
@pytest.mark.parametrize("max_pdu", [100, 400])
async def test_what_is_ciphered_goes_in_blocks_both_ways(framing: str, general_blocks: bool, max_pdu: int) -> None:
    long = Data(DataType.OCTET_STRING, bytes(range(256)) * 4)
    async with simulated(GMAC, framing, max_pdu, general_blocks=general_blocks) as (address, _):
        reader = client(address, CREDENTIALS)
        await reader.connect()
        try:
            [rows] = await reader.get([PROFILE])
            assert len(rows) == 40
            await reader.set(CUSTOMER, long)
            assert await reader.get([CUSTOMER]) == [long.value]
            assert await reader.action(BREAKER_OFF, Data(DataType.INTEGER, 0)) is None
            assert await reader.get([BREAKER]) == [False]
        finally:
            await reader.disconnect()


GMAC = SecurityOptions(keys=KEYS)
CREDENTIALS = Credentials(Mechanism.HLS_GMAC, None, SecurityContext(TITLE, KEYS))


async def test_a_counter_behind_the_meters_is_brought_up_by_what_the_meter_says() -> None:
    async with simulated(GMAC) as (address, meter):
        await reads(client(address, CREDENTIALS, 5000))
        assert meter.security is not None
        last = meter.security.last_counter
        assert last > 5000
        counter = ReservedCounter(3)
        reader = DLMSClient(
            replace(address, credentials=CREDENTIALS), load_model("generic"), Timeouts(2, 2), counter=counter
        )
        await reads(reader)
        assert counter.next_counter() > last


async def test_a_counter_is_taken_from_the_meters_object_by_the_public_client() -> None:
    async with simulated(GMAC) as (address, meter):
        await reads(client(address, CREDENTIALS, 7000))
        assert meter.security is not None
        refusals: list[object] = []
        before = meter.security.last_counter
        reader = client(address, CREDENTIALS, 0, counter_object=COUNTER_OBJECT)
        await reads(reader)
        assert meter.security.last_counter > before
        assert refusals == []


async def test_a_counter_near_the_end_is_not_believed() -> None:
    async with simulated(GMAC) as (address, meter):
        assert meter.security is not None
        meter.security.received.last["encryption"] = 0xFFFFFFF0
        counter = ReservedCounter(9)
        reader = DLMSClient(
            replace(address, credentials=CREDENTIALS), load_model("generic"), Timeouts(2, 2), counter=counter
        )
        with pytest.raises(RemoteProtocolError, match="believed"):
            await reader.connect()
        assert counter.next_counter() < 100
        assert not reader.connected


@pytest.mark.parametrize(
    "keys", [replace(KEYS, encryption=bytes(16)), replace(KEYS, authentication=bytes(16))], ids=["EK", "AK"]
)
async def test_wrong_keys_are_refused(keys: Keys) -> None:
    async with simulated(GMAC) as (address, _):
        reader = client(address, replace(CREDENTIALS, security=SecurityContext(TITLE, keys)))
        with pytest.raises(AuthenticationFailed, match="deciphering error"):
            await reader.connect()
        assert not reader.connected


async def test_a_wrong_secret_is_refused() -> None:
    options = SecurityOptions(Mechanism.HLS_SHA256, KEYS, policy=SecurityPolicy.NONE, secret=SECRET)
    async with simulated(options) as (address, _):
        context = SecurityContext(TITLE, KEYS, policy=SecurityPolicy.NONE)
        reader = client(address, Credentials(Mechanism.HLS_SHA256, b"another", context))
        with pytest.raises(AuthenticationFailed, match="does not take our authentication"):
            await reader.connect()


@pytest.mark.parametrize(
    ("credentials", "words"),
    [
        (None, "context"),
        (Credentials(Mechanism.HLS_MD5, SECRET, SecurityContext(TITLE, KEYS)), "mechanism name not recognised"),
        (Credentials(None, None, SecurityContext(TITLE, KEYS)), "authentication required"),
    ],
)
async def test_less_than_the_meter_demands_is_refused(credentials: Credentials | None, words: str) -> None:
    async with simulated(GMAC) as (address, _):
        reader = client(replace(address, password=b"00000000"), credentials or Credentials(Mechanism.LLS, b"00000000"))
        with pytest.raises(AssociationRefused, match=words):
            await reader.connect()


async def test_apdus_less_protected_than_the_meter_demands_are_refused() -> None:
    async with simulated(GMAC) as (address, _):
        context = SecurityContext(TITLE, KEYS, policy=SecurityPolicy.AUTHENTICATED)
        with pytest.raises(MeterError):
            await client(address, replace(CREDENTIALS, security=context)).connect()


async def test_a_counter_is_demanded() -> None:
    with pytest.raises(ConfigurationError, match="invocation counter"):
        DLMSClient(MeterAddress("127.0.0.1", credentials=CREDENTIALS), load_model("generic"))


async def test_many_associations_one_after_another() -> None:
    async with simulated(GMAC) as (address, _):
        counter = ReservedCounter(1)
        reader = DLMSClient(
            replace(address, credentials=CREDENTIALS), load_model("generic"), Timeouts(2, 2), counter=counter
        )
        for _ in range(3):
            await reads(reader)
