"""Ciphered APDUs: worked examples, plain AES-GCM beside ours, every form and policy, and whatever must be refused."""

from __future__ import annotations

from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

from meterbridge.dlms.ciphering import CIPHERED_TAGS, CipheredApdu, cipher_apdu
from meterbridge.dlms.counters import COUNTER_END, ReceivedCounters, ReservedCounter
from meterbridge.dlms.protection import ApduProtection
from meterbridge.dlms.security import Keys, SecurityContext, SecurityControl, SecurityPolicy, SecuritySuite
from meterbridge.errors import ConfigurationError, LocalProtocolError, MeterbridgeError, RemoteProtocolError
from tests.unit.dlms import green_book as gb

POLICIES = (SecurityPolicy.AUTHENTICATED, SecurityPolicy.ENCRYPTED, SecurityPolicy.BOTH)
CONTEXT = SecurityContext(gb.TITLE, gb.KEYS)
DEDICATED = bytes(range(0x40, 0x50))
BROADCAST = bytes(range(0x60, 0x70))
ALL_KEYS = replace(gb.KEYS, dedicated=DEDICATED, broadcast=BROADCAST)
PLAIN = (0x01, 0x05, 0x06, 0x08, 0x0C, 0x0D, 0x0E, 0x16, 0x18, 0xC0, 0xC1, 0xC2, 0xC3, 0xC4, 0xC5, 0xC7)


def two_ends(
    policy: SecurityPolicy = SecurityPolicy.BOTH, *, general: bool = False, keys: Keys = gb.KEYS
) -> tuple[ApduProtection, ApduProtection]:
    client = SecurityContext(gb.CLIENT_TITLE, keys, policy=policy, general=general)
    server = replace(client, system_title=gb.TITLE)
    return (
        ApduProtection(client, ReservedCounter(7), gb.TITLE),
        ApduProtection(server, ReservedCounter(100), gb.CLIENT_TITLE),
    )


# ---------------------------------------------------------------------------------------------------------------------
# the Green Book


@pytest.mark.parametrize("policy", POLICIES)
def test_the_get_request_of_the_green_book(policy: SecurityPolicy) -> None:
    ciphered = cipher_apdu(gb.GET_REQUEST, replace(CONTEXT, policy=policy), gb.COUNTER)
    assert ciphered == gb.GET_CIPHERED[policy]
    taken = CipheredApdu.decode(ciphered)
    assert (taken.plain_tag, taken.counter, taken.control.policy) == (0xC0, gb.COUNTER, policy)
    assert taken.open(gb.KEYS, gb.TITLE) == gb.GET_REQUEST


def test_the_initiate_request_of_the_green_book() -> None:
    assert cipher_apdu(gb.INITIATE, CONTEXT, gb.COUNTER) == gb.INITIATE_CIPHERED
    assert CipheredApdu.decode(gb.INITIATE_CIPHERED).open(gb.KEYS, gb.TITLE) == gb.INITIATE


@pytest.mark.parametrize("suite", SecuritySuite)
@pytest.mark.parametrize("policy", POLICIES)
def test_it_is_what_aes_gcm_says_when_asked_directly(policy: SecurityPolicy, suite: SecuritySuite) -> None:
    keys = Keys(bytes(range(suite.key_size)), bytes(range(0x80, 0x80 + suite.key_size)))
    assert keys.encryption is not None and keys.authentication is not None
    control, counter = policy | suite, 0xFFFFFFFF
    ciphered = cipher_apdu(gb.GET_REQUEST, SecurityContext(gb.TITLE, keys, suite, policy, general=True), counter)
    associated = bytes((control,)) + keys.authentication
    gcm, iv = AESGCM(keys.encryption), gb.TITLE + b"\xff\xff\xff\xff"
    if policy is SecurityPolicy.AUTHENTICATED:
        content = gb.GET_REQUEST + gcm.encrypt(iv, b"", associated + gb.GET_REQUEST)[:12]
    elif policy is SecurityPolicy.ENCRYPTED:
        content = gcm.encrypt(iv, gb.GET_REQUEST, None)[:-16]
    else:
        content = gcm.encrypt(iv, gb.GET_REQUEST, associated)[:-4]
    head = bytes((0xDB, 8)) + gb.TITLE + bytes((len(content) + 5, control))
    assert ciphered == head + b"\xff\xff\xff\xff" + content


