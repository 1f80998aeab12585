"""A real Mosquitto that asks for a certificate, a user and a password; the certificates are made here."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from meterbridge.delivery import BrokerRoute, Disconnected, Endpoint, Event, LineLimits, Outbox, Publisher, Tls
from meterbridge.model import MeterId
from tests.broker import Mosquitto

FAST = LineLimits(ack_timeout_s=2.0, connect_timeout_s=3.0, backoff_first_s=0.05, backoff_max_s=0.2)


def certify(folder: Path, name: str, issuer: tuple[x509.Name, ec.EllipticCurvePrivateKey] | None) -> x509.Name:
    """Write name.pem and name.key, signed by `issuer` or by itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    signer, signing = issuer or (subject, key)
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(signer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
    )
    (folder / f"{name}.pem").write_bytes(
        builder.sign(signing, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    )
    (folder / f"{name}.key").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return subject


def load_key(path: Path) -> ec.EllipticCurvePrivateKey:
    key = serialization.load_pem_private_key(path.read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return key


@pytest.fixture
def secured(tmp_path_factory: pytest.TempPathFactory, free_port: Callable[[], int]) -> tuple[Mosquitto, Path]:
    folder = tmp_path_factory.mktemp("tls")
    ca = certify(folder, "ca", None)
    issuer = (ca, load_key(folder / "ca.key"))
    for name in ("server", "client"):
        certify(folder, name, issuer)
    certify(folder, "stranger", None)
    broker = Mosquitto(folder, free_port())
    program = shutil.which("mosquitto_passwd")
    if program is None:
        pytest.skip("needs mosquitto_passwd")
    subprocess.run([program, "-b", "-c", folder / "passwd", "user", "secret"], check=True, capture_output=True)
    (folder / "passwd").chmod(0o600)
    config = folder / "mosquitto.conf"
    config.write_text(
        config.read_text().replace("allow_anonymous true", "allow_anonymous false")
        + f"password_file {folder}/passwd\ncafile {folder}/ca.pem\ncertfile {folder}/server.pem\n"
        f"keyfile {folder}/server.key\nrequire_certificate true\n"
    )
    return broker, folder


async def deliver(folder: Path, endpoint: Endpoint, seconds: float) -> tuple[int, list[Event]]:
    """Rows left of 500 after so many seconds at most, and what happened."""
    events: list[Event] = []
    outbox = await Outbox.open(folder / "outbox.db", interval_s=0.01)
    publisher = Publisher(outbox, FAST, events.append)
    route = BrokerRoute(endpoint)
    publisher.add(route)
    publisher.start()
    for number in range(500):
        outbox.put(MeterId(1), route.name, "m1", number, b'{"ts":%d}' % number)
    await outbox.flush()
    try:
        async with asyncio.timeout(seconds):
            while outbox.stats().rows:
                await asyncio.sleep(0.02)
    except TimeoutError:
        pass
    left = outbox.stats().rows
    await publisher.stop(0.5)
    await outbox.close()
    return left, events


@pytest.mark.parametrize("version", [4, 5])
async def test_tls_with_client_certificate_user_and_password(
    tmp_path: Path, secured: tuple[Mosquitto, Path], version: int
) -> None:
    broker, folder = secured
    broker.start()
    try:
        tls = Tls(folder / "ca.pem", folder / "client.pem", folder / "client.key")
        good = Endpoint(broker.host, broker.port, "tls", "user", "secret", version, tls)
        left, _ = await deliver(tmp_path, good, 15)
        assert left == 0
    finally:
        broker.stop()


@pytest.mark.parametrize("wrong", ["password", "ca", "certificate"])
async def test_what_does_not_fit_is_refused_and_said(
    tmp_path: Path, secured: tuple[Mosquitto, Path], wrong: str
) -> None:
    broker, folder = secured
    broker.start()
    try:
        tls = Tls(
            folder / ("stranger.pem" if wrong == "ca" else "ca.pem"),
            None if wrong == "certificate" else folder / "client.pem",
            None if wrong == "certificate" else folder / "client.key",
        )
        endpoint = Endpoint(broker.host, broker.port, "tls", "user", "bad" if wrong == "password" else "secret", 4, tls)
        left, events = await deliver(tmp_path, endpoint, 1.0)
        assert left == 500
        assert any(isinstance(event, Disconnected) and event.reason for event in events)
        assert not any("bad" in repr(event) or "secret" in repr(event) for event in events)
    finally:
        broker.stop()
