"""Server end of an application association: AARQ, GET with lists and blocks, release. No socket, no clock."""

from __future__ import annotations

import functools
import hmac
import itertools
from collections.abc import Callable, Iterator
from typing import Final

from meterbridge.dlms import AttributeDescriptor, Conformance, DataAccessResult
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
from meterbridge.dlms.axdr import encode_length
from meterbridge.dlms.xdlms import (
    GET_REQUEST,
    GET_RESPONSE,
    ExceptionResponse,
    GetRequest,
    GetType,
    data_access_error,
)
from meterbridge.errors import DataAccessError, RemoteProtocolError
from meterbridge.simulator.behaviour import Behaviour, Refusal
from meterbridge.simulator.meter import CONFORMANCE, PUBLIC_CLIENT, SimulatedMeter
from meterbridge.simulator.objects import Value

_NOT_ALLOWED: Final = ExceptionResponse(1, 1).encode()
_NOT_SUPPORTED: Final = ExceptionResponse(1, 2).encode()
_MALFORMED: Final = ExceptionResponse(1, 3).encode()
_TOO_LONG: Final = ExceptionResponse(1, 4).encode()
_UNKNOWN: Final = ExceptionResponse(2, 2).encode()

# ServiceError [6] initiate.
_INCOMPATIBLE: Final = ConfirmedServiceError(1, 6, 2).encode()
_PDU_TOO_SHORT: Final = ConfirmedServiceError(1, 6, 3).encode()
_REFUSED_BY_HANDLER: Final = ConfirmedServiceError(1, 6, 4).encode()

_SET_REQUEST, _ACTION_REQUEST, _ACCESS_REQUEST = 0xC1, 0xC3, 0xD9
_NO_REASON, _CONTEXT, _MECHANISM = 1, 2, 11
_BLOCK_HEADER: Final = 12
"""Octets of a Get-Response-With-Datablock before its data, at most."""
_LEAST_PDU: Final = 32

_PERMANENT: Final = Refusal(AssociationResult.REJECTED_PERMANENT, _NO_REASON)
NOT_NOW: Final = Refusal(AssociationResult.REJECTED_TRANSIENT, _NO_REASON)
"""What a second client hears from a meter that takes one association at a time."""


@functools.lru_cache(maxsize=4096)
def _attributes(kind: int, body: bytes) -> tuple[AttributeDescriptor, ...]:
    # Thousands of meters are asked the same thing every second: it is parsed once, whatever its invoke id.
    return GetRequest.decode(bytes((GET_REQUEST, kind, 0)) + body).attributes


class _Outgoing:
    """Encoded data on its way out, made piece by piece."""

    __slots__ = ("_held", "_pieces", "number")

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._held = bytearray()
        self.number = 0

    def take(self, size: int) -> tuple[bytes, bool]:
        """Return up to `size` octets and whether they are the last."""
        held = self._held
        while len(held) <= size:
            piece = next(self._pieces, None)
            if piece is None:
                break
            held += piece
        last = len(held) <= size
        part = bytes(held[:size])
        del held[:size]
        return part, last

    def give_back(self, part: bytes) -> None:
        """Put the part taken last in front again."""
        self._held[:0] = part