def test_every_tag_has_its_global_and_its_dedicated_form() -> None:
    context = replace(CONTEXT, keys=ALL_KEYS)
    expected = {0x01: (0x21, 0x41), 0x08: (0x28, 0x48), 0x0E: (0x2E, 0x4E), 0x05: (0x25, 0x45), 0x0C: (0x2C, 0x4C)}
    expected |= {0xC0: (0xC8, 0xD0), 0xC4: (0xCC, 0xD4), 0xC3: (0xCB, 0xD3), 0xC7: (0xCF, 0xD7), 0xC2: (0xCA, 0xD2)}
    found = {
        tag: tuple(cipher_apdu(bytes((tag, 1)), context, 1, dedicated=dedicated)[0] for dedicated in (False, True))
        for tag in PLAIN
    }
    assert {tag: found[tag] for tag in expected} == expected
    assert {tag for pair in found.values() for tag in pair} | {0xDB, 0xDC} == CIPHERED_TAGS
    # What has no form of its own takes the general one.
    assert cipher_apdu(b"\x0f\x01", context, 1)[0] == 0xDB
    assert cipher_apdu(b"\xd9\x01", context, 1, dedicated=True)[0] == 0xDC


# ---------------------------------------------------------------------------------------------------------------------
# round trips


@given(
    tag=st.sampled_from([*PLAIN, 0x0F, 0xD9]),
    body=st.binary(max_size=300),
    policy=st.sampled_from(POLICIES),
    general=st.booleans(),
    dedicated=st.booleans(),
)
def test_what_one_end_protects_the_other_takes(
    tag: int, body: bytes, policy: SecurityPolicy, general: bool, dedicated: bool
) -> None:
    client, server = two_ends(policy, general=general, keys=ALL_KEYS if dedicated else gb.KEYS)
    apdu = bytes((tag,)) + body
    for sender, receiver in ((client, server), (server, client)):
        ciphered = sender.protect(apdu)
        assert len(ciphered) <= len(apdu) + sender.overhead
        assert receiver.unprotect(ciphered) == apdu


@pytest.mark.parametrize("size", [100, 127, 128, 255, 256, 65_535])
@pytest.mark.parametrize("general", [False, True])
@pytest.mark.parametrize("policy", POLICIES)
def test_lengths_above_127(size: int, general: bool, policy: SecurityPolicy) -> None:
    client, server = two_ends(policy, general=general)
    apdu = b"\xc4" + bytes(range(256)) * 256
    ciphered = client.protect(apdu[:size])
    assert len(ciphered) <= size + client.overhead
    assert server.unprotect(ciphered) == apdu[:size]


def test_initiate_goes_with_the_global_key_and_the_rest_with_the_dedicated() -> None:
    client, server = two_ends(keys=ALL_KEYS)
    initiate, request = client.protect(gb.INITIATE), client.protect(gb.GET_REQUEST)
    assert (initiate[0], request[0]) == (0x21, 0xD0)
    assert CipheredApdu.decode(initiate).open(gb.KEYS, gb.CLIENT_TITLE) == gb.INITIATE
    assert CipheredApdu.decode(request).open(Keys(None, gb.AK, DEDICATED), gb.CLIENT_TITLE) == gb.GET_REQUEST
    assert server.unprotect(initiate) == gb.INITIATE
    assert server.unprotect(request) == gb.GET_REQUEST


def test_a_broadcast_needs_the_broadcast_key() -> None:
    ciphered = cipher_apdu(b"\x0f\x01\x02", replace(CONTEXT, keys=ALL_KEYS), 5, broadcast=True)
    assert CipheredApdu.decode(ciphered).control.broadcast
    assert CipheredApdu.decode(ciphered).open(ALL_KEYS) == b"\x0f\x01\x02"
    with pytest.raises(ConfigurationError, match="broadcast key"):
        CipheredApdu.decode(ciphered).open(gb.KEYS)


# ---------------------------------------------------------------------------------------------------------------------
# refused


