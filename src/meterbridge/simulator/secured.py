"""A server association that lets nobody in who cannot prove himself, and ciphers what it says. No socket, no clock."""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from meterbridge.dlms import Conformance, Mechanism
from meterbridge.dlms.acse import (
    AARE,
    AARQ,
    AUTHENTICATION_FAILURE,
    AUTHENTICATION_REQUIRED,
    RLRQ,
    Aare,
    Aarq,
    ApplicationContext,
    AssociationResult,
    ConfirmedServiceError,
    InitiateRequest,
    InitiateResponse,
    Release,
)
from meterbridge.dlms.hls import HLS, MAX_CHALLENGE, Handshake, challenge_size
from meterbridge.dlms.protection import ApduProtection
from meterbridge.dlms.xdlms import EXCEPTION_RESPONSE, ExceptionResponse
from meterbridge.errors import RemoteProtocolError, ReplayedCounterError
from meterbridge.simulator.association import ServerAssociation
from meterbridge.simulator.behaviour import Behaviour
from meterbridge.simulator.meter import SimulatedMeter
from meterbridge.simulator.security import MeterSecurity

_NOT_ALLOWED: Final = ExceptionResponse(1, 1).encode()
_DECIPHERING: Final = ExceptionResponse(1, 5).encode()
_INITIATE_DECIPHERING: Final = ConfirmedServiceError(1, 0, 6).encode()
_CONTEXT, _MECHANISM = 2, 11
_REPLY_TO_HLS: Final = bytes.fromhex("000F0000280000FF01")
_DENIED: Final = 3


