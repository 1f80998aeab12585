"""Client end of one application association: link, AARQ, requests with their blocks, release. No socket, no clock."""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

from meterbridge.dlms import acse, xdlms
from meterbridge.dlms.acse import Aare, Aarq, ApplicationContext, ConfirmedServiceError, InitiateResponse, Mechanism
from meterbridge.dlms.axdr import decode_at, decode_length, decode_value_at
from meterbridge.dlms.conformance import Conformance
from meterbridge.dlms.hdlc import Discarded
from meterbridge.dlms.link import ApduReceived, Link, LinkClosed, LinkOpened
from meterbridge.dlms.xdlms import AttributeDescriptor, ExceptionResponse, GetRequest, GetType
from meterbridge.errors import (
    AssociationRefused,
    ConnectionLost,
    DataAccessError,
    LocalProtocolError,
    RemoteProtocolError,
    ServiceError,
)

MAX_BLOCKED_DATA = 16 << 20
"""Most octets put together from data blocks."""

PROPOSED_CONFORMANCE = (
    Conformance.GET
    | Conformance.SET
    | Conformance.ACTION
    | Conformance.SELECTIVE_ACCESS
    | Conformance.MULTIPLE_REFERENCES
    | Conformance.PRIORITY_MGMT_SUPPORTED
    | Conformance.EVENT_NOTIFICATION
    | Conformance.BLOCK_TRANSFER_WITH_GET_OR_READ
    | Conformance.BLOCK_TRANSFER_WITH_SET_OR_WRITE
    | Conformance.BLOCK_TRANSFER_WITH_ACTION
)


@dataclass(frozen=True, slots=True)
class AssociationParameters:
    """How the association is asked for.

    Args:
        password: LLS secret; None associates without authentication. Never shown by repr.
        conformance: services proposed.
        max_receive_pdu: largest APDU we take, octets.
    """

    password: bytes | None = field(default=None, repr=False)
    conformance: Conformance = PROPOSED_CONFORMANCE
    max_receive_pdu: int = 0xFFFF


@dataclass(frozen=True, slots=True)
class AssociationOpened:
    """The meter accepted.

    Args:
        negotiated: conformance and PDU size both agree to.
        link: link parameters both agree to.
    """

    negotiated: InitiateResponse
    link: LinkOpened


@dataclass(frozen=True, slots=True)
class GetCompleted:
    """A GET was answered in full.

    Args:
        results: in the order asked; a DataAccessError stands where the meter refused one.
    """

    results: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class AssociationClosed:
    """Association and link are over.

    Args:
        reason: why.
        requested: whether we had asked for it.
    """

    reason: str
    requested: bool


AssociationEvent = AssociationOpened | GetCompleted | AssociationClosed | Discarded


class State(enum.Enum):
    """Where an association stands."""

    CLOSED = "closed"
    LINKING = "waiting for the link"
    LINKED = "linked, not associated"
    ASSOCIATING = "waiting for the AARE"
    READY = "ready"
    BUSY = "waiting for an answer"
    RELEASING = "waiting for the RLRE"
    DISCONNECTING = "waiting for the link's end"


class _Move(enum.Enum):
    OPEN = "open"
    ASSOCIATE = "associate"
    GET = "get"
    RELEASE = "release"
    LINK_UP = "link up"
    LINK_DOWN = "link down"
    ACCEPTED = "accepted"
    REFUSED = "refused"
    ANSWERED = "answered"
    RELEASED = "released"


# Legal moves, ours and the meter's; whatever is not listed is an error of whoever made it.
_NEXT: dict[tuple[State, _Move], State] = {
    (State.CLOSED, _Move.OPEN): State.LINKING,
    (State.LINKING, _Move.LINK_UP): State.LINKED,
    (State.LINKED, _Move.ASSOCIATE): State.ASSOCIATING,
    (State.ASSOCIATING, _Move.ACCEPTED): State.READY,
    (State.ASSOCIATING, _Move.REFUSED): State.LINKED,
    (State.READY, _Move.GET): State.BUSY,
    (State.BUSY, _Move.ANSWERED): State.READY,
    (State.READY, _Move.RELEASE): State.RELEASING,
    (State.BUSY, _Move.RELEASE): State.DISCONNECTING,
    (State.ASSOCIATING, _Move.RELEASE): State.DISCONNECTING,
    (State.LINKED, _Move.RELEASE): State.DISCONNECTING,
    (State.LINKING, _Move.RELEASE): State.DISCONNECTING,
    (State.RELEASING, _Move.RELEASED): State.DISCONNECTING,
    **{(state, _Move.LINK_DOWN): State.CLOSED for state in State if state is not State.CLOSED},
}