def refused(end: ApduProtection, octets: bytes, match: str) -> None:
    with pytest.raises(RemoteProtocolError, match=match) as caught:
        end.unprotect(octets)
    for secret in (gb.EK, gb.AK, DEDICATED):
        assert secret.hex() not in str(caught.value).lower()


@pytest.mark.parametrize("general", [False, True])
@pytest.mark.parametrize("policy", [SecurityPolicy.AUTHENTICATED, SecurityPolicy.BOTH])
def test_every_flipped_bit_is_refused(policy: SecurityPolicy, general: bool) -> None:
    client, server = two_ends(policy, general=general)
    ciphered = client.protect(gb.GET_REQUEST)
    for index in range(len(ciphered)):
        for bit in range(8):
            flipped = bytearray(ciphered)
            flipped[index] ^= 1 << bit
            with pytest.raises(RemoteProtocolError):
                server.unprotect(bytes(flipped))
    assert server.unprotect(ciphered) == gb.GET_REQUEST


def test_flipped_ciphertext_and_flipped_tag_say_so() -> None:
    client, server = two_ends()
    ciphered = client.protect(gb.GET_REQUEST)
    for index in (8, -1):
        flipped = bytearray(ciphered)
        flipped[index] ^= 1
        refused(server, bytes(flipped), r"authentication tag .*invocation counter 7.* is wrong")


@pytest.mark.parametrize("policy", POLICIES)
def test_other_keys_are_refused(policy: SecurityPolicy) -> None:
    client, _ = two_ends(policy)
    _, server = two_ends(policy, keys=Keys(gb.AK, gb.EK))
    refused(server, client.protect(gb.GET_REQUEST), "other keys|wrong keys")


def test_a_counter_that_came_before_is_refused_and_a_forged_one_moves_nothing() -> None:
    client, server = two_ends()
    first, second = client.protect(gb.GET_REQUEST), client.protect(gb.GET_REQUEST)
    assert first != second
    forged = bytearray(first)
    forged[3:7] = b"\xff\xff\xff\xff"
    refused(server, bytes(forged), "tag")
    assert server.unprotect(second) == gb.GET_REQUEST
    refused(server, second, "invocation counter 8 after 8")
    refused(server, first, "invocation counter 7 after 8")


def test_received_counters_outlive_an_association() -> None:
    client, _ = two_ends()
    received = ReceivedCounters({"encryption": 7})
    server = ApduProtection(
        replace(client.context, system_title=gb.TITLE), ReservedCounter(), gb.CLIENT_TITLE, received
    )
    refused(server, client.protect(gb.GET_REQUEST), "after 7")
    assert server.unprotect(client.protect(gb.GET_REQUEST)) == gb.GET_REQUEST
    assert received.last == {"encryption": 8}


@pytest.mark.parametrize("sent", [SecurityPolicy.AUTHENTICATED, SecurityPolicy.ENCRYPTED])
def test_less_protection_than_demanded_is_refused_and_more_is_taken(sent: SecurityPolicy) -> None:
    client, _ = two_ends(sent)
    strict, server = two_ends(SecurityPolicy.BOTH)[1], two_ends(sent)[1]
    refused(strict, client.protect(gb.GET_REQUEST), "where authenticated and encrypted is demanded")
    assert server.unprotect(two_ends(SecurityPolicy.BOTH)[0].protect(gb.GET_REQUEST)) == gb.GET_REQUEST


def test_a_plain_apdu_is_refused() -> None:
    refused(two_ends()[1], gb.GET_REQUEST, "0xC0 is not ciphered")
    refused(two_ends()[1], b"", "not ciphered")


def test_our_own_apdu_sent_back_is_refused() -> None:
    client, _ = two_ends(general=True)
    own = client.protect(gb.GET_REQUEST)
    refused(client, own, "from 4d4d4d0000000001")
    client.peer_title = b""
    refused(client, own, "our own system title")


def test_another_suite_is_refused() -> None:
    client, _ = two_ends()
    _, server = two_ends()
    server.context = replace(server.context, suite=SecuritySuite.P256_AES_128)
    refused(server, client.protect(gb.GET_REQUEST), "suite 0, not 1")


