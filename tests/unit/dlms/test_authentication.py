"""Associations with HLS and ciphering against a meter written here by hand, honest or not."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest

from meterbridge.dlms import (
    AssociationOpened,
    AssociationParameters,
    AttributeDescriptor,
    ClientAssociation,
    LogicalName,
    RequestCompleted,
    State,
    WrapperLink,
)
from meterbridge.dlms.acse import (
    Aare,
    Aarq,
    ConfirmedServiceError,
    InitiateRequest,
    InitiateResponse,
    Mechanism,
    Release,
)
from meterbridge.dlms.authentication import Credentials
from meterbridge.dlms.ciphering import CipheredApdu
from meterbridge.dlms.conformance import Conformance
from meterbridge.dlms.counters import ReservedCounter
from meterbridge.dlms.hls import Handshake
from meterbridge.dlms.protection import ApduProtection
from meterbridge.dlms.security import Keys, SecurityContext, SecurityPolicy
from meterbridge.dlms.xdlms import ExceptionResponse
from meterbridge.errors import (
    AssociationRefused,
    AuthenticationFailed,
    ConfigurationError,
    InvocationCounterError,
    LocalProtocolError,
    MeterError,
    RemoteProtocolError,
    ServiceError,
)
from tests.unit.dlms import green_book as gb

SECRET = b"a secret of both"
VOLTAGE = AttributeDescriptor(3, LogicalName.parse("1-0:32.7.0"), 2)
POLICIES = tuple(SecurityPolicy(policy) for policy in (0, 0x10, 0x20, 0x30))
HASHED = (Mechanism.HLS_MD5, Mechanism.HLS_SHA1, Mechanism.HLS_SHA256)
STRANGER = Keys(bytes(16), bytes(16))


def credentials(
    mechanism: Mechanism = Mechanism.HLS_GMAC, policy: SecurityPolicy = SecurityPolicy.BOTH, **more: object
) -> Credentials:
    security = SecurityContext(gb.CLIENT_TITLE, gb.KEYS, policy=policy)
    return replace(Credentials(mechanism, SECRET, security), **more)  # type: ignore[arg-type]


@dataclass
class Meter:
    """The other end: it may lie about what its fields say."""

    credentials: Credentials
    title: bytes = gb.TITLE
    says_title: bool = True
    keys: Keys = gb.KEYS
    secret: bytes = SECRET
    challenge: bytes | None = b"from the meter, 32 octets long.."
    policy: SecurityPolicy | None = None
    counter: ReservedCounter = field(default_factory=lambda: ReservedCounter(1000))
    client_counter: ReservedCounter = field(default_factory=lambda: ReservedCounter(5))

    def __post_init__(self) -> None:
        parameters = AssociationParameters(credentials=self.credentials)
        self.association = ClientAssociation(WrapperLink(1, 17), parameters, self.client_counter)
        self.pen = WrapperLink(17, 1)
        self.pen.connect()
        self.pen.next_event()

    def heard(self) -> bytes:
        self.pen.receive_data(self.association.data_to_send())
        event = self.pen.next_event()
        assert event is not None
        return event.apdu  # type: ignore[union-attr]

    def say(self, apdu: bytes) -> object:
        self.pen.send(apdu)
        self.association.receive_data(self.pen.data_to_send())
        return self.association.next_event()

    def aarq(self) -> Aarq:
        self.association.open()
        assert self.association.next_event() is None
        self.request = Aarq.decode(self.heard())
        self.protection: ApduProtection | None = None
        initiate = self.request.user_information
        if self.credentials.ciphered:
            assert self.credentials.security is not None
            policy = self.credentials.security.policy if self.policy is None else self.policy
            context = SecurityContext(self.title, self.keys, policy=policy)
            self.protection = ApduProtection(context, self.counter, self.request.system_title or b"")
            initiate = CipheredApdu.decode(initiate).open(gb.KEYS, self.request.system_title or b"")
        self.initiate = InitiateRequest.decode(initiate)
        return self.request

    def aare(self) -> object:
        response = InitiateResponse(Conformance.GET, 1024).encode()
        if self.protection is not None:
            response = self.protection.protect(response)
        ciphered = self.protection is not None
        title = self.title if self.says_title else None
        mechanism = self.credentials.mechanism
        return self.say(Aare(3 if ciphered else 1, 0, 14, response, False, mechanism, self.challenge, title).encode())

    def handshake(self) -> Handshake:
        mechanism = self.request.mechanism
        assert mechanism is not None and self.challenge is not None
        return Handshake(
            mechanism,
            self.challenge,
            self.request.authentication_value or b"",
            self.title,
            self.request.system_title or b"",
            self.secret,
            self.keys,
        )

    def pass_3(self) -> bytes:
        action = self.heard()
        if self.protection is not None:
            action = self.protection.unprotect(action)
        assert action[:13] == bytes((0xC3, 1, action[2])) + bytes.fromhex("000F0000280000FF0101")
        assert action[13] == 9 and action[14] == len(action) - 15
        self.invoke_id = action[2]
        return action[15:]

    def pass_4(self, answer: bytes) -> object:
        response = bytes((0xC7, 1, self.invoke_id, 0, 1, 0, 9, len(answer))) + answer
        return self.say(self.protection.protect(response) if self.protection else response)

    def let_in(self) -> object:
        self.aarq()
        assert self.aare() is None
        handshake = self.handshake()
        assert handshake.verify(self.pass_3())
        return self.pass_4(handshake.answer(self.counter.next_counter))


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("mechanism", [*HASHED, Mechanism.HLS_GMAC])
def test_both_prove_themselves_and_every_apdu_is_protected(mechanism: Mechanism, policy: SecurityPolicy) -> None:
    meter = Meter(credentials(mechanism, policy))
    assert isinstance(meter.let_in(), AssociationOpened)
    assert meter.request.context == (3 if policy else 1)
    assert meter.request.system_title == gb.CLIENT_TITLE
    meter.association.get((VOLTAGE,))
    request = meter.heard()
    if meter.protection is None:
        assert request[0] == 0xC0
        answer = bytes((0xC4, 1, request[2], 0, 0x12, 0x08, 0xFD))
    else:
        assert request[0] == 0xC8
        request = meter.protection.unprotect(request)
        answer = meter.protection.protect(bytes((0xC4, 1, request[2], 0, 0x12, 0x08, 0xFD)))
    assert meter.say(answer) == RequestCompleted((2301,))
    meter.association.release()
    released = Release.decode(meter.heard())
    if meter.protection is not None:
        again = meter.protection.unprotect(released.user_information)
        assert InitiateRequest.decode(again).conformance == meter.initiate.conformance


def test_a_dedicated_key_is_new_with_each_association_and_used_after_it_is_agreed() -> None:
    keys = set()
    for _ in range(2):
        meter = Meter(credentials(dedicated=True))
        meter.aarq()
        key = meter.initiate.dedicated_key
        assert key is not None and len(key) == 16
        keys.add(key)
        assert meter.protection is not None
        assert meter.aare() is None
        meter.protection.context = replace(meter.protection.context, keys=replace(gb.KEYS, dedicated=key))
        handshake = meter.handshake()
        assert handshake.verify(meter.pass_3())
        assert isinstance(meter.pass_4(handshake.answer(meter.counter.next_counter)), AssociationOpened)
        meter.association.get((VOLTAGE,))
        assert meter.heard()[0] == 0xD0
    assert len(keys) == 2


def test_challenges_are_new_with_each_association() -> None:
    values = {Meter(credentials()).aarq().authentication_value for _ in range(3)}
    assert len(values) == 3


@pytest.mark.parametrize("mechanism", [*HASHED, Mechanism.HLS_GMAC])
def test_a_meter_that_does_not_prove_itself_is_refused(mechanism: Mechanism) -> None:
    for policy in POLICIES:
        meter = Meter(credentials(mechanism, policy))
        meter.aarq()
        meter.aare()
        honest = meter.handshake()
        proof = meter.pass_3()
        liar = replace(honest, secret=b"another", keys=STRANGER)
        with pytest.raises(AuthenticationFailed, match="did not prove itself"):
            # Not even with what we said ourselves.
            meter.pass_4(proof if policy else liar.answer(meter.counter.next_counter))
        assert meter.association.state is State.LINKED
        with pytest.raises(LocalProtocolError):
            meter.association.get((VOLTAGE,))


def test_a_meter_that_refuses_our_proof() -> None:
    meter = Meter(credentials(policy=SecurityPolicy.NONE))
    meter.aarq()
    meter.aare()
    meter.pass_3()
    with pytest.raises(AuthenticationFailed, match="does not take our authentication: read-write-denied"):
        meter.say(bytes((0xC7, 1, meter.invoke_id, 3, 0)))


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        ({"keys": STRANGER}, RemoteProtocolError, "tag"),
        ({"policy": SecurityPolicy.AUTHENTICATED}, RemoteProtocolError, "demanded"),
        ({"challenge": None}, RemoteProtocolError, "8 to 64 octets"),
        ({"challenge": b"short"}, RemoteProtocolError, "8 to 64 octets"),
        ({"says_title": False}, RemoteProtocolError, "not known"),
        ({"title": b"OTHERTTL"}, None, ""),
    ],
)
def test_an_aare_that_is_not_as_it_must_be(
    change: dict[str, object], error: type[MeterError] | None, match: str
) -> None:
    meter = Meter(credentials(), **change)  # type: ignore[arg-type]
    meter.aarq()
    if error is None:
        assert meter.aare() is None
        return
    with pytest.raises(error, match=match):
        meter.aare()


def test_our_own_challenge_said_back_is_refused() -> None:
    meter = Meter(credentials(Mechanism.HLS_MD5, SecurityPolicy.NONE))
    meter.challenge = meter.aarq().authentication_value
    with pytest.raises(RemoteProtocolError, match="our own"):
        meter.aare()


def test_a_plain_answer_to_a_ciphered_request_is_refused() -> None:
    meter = Meter(credentials())
    meter.aarq()
    meter.protection = None
    with pytest.raises(RemoteProtocolError, match="0x08 is not ciphered"):
        meter.aare()


def test_a_meter_whose_title_is_known_need_not_say_it_and_may_say_no_other() -> None:
    meter = Meter(credentials(server_title=gb.TITLE), says_title=False)
    assert isinstance(meter.let_in(), AssociationOpened)
    other = Meter(credentials(server_title=gb.TITLE), title=b"OTHERTTL")
    other.aarq()
    with pytest.raises(AssociationRefused, match="another meter"):
        other.aare()


def test_a_plain_answer_in_a_ciphered_association_is_refused() -> None:
    meter = Meter(credentials())
    meter.let_in()
    meter.association.get((VOLTAGE,))
    assert meter.protection is not None
    request = meter.protection.unprotect(meter.heard())
    with pytest.raises(RemoteProtocolError, match="not ciphered"):
        meter.say(bytes((0xC4, 1, request[2], 0, 0x12, 0x08, 0xFD)))


def test_a_ciphered_confirmed_service_error_is_read() -> None:
    meter = Meter(credentials())
    meter.let_in()
    meter.association.get((VOLTAGE,))
    assert meter.protection is not None
    with pytest.raises(ServiceError, match="read: access"):
        meter.say(meter.protection.protect(ConfirmedServiceError(5, 5, 1).encode()))


def test_an_invocation_counter_error_says_what_is_expected() -> None:
    meter = Meter(credentials())
    meter.aarq()
    with pytest.raises(InvocationCounterError) as caught:
        meter.say(ExceptionResponse(1, 6, 77).encode())
    assert caught.value.expected == 77
    meter.client_counter.advance_to(77)
    meter.association.associate()
    assert CipheredApdu.decode(Aarq.decode(meter.heard()).user_information).counter == 77


def test_without_a_counter_left_nothing_is_under_way() -> None:
    meter = Meter(credentials())
    meter.let_in()
    meter.client_counter.advance_to(1 << 32)
    with pytest.raises(LocalProtocolError, match="exhausted"):
        meter.association.get((VOLTAGE,))
    assert meter.association.state is State.READY


def test_credentials_that_cannot_be() -> None:
    security = SecurityContext(gb.CLIENT_TITLE, gb.KEYS)
    association = ClientAssociation(WrapperLink(1, 1), AssociationParameters(credentials=credentials()))
    association.open()
    with pytest.raises(ConfigurationError, match="counter"):
        association.next_event()
    with pytest.raises(ConfigurationError, match="needs ciphering"):
        Credentials(Mechanism.LLS, b"1", dedicated=True)
    with pytest.raises(ConfigurationError, match="system title has 8"):
        Credentials(Mechanism.HLS_GMAC, None, security, b"short")
    with pytest.raises(ConfigurationError, match="manufacturer"):
        Credentials(Mechanism.HLS)


def test_no_secret_is_printed() -> None:
    printed = repr(AssociationParameters(credentials=credentials()))
    for secret in (SECRET, gb.EK, gb.AK):
        assert secret.hex() not in printed.lower()
        assert str(secret)[2:-1] not in printed
