"""What either end of a protected association refuses: less protection, another partner, what came before."""

from __future__ import annotations

from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from meterbridge.dlms import Keys, ReservedCounter, SecurityContext, SecurityPolicy, SecuritySuite
from meterbridge.dlms.general_ciphering import GeneralCiphering, WrappedKey
from meterbridge.dlms.protection import ApduProtection
from meterbridge.dlms.security import Agreement, KeyChoice, KeyId, Wrapping
from meterbridge.dlms.signing import GeneralHeader, SignedApdu
from meterbridge.errors import ConfigurationError, RemoteProtocolError, ReplayedCounterError

CLIENT, METER = b"MTB00001", b"MBS00001"
GET = bytes.fromhex("c001c100030100010800ff0200")
ANSWER = bytes.fromhex("c401c10011 05")
SUITE = SecuritySuite.P256_AES_128
A, B, C, D = (ec.generate_private_key(SUITE.curve) for _ in range(4))
SHARED = Keys(bytes(16), bytes(range(16)), master=bytes(16), broadcast=bytes(16))
OURS = replace(SHARED, signing=A, agreement=B, peer_signing=C.public_key(), peer_agreement=D.public_key())
THEIRS = replace(SHARED, signing=C, agreement=D, peer_signing=A.public_key(), peer_agreement=B.public_key())
UNICAST = KeyId.GLOBAL_UNICAST_ENCRYPTION


def end(general_key: KeyChoice | None = None, *, signed: bool = False, client: bool = True) -> ApduProtection:
    title, keys = (CLIENT, OURS) if client else (METER, THEIRS)
    context = SecurityContext(title, keys, SUITE, general_key=general_key, signed=signed)
    return ApduProtection(context, ReservedCounter(1), METER if client else CLIENT)


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("general_key", [None, UNICAST, *Agreement, Wrapping.MASTER])
def test_both_ways(general_key: KeyChoice | None, signed: bool) -> None:
    client, meter = end(general_key, signed=signed), end(client=False)
    demanded = meter.context
    for _ in range(3):
        sent = client.protect(GET)
        assert len(sent) - len(GET) <= client.overhead
        meter.context = demanded
        assert meter.unprotect(sent) == GET
        meter.answer_alike()
        assert meter.transaction_id == (None if general_key is None and not signed else meter.transaction_id)
        answer = meter.protect(ANSWER)
        assert client.unprotect(answer) == ANSWER
        with pytest.raises(ReplayedCounterError):
            client.unprotect(answer)


@pytest.mark.parametrize("theirs", [None, UNICAST, Agreement.ONE_PASS, Wrapping.MASTER])
@pytest.mark.parametrize(("ours", "word"), [(Agreement.ONE_PASS, "an agreed"), (Wrapping.MASTER, "a wrapped")])
def test_a_key_of_one_apdu_is_demanded_back(ours: KeyChoice, word: str, theirs: KeyChoice | None) -> None:
    sent = end(theirs, client=False).protect(ANSWER)
    if theirs is ours:
        assert end(ours).unprotect(sent) == ANSWER
        return
    with pytest.raises(RemoteProtocolError, match=f"not ciphered with {word} key"):
        end(ours).unprotect(sent)


def test_every_wrapped_key_is_a_new_one() -> None:
    client = end(Wrapping.MASTER)
    keys = [GeneralCiphering.decode(client.protect(GET)).key_info for _ in range(3)]
    assert all(isinstance(key, WrappedKey) for key in keys)
    assert len({key.wrapped for key in keys if isinstance(key, WrappedKey)}) == 3


def test_what_another_master_key_wrapped_is_refused() -> None:
    stranger = replace(THEIRS, master=bytes(15) + b"\1")
    context = SecurityContext(METER, stranger, SUITE, general_key=Wrapping.MASTER)
    sent = ApduProtection(context, ReservedCounter(1), CLIENT).protect(ANSWER)
    with pytest.raises(RemoteProtocolError, match="does not unwrap"):
        end(Wrapping.MASTER).unprotect(sent)
    with pytest.raises(ConfigurationError, match="a wrapped key needs the master key"):
        SecurityContext(METER, replace(SHARED, master=None), SUITE, general_key=Wrapping.MASTER)