@pytest.mark.parametrize(
    ("octets", "match"),
    [
        ("C8", "length|cut short"),
        ("C805", "cut short"),
        ("C803300000", "cut short"),
        ("C81030000000010203040506070809AABBCC", "cut short"),
        ("C80790000000010203", "compressed"),
        ("C80713000000010203", "suite 3 does not exist"),
        ("C8060000000001AA", "neither authenticated nor encrypted"),
        ("DB07AABBCCDDEEFF11052000000001", "8 octets, not 7"),
        ("DB00062000000001AA", "not known"),
    ],
)
def test_malformed_apdus_are_refused(octets: str, match: str) -> None:
    server = two_ends(SecurityPolicy.ENCRYPTED)[1]
    server.peer_title = b""
    refused(server, bytes.fromhex(octets), match)


@given(st.sampled_from(sorted(CIPHERED_TAGS)), st.binary(max_size=60))
def test_noise_is_refused(tag: int, body: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        two_ends()[1].unprotect(bytes((tag,)) + body)


def test_the_broadcast_key_proves_nothing_within_an_association() -> None:
    client, server = two_ends(keys=ALL_KEYS)
    forged = cipher_apdu(gb.GET_REQUEST, client.context, 50, broadcast=True)
    refused(server, forged, "not a broadcast")


# ---------------------------------------------------------------------------------------------------------------------
# keys and counters


def test_nothing_prints_a_key() -> None:
    printed = f"{ALL_KEYS!r} {ALL_KEYS} {replace(CONTEXT, keys=ALL_KEYS)!r}"
    assert "encryption, authentication, dedicated, broadcast" in printed
    for key in (gb.EK, gb.AK, DEDICATED, BROADCAST):
        assert key.hex() not in printed.lower()
        assert repr(key) not in printed


@pytest.mark.parametrize(
    ("title", "keys", "suite", "match"),
    [
        (b"short", gb.KEYS, 0, "8 octets, not 5"),
        (gb.TITLE, Keys(), 0, "encryption key"),
        (gb.TITLE, Keys(gb.EK), 0, "authentication key"),
        (gb.TITLE, Keys(gb.EK[:15], gb.AK), 0, "has 15 octets, security suite 0 takes 16"),
        (gb.TITLE, gb.KEYS, 2, "has 16 octets, security suite 2 takes 32"),
    ],
)
def test_a_context_that_cannot_be(title: bytes, keys: Keys, suite: int, match: str) -> None:
    with pytest.raises(ConfigurationError, match=match):
        SecurityContext(title, keys, SecuritySuite(suite))


@given(st.sampled_from(SecuritySuite), st.sampled_from(POLICIES), st.booleans())
def test_a_security_control_is_read_as_it_is_written(
    suite: SecuritySuite, policy: SecurityPolicy, broadcast: bool
) -> None:
    control = SecurityControl(suite, policy, broadcast)
    assert SecurityControl.decode(control.encode()) == control


def test_a_counter_is_put_by_before_it_is_used_and_never_used_twice() -> None:
    disk: list[int] = []
    counter = ReservedCounter(10, disk.append, ahead=3)
    assert disk == []
    used = [counter.next_counter() for _ in range(4)]
    assert used == [10, 11, 12, 13]
    assert disk == [13, 16]
    # The process dies here: the next one starts behind all that was put by.
    assert ReservedCounter(disk[-1]).next_counter() == 16
    counter.advance_to(12)
    assert counter.next_counter() == 14
    counter.advance_to(500)
    assert counter.next_counter() == 500
    assert disk == [13, 16, 503]


def test_a_counter_that_cannot_be_put_by_is_not_used() -> None:
    def full(end: int) -> None:
        raise MeterbridgeError("disk full")

    counter = ReservedCounter(0, full)
    for _ in range(2):
        with pytest.raises(MeterbridgeError, match="disk full"):
            counter.next_counter()


def test_an_exhausted_counter_ends() -> None:
    counter = ReservedCounter(COUNTER_END - 1)
    assert counter.next_counter() == 0xFFFFFFFF
    with pytest.raises(LocalProtocolError, match="exhausted"):
        counter.next_counter()
    with pytest.raises(ConfigurationError):
        ReservedCounter(-1)