class ServerAssociation:
    """One client's association with one meter: an APDU in, an APDU out.

    Args:
        meter: what is read.
        client: SAP the client calls from.
        behaviour: asked before anything is given or refused.
        claim: called when the client would be let in; False means that another one holds the meter.
        release: called when the association is over.
    """

    __slots__ = ("_behaviour", "_claim", "_client", "_conformance", "_limit", "_meter", "_outgoing", "_release", "open")

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
        self._outgoing: _Outgoing | None = None
        self.open = False

    def close(self) -> None:
        """End the association without a word: the link went down."""
        self._outgoing = None
        if self.open:
            self.open = False
            self._release()

    def receive(self, apdu: bytes, now: float) -> bytes:
        """Answer one APDU at Unix time `now`; what cannot be understood is answered with an exception-response."""
        tag = apdu[0] if apdu else 0
        try:
            if tag == GET_REQUEST:
                return self._get(apdu, now) if self.open else _NOT_ALLOWED
            if tag == AARQ:
                return self._associate(apdu, now)
            if tag == RLRQ:
                Release.decode(apdu)
                self.close()
                return Release(response=True).encode()
        except RemoteProtocolError:
            return _MALFORMED
        if tag in (_SET_REQUEST, _ACTION_REQUEST, _ACCESS_REQUEST):
            return _NOT_SUPPORTED
        return _UNKNOWN

    # ---- association

    def _associate(self, apdu: bytes, now: float) -> bytes:
        self.close()
        try:
            aarq = Aarq.decode(apdu)
            initiate = InitiateRequest.decode(aarq.user_information)
        except RemoteProtocolError:
            return self._refused(_PERMANENT)
        refusal = self._refusal(aarq) or self._behaviour.refuses_association(self._client, now)
        if refusal is not None:
            return self._refused(refusal)
        if 0 < initiate.max_receive_pdu < _LEAST_PDU:
            return self._refused(_PERMANENT, _PDU_TOO_SHORT)
        conformance = initiate.conformance & CONFORMANCE
        if not conformance & Conformance.GET:
            return self._refused(_PERMANENT, _INCOMPATIBLE)
        if not self._claim():
            return self._refused(NOT_NOW)
        self.open = True
        self._conformance = conformance
        own = self._meter.identity.max_pdu
        self._limit = min(own, initiate.max_receive_pdu or own)
        response = InitiateResponse(conformance, own)
        return Aare(ApplicationContext.LN, AssociationResult.ACCEPTED, 0, response.encode()).encode()

    def _refusal(self, aarq: Aarq) -> Refusal | None:
        identity = self._meter.identity
        diagnostic = 0
        if self._client not in (PUBLIC_CLIENT, identity.client):
            diagnostic = _NO_REASON
        elif aarq.context != ApplicationContext.LN:
            diagnostic = _CONTEXT
        elif self._client != PUBLIC_CLIENT and identity.password:
            if aarq.mechanism in (None, Mechanism.LOWEST):
                diagnostic = AUTHENTICATION_REQUIRED
            elif aarq.mechanism != Mechanism.LLS:
                diagnostic = _MECHANISM
            elif not hmac.compare_digest(aarq.authentication_value or b"", identity.password):
                diagnostic = AUTHENTICATION_FAILURE
        return Refusal(AssociationResult.REJECTED_PERMANENT, diagnostic) if diagnostic else None

    def _refused(self, refusal: Refusal, information: bytes = _REFUSED_BY_HANDLER) -> bytes:
        return Aare(ApplicationContext.LN, refusal.result, refusal.diagnostic, information).encode()

    # ---- GET

    def _get(self, apdu: bytes, now: float) -> bytes:
        if len(apdu) < 7:
            return _MALFORMED
        kind, priority = apdu[1], apdu[2]
        if kind == GetType.NEXT:
            return self._next_block(GetRequest.decode(apdu).block_number or 0, priority)
        self._outgoing = None
        attributes = _attributes(kind, apdu[3:])
        if kind == GetType.WITH_LIST:
            if not self._conformance & Conformance.MULTIPLE_REFERENCES:
                return _NOT_SUPPORTED
            results = [self._result(attribute, now) for attribute in attributes]
            pieces = itertools.chain((encode_length(len(results)),), *map(_tagged, results))
            return self._answer(bytes((GET_RESPONSE, kind, priority)), pieces)
        result = self._result(attributes[0], now)
        if isinstance(result, DataAccessError):
            return bytes((GET_RESPONSE, kind, priority, 1, result.result))
        return self._answer(bytes((GET_RESPONSE, kind, priority, 0)), _pieces(result))

    def _result(self, attribute: AttributeDescriptor, now: float) -> Value | DataAccessError:
        if attribute.selection is not None and not self._conformance & Conformance.SELECTIVE_ACCESS:
            return data_access_error(DataAccessResult.SCOPE_OF_ACCESS_VIOLATED)
        refused = self._behaviour.refuses_attribute(attribute, now)
        if refused is not None:
            return data_access_error(refused)
        try:
            return self._meter.read(attribute, self._client, now)
        except DataAccessError as error:
            return error

    def _answer(self, head: bytes, pieces: Iterator[bytes]) -> bytes:
        outgoing = _Outgoing(pieces)
        content, last = outgoing.take(self._limit - len(head))
        if last:
            return head + content
        if not self._conformance & Conformance.BLOCK_TRANSFER_WITH_GET_OR_READ:
            return _TOO_LONG
        outgoing.give_back(content)
        self._outgoing = outgoing
        return self._block(outgoing, head[2])

    def _block(self, outgoing: _Outgoing, priority: int) -> bytes:
        data, last = outgoing.take(self._limit - _BLOCK_HEADER)
        outgoing.number += 1
        if last:
            self._outgoing = None
        head = bytes((GET_RESPONSE, GetType.NEXT, priority, last)) + outgoing.number.to_bytes(4, "big")
        return head + b"\x00" + encode_length(len(data)) + data

    def _next_block(self, number: int, priority: int) -> bytes:
        outgoing = self._outgoing
        if outgoing is not None and number == outgoing.number:
            return self._block(outgoing, priority)
        reason = DataAccessResult.DATA_BLOCK_NUMBER_INVALID
        if outgoing is None:
            reason = DataAccessResult.NO_LONG_GET_IN_PROGRESS
        self._outgoing = None
        return bytes((GET_RESPONSE, GetType.NEXT, priority, 1)) + number.to_bytes(4, "big") + bytes((1, reason))


def _pieces(value: Value) -> Iterator[bytes]:
    return iter((value,)) if isinstance(value, bytes) else value


def _tagged(result: Value | DataAccessError) -> Iterator[bytes]:
    if isinstance(result, DataAccessError):
        return iter((bytes((1, result.result)),))
    return itertools.chain((b"\x00",), _pieces(result))
