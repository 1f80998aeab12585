"""Server end of an application association: AARQ, release, general block transfer, services. No socket, no clock."""

from __future__ import annotations

import dataclasses
import hmac
from collections.abc import Callable
from typing import Final, Protocol

from meterbridge.dlms import Conformance
from meterbridge.dlms.acse import (
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
    Mechanism,
    Release,
)
from meterbridge.dlms.block_transfer import GENERAL_BLOCK_TRANSFER, Block, BlockTransfer
from meterbridge.dlms.xdlms import (
    ACTION_REQUEST,
    GET_REQUEST,
    READ_REQUEST,
    SET_REQUEST,
    UNCONFIRMED_WRITE_REQUEST,
    WRITE_REQUEST,
)
from meterbridge.errors import RemoteProtocolError
from meterbridge.simulator.behaviour import Behaviour, Refusal
from meterbridge.simulator.exceptions import MALFORMED, NOT_ALLOWED, NOT_SUPPORTED, UNKNOWN
from meterbridge.simulator.ln_services import LogicalNameServices
from meterbridge.simulator.meter import CONFORMANCE, PUBLIC_CLIENT, SHORT_NAME_CONFORMANCE, SimulatedMeter
from meterbridge.simulator.short_names import ASSOCIATION_BASE_NAME
from meterbridge.simulator.sn_services import ShortNameServices

# ServiceError [6] initiate.
_INCOMPATIBLE: Final = ConfirmedServiceError(1, 6, 2).encode()
_PDU_TOO_SHORT: Final = ConfirmedServiceError(1, 6, 3).encode()
_REFUSED_BY_HANDLER: Final = ConfirmedServiceError(1, 6, 4).encode()

_ACCESS_REQUEST = 0xD9
_SERVICES: Final = frozenset(
    (GET_REQUEST, SET_REQUEST, ACTION_REQUEST, READ_REQUEST, WRITE_REQUEST, UNCONFIRMED_WRITE_REQUEST)
)
_NO_REASON, _CONTEXT, _MECHANISM = 1, 2, 11
_LEAST_PDU: Final = 32
_UNLIMITED: Final = 1 << 24
_BLOCKS_AT_ONCE: Final = 8
"""Blocks of a general block transfer that the meter takes at once."""

_PERMANENT: Final = Refusal(AssociationResult.REJECTED_PERMANENT, _NO_REASON)
NOT_NOW: Final = Refusal(AssociationResult.REJECTED_TRANSIENT, _NO_REASON)
"""What a second client hears from a meter that takes one association at a time."""


class Services(Protocol):
    """What an open association answers, by its referencing."""

    def answer(self, apdu: bytes, now: float, limit: int) -> bytes:
        """Answer one APDU in at most `limit` octets; empty where nothing is answered."""


