"""general-ciphering and general-signing: keys identified, wrapped and agreed, headers and signatures verified."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

from meterbridge.dlms.general_ciphering import AgreedKey, GeneralCiphering, WrappedKey, make_general_ciphering
from meterbridge.dlms.key_agreement import unwrap_key, wrap_key
from meterbridge.dlms.security import Agreement, KeyId, Keys, SecurityContext, SecurityPolicy, SecuritySuite
from meterbridge.dlms.signing import GeneralHeader, SignedApdu, point, public_key, sign, verify
from meterbridge.errors import ConfigurationError, MeterbridgeError, RemoteProtocolError
from tests.unit.dlms import green_book as gb

SUITES = (SecuritySuite.P256_AES_128, SecuritySuite.P384_AES_256)
HEADER = GeneralHeader(bytes(range(8)), gb.CLIENT_TITLE, gb.TITLE, bytes(12), b"other")
APDU = gb.GET_REQUEST


def keys_of_both(suite: SecuritySuite) -> tuple[Keys, Keys, ec.EllipticCurvePrivateKey]:
    a, b, c, d, ephemeral = (ec.generate_private_key(suite.curve) for _ in range(5))
    secret, authentication, dedicated, broadcast, master = (
        bytes(range(start, start + suite.key_size)) for start in (0, 50, 100, 150, 200)
    )
    shared = Keys(secret, authentication, dedicated, broadcast, master)
    ours = replace(shared, signing=a, agreement=b, peer_signing=c.public_key(), peer_agreement=d.public_key())
    theirs = replace(shared, signing=c, agreement=d, peer_signing=a.public_key(), peer_agreement=b.public_key())
    return ours, theirs, ephemeral


@pytest.mark.parametrize("header_authenticated", [True, False])
@pytest.mark.parametrize("policy", [SecurityPolicy.AUTHENTICATED, SecurityPolicy.ENCRYPTED, SecurityPolicy.BOTH])
@pytest.mark.parametrize("suite", SUITES)
@pytest.mark.parametrize("how", [None, *KeyId, *Agreement, "wrapped"])
def test_every_key_info(
    how: KeyId | Agreement | str | None, suite: SecuritySuite, policy: SecurityPolicy, header_authenticated: bool
) -> None:
    ours, theirs, ephemeral = keys_of_both(suite)
    context = SecurityContext(gb.CLIENT_TITLE, ours, suite, policy)
    made = make_general_ciphering(
        APDU,
        context,
        9,
        HEADER,
        None if isinstance(how, str) else how,
        content_key=bytes(suite.key_size) if isinstance(how, str) else None,
        ephemeral=ephemeral,
        header_authenticated=header_authenticated,
    )
    octets = made.encode()
    taken = GeneralCiphering.decode(octets)
    assert taken == made
    assert (taken.header, taken.counter, taken.control.policy) == (HEADER, 9, policy)
    assert taken.open(theirs, header_authenticated=header_authenticated) == APDU
    if how == "wrapped":
        assert isinstance(taken.key_info, WrappedKey)
        assert unwrap_key(theirs.master or b"", taken.key_info.wrapped) == bytes(suite.key_size)
    if policy & SecurityPolicy.AUTHENTICATED:
        flipped = bytearray(octets)
        flipped[-1] ^= 1
        with pytest.raises(RemoteProtocolError, match="tag"):
            GeneralCiphering.decode(bytes(flipped)).open(theirs, header_authenticated=header_authenticated)
        with pytest.raises(RemoteProtocolError, match="tag"):
            taken.open(theirs, header_authenticated=not header_authenticated)


def test_header_fields_are_authenticated_each_with_its_length() -> None:
    context = SecurityContext(gb.CLIENT_TITLE, gb.KEYS)
    made = make_general_ciphering(APDU, context, 1, HEADER, KeyId.GLOBAL_UNICAST_ENCRYPTION)
    associated = b"\x30" + gb.AK + HEADER.encode()
    sealed = AESGCM(gb.EK).encrypt(gb.CLIENT_TITLE + b"\x00\x00\x00\x01", APDU, associated)[:-4]
    assert made.protected == b"\x30\x00\x00\x00\x01" + sealed
    fields = bytes(range(8)), gb.CLIENT_TITLE, gb.TITLE, bytes(12), b"other"
    assert HEADER.encode() == b"".join(bytes((len(part),)) + part for part in fields)
    assert made.encode() == b"\xdd" + HEADER.encode() + b"\x01\x00\x00" + bytes((len(made.protected),)) + made.protected
    other = replace(made, header=replace(HEADER, other_information=b"Other"))
    with pytest.raises(RemoteProtocolError, match="tag"):
        other.open(gb.KEYS)


@pytest.mark.parametrize("suite", SUITES)
def test_agreed_keys_are_what_sp_800_56a_says(suite: SecuritySuite) -> None:
    ours, theirs, ephemeral = keys_of_both(suite)
    context = SecurityContext(gb.CLIENT_TITLE, ours, suite)
    assert theirs.agreement is not None and ours.agreement is not None and ours.authentication is not None
    digest = hashlib.sha256 if suite is SecuritySuite.P256_AES_128 else hashlib.sha384
    algorithm = bytes.fromhex("60857405080300" if suite is SecuritySuite.P256_AES_128 else "60857405080301")
    for how, own, info in (
        (Agreement.ONE_PASS, ephemeral, gb.CLIENT_TITLE + gb.TITLE),
        (Agreement.STATIC_UNIFIED, ours.agreement, gb.CLIENT_TITLE + b"\x08" + bytes(range(8)) + gb.TITLE),
    ):
        shared = theirs.agreement.exchange(ec.ECDH(), own.public_key())
        key = digest(b"\x00\x00\x00\x01" + shared + algorithm + info).digest()[: suite.key_size]
        made = make_general_ciphering(APDU, context, 1, HEADER, how, ephemeral=ephemeral)
        sealed = AESGCM(key).encrypt(
            gb.CLIENT_TITLE + b"\x00\x00\x00\x01",
            APDU,
            bytes((0x30 | suite,)) + ours.authentication + HEADER.encode(),
        )
        assert made.protected[5:] == sealed[:-4]


@pytest.mark.parametrize("suite", SUITES)
def test_an_ephemeral_key_that_another_signed_is_refused(suite: SecuritySuite) -> None:
    ours, theirs, ephemeral = keys_of_both(suite)
    made = make_general_ciphering(
        APDU, SecurityContext(gb.CLIENT_TITLE, ours, suite), 1, HEADER, Agreement.ONE_PASS, ephemeral=ephemeral
    )
    stranger = replace(theirs, peer_signing=ephemeral.public_key())
    with pytest.raises(RemoteProtocolError, match="not signed by"):
        made.open(stranger)
    with pytest.raises(ConfigurationError, match="peer signing"):
        made.open(replace(theirs, peer_signing=None))
    with pytest.raises(RemoteProtocolError, match="octets, not 3"):
        replace(made, key_info=AgreedKey(Agreement.ONE_PASS, b"abc")).open(theirs)


def test_a_key_wrapped_under_another_master_key_is_refused() -> None:
    # RFC 3394, 4.1: 128 bits of key data with a 128-bit key-encrypting key.
    master, key = bytes(range(16)), bytes.fromhex("00112233445566778899AABBCCDDEEFF")
    wrapped = bytes.fromhex("1FA68B0A8112B447AEF34BD8FB5A7B829D3E862371D2CFE5")
    assert wrap_key(master, key) == wrapped
    assert unwrap_key(master, wrapped) == key
    for bad in (wrapped[:-1] + b"\x00", wrapped[:-8], b""):
        with pytest.raises(RemoteProtocolError, match="does not unwrap"):
            unwrap_key(master, bad)


@given(st.binary(max_size=80))
def test_noise_behind_the_tag_is_refused(body: bytes) -> None:
    for decode, tag in ((GeneralCiphering.decode, b"\xdd"), (SignedApdu.decode, b"\xdf")):
        try:
            decode(tag + body)
        except MeterbridgeError as error:
            assert isinstance(error, RemoteProtocolError)


# ---------------------------------------------------------------------------------------------------------------------
# signatures


@pytest.mark.parametrize("length_signed", [False, True])
@pytest.mark.parametrize("suite", SUITES)
def test_general_signing(suite: SecuritySuite, length_signed: bool) -> None:
    key = ec.generate_private_key(suite.curve)
    content = bytes(range(200))
    signed = SignedApdu.make(HEADER, content, key, length_signed=length_signed)
    assert len(signed.signature) == 2 * (suite.curve.key_size // 8)
    octets = signed.encode()
    assert octets[0] == 0xDF
    taken = SignedApdu.decode(octets)
    assert taken.open(key.public_key(), length_signed=length_signed) == content
    for wrong in (
        replace(taken, content=b"x" + content[1:]),
        replace(taken, header=replace(HEADER, transaction_id=b"")),
        replace(taken, signature=taken.signature[:-1]),
        replace(taken, signature=bytes(len(taken.signature))),
    ):
        with pytest.raises(RemoteProtocolError, match=f"signature of {gb.CLIENT_TITLE.hex()} is wrong"):
            wrong.open(key.public_key(), length_signed=length_signed)
    with pytest.raises(RemoteProtocolError, match="another key"):
        taken.open(ec.generate_private_key(suite.curve).public_key(), length_signed=length_signed)


@pytest.mark.parametrize("suite", SUITES)
def test_public_keys_are_x_and_y(suite: SecuritySuite) -> None:
    key = ec.generate_private_key(suite.curve)
    octets = point(key.public_key())
    assert len(octets) == 2 * (suite.curve.key_size // 8)
    assert verify(public_key(suite.curve, octets), b"octets", sign(key, b"octets"))
    for bad in (octets[:-1], octets[:-1] + bytes((octets[-1] ^ 1,)), b""):
        with pytest.raises(RemoteProtocolError, match="no public key"):
            public_key(suite.curve, bad)