def test_a_signature_is_demanded_back() -> None:
    with pytest.raises(RemoteProtocolError, match="not signed"):
        end(signed=True).unprotect(end(client=False).protect(ANSWER))
    bare = SignedApdu.make(GeneralHeader(b"1", METER, CLIENT), ANSWER, C).encode()
    with pytest.raises(RemoteProtocolError, match="not ciphered"):
        end(signed=True).unprotect(bare)
    with pytest.raises(RemoteProtocolError, match="not ciphered"):
        end(signed=True).unprotect(ANSWER)


@pytest.mark.parametrize("signed", [False, True])
def test_no_octet_can_be_changed(signed: bool) -> None:
    whole = end(Agreement.STATIC_UNIFIED, signed=signed, client=False).protect(ANSWER)
    for place in range(len(whole)):
        changed = bytearray(whole)
        changed[place] ^= 1
        with pytest.raises(RemoteProtocolError):
            end(Agreement.STATIC_UNIFIED, signed=signed).unprotect(bytes(changed))


@pytest.mark.parametrize(
    ("header", "match"),
    [
        (GeneralHeader(b"1", b"ANOTHER1", CLIENT), "from"),
        (GeneralHeader(b"1", b"", CLIENT), "nobody"),
        (GeneralHeader(b"1", METER, b"ANOTHER1"), "we are"),
        (GeneralHeader(b"1", CLIENT, METER), "our own system title"),
    ],
)
def test_another_signer_or_another_recipient(header: GeneralHeader, match: str) -> None:
    client = ApduProtection(SecurityContext(CLIENT, OURS, SUITE, SecurityPolicy.NONE, signed=True), None, METER)
    assert client.unprotect(SignedApdu.make(GeneralHeader(b"1", METER), ANSWER, C).encode()) == ANSWER
    with pytest.raises(RemoteProtocolError, match=match):
        client.unprotect(SignedApdu.make(header, ANSWER, C).encode())
    with pytest.raises(RemoteProtocolError, match="signature"):
        client.unprotect(SignedApdu.make(GeneralHeader(b"1", METER), ANSWER, D).encode())


def test_a_signature_nobody_can_verify_is_refused() -> None:
    context = SecurityContext(CLIENT, replace(OURS, peer_signing=None), SUITE)
    client = ApduProtection(context, ReservedCounter(1), METER)
    with pytest.raises(RemoteProtocolError, match="public key is not known"):
        client.unprotect(end(signed=True, client=False).protect(ANSWER))


def test_layers_without_end_are_not_opened() -> None:
    apdu = ANSWER
    for _ in range(10):
        apdu = SignedApdu.make(GeneralHeader(b"1", METER), apdu, C).encode()
    client = ApduProtection(SecurityContext(CLIENT, OURS, SUITE, SecurityPolicy.NONE, signed=True), None, METER)
    assert client.unprotect(apdu)[0] == 0xDF


@pytest.mark.parametrize(
    ("keys", "general_key", "signed", "match"),
    [
        (SHARED, Agreement.ONE_PASS, False, "signing key"),
        (SHARED, Agreement.STATIC_UNIFIED, False, "agreement key"),
        (SHARED, None, True, "signing key"),
        (SHARED, KeyId.GLOBAL_BROADCAST_ENCRYPTION, False, "broadcast"),
    ],
)
def test_what_is_missing_is_named(keys: Keys, general_key: KeyId | Agreement | None, signed: bool, match: str) -> None:
    with pytest.raises(ConfigurationError, match=match):
        SecurityContext(CLIENT, keys, SUITE, general_key=general_key, signed=signed)


def test_suite_0_agrees_to_no_key() -> None:
    keys = Keys(bytes(16), bytes(16))
    with pytest.raises(ConfigurationError, match="suite 1 or 2"):
        SecurityContext(CLIENT, keys, general_key=Agreement.STATIC_UNIFIED)


@given(
    st.sampled_from([None, UNICAST, *Agreement]),
    st.booleans(),
    st.integers(0, 400),
    st.integers(0, 400),
    st.binary(max_size=12),
)
def test_whatever_is_done_to_an_apdu_the_fault_is_the_partners(
    general_key: KeyId | Agreement | None, signed: bool, start: int, cut: int, put: bytes
) -> None:
    """Cut out, put in, prolonged, forged lengths: an APDU that is not the one that was sent is refused."""
    whole = end(general_key, signed=signed, client=False).protect(ANSWER)
    changed = whole[:start] + put + whole[start + cut :]
    client = end(general_key, signed=signed)
    if changed == whole:
        assert client.unprotect(changed) == ANSWER
        return
    with pytest.raises(RemoteProtocolError):
        client.unprotect(changed)