class SecuredAssociation(ServerAssociation):
    """A client's association with authentication and ciphering, around the plain one that knows nothing of either.

    Args:
        meter: what is read.
        client: SAP the client calls from.
        behaviour: asked before anything is given or refused.
        claim: called when the client would be let in; False means that another one holds the meter.
        release: called when the association is over.
        security: what the meter demands.
        random: makes challenges of so many octets.
    """

    __slots__ = ("_demanded", "_handshake", "_protection", "_random", "_security")

    def __init__(
        self,
        meter: SimulatedMeter,
        client: int,
        behaviour: Behaviour,
        claim: Callable[[], bool],
        release: Callable[[], None],
        security: MeterSecurity,
        random: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        super().__init__(meter, client, behaviour, claim, release)
        self._security = security
        self._demanded = security.context
        self._random = random
        self._protection: ApduProtection | None = None
        self._handshake: Handshake | None = None

    def close(self) -> None:
        """End the association without a word."""
        self._protection = self._handshake = None
        super().close()

    @property
    def _room(self) -> int:
        protection = self._protection
        return super()._room - (0 if protection is None else protection.overhead)

    def receive(self, apdu: bytes, now: float) -> bytes:
        """Answer one APDU at Unix time `now`."""
        tag = apdu[0] if apdu else 0
        try:
            if tag == AARQ:
                return self._let_in(apdu, now)
            if tag == RLRQ:
                return self._let_go(apdu, now)
            if not self.open:
                return _NOT_ALLOWED
            protection = self._protection
            if protection is None:
                return self._once_proven(apdu, now)
            protection.context = self._demanded
            plain = protection.unprotect(apdu)
            protection.answer_alike()
            answer = self._once_proven(plain, now)
            return answer if answer[:1] == bytes((EXCEPTION_RESPONSE,)) else protection.protect(answer)
        except ReplayedCounterError as error:
            return ExceptionResponse(1, 6, error.least).encode()
        except RemoteProtocolError:
            return _DECIPHERING

    def _once_proven(self, apdu: bytes, now: float) -> bytes:
        if self._handshake is None:
            return super().receive(apdu, now)
        handshake, self._handshake = self._handshake, None
        head = 3 + len(_REPLY_TO_HLS) + 3
        if apdu[:2] != b"\xc3\x01" or apdu[3 : head - 3] != _REPLY_TO_HLS or apdu[head - 3 : head - 1] != b"\x01\x09":
            self._handshake = handshake
            return _NOT_ALLOWED
        if len(apdu) != head + apdu[head - 1] or not handshake.verify(apdu[head:]):
            self.close()
            return bytes((0xC7, 1, apdu[2], _DENIED, 0))
        proof = handshake.answer(self._security.counter.next_counter)
        return bytes((0xC7, 1, apdu[2], 0, 1, 0, 9, len(proof))) + proof

    # ---- association

    def _let_in(self, apdu: bytes, now: float) -> bytes:
        self.close()
        aarq = Aarq.decode(apdu)
        security = self._security
        context = security.context
        ciphered = aarq.context == ApplicationContext.LN_CIPHERED
        refused = self._demands(aarq, ciphered)
        if refused:
            information = ConfirmedServiceError(1, 6, 4).encode()
            return Aare(aarq.context, AssociationResult.REJECTED_PERMANENT, refused, information).encode()
        initiate_octets, protection = aarq.user_information, None
        if ciphered:
            protection = ApduProtection(context, security.counter, aarq.system_title or b"", security.received)
            try:
                initiate_octets = protection.unprotect(initiate_octets)
            except ReplayedCounterError:
                raise
            except RemoteProtocolError:
                return _INITIATE_DECIPHERING
        initiate = InitiateRequest.decode(initiate_octets)
        if protection is not None:
            keys = replace(context.keys, dedicated=initiate.dedicated_key)
            protection.context = self._demanded = replace(context, keys=keys)
            initiate = replace(initiate, dedicated_key=None)
        elif context.signed:
            protection = ApduProtection(context, None, aarq.system_title or b"")
            self._demanded = context
        return self._accept(aarq, initiate, protection, ciphered, now)

    def _accept(
        self, aarq: Aarq, initiate: InitiateRequest, protection: ApduProtection | None, ciphered: bool, now: float
    ) -> bytes:
        security = self._security
        password = self._meter.identity.password
        # Asked for again without ciphering, and with the password it expects.
        within = Aarq(ApplicationContext.LN, initiate.encode(), Mechanism.LLS if password else None, password or None)
        answer = super().receive(within.encode(), now)
        if answer[0] != AARE or not self.open:
            return answer
        response = InitiateResponse.decode(Aare.decode(answer).user_information)
        services = Conformance(initiate.conformance & (Conformance.ACTION | Conformance.GENERAL_PROTECTION))
        information = replace(response, conformance=response.conformance | services).encode()
        if ciphered and protection is not None:
            information = protection.protect(information)
        self._protection = protection
        diagnostic, challenge = 0, None
        if security.mechanism in HLS:
            diagnostic, challenge = AUTHENTICATION_REQUIRED, self._random(challenge_size(security.mechanism))
            self._handshake = Handshake(
                security.mechanism,
                challenge,
                aarq.authentication_value or b"",
                security.context.system_title,
                aarq.system_title or b"",
                security.secret,
                security.context.keys,
                security.context.suite,
            )
        return Aare(
            aarq.context,
            AssociationResult.ACCEPTED,
            diagnostic,
            information,
            mechanism=security.mechanism,
            authentication_value=challenge,
            system_title=security.context.system_title,
        ).encode()

    def _demands(self, aarq: Aarq, ciphered: bool) -> int:
        security = self._security
        if aarq.context not in (ApplicationContext.LN, ApplicationContext.LN_CIPHERED):
            return _CONTEXT
        if security.context.policy and not ciphered:
            return _CONTEXT
        if aarq.mechanism in (None, Mechanism.LOWEST):
            return AUTHENTICATION_REQUIRED
        if aarq.mechanism != security.mechanism:
            return _MECHANISM
        value = aarq.authentication_value or b""
        if security.mechanism is Mechanism.LLS:
            return 0 if hmac.compare_digest(value, security.secret) else AUTHENTICATION_FAILURE
        if not 8 <= len(value) <= MAX_CHALLENGE or len(aarq.system_title or b"") not in (0, 8):
            return AUTHENTICATION_FAILURE
        return 0

    def _let_go(self, apdu: bytes, now: float) -> bytes:
        information = Release.decode(apdu).user_information
        protection = self._protection
        if protection is None or not information:
            return super().receive(apdu, now)
        protection.context = self._demanded
        protection.unprotect(information)
        response = protection.protect(InitiateResponse(Conformance(0), 0).encode())
        self.close()
        return Release(response=True, user_information=response).encode()
