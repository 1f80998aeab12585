"""Ciphered and signed APDUs between us and independent stacks, both ways, octet by octet where nothing is random."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from meterbridge.dlms.ciphering import CipheredApdu, cipher_apdu
from meterbridge.dlms.general_ciphering import AgreedKey, GeneralCiphering, make_general_ciphering
from meterbridge.dlms.security import Agreement, KeyId, Keys, SecurityContext, SecurityPolicy, SecuritySuite
from meterbridge.dlms.signing import GeneralHeader, SignedApdu
from tests.unit.dlms import green_book as gb

POLICIES = tuple(SecurityPolicy(policy) for policy in (0x10, 0x20, 0x30))
APDUS = {
    "request": gb.GET_REQUEST,
    "long": b"\xc4\x01\xc1\x00\x09\x81\xc8" + bytes(range(200)),
    "initiate": gb.INITIATE,
}
OTHER_TITLE = b"PYD00001"


def symmetric(suite: SecuritySuite) -> Keys:
    size = suite.key_size
    return Keys(
        bytes(range(size)),
        bytes(range(100, 100 + size)),
        dedicated=bytes(range(150, 150 + size)),
        broadcast=bytes(range(200, 200 + size)),
        master=bytes(range(50, 50 + size)),
    )


# ---------------------------------------------------------------------------------------------------------------------
# gurux-dlms


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("apdu", APDUS.values(), ids=APDUS)
def test_gurux_ciphers_as_we_do(policy: SecurityPolicy, apdu: bytes) -> None:
    ciphering = pytest.importorskip("gurux_dlms.GXCiphering").GXCiphering
    parameter = pytest.importorskip("gurux_dlms.AesGcmParameter").AesGcmParameter
    security = pytest.importorskip("gurux_dlms.enums").Security
    ours = cipher_apdu(apdu, SecurityContext(gb.TITLE, gb.KEYS, policy=policy), 0x12345)
    parameters = parameter(ours[0], bytearray(gb.TITLE), bytearray(gb.EK), bytearray(gb.AK))
    parameters.security, parameters.invocationCounter = security(policy), 0x12345
    theirs = bytes(ciphering.encrypt(parameters, bytearray(apdu)))
    assert theirs == ours
    assert CipheredApdu.decode(theirs).open(gb.KEYS, gb.TITLE) == apdu


@pytest.mark.parametrize("policy", POLICIES)
def test_gurux_deciphers_what_we_cipher(policy: SecurityPolicy) -> None:
    secure = pytest.importorskip("gurux_dlms.secure")
    ciphering = pytest.importorskip("gurux_dlms.GXCiphering").GXCiphering
    parameter = pytest.importorskip("gurux_dlms.AesGcmParameter").AesGcmParameter
    buffer = pytest.importorskip("gurux_dlms").GXByteBuffer
    settings = secure.GXDLMSSecureClient(True).settings
    for general in (False, True):
        context = SecurityContext(gb.TITLE, gb.KEYS, policy=policy, general=general)
        ours = cipher_apdu(gb.GET_REQUEST, context, 77)
        parameters = parameter(0, bytearray(gb.TITLE), bytearray(gb.EK), bytearray(gb.AK))
        assert bytes(ciphering.decrypt(settings, parameters, buffer(bytearray(ours)))) == gb.GET_REQUEST


# ---------------------------------------------------------------------------------------------------------------------
# pydlms


def peer_context(suite: SecuritySuite, policy: SecurityPolicy, title: bytes, counter: int, **more: Any) -> Any:
    keys = symmetric(suite)
    context = pytest.importorskip("pydlms").SecurityContext(
        keys.encryption,
        keys.authentication,
        client_system_title=title,
        invocation_counter=counter,
        suite=int(suite),
        policy=pytest.importorskip("pydlms.security.suites").SecurityPolicy(int(policy)),
        broadcast_key=keys.broadcast,
        master_key=keys.master,
        **more,
    )
    context.set_dedicated_key(keys.dedicated)
    return context


@pytest.mark.parametrize("dedicated", [False, True])
@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("suite", SecuritySuite)
def test_pydlms_ciphers_as_we_do(suite: SecuritySuite, policy: SecurityPolicy, dedicated: bool) -> None:
    peer = pytest.importorskip("pydlms.security.ciphering")
    context = SecurityContext(gb.TITLE, symmetric(suite), suite, policy)
    for name, apdu in APDUS.items():
        assert peer.wrap(peer_context(suite, policy, gb.TITLE, 9), apdu, dedicated=dedicated) == cipher_apdu(
            apdu, context, 9, dedicated=dedicated
        ), name
    general = replace(context, general=True)
    theirs = peer.wrap_general_glo(peer_context(suite, policy, gb.TITLE, 9), gb.GET_REQUEST, dedicated=dedicated)
    assert theirs == cipher_apdu(gb.GET_REQUEST, general, 9, dedicated=dedicated)
    assert CipheredApdu.decode(theirs).open(symmetric(suite)) == gb.GET_REQUEST
    assert peer.unwrap(peer_context(suite, policy, OTHER_TITLE, 1), theirs).plaintext == gb.GET_REQUEST


def asymmetric(suite: SecuritySuite) -> tuple[Keys, dict[str, Any]]:
    """Our keys, and the same seen from the peer."""
    a, b, c, d = (ec.generate_private_key(suite.curve) for _ in range(4))
    keys = replace(symmetric(suite), signing=a, agreement=b, peer_signing=c.public_key(), peer_agreement=d.public_key())
    theirs = {
        "signing_key": c,
        "key_agreement_key": d,
        "peer_signing_key": a.public_key(),
        "peer_key_agreement_key": b.public_key(),
    }
    return keys, theirs


HEADER = GeneralHeader(bytes(range(1, 9)), gb.TITLE, OTHER_TITLE, b"", b"more")


@pytest.mark.parametrize("header_authenticated", [False, True])
@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("suite", [SecuritySuite.P256_AES_128, SecuritySuite.P384_AES_256])
def test_general_ciphering_with_pydlms(
    suite: SecuritySuite, policy: SecurityPolicy, header_authenticated: bool
) -> None:
    peer = pytest.importorskip("pydlms.security.general")
    form = peer.GeneralAad.WITH_HEADER if header_authenticated else peer.GeneralAad.SC_AK
    keys, theirs = asymmetric(suite)
    context = SecurityContext(gb.TITLE, keys, suite, policy)
    receiver = peer_context(suite, policy, OTHER_TITLE, 1, general_aad=form, **theirs)
    sender = peer_context(suite, policy, OTHER_TITLE, 1, general_aad=form, **theirs)
    hows = (None, *KeyId, *Agreement, "wrapped")
    infos = (
        peer.KeyInfo("none"),
        peer.KeyInfo("identified", 0),
        peer.KeyInfo("identified", 1),
        peer.KeyInfo("agreed", scheme=1),
        peer.KeyInfo("agreed", scheme=2),
        peer.KeyInfo("wrapped"),
    )
    for counter, (how, info) in enumerate(zip(hows, infos, strict=True), 1):
        wrapped = how == "wrapped"
        ours = make_general_ciphering(
            gb.GET_REQUEST,
            context,
            counter,
            HEADER,
            None if isinstance(how, str) else how,
            content_key=bytes(suite.key_size) if wrapped else None,
            ephemeral=ec.generate_private_key(suite.curve),
            header_authenticated=header_authenticated,
        ).encode()
        assert peer.unwrap_general_ciphering(receiver, ours).plaintext == gb.GET_REQUEST, how
        octets = peer.wrap_general_ciphering(
            sender, gb.GET_REQUEST, gb.TITLE, info, transaction_id=bytes(range(8)), other_information=b"x"
        )
        taken = GeneralCiphering.decode(octets)
        assert (taken.header.originator, taken.header.recipient) == (OTHER_TITLE, gb.TITLE)
        assert isinstance(taken.key_info, AgreedKey) == isinstance(how, Agreement)
        assert taken.open(keys, header_authenticated=header_authenticated) == gb.GET_REQUEST, how


@pytest.mark.parametrize("length_signed", [False, True])
@pytest.mark.parametrize("suite", [SecuritySuite.P256_AES_128, SecuritySuite.P384_AES_256])
def test_general_signing_with_pydlms(suite: SecuritySuite, length_signed: bool) -> None:
    peer = pytest.importorskip("pydlms.security.general")
    form = peer.SigningForm.LENGTH_PREFIXED_CONTENT if length_signed else peer.SigningForm.CONTENT
    keys, theirs = asymmetric(suite)
    context = peer_context(suite, SecurityPolicy.BOTH, OTHER_TITLE, 1, signing_form=form, **theirs)
    octets = peer.wrap_general_signing(context, gb.GET_REQUEST, gb.TITLE, bytes(range(8)), b"", b"x")
    assert keys.peer_signing is not None and keys.signing is not None
    assert SignedApdu.decode(octets).open(keys.peer_signing, length_signed=length_signed) == gb.GET_REQUEST
    ours = SignedApdu.make(HEADER, gb.GET_REQUEST, keys.signing, length_signed=length_signed).encode()
    assert peer.verify_general_signing(context, ours) == (gb.TITLE, gb.GET_REQUEST)
