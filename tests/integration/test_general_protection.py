"""An association that speaks general-ciphering and general-signing, with a simulated meter."""

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
    Keys,
    LogicalName,
    Mechanism,
    ReservedCounter,
    SecurityContext,
    SecurityPolicy,
    SecuritySuite,
)
from meterbridge.dlms.security import Agreement, KeyChoice, KeyId, Wrapping
from meterbridge.errors import MeterError
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
TITLE = b"MTB00001"
CUSTOMER = AttributeDescriptor(1, LogicalName.parse("0-0:96.1.1"), 2)
PROFILE = AttributeDescriptor(7, LogicalName.parse("1-0:99.1.0"), 2)
SUITES = (SecuritySuite.P256_AES_128, SecuritySuite.P384_AES_256)
GENERAL = (KeyId.GLOBAL_UNICAST_ENCRYPTION, Wrapping.MASTER, Agreement.ONE_PASS, Agreement.STATIC_UNIFIED)


def key_pairs(suite: SecuritySuite) -> tuple[Keys, Keys]:
    """Keys of client and meter."""
    a, b, c, d = (ec.generate_private_key(suite.curve) for _ in range(4))
    size = suite.key_size
    shared = Keys(bytes(range(size)), bytes(range(50, 50 + size)), master=bytes(range(100, 100 + size)))
    client = replace(shared, signing=a, agreement=b, peer_signing=c.public_key(), peer_agreement=d.public_key())
    meter = replace(shared, signing=c, agreement=d, peer_signing=a.public_key(), peer_agreement=b.public_key())
    return client, meter


@asynccontextmanager
async def simulated(security: SecurityOptions, framing: str, max_pdu: int = 1024) -> AsyncIterator[MeterAddress]:
    identity = Identity(serial="4711", max_pdu=max_pdu, profile_entries=40)
    meter = SimulatedMeter(Load(LoadOptions(seed=5)), identity, security=security.of_meter(4711))
    server = MeterServer(meter, ServerOptions(framing), clock=lambda: NOW)
    await server.start("127.0.0.1", 0)
    try:
        yield MeterAddress("127.0.0.1", server.port, framing)
    finally:
        await server.close()


def client(address: MeterAddress, context: SecurityContext, mechanism: Mechanism = Mechanism.HLS_GMAC) -> DLMSClient:
    credentials = Credentials(mechanism, b"secret", context)
    address = replace(address, credentials=credentials)
    return DLMSClient(address, load_model("generic"), Timeouts(2, 2), counter=ReservedCounter(1))


async def works(reader: DLMSClient) -> None:
    await reader.connect()
    try:
        for _ in range(2):
            quantity = await reader.read_measurement("1-0:32.7.0")
            assert 200 < float(str(quantity.value)) < 260
        [rows] = await reader.get([PROFILE])
        assert len(rows) == 40
        long = Data(DataType.OCTET_STRING, bytes(range(256)) * 3)
        await reader.set(CUSTOMER, long)
        assert await reader.get([CUSTOMER]) == [long.value]
    finally:
        await reader.disconnect()


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("general_key", GENERAL)
@pytest.mark.parametrize("suite", SUITES)
@pytest.mark.parametrize(("framing", "max_pdu"), [("hdlc", 400), ("wrapper", 1024)])
async def test_every_key_and_suite(
    framing: str, max_pdu: int, suite: SecuritySuite, general_key: KeyChoice, signed: bool
) -> None:
    ours, theirs = key_pairs(suite)
    context = SecurityContext(TITLE, ours, suite, general_key=general_key, signed=signed)
    async with simulated(SecurityOptions(keys=theirs, suite=suite, signed=signed), framing, max_pdu) as address:
        await works(client(address, context))


@pytest.mark.parametrize("policy", [SecurityPolicy.AUTHENTICATED, SecurityPolicy.ENCRYPTED])
async def test_identified_keys_need_no_pairs(policy: SecurityPolicy) -> None:
    keys = Keys(bytes(range(16)), bytes(range(50, 66)))
    context = SecurityContext(TITLE, keys, policy=policy, general_key=KeyId.GLOBAL_UNICAST_ENCRYPTION)
    async with simulated(SecurityOptions(keys=keys, policy=policy), "wrapper") as address:
        await works(client(address, context))


@pytest.mark.parametrize("suite", SUITES)
async def test_signing_without_ciphering(suite: SecuritySuite) -> None:
    ours, theirs = key_pairs(suite)
    context = SecurityContext(TITLE, ours, suite, SecurityPolicy.NONE, signed=True)
    demands = SecurityOptions(Mechanism.HLS_ECDSA, theirs, suite, SecurityPolicy.NONE, signed=True)
    async with simulated(demands, "wrapper") as address:
        await works(client(address, context, Mechanism.HLS_ECDSA))


async def test_another_master_key_is_refused() -> None:
    keys = Keys(bytes(range(16)), bytes(range(50, 66)), master=bytes(16))
    context = SecurityContext(TITLE, keys, general_key=Wrapping.MASTER)
    async with simulated(SecurityOptions(keys=replace(keys, master=b"\1" * 16)), "wrapper") as address:
        with pytest.raises(MeterError, match="deciphering"):
            await client(address, context).connect()
    async with simulated(SecurityOptions(keys=keys), "wrapper") as address:
        await works(client(address, context))


@pytest.mark.parametrize("wrong", ["signing", "agreement", "peer_signing", "peer_agreement"])
@pytest.mark.parametrize("general_key", [KeyId.GLOBAL_UNICAST_ENCRYPTION, Agreement.ONE_PASS])
async def test_a_strangers_key_is_refused(wrong: str, general_key: KeyId | Agreement) -> None:
    suite = SecuritySuite.P256_AES_128
    ours, theirs = key_pairs(suite)
    stranger = ec.generate_private_key(suite.curve)
    keys = {
        "signing": replace(ours, signing=stranger),
        "agreement": replace(ours, agreement=stranger),
        "peer_signing": replace(ours, peer_signing=stranger.public_key()),
        "peer_agreement": replace(ours, peer_agreement=stranger.public_key()),
    }[wrong]
    context = SecurityContext(TITLE, keys, suite, general_key=general_key, signed=True)
    async with simulated(SecurityOptions(keys=theirs, suite=suite, signed=True), "wrapper") as address:
        reader = client(address, context)
        if wrong.endswith("agreement") and isinstance(general_key, KeyId):
            await works(reader)
            return
        with pytest.raises(MeterError):
            await reader.connect()
        assert not reader.connected


async def test_a_meter_that_demands_signatures_refuses_what_is_not_signed() -> None:
    suite = SecuritySuite.P256_AES_128
    ours, theirs = key_pairs(suite)
    async with simulated(SecurityOptions(keys=theirs, suite=suite, signed=True), "wrapper") as address:
        with pytest.raises(MeterError, match="deciphering"):
            await client(address, SecurityContext(TITLE, ours, suite)).connect()
