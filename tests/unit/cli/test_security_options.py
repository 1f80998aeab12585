"""Options of authentication and ciphering: what they make, what they refuse, and that no key is ever shown."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from meterbridge.cli import main
from meterbridge.cli.exits import USAGE
from meterbridge.cli.security_options import Auth, Policy, SecurityArguments
from meterbridge.dlms import Keys, Mechanism, SecurityPolicy
from meterbridge.errors import ConfigurationError

EK, AK = bytes(range(16)).hex(), bytes(range(0xD0, 0xE0)).hex()
TITLE = "4D54423030303031"
SECURED = ("--auth", "hls-gmac", "--system-title", TITLE)
KEYS = ("--key", EK, "--auth-key", AK)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--auth", "hls-gmac"), "needs a system title"),
        ((*SECURED, "--auth-key", AK), "needs an encryption key"),
        ((*SECURED, "--key", EK), "needs an authentication key|need an authentication key"),
        ((*SECURED, *KEYS, "--suite", "2"), "security suite 2 takes 32"),
        ((*SECURED, "--key", EK[:-1], "--auth-key", AK), "--key"),
        (("--auth", "hls-md5"), "needs a secret"),
        (("--auth", "low", *KEYS), "--system-title"),
        (("--auth", "low", "--general-ciphering", "one-pass"), "--system-title"),
        (("--auth", "low", "--signed"), "--system-title"),
        ((*SECURED, *KEYS, "--general-ciphering", "wrapped"), "master key"),
        ((*SECURED, *KEYS, "--general-ciphering", "static-unified"), "suite 1 or 2"),
        ((*SECURED, *KEYS, "--general", "--general-ciphering", "identified"), "exclude each other"),
        (("--auth", "hls-ecdsa", "--system-title", "4D54423030303031", "--suite", "1"), "signing key"),
    ],
)
def test_what_is_missing_is_said_and_no_key_shown(
    options: tuple[str, ...], words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("METER_KEY", "METER_AUTH_KEY", "METER_CLIENT_TITLE", "METER_PASSWORD"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(sys, "argv", ["meterbridge", "read", "127.0.0.1:1", *options])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == USAGE
    out, err = capsys.readouterr()
    assert out == ""
    assert any(word in err for word in words.split("|"))
    assert EK[:-1] not in err
    assert AK not in err


def test_keys_make_both_the_policy_and_none_of_them_is_printed(tmp_path: Path) -> None:
    given = SecurityArguments(TITLE, None, EK, AK, counter_file=tmp_path / "counter")
    credentials = given.credentials(Auth.HLS_GMAC, None)
    assert credentials.mechanism is Mechanism.HLS_GMAC
    assert credentials.keys == Keys(bytes.fromhex(EK), bytes.fromhex(AK))
    assert credentials.security is not None
    assert credentials.security.policy is SecurityPolicy.BOTH
    assert EK not in f"{given!r} {credentials!r}"
    counter = given.counter(credentials)
    assert counter is not None
    assert (counter.next_counter(), counter.next_counter()) == (0, 1)


def test_without_a_key_nothing_is_ciphered_and_nothing_counted() -> None:
    given = SecurityArguments(TITLE)
    credentials = given.credentials(Auth.HLS_SHA256, b"secret")
    assert not credentials.ciphered
    assert given.counter(credentials) is None
    plain = SecurityArguments(TITLE, None, EK, AK, security=Policy.NONE)
    assert not plain.credentials(Auth.HLS_GMAC, None).ciphered


def test_signing_keys_come_from_pem_files(tmp_path: Path) -> None:
    ours, theirs = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    own, meters = tmp_path / "own.pem", tmp_path / "meter.pem"
    own.write_bytes(ours.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    meters.write_bytes(theirs.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    given = SecurityArguments(TITLE, None, EK, AK, suite=1, signing_key=own, meter_signing_key=meters)
    keys = given.credentials(Auth.HLS_ECDSA, None).keys
    assert keys.signing is not None
    assert keys.signing.private_numbers() == ours.private_numbers()
    assert keys.peer_signing == theirs.public_key()
    for wrong in (meters, tmp_path / "nothing.pem", rsa_key(tmp_path)):
        with pytest.raises(ConfigurationError, match=str(wrong)):
            SecurityArguments(TITLE, suite=1, signing_key=wrong).credentials(Auth.NONE, None)
        if wrong is not meters:
            with pytest.raises(ConfigurationError, match=str(wrong)):
                SecurityArguments(TITLE, suite=1, meter_signing_key=wrong).credentials(Auth.NONE, None)


def rsa_key(folder: Path) -> Path:
    path = folder / "rsa.pem"
    key = rsa.generate_private_key(65537, 2048)
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return path