class ServerAssociation:
    """One client's association with one meter: an APDU in, the APDUs out that answer it.

    Three layers, outermost first: `respond` knows general block transfer, `receive` has whole APDUs as they were sent
    (ciphering belongs between it and what it calls), `_serve` has them in clear.

    Args:
        meter: what is read.
        client: SAP the client calls from.
        behaviour: asked before anything is given or refused.
        claim: called when the client would be let in; False means that another one holds the meter.
        release: called when the association is over.
    """

    __slots__ = (
        "_behaviour",
        "_claim",
        "_client",
        "_conformance",
        "_limit",
        "_meter",
        "_release",
        "_services",
        "_transfer",
    )

    def __init__(
        self,
        meter: SimulatedMeter,
        client: int,
        behaviour: Behaviour,
        claim: Callable[[], bool] = lambda: True,
        release: Callable[[], None] = lambda: None,
    ) -> None:
        self._meter = meter
        self._client = client
        self._behaviour = behaviour
        self._claim = claim
        self._release = release
        self._conformance = Conformance(0)
        self._limit = 0
        self._services: Services | None = None
        self._transfer: BlockTransfer | None = None

    @property
    def open(self) -> bool:
        """Whether requests are answered."""
        return self._services is not None

    @property
    def limit(self) -> int:
        """Largest APDU that goes out, octets; 0 before there is an association."""
        return self._limit

    def close(self) -> None:
        """End the association without a word: the link went down."""
        self._transfer = None
        if self.open:
            self._services = None
            self._release()

    # ---- general block transfer

    def respond(self, apdu: bytes, now: float, at_once: int = _BLOCKS_AT_ONCE) -> list[bytes]:
        """Answer one APDU, which may be a block of a general block transfer.

        Args:
            apdu: as it came.
            now: Unix time in seconds.
            at_once: most APDUs the link carries without being asked for more.
        """
        if apdu[:1] == bytes((GENERAL_BLOCK_TRANSFER,)) and self.open:
            return self._respond_to_block(apdu, now, at_once)
        self._transfer = None
        answer = self.receive(apdu, now)
        if self.open and len(answer) > self._limit:
            self._transfer = BlockTransfer(_BLOCKS_AT_ONCE, self._limit, at_once)
            return self._transfer.send(answer)
        return [answer] if answer else []

    def _respond_to_block(self, apdu: bytes, now: float, at_once: int) -> list[bytes]:
        if not self._conformance & Conformance.GENERAL_BLOCK_TRANSFER:
            return [NOT_SUPPORTED]
        try:
            block = Block.decode(apdu)
            if self._transfer is None or (block.number == 1 and block.data):
                self._transfer = BlockTransfer(_BLOCKS_AT_ONCE, self._limit, at_once)
            transfer = self._transfer
            due, whole = transfer.receive(apdu)
        except RemoteProtocolError:
            self._transfer = None
            return [MALFORMED]
        if not whole:
            return due
        answer = self.receive(whole, now)
        return [*due, *(transfer.send(answer) if answer else ())]

    # ---- whole APDUs

    def receive(self, apdu: bytes, now: float) -> bytes:
        """Answer one whole APDU at Unix time `now`; empty where nothing is answered.

        What cannot be understood is answered with an exception-response.
        """
        try:
            return self._serve(apdu, now)
        except RemoteProtocolError:
            return MALFORMED

    def _serve(self, apdu: bytes, now: float) -> bytes:
        tag = apdu[0] if apdu else 0
        if tag in _SERVICES:
            if self._services is None:
                return NOT_ALLOWED
            return self._services.answer(apdu, now, self._room)
        if tag == AARQ:
            return self._associate(apdu, now)
        if tag == RLRQ:
            Release.decode(apdu)
            self.close()
            return Release(response=True).encode()
        return NOT_SUPPORTED if tag == _ACCESS_REQUEST else UNKNOWN

    @property
    def _room(self) -> int:
        # With general block transfer an answer may have any length, and the services' own blocks are not needed.
        general = self._conformance & Conformance.GENERAL_BLOCK_TRANSFER
        if general and (self._transfer is not None or self._meter.identity.general_blocks):
            return _UNLIMITED
        return self._limit

    # ---- association

    def _associate(self, apdu: bytes, now: float) -> bytes:
        self.close()
        try:
            aarq = Aarq.decode(apdu)
            initiate = InitiateRequest.decode(aarq.user_information)
        except RemoteProtocolError:
            return self._refused(ApplicationContext.LN, _PERMANENT)
        refusal = self._refusal(aarq) or self._behaviour.refuses_association(self._client, now)
        if refusal is not None:
            return self._refused(aarq.context, refusal)
        if 0 < initiate.max_receive_pdu < _LEAST_PDU:
            return self._refused(aarq.context, _PERMANENT, _PDU_TOO_SHORT)
        by_short_name = aarq.context == ApplicationContext.SN
        conformance = initiate.conformance & (SHORT_NAME_CONFORMANCE if by_short_name else CONFORMANCE)
        if not conformance & (Conformance.READ if by_short_name else Conformance.GET):
            return self._refused(aarq.context, _PERMANENT, _INCOMPATIBLE)
        if not self._claim():
            return self._refused(aarq.context, NOT_NOW)
        services = ShortNameServices if by_short_name else LogicalNameServices
        self._services = services(self._meter, self._client, self._behaviour, conformance)
        self._conformance = conformance
        own = self._meter.identity.max_pdu
        self._limit = min(own, initiate.max_receive_pdu or own)
        response = InitiateResponse(conformance, own)
        if by_short_name:
            response = dataclasses.replace(response, vaa_name=ASSOCIATION_BASE_NAME)
        return Aare(aarq.context, AssociationResult.ACCEPTED, 0, response.encode()).encode()

    def _refusal(self, aarq: Aarq) -> Refusal | None:
        identity = self._meter.identity
        diagnostic = 0
        if self._client not in (PUBLIC_CLIENT, identity.client):
            diagnostic = _NO_REASON
        elif aarq.context not in (ApplicationContext.LN, ApplicationContext.SN):
            diagnostic = _CONTEXT
        elif self._client != PUBLIC_CLIENT and identity.password:
            if aarq.mechanism in (None, Mechanism.LOWEST):
                diagnostic = AUTHENTICATION_REQUIRED
            elif aarq.mechanism != Mechanism.LLS:
                diagnostic = _MECHANISM
            elif not hmac.compare_digest(aarq.authentication_value or b"", identity.password):
                diagnostic = AUTHENTICATION_FAILURE
        return Refusal(AssociationResult.REJECTED_PERMANENT, diagnostic) if diagnostic else None

    def _refused(
        self, context: ApplicationContext, refusal: Refusal, information: bytes = _REFUSED_BY_HANDLER
    ) -> bytes:
        # A context that is not supported is not repeated: the answer names the one that is.
        known = context if context in (ApplicationContext.LN, ApplicationContext.SN) else ApplicationContext.LN
        return Aare(known, refusal.result, refusal.diagnostic, information).encode()
