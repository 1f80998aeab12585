"""Passes 3 and 4 of each mechanism, the Green Book's numbers, and partners that prove nothing."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from meterbridge.dlms.acse import Mechanism
from meterbridge.dlms.hls import Handshake, challenge_size, check_challenge, check_mechanism
from meterbridge.dlms.security import Keys, SecuritySuite
from meterbridge.errors import ConfigurationError, RemoteProtocolError
from tests.unit.dlms import green_book as gb

SECRET = b"a secret of both"
MECHANISMS = tuple(mechanism for mechanism in Mechanism if mechanism > Mechanism.HLS)


def two_ends(
    mechanism: Mechanism,
    suite: SecuritySuite = SecuritySuite.AES_128,
    c_to_s: bytes = bytes(range(32)),
    s_to_c: bytes = bytes(range(32, 64)),
) -> tuple[Handshake, Handshake]:
    client_keys = server_keys = gb.KEYS
    if mechanism is Mechanism.HLS_ECDSA:
        suite = suite or SecuritySuite.P256_AES_128
        ours, theirs = ec.generate_private_key(suite.curve), ec.generate_private_key(suite.curve)
        client_keys = Keys(signing=ours, peer_signing=theirs.public_key())
        server_keys = Keys(signing=theirs, peer_signing=ours.public_key())
    return (
        Handshake(mechanism, c_to_s, s_to_c, gb.CLIENT_TITLE, gb.TITLE, SECRET, client_keys, suite),
        Handshake(mechanism, s_to_c, c_to_s, gb.TITLE, gb.CLIENT_TITLE, SECRET, server_keys, suite),
    )


def test_gmac_of_the_green_book() -> None:
    client, server = two_ends(Mechanism.HLS_GMAC, c_to_s=gb.C_TO_S, s_to_c=gb.S_TO_C)
    assert client.answer(lambda: 1) == gb.F_S_TO_C
    assert server.answer(lambda: gb.COUNTER) == gb.F_C_TO_S
    assert server.verify(gb.F_S_TO_C)
    assert client.verify(gb.F_C_TO_S)
    assert not client.verify(gb.F_S_TO_C)


def test_hashes_are_over_what_the_standard_says() -> None:
    c, s = bytes(range(32)), bytes(range(32, 64))
    for mechanism, name in ((Mechanism.HLS_MD5, "md5"), (Mechanism.HLS_SHA1, "sha1")):
        client, server = two_ends(mechanism)
        assert client.answer(lambda: 0) == hashlib.new(name, s + SECRET).digest()
        assert server.answer(lambda: 0) == hashlib.new(name, c + SECRET).digest()
    client, server = two_ends(Mechanism.HLS_SHA256)
    assert client.answer(lambda: 0) == hashlib.sha256(SECRET + gb.CLIENT_TITLE + gb.TITLE + s + c).digest()
    assert server.answer(lambda: 0) == hashlib.sha256(SECRET + gb.TITLE + gb.CLIENT_TITLE + c + s).digest()


@pytest.mark.parametrize("mechanism", MECHANISMS)
@given(st.binary(min_size=32, max_size=64), st.binary(min_size=32, max_size=64))
def test_each_end_takes_what_the_other_says_and_nothing_else(mechanism: Mechanism, c: bytes, s: bytes) -> None:
    if c == s:
        return
    client, server = two_ends(mechanism, c_to_s=c, s_to_c=s)
    for prover, verifier in ((client, server), (server, client)):
        answer = prover.answer(lambda: 42)
        assert verifier.verify(answer)
        assert not prover.verify(answer), "what we said ourselves proves nobody"
        for wrong in (b"", answer[:-1], answer + b"\x00", bytes((answer[0] ^ 1,)) + answer[1:], bytes(len(answer))):
            assert not verifier.verify(wrong)


@pytest.mark.parametrize("suite", [SecuritySuite.P256_AES_128, SecuritySuite.P384_AES_256])
def test_ecdsa_is_raw_r_and_s_over_titles_and_challenges(suite: SecuritySuite) -> None:
    client, server = two_ends(Mechanism.HLS_ECDSA, suite)
    answer = client.answer(lambda: 0)
    assert len(answer) == (64 if suite is SecuritySuite.P256_AES_128 else 96)
    assert server.verify(answer)
    assert not replace(server, peer_title=b"OTHERTTL").verify(answer)
    assert not replace(server, keys=Keys()).verify(answer)


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_our_own_challenge_said_back_is_refused(mechanism: Mechanism) -> None:
    with pytest.raises(RemoteProtocolError, match="our own"):
        two_ends(mechanism, c_to_s=bytes(32), s_to_c=bytes(32))


@pytest.mark.parametrize("mechanism", [Mechanism.HLS_GMAC, Mechanism.HLS_SHA256, Mechanism.HLS_ECDSA])
def test_a_partner_without_a_title_is_refused_where_one_is_needed(mechanism: Mechanism) -> None:
    client, _ = two_ends(mechanism)
    with pytest.raises(RemoteProtocolError, match="no system title"):
        replace(client, peer_title=b"")


def test_a_partner_with_our_title_is_refused() -> None:
    client, _ = two_ends(Mechanism.HLS_GMAC)
    with pytest.raises(RemoteProtocolError, match="is our own"):
        replace(client, peer_title=client.own_title)


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_challenges_have_a_length(mechanism: Mechanism) -> None:
    least = 32 if mechanism is Mechanism.HLS_ECDSA else 8
    for size in (least, challenge_size(mechanism), 64):
        assert check_challenge(mechanism, bytes(size)) == bytes(size)
    for wrong in (None, b"", bytes(least - 1), bytes(65)):
        with pytest.raises(RemoteProtocolError, match=f"{least} to 64 octets"):
            check_challenge(mechanism, wrong)


@pytest.mark.parametrize(
    ("mechanism", "match"),
    [
        (Mechanism.HLS, "manufacturer's own"),
        (Mechanism.LLS, "lls needs a secret"),
        (Mechanism.HLS_MD5, "hls-md5 needs a secret"),
        (Mechanism.HLS_GMAC, "hls-gmac needs a system title"),
        (Mechanism.HLS_SHA256, "needs a secret"),
        (Mechanism.HLS_ECDSA, "suite 1 or 2"),
    ],
)
def test_what_a_mechanism_needs_is_said(mechanism: Mechanism, match: str) -> None:
    with pytest.raises(ConfigurationError, match=match):
        check_mechanism(mechanism, secret=None, keys=Keys(), system_title=None, suite=SecuritySuite.AES_128)


def test_nothing_prints_a_secret() -> None:
    client, _ = two_ends(Mechanism.HLS_SHA256)
    assert SECRET.decode() not in repr(client)
    assert gb.EK.hex() not in repr(client)