@dataclass(slots=True)
class _Pending:
    """The request under way."""

    attributes: tuple[AttributeDescriptor, ...]
    decode_data: xdlms.ValueDecoder
    block: int = 0
    blocks: bytearray = field(default_factory=bytearray)


_NOTHING = _Pending((), decode_value_at)


class ClientAssociation:
    """Client end of one association over a link.

    Octets go in with `receive_data`, events come out with `next_event`, octets to send are collected with
    `data_to_send`. One request at a time; data blocks are asked for as they come.

    Args:
        link: a fresh link, not yet connected.
        parameters: how the association is asked for.
    """

    def __init__(self, link: Link, parameters: AssociationParameters) -> None:
        self._link = link
        self._parameters = parameters
        self._events: deque[AssociationEvent] = deque()
        self._link_opened = LinkOpened(0, 0)
        self._invoke_id = 0
        self._pending = _NOTHING
        self.state = State.CLOSED
        self.negotiated: InitiateResponse | None = None

    # ---- what the caller asks for

    def open(self) -> None:
        """Open the link, then the association; AssociationOpened follows.

        Raises:
            LocalProtocolError: not closed.
        """
        self._move(_Move.OPEN)
        self._link.connect()

    def associate(self) -> None:
        """Ask for the association on a link that is up: again, after a refusal.

        Raises:
            LocalProtocolError: associated already, or no link.
        """
        self._move(_Move.ASSOCIATE)
        parameters = self._parameters
        initiate = acse.InitiateRequest(parameters.conformance, parameters.max_receive_pdu)
        mechanism = None if parameters.password is None else Mechanism.LLS
        request = Aarq(ApplicationContext.LN, initiate.encode(), mechanism, parameters.password)
        self._link.send(request.encode())

    def get(self, attributes: tuple[AttributeDescriptor, ...], *, typed: bool = False) -> None:
        """Read attributes in one request; GetCompleted follows.

        Args:
            attributes: one makes a Get-Request-Normal, more a Get-Request-With-List.
            typed: results as `axdr.Data` instead of plain Python values.

        Raises:
            LocalProtocolError: not ready, nothing asked for, or a list the meter did not agree to.
        """
        if not attributes:
            raise LocalProtocolError("a GET needs an attribute")
        if len(attributes) > 1 and not self.agrees(Conformance.MULTIPLE_REFERENCES):
            raise LocalProtocolError("the meter did not agree to GET with list")
        invoke_id = self._invoke_id + 1 & xdlms.INVOKE_ID_MASK
        request = GetRequest(invoke_id, attributes).encode()
        self._move(_Move.GET)
        self._invoke_id = invoke_id
        self._pending = _Pending(attributes, decode_at if typed else decode_value_at)
        self._link.send(request)

    def release(self) -> None:
        """End the association and the link: RLRQ where there is one, then DISC; AssociationClosed follows."""
        if self.state in (State.CLOSED, State.RELEASING, State.DISCONNECTING):
            return
        associated = self.state is State.READY
        self._pending = _NOTHING
        self._move(_Move.RELEASE)
        if associated:
            self._link.send(acse.Release(response=False).encode())
        else:
            # With an answer still due, RLRQ would stand behind it: DISC ends the association as well.
            self._link.disconnect()

    def agrees(self, services: Conformance) -> bool:
        """Whether the meter agreed to these services."""
        return self.negotiated is not None and self.negotiated.conformance & services == services

    # ---- octets and time

    def data_to_send(self) -> bytes:
        """Return the octets that are due to the meter, and forget them."""
        return self._link.data_to_send()

    def receive_data(self, data: bytes) -> None:
        """Take octets from the meter in."""
        self._link.receive_data(data)

    def handle_timeout(self) -> bool:
        """Nothing came in time: repeat what may have been lost. False when there is nothing left to try."""
        if self.state is State.RELEASING:
            self._disconnect()
            return True
        return self._link.handle_timeout()

    def resynchronise(self) -> int:
        """Forget octets of a frame that never became whole; return how many."""
        return self._link.resynchronise()

    def next_event(self) -> AssociationEvent | None:
        """Return the next event, or None when more octets are needed.

        Raises:
            AssociationRefused: the meter refused; the link stays up.
            ServiceError: exception-response or confirmed-service-error; the association stays usable.
            ConnectionLost: the meter ended the link in the middle of something.
            RemoteProtocolError: the meter broke the protocol: drop the link.
        """
        while not self._events:
            event = self._link.next_event()
            if event is None:
                return None
            if isinstance(event, Discarded):
                return event
            if isinstance(event, ApduReceived):
                self._receive(event.apdu)
            elif isinstance(event, LinkOpened):
                self._link_opened = event
                if self.state is State.LINKING:
                    self._move(_Move.LINK_UP)
                    self.associate()
            else:
                self._link_closed(event)
        return self._events.popleft()

    # ---- within

    def _move(self, move: _Move) -> None:
        state = _NEXT.get((self.state, move))
        if state is None:
            raise LocalProtocolError(f"{move.value} is not possible: the association is {self.state.value}")
        self.state = state

    def _disconnect(self) -> None:
        self._move(_Move.RELEASED)
        self._link.disconnect()

    def _link_closed(self, event: LinkClosed) -> None:
        before = self.state
        if before is State.CLOSED:
            return
        self._move(_Move.LINK_DOWN)
        self._pending = _NOTHING
        self.negotiated = None
        if event.requested or before in (State.RELEASING, State.DISCONNECTING):
            self._events.append(AssociationClosed(event.reason, requested=True))
        elif before is State.LINKING:
            raise AssociationRefused(event.reason)
        else:
            raise ConnectionLost(event.reason)

    def _receive(self, apdu: bytes) -> None:
        receive = self._receivers.get(self.state)
        if receive is None or not apdu:
            self._events.append(Discarded(f"APDU while {self.state.value}", len(apdu), damaged=False))
        else:
            receive(self, apdu)

    def _receive_while_associating(self, apdu: bytes) -> None:
        tag = apdu[0]
        if tag == acse.AARE:
            self._association_response(Aare.decode(apdu))
        elif tag in (acse.CONFIRMED_SERVICE_ERROR, xdlms.EXCEPTION_RESPONSE):
            self._move(_Move.REFUSED)
            raise _service_error(apdu)
        else:
            self._events.append(Discarded("answer to an earlier request", len(apdu), damaged=False))

    def _association_response(self, aare: Aare) -> None:
        information = aare.user_information
        if aare.result != acse.AssociationResult.ACCEPTED:
            self._move(_Move.REFUSED)
            diagnostic = None if aare.provider else aare.diagnostic
            raise AssociationRefused(f"the meter refused the association, {aare.reason}", aare.result, diagnostic)
        if information[:1] == bytes((acse.CONFIRMED_SERVICE_ERROR,)):
            self._move(_Move.REFUSED)
            raise _service_error(information)
        self.negotiated = InitiateResponse.decode(information)
        self._move(_Move.ACCEPTED)
        self._events.append(AssociationOpened(self.negotiated, self._link_opened))

    def _receive_while_busy(self, apdu: bytes) -> None:
        tag = apdu[0]
        if tag in (acse.CONFIRMED_SERVICE_ERROR, xdlms.EXCEPTION_RESPONSE):
            error = _service_error(apdu)
            self._answered()
            raise error
        if tag != xdlms.GET_RESPONSE:
            self._events.append(Discarded(f"APDU 0x{tag:02X} in place of an answer", len(apdu), damaged=False))
            return
        if len(apdu) < 5:
            raise RemoteProtocolError("Get-Response cut short")
        if apdu[2] & xdlms.INVOKE_ID_MASK != self._invoke_id:
            self._events.append(Discarded("answer to an earlier request", len(apdu), damaged=False))
            return
        pending = self._pending
        if apdu[1] == GetType.NEXT:
            self._block(apdu, pending)
        elif apdu[1] == GetType.WITH_LIST:
            self._complete(xdlms.decode_results(apdu, 3, len(pending.attributes), pending.decode_data))
        elif apdu[1] == GetType.NORMAL and len(pending.attributes) == 1:
            result, position = xdlms.decode_result_at(apdu, 3, pending.decode_data)
            self._complete(_all_of(apdu, position, result))
        elif apdu[1] == GetType.NORMAL and apdu[3]:
            # A list refused as a whole, by a meter that says so as for one attribute.
            self._complete([xdlms.data_access_error(apdu[4])] * len(pending.attributes))
        else:
            raise RemoteProtocolError(f"Get-Response of type {apdu[1]} does not answer the request")

    def _block(self, apdu: bytes, pending: _Pending) -> None:
        if len(apdu) < 10:
            raise RemoteProtocolError("Get-Response with data block cut short")
        last, number = apdu[3] != 0, int.from_bytes(apdu[4:8], "big")
        if apdu[8]:
            self._complete([xdlms.data_access_error(apdu[9])] * len(pending.attributes))
            return
        if number == pending.block and number:
            self._events.append(Discarded("repeated data block", len(apdu), damaged=False))
            return
        if number != pending.block + 1:
            raise RemoteProtocolError(f"data block {number} where {pending.block + 1} is due")
        size, position = decode_length(apdu, 9)
        if position + size != len(apdu):
            raise RemoteProtocolError("data block whose length is wrong")
        if not size and not last:
            raise RemoteProtocolError(f"data block {number} is empty and not the last")
        pending.block = number
        pending.blocks += apdu[position:]
        if len(pending.blocks) > MAX_BLOCKED_DATA:
            raise RemoteProtocolError(f"data blocks of more than {MAX_BLOCKED_DATA} octets")
        if not last:
            self._link.send(GetRequest(self._invoke_id, (), number).encode())
            return
        octets = bytes(pending.blocks)
        if len(pending.attributes) > 1:
            self._complete(xdlms.decode_results(octets, 0, len(pending.attributes), pending.decode_data))
        else:
            result, end = pending.decode_data(octets, 0)
            self._complete(_all_of(octets, end, result))

    def _receive_while_releasing(self, apdu: bytes) -> None:
        if apdu[0] not in (acse.RLRE, acse.CONFIRMED_SERVICE_ERROR, xdlms.EXCEPTION_RESPONSE):
            self._events.append(Discarded("answer to an earlier request", len(apdu), damaged=False))
            return
        self._disconnect()

    _receivers: ClassVar[dict[State, Callable[[ClientAssociation, bytes], None]]] = {
        State.ASSOCIATING: _receive_while_associating,
        State.BUSY: _receive_while_busy,
        State.RELEASING: _receive_while_releasing,
    }

    def _answered(self) -> None:
        self._pending = _NOTHING
        self._move(_Move.ANSWERED)

    def _complete(self, results: list[Any]) -> None:
        self._answered()
        self._events.append(GetCompleted(tuple(results)))


def _all_of(octets: bytes, position: int, result: Any) -> list[Any]:
    if position != len(octets) and not isinstance(result, DataAccessError):
        raise RemoteProtocolError(f"{len(octets) - position} octets behind the data")
    return [result]


def _service_error(apdu: bytes) -> ServiceError:
    if apdu[0] == xdlms.EXCEPTION_RESPONSE:
        return ServiceError(f"exception-response: {ExceptionResponse.decode(apdu).reason}", "exception-response")
    return ServiceError(
        f"confirmed-service-error, {ConfirmedServiceError.decode(apdu).reason}", "confirmed-service-error"
    )
