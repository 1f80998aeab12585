"""Independent clients authenticate to our simulated meters with HLS and read them ciphered."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from meterbridge.dlms import Keys, Mechanism, SecurityPolicy, SecuritySuite
from meterbridge.simulator import (
    Identity,
    Load,
    LoadOptions,
    MeterServer,
    SecurityOptions,
    ServerOptions,
    SimulatedMeter,
)
from tests.interop.test_clients_read_simulator import DEVICE_NAME, EXPECTED, FIVE, NOW, OPTIONS, GuruxSession

FRAMINGS = ("hdlc", "wrapper")
KEYS = Keys(bytes(range(16)), bytes(range(0xD0, 0xE0)))
SECRET = b"secret of both"


async def against_simulator(client: Callable[[int], None], framing: str, security: SecurityOptions) -> None:
    identity = Identity(serial="4711", profile_entries=96, max_pdu=500)
    meter = SimulatedMeter(Load(OPTIONS), identity, security=security.of_meter(4711))
    server = MeterServer(meter, ServerOptions(framing), clock=lambda: NOW)
    await server.start("127.0.0.1", 0)
    try:
        await asyncio.to_thread(client, server.port)
    finally:
        await server.close()


def test_the_load_is_the_one_of_the_plain_tests() -> None:
    assert isinstance(OPTIONS, LoadOptions)
    assert EXPECTED.voltage[0] > 0


# ---------------------------------------------------------------------------------------------------------------------
# gurux-dlms


def gurux_session(port: int, framing: str, policy: SecurityPolicy, key: bytes) -> GuruxSession:
    enums = pytest.importorskip("gurux_dlms.enums")
    session = GuruxSession(port, framing)
    client = session.client
    client.authentication = enums.Authentication.HIGH_GMAC
    client.ciphering.systemTitle = bytearray(b"GRX00001")
    client.ciphering.blockCipherKey = bytearray(key)
    client.ciphering.authenticationKey = bytearray(KEYS.authentication or b"")
    client.ciphering.security = enums.Security(policy)
    client.ciphering.invocationCounter = 10
    return session


@pytest.mark.parametrize("policy", [SecurityPolicy(policy) for policy in (0x10, 0x20, 0x30)])
@pytest.mark.parametrize("framing", FRAMINGS)
async def test_gurux_reads_with_gmac(framing: str, policy: SecurityPolicy) -> None:
    objects = pytest.importorskip("gurux_dlms.objects")

    def client(port: int) -> None:
        session = gurux_session(port, framing, policy, KEYS.encryption or b"")
        try:
            session.open()
            session.client.parseApplicationAssociationResponse(
                session.exchange(session.client.getApplicationAssociationRequest()).data
            )
            for name, (value, scaler) in FIVE.items():
                register = objects.GXDLMSRegister(name)
                session.read(register, 3)
                session.read(register, 2)
                assert register.value == pytest.approx(value), name
                assert register.scaler == pytest.approx(10.0**scaler), name
            assert bytes(session.read(objects.GXDLMSData("0.0.42.0.0.255"), 2)) == DEVICE_NAME
            reply = session.exchange(session.client.getObjectsRequest())
            assert len(session.client.parseObjects(reply.data, False, False)) > 30
            session.close()
        finally:
            session.socket.close()

    await against_simulator(client, framing, SecurityOptions(keys=KEYS, policy=policy))


async def test_gurux_with_another_key_is_refused() -> None:
    def client(port: int) -> None:
        session = gurux_session(port, "hdlc", SecurityPolicy.BOTH, bytes(16))
        try:
            # Its own exceptions derive from Exception alone and have no public home.
            with pytest.raises(Exception, match=r"(?i)decipher|rejected|error"):
                session.open()
        finally:
            session.socket.close()

    await against_simulator(client, "hdlc", SecurityOptions(keys=KEYS))


# ---------------------------------------------------------------------------------------------------------------------
# pydlms


def pydlms_reads(port: int, framing: str, mechanism: Mechanism, security: Any, **settings: Any) -> None:
    pydlms = pytest.importorskip("pydlms")
    with pydlms.DlmsClient.tcp(
        "127.0.0.1",
        port,
        client_sap=1,
        hdlc=framing == "hdlc",
        mechanism=pydlms.Mechanism(mechanism),
        password=SECRET,
        security=security,
        timeout=5,
        **settings,
    ) as meter:
        for name, (value, _) in FIVE.items():
            assert float(meter.get_register(name).value) == pytest.approx(value), name


@pytest.mark.parametrize("mechanism", [Mechanism.HLS_MD5, Mechanism.HLS_SHA1, Mechanism.HLS_GMAC, Mechanism.HLS_SHA256])
@pytest.mark.parametrize("framing", FRAMINGS)
async def test_pydlms_reads_with_each_mechanism(framing: str, mechanism: Mechanism) -> None:
    pydlms = pytest.importorskip("pydlms")

    def client(port: int) -> None:
        security = pydlms.SecurityContext(KEYS.encryption, KEYS.authentication, b"PYD00001", invocation_counter=5)
        pydlms_reads(port, framing, mechanism, security)

    await against_simulator(client, framing, SecurityOptions(mechanism, KEYS, secret=SECRET))


@pytest.mark.parametrize("suite", SecuritySuite)
@pytest.mark.parametrize("dedicated", [False, True])
async def test_pydlms_reads_with_each_suite(suite: SecuritySuite, dedicated: bool) -> None:
    pydlms = pytest.importorskip("pydlms")
    keys = Keys(bytes(range(suite.key_size)), bytes(range(0x80, 0x80 + suite.key_size)))

    def client(port: int) -> None:
        security = pydlms.SecurityContext(
            keys.encryption, keys.authentication, b"PYD00001", invocation_counter=5, suite=suite
        )
        if dedicated:
            security.set_dedicated_key(bytes(range(40, 40 + suite.key_size)))
        pydlms_reads(port, "wrapper", Mechanism.HLS_GMAC, security)

    await against_simulator(client, "wrapper", SecurityOptions(keys=keys, suite=suite))


@pytest.mark.parametrize("suite", [SecuritySuite.P256_AES_128, SecuritySuite.P384_AES_256])
async def test_pydlms_reads_with_ecdsa(suite: SecuritySuite) -> None:
    pydlms = pytest.importorskip("pydlms")
    meters, clients = (ec.generate_private_key(suite.curve) for _ in range(2))
    keys = Keys(bytes(suite.key_size), bytes(suite.key_size), signing=meters, peer_signing=clients.public_key())

    def client(port: int) -> None:
        security = pydlms.SecurityContext(
            keys.encryption,
            keys.authentication,
            b"PYD00001",
            invocation_counter=5,
            suite=suite,
        )
        pydlms_reads(
            port,
            "hdlc",
            Mechanism.HLS_ECDSA,
            security,
            signing_key=clients,
            server_public_key=meters.public_key(),
        )

    await against_simulator(client, "hdlc", SecurityOptions(Mechanism.HLS_ECDSA, keys, suite))
