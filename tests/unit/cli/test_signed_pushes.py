"""`decode` and the file of keys with what comes in pairs: signatures verified, agreed keys found."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from typer.testing import CliRunner

from meterbridge.cli.app import app
from meterbridge.cli.key_options import read_key_ring
from meterbridge.dlms import PushDecoder, Reception, ReservedCounter, SecurityContext, SecuritySuite
from meterbridge.dlms.protection import ApduProtection
from meterbridge.dlms.security import Agreement
from meterbridge.errors import ConfigurationError
from tests.unit.dlms import pushes
from tests.unit.dlms.pushes import KEYS, TITLE, in_hdlc, notification

SUITE = SecuritySuite.P256_AES_128
METER_SIGNING, METER_AGREEMENT, OURS, STRANGER = (ec.generate_private_key(SUITE.curve) for _ in range(4))
PLAIN = notification(pushes.AIDON, pushes.TIME)


def pushed(general_key: Agreement | None, signer: ec.EllipticCurvePrivateKey = METER_SIGNING) -> bytes:
    keys = replace(
        KEYS,
        signing=signer,
        agreement=METER_AGREEMENT,
        peer_signing=OURS.public_key(),
        peer_agreement=OURS.public_key(),
    )
    context = SecurityContext(TITLE, keys, SUITE, general_key=general_key, signed=True)
    return b"".join(in_hdlc(ApduProtection(context, ReservedCounter(7), b"MTB00001").protect(PLAIN)))


@pytest.fixture
def files(tmp_path: Path) -> Path:
    for name, key in (("meter", METER_SIGNING), ("meter-agreement", METER_AGREEMENT), ("stranger", STRANGER)):
        octets = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        (tmp_path / f"{name}.pem").write_bytes(octets)
    (tmp_path / "own.pem").write_bytes(OURS.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return tmp_path


def decode(octets: bytes, *options: str) -> tuple[int, dict[str, object]]:
    keys = ("--key", (KEYS.encryption or b"").hex(), "--auth-key", (KEYS.authentication or b"").hex())
    result = CliRunner().invoke(app, ["decode", "--json", *keys, *options], input=octets)
    [line] = result.stdout.splitlines()
    return result.exit_code, json.loads(line)


@pytest.mark.parametrize("general_key", [None, *Agreement])
def test_a_signed_push_is_verified(files: Path, general_key: Agreement | None) -> None:
    pairs = ("--agreement-key", str(files / "own.pem"), "--meter-agreement-key", str(files / "meter-agreement.pem"))
    signed = ("--meter-signing-key", str(files / "meter.pem"))
    code, event = decode(pushed(general_key), *pairs, *signed)
    assert (code, event["apdu"], event["system_title"]) == (0, "data-notification", TITLE.hex().upper())
    assert event["invocation_counter"] == 7
    values = event["values"]
    assert isinstance(values, dict)
    assert values["1-0:1.7.0"] == {"value": 1362, "unit": "W"}


def test_a_signature_of_another_is_refused(files: Path) -> None:
    for octets, key in ((pushed(None), "stranger.pem"), (pushed(None, STRANGER), "meter.pem")):
        code, event = decode(octets, "--meter-signing-key", str(files / key))
        assert code == 1
        assert "signature" in str(event["error"])
        assert event["values"] == {}
    code, event = decode(pushed(None))
    assert code == 1
    assert "public key is not known" in str(event["error"])


def test_the_file_of_keys_names_files_beside_it(files: Path) -> None:
    ek, ak = (KEYS.encryption or b"").hex(), (KEYS.authentication or b"").hex()
    path = files / "keys.toml"
    path.write_text(
        f'[{TITLE.hex()}]\nencryption = "{ek}"\nauthentication = "{ak}"\nmaster = "{ek}"\n'
        'meter_signing_key = "meter.pem"\nagreement_key = "own.pem"\nmeter_agreement_key = "meter-agreement.pem"\n'
    )
    decoder = PushDecoder(Reception(), read_key_ring(path))
    decoder.receive_data(pushed(Agreement.ONE_PASS))
    event = decoder.next_event()
    assert event is not None
    assert getattr(event, "error", "refused") is None
    path.write_text(f'[{TITLE.hex()}]\nmeter_signing_key = "own.pem"\n')
    with pytest.raises(ConfigurationError, match=r"own\.pem holds no public key"):
        read_key_ring(path)
    path.write_text(f'[{TITLE.hex()}]\nagreement_key = "nothing.pem"\n')
    with pytest.raises(ConfigurationError, match="cannot be read"):
        read_key_ring(path)
