"""What a meter's row makes of the client that reads it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from meterbridge.dlms import Credentials, Keys, Mechanism, SecurityPolicy, SecuritySuite
from meterbridge.dlms.security import KeyChoice
from meterbridge.errors import ConfigurationError
from meterbridge.meter import credentials_of, meter_address
from meterbridge.meter.configured import GENERAL_KEYS, counter_name
from meterbridge.model import Meter, MeterId

EK, AK = bytes(range(16)).hex(), bytes(range(0xD0, 0xE0)).hex()
PLAIN = Meter(MeterId(1), "Main", "192.0.2.10")
SECURED = replace(
    PLAIN,
    authentication="hls-gmac",
    system_title="4d54423030303031",
    block_cipher_key=EK,
    authentication_key=AK,
)


def secured(**changes: object) -> Credentials:
    credentials = credentials_of(replace(SECURED, **changes))  # type: ignore[arg-type]
    assert credentials is not None
    return credentials


def test_a_password_or_nothing_needs_no_credentials() -> None:
    assert meter_address(PLAIN).password == b"00000000"
    assert meter_address(replace(PLAIN, authentication="low")).credentials is None
    for nothing in (replace(PLAIN, password=""), replace(PLAIN, authentication="none")):
        address = meter_address(nothing)
        assert (address.password, address.credentials) == (None, None)


def test_keys_make_both_the_policy_unless_it_is_said() -> None:
    credentials = secured()
    assert credentials.mechanism is Mechanism.HLS_GMAC
    assert credentials.keys == Keys(bytes.fromhex(EK), bytes.fromhex(AK))
    assert credentials.security is not None
    assert (credentials.security.policy, credentials.security.suite) == (SecurityPolicy.BOTH, SecuritySuite.AES_128)
    other = secured(security_policy="authenticated", security_suite=1, general_ciphering=True, dedicated_key=True)
    assert other.security is not None
    assert (other.security.policy, other.security.suite) == (SecurityPolicy.AUTHENTICATED, SecuritySuite.P256_AES_128)
    assert (other.security.general, other.dedicated) == (True, True)
    assert meter_address(SECURED).password is None
    assert meter_address(replace(SECURED, referencing="sn")).short_names


def test_the_secret_of_hls_is_its_own_or_the_password() -> None:
    for mechanism in ("hls-md5", "hls-sha1"):
        plain = replace(PLAIN, authentication=mechanism)
        credentials = credentials_of(plain)
        assert credentials is not None
        assert credentials.secret == b"00000000"
        credentials = credentials_of(replace(plain, hls_secret="another"))
        assert credentials is not None
        assert credentials.secret == b"another"


def test_signing_keys_are_read() -> None:
    ours, theirs = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    own, public = pem(ours), public_pem(theirs)
    credentials = secured(authentication="hls-ecdsa", security_suite=1, signing_key=own, meter_signing_key=public)
    assert credentials.keys.peer_signing == theirs.public_key()
    for column in ("signing_key", "meter_signing_key"):
        with pytest.raises(ConfigurationError, match=f"^{column} holds no") as caught:
            secured(**{"signing_key": own, "meter_signing_key": public, column: "-----BEGIN NOTHING-----"})
        assert own[30:60] not in str(caught.value)


def pems() -> dict[str, str]:
    ours, theirs, own, peer = (ec.generate_private_key(ec.SECP256R1()) for _ in range(4))
    return {
        "signing_key": pem(ours),
        "meter_signing_key": public_pem(theirs),
        "agreement_key": pem(own),
        "meter_agreement_key": public_pem(peer),
    }


def pem(key: ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def public_pem(key: ec.EllipticCurvePrivateKey) -> str:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


@pytest.mark.parametrize(("word", "key"), GENERAL_KEYS.items())
@pytest.mark.parametrize("signed", [False, True])
def test_general_ciphering_takes_the_key_that_is_said(word: str, key: KeyChoice | None, signed: bool) -> None:
    given = {"security_suite": 1, "general_key": word, "signed": signed, "master_key": "0f" * 16, **pems()}
    security = secured(**given).security
    assert security is not None
    assert (security.general_key, security.signed, security.keys.master) == (key, signed, b"\x0f" * 16)
    needed = {
        "wrapped": ("master_key",),
        "one-pass": ("signing_key", "meter_signing_key", "agreement_key", "meter_agreement_key"),
        "static-unified": ("agreement_key", "meter_agreement_key"),
    }.get(word, ())
    for column in needed:
        with pytest.raises(ConfigurationError, match="key"):
            secured(**{**given, column: None})


def test_a_password_and_signatures_are_no_bare_password() -> None:
    keys = pems()
    low = replace(
        PLAIN,
        authentication="low",
        signed=True,
        security_suite=1,
        signing_key=keys["signing_key"],
        meter_signing_key=keys["meter_signing_key"],
    )
    with pytest.raises(ConfigurationError, match="signing needs our own system title"):
        credentials_of(low)
    credentials = credentials_of(replace(low, system_title="4d54423030303031"))
    assert credentials is not None
    assert credentials.security is not None
    assert (credentials.security.signed, credentials.counted) == (True, False)
    with pytest.raises(ConfigurationError, match="ciphering needs our own system title"):
        credentials_of(replace(PLAIN, general_key="identified"))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"general_key": "wrapped"}, "needs the master key"),
        ({"general_key": "identified", "general_ciphering": True}, "exclude each other"),
        ({"general_key": "identified", "dedicated_key": True}, "exclude each other"),
        ({"general_key": "one-pass"}, "suite 1 or 2"),
        ({"signed": True, "security_suite": 1}, "signing needs the signing key"),
        ({"system_title": None}, "system title"),
        ({"block_cipher_key": None}, "encryption key"),
        ({"authentication_key": None}, "authentication key"),
        ({"security_suite": 2}, "security suite 2 takes 32"),
        ({"authentication": "hls-ecdsa"}, "suite 1 or 2"),
        ({"authentication": "hls-md5", "password": ""}, "needs a secret"),
        ({"authentication": "low", "password": ""}, "needs a password"),
        ({"security_policy": "none", "dedicated_key": True}, "dedicated key needs ciphering"),
    ],
)
def test_what_does_not_fit_is_said_and_no_key_shown(changes: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words) as caught:
        secured(**changes)
    assert EK not in str(caught.value)


def test_a_counter_belongs_to_title_and_key_and_shows_neither() -> None:
    name = counter_name(secured())
    assert name == counter_name(secured(authentication="low", dedicated_key=True))
    assert name == counter_name(credentials_of(replace(SECURED, id=MeterId(2), name="other", port=1)))
    others = {
        counter_name(secured(system_title="4d54423030303032")),
        counter_name(secured(block_cipher_key=AK)),
        counter_name(secured(authentication="hls-md5", security_policy="none")),
        counter_name(credentials_of(PLAIN)),
    }
    assert name not in others
    assert None in others
    assert len(others) == 3
    assert EK not in str(name)


def test_no_repr_shows_a_key() -> None:
    hidden = replace(SECURED, hls_secret="hidden", signing_key="hidden", master_key="hidden", agreement_key="hidden")
    shown = f"{hidden!r} {secured()!r} {meter_address(SECURED)!r}"
    assert not any(secret in shown for secret in (EK, AK, "hidden", "00000000", repr(bytes.fromhex(EK))))
