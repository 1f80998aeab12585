"""Client end of one application association: link, AARQ, requests with their blocks, release. No socket, no clock."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Protocol

from meterbridge.dlms import acse, xdlms
from meterbridge.dlms.acse import Aare, InitiateResponse
from meterbridge.dlms.apdu_carrier import ApduCarrier
from meterbridge.dlms.association_events import (
    AssociationClosed,
    AssociationEvent,
    AssociationOpened,
    Notified,
    RequestCompleted,
)
from meterbridge.dlms.association_parameters import AssociationParameters
from meterbridge.dlms.association_states import NEXT, Move, State
from meterbridge.dlms.authentication import ClientAuthentication
from meterbridge.dlms.axdr import Data, DataType
from meterbridge.dlms.conformance import Conformance
from meterbridge.dlms.counters import InvocationCounter
from meterbridge.dlms.exchange import ActionExchange, GetExchange, SetExchange
from meterbridge.dlms.exchange_steps import Ask, Exchange, Ignored
from meterbridge.dlms.fast_path import FastPath, PreparedGet
from meterbridge.dlms.hdlc_link import HdlcLink
from meterbridge.dlms.link import ApduReceived, Link, LinkClosed, LinkOpened
from meterbridge.dlms.obis import LogicalName
from meterbridge.dlms.service_errors import SERVICE_ERRORS, service_error
from meterbridge.dlms.short_name_exchange import ReadExchange, WriteExchange
from meterbridge.dlms.stream import Discarded
from meterbridge.dlms.xdlms import AttributeDescriptor, MethodDescriptor, SelectiveAccess
from meterbridge.errors import (
    AssociationRefused,
    AuthenticationFailed,
    ConnectionLost,
    DataAccessError,
    LocalProtocolError,
    MeterError,
)

_NEVER_CIPHERED = frozenset((acse.AARE, acse.RLRE, *SERVICE_ERRORS))
_LISTS = int(Conformance.MULTIPLE_REFERENCES)
_UNASKED = frozenset((0x0F, 0x18, 0xC2))
"""DataNotification, InformationReport, EventNotification."""
_READY, _BUSY = State.READY, State.BUSY
"""At hand: on the quick way looking a state up costs as much as comparing it."""
_AWAITING = frozenset((State.ASSOCIATING, State.AUTHENTICATING, State.BUSY, State.RELEASING))
"""States in which an APDU of the meter is due."""
_REPLY_TO_HLS = MethodDescriptor(15, LogicalName(b"\x00\x00\x28\x00\x00\xff"), 1)
_DECIPHERING_ERROR = {acse.CONFIRMED_SERVICE_ERROR: b"\x00\x06", xdlms.EXCEPTION_RESPONSE: b"\x05"}
"""How errors that blame the keys go on, behind tag and service or state, whichever that is."""
_SN_REPLY_TO_HLS = 0xFA58
"""Short name of the same method, 0xFA00 being that of the current association."""


class Protection(Protocol):
    """Ciphering of what travels between the application layer and the link."""

    @property
    def overhead(self) -> int:
        """Most octets it adds to an APDU."""

    def protect(self, apdu: bytes) -> bytes:
        """Cipher an APDU that is to be sent."""

    def unprotect(self, apdu: bytes) -> bytes:
        """Decipher an APDU that came.

        Raises:
            RemoteProtocolError: not protected as it must be, or a tag, counter or key that is wrong.
        """


class ClientAssociation:
    """Client end of one association over a link.

    Octets go in with `receive_data`, events come out with `next_event`, octets to send are collected with
    `data_to_send`. One request at a time; data blocks are asked for as they come.

    Args:
        link: a fresh link, not yet connected.
        parameters: how the association is asked for.
        counter: invocation counter, where the credentials need one; its caller keeps it.
    """

    def __init__(self, link: Link, parameters: AssociationParameters, counter: InvocationCounter | None = None) -> None:
        self._link = link
        self._parameters = parameters
        self._counter = counter
        self._authentication: ClientAuthentication | None = None
        self._events: deque[AssociationEvent] = deque()
        self._link_opened = LinkOpened(0, 0)
        self._invoke_id = 0
        self._exchange: Exchange | None = None
        self._protection: Protection | None = None
        self._carrier = ApduCarrier(link, parameters.block_window)
        self._fast = FastPath(link)
        self.state = State.CLOSED
        self.negotiated: InitiateResponse | None = None
        self._agreed = 0  # the conformance block as a plain number: asked with every request

    # ---- what the caller asks for

    def open(self) -> None:
        """Open the link, then the association; AssociationOpened follows.

        Raises:
            LocalProtocolError: not closed.
        """
        self._move(Move.OPEN)
        self._link.connect()

    def associate(self) -> None:
        """Ask for the association on a link that is up: again, after a refusal.

        Raises:
            LocalProtocolError: associated already, or no link.
            ConfigurationError: the credentials need a counter and there is none.
        """
        parameters = self._parameters
        authentication = ClientAuthentication(parameters.identity, self._counter)
        self._move(Move.ASSOCIATE)
        self._authentication = authentication
        self._protection = None
        self._carrier.agreed(0, blocks=False)
        request = authentication.request(
            parameters.proposed, parameters.max_receive_pdu, short_names=parameters.short_names
        )
        self._link.send(request)

    def get(self, attributes: tuple[AttributeDescriptor, ...], *, typed: bool = False) -> None:
        """Read attributes in one request; RequestCompleted follows.

        Args:
            attributes: one makes a Get-Request-Normal, more a Get-Request-With-List.
            typed: results as `axdr.Data` instead of plain Python values.

        Raises:
            LocalProtocolError: not ready, nothing asked for, or a list the meter did not agree to.
        """
        self._check_list(len(attributes))
        self.request(GetExchange(attributes, typed))

    def get_prepared(self, prepared: PreparedGet) -> bytes:
        """Read the attributes of a request prepared once and used often; RequestCompleted follows.

        Returns:
            The octets that are due to the meter: `data_to_send` need not be asked.

        Raises:
            LocalProtocolError: as `get`.
        """
        if self.state is _READY:
            frame = self._fast.again(prepared)
            if frame is not None:
                # READY to BUSY is a legal move: see the table.
                self.state = _BUSY
                return frame
            if self._protection is None and (not prepared.several or self.takes_lists):
                self._leave_fast_path()
                invoke_id = self._invoke_id + 1 & xdlms.INVOKE_ID_MASK
                frame = self._fast.send(prepared, invoke_id)
                if frame is not None:
                    self.state = _BUSY
                    self._invoke_id = invoke_id
                    return frame
        self._check_list(len(prepared.attributes))
        self.request(GetExchange(prepared.attributes))
        return self.data_to_send()

    def set(self, writes: Sequence[tuple[AttributeDescriptor, Data]]) -> None:
        """Write attributes in one request; RequestCompleted follows, its results None or a DataAccessError.

        Raises:
            LocalProtocolError: as `get`, or a value that does not fit its type.
        """
        self._check_list(len(writes))
        self.request(SetExchange(writes))

    def action(self, calls: Sequence[tuple[MethodDescriptor, Data | None]], *, typed: bool = False) -> None:
        """Call methods in one request; RequestCompleted follows, its results what they returned or a DataAccessError.

        Raises:
            LocalProtocolError: as `get`, or parameters that do not fit their type.
        """
        self._check_list(len(calls))
        self.request(ActionExchange(calls, typed))

    def read(self, names: Sequence[tuple[int, SelectiveAccess | None]], *, typed: bool = False) -> None:
        """Read variables by short name in one request; RequestCompleted follows.

        Raises:
            LocalProtocolError: as `get`.
        """
        self._check_list(len(names))
        self.request(ReadExchange(names, typed))

    def write(self, writes: Sequence[tuple[int, SelectiveAccess | None, Data]], *, confirmed: bool = True) -> None:
        """Write variables by short name in one request; RequestCompleted follows.

        Args:
            writes: names with their values, and a selection where wanted.
            confirmed: False sends UnconfirmedWrite: completed as soon as the link has delivered it, whatever the meter
                makes of it.

        Raises:
            LocalProtocolError: as `get`, a value that does not fit its type, or a service the meter did not agree to.
        """
        self._check_list(len(writes))
        if not confirmed and not self.agrees(Conformance.UNCONFIRMED_WRITE):
            raise LocalProtocolError("the meter did not agree to UnconfirmedWrite")
        blocks = self.agrees(Conformance.BLOCK_TRANSFER_WITH_SET_OR_WRITE)
        self.request(WriteExchange(writes, confirmed, blocks))

    def _check_list(self, count: int) -> None:
        if not count:
            raise LocalProtocolError("a request needs something to ask for")
        if count > 1 and not self.agrees(Conformance.MULTIPLE_REFERENCES):
            raise LocalProtocolError("the meter did not agree to lists")

    def request(self, exchange: Exchange) -> None:
        """Begin an exchange; RequestCompleted follows.

        Raises:
            LocalProtocolError: not ready, or the exchange cannot be said to this meter.
        """
        self._leave_fast_path()
        invoke_id = self._invoke_id + 1 & xdlms.INVOKE_ID_MASK
        if self.state is not State.READY:
            self._move(Move.REQUEST)
        # Ciphered first: without a counter left there is no request under way.
        apdu = self._protected(exchange.start(invoke_id, self._room()))
        self._move(Move.REQUEST)
        self._invoke_id = invoke_id
        self._exchange = exchange
        if exchange.unanswered is None:
            self._carrier.send(apdu)
        else:
            self._carrier.send_unanswered(apdu)

    def _room(self) -> int:
        """Octets an APDU may have before it is ciphered; 0 where there is no limit, or blocks carry any."""
        most = self._carrier.most
        return most and max(1, most - (self._protection.overhead if self._protection else 0))

    def _protected(self, apdu: bytes) -> bytes:
        return apdu if self._protection is None else self._protection.protect(apdu)

    def release(self) -> None:
        """End the association and the link: RLRQ where there is one, then DISC; AssociationClosed follows."""
        if self.state in (State.CLOSED, State.RELEASING, State.DISCONNECTING):
            return
        self._leave_fast_path()
        associated = self.state is State.READY
        self._exchange = None
        self._move(Move.RELEASE)
        if associated:
            self._link.send(acse.Release(response=False, user_information=self._initiate_again()).encode())
        else:
            # With an answer still due, RLRQ would stand behind it: DISC ends the association as well.
            self._link.disconnect()

    def _initiate_again(self) -> bytes:
        # Where APDUs are ciphered anybody could end the association with an RLRQ that nothing protects.
        if self._protection is None or not self._parameters.identity.ciphered:
            return b""
        parameters = self._parameters
        return self._protection.protect(acse.InitiateRequest(parameters.proposed, parameters.max_receive_pdu).encode())

    def keep_alive(self) -> bool:
        """Let the meter's inactivity time-out start anew, where the link has a way to and nothing is under way.

        Returns:
            Whether there is something to send.
        """
        if self.state is not State.READY or not isinstance(self._link, HdlcLink):
            return False
        self._leave_fast_path()
        self._link.keep_alive()
        return True

    def agrees(self, services: Conformance) -> bool:
        """Whether the meter agreed to these services."""
        wanted = int(services)
        return self._agreed & wanted == wanted

    @property
    def takes_lists(self) -> bool:
        """Whether the meter agreed to several references in one request."""
        return self._agreed & _LISTS != 0

    # ---- octets and time

    def data_to_send(self) -> bytes:
        """Return the octets that are due to the meter, and forget them."""
        return self._link.data_to_send()

    def receive_data(self, data: bytes) -> tuple[Any, ...] | None:
        """Take octets from the meter in.

        Returns:
            Results of the request where the octets are just the answer expected, nothing before or behind it;
            otherwise None, and `next_event` says what they are.
        """
        results = self._fast.receive(data)
        if results is not None:
            # BUSY to READY is a legal move: see the table.
            self.state = _READY
            return results
        self._leave_fast_path()
        self._link.receive_data(data)
        return None

    def handle_timeout(self) -> bool:
        """Nothing came in time: repeat what may have been lost. False when there is nothing left to try."""
        self._leave_fast_path()
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
                return self._delivered()
            if isinstance(event, Discarded):
                return event
            if isinstance(event, ApduReceived):
                self._receive(event.apdu)
            elif isinstance(event, LinkOpened):
                self._link_opened = event
                self._carrier.linked(event)
                if self.state is State.LINKING:
                    self._move(Move.LINK_UP)
                    self.associate()
            else:
                self._link_closed(event)
        return self._events.popleft()

    # ---- within

    def _delivered(self) -> RequestCompleted | None:
        """End a request that nothing answers, once the link has delivered it."""
        exchange = self._exchange
        if exchange is None or self.state is not State.BUSY or not self._link.delivered:
            return None
        done = exchange.unanswered
        if done is None:
            return None
        self._answered()
        return RequestCompleted(done.results)

    def _move(self, move: Move) -> None:
        state = NEXT.get((self.state, move))
        if state is None:
            raise LocalProtocolError(f"{move.value} is not possible: the association is {self.state.value}")
        self.state = state

    def _leave_fast_path(self) -> None:
        """Before anything is asked of the link that is no repeated request."""
        invoke_id = self._fast.leave()
        if invoke_id is not None:
            self._invoke_id = invoke_id

    def _disconnect(self) -> None:
        self._move(Move.RELEASED)
        self._link.disconnect()

    def _link_closed(self, event: LinkClosed) -> None:
        before = self.state
        if before is State.CLOSED:
            return
        self._move(Move.LINK_DOWN)
        self._exchange = None
        self._protection = self._authentication = None
        self.negotiated = None
        self._agreed = 0
        if event.requested or before in (State.RELEASING, State.DISCONNECTING):
            self._events.append(AssociationClosed(event.reason, requested=True))
        elif before is State.LINKING:
            raise AssociationRefused(event.reason)
        else:
            raise ConnectionLost(event.reason)

    def _receive(self, apdu: bytes) -> None:
        if not apdu:
            self._events.append(Discarded("empty APDU", 0, damaged=False))
            return
        whole = self._carrier.receive(apdu, awaited=self.state in _AWAITING)
        if whole is None:
            return
        apdu = whole
        if self._protection is not None and apdu[0] not in _NEVER_CIPHERED:
            apdu = self._protection.unprotect(apdu)
        receive = self._receivers.get(self.state)
        if apdu[0] in _UNASKED:
            self._events.append(Notified(apdu))
            if receive is not None:
                # It took the place of an answer, which is still to come.
                self._link.go_on()
        elif receive is None:
            self._events.append(Discarded(f"APDU while {self.state.value}", len(apdu), damaged=False))
        else:
            receive(self, apdu)

    def _receive_while_associating(self, apdu: bytes) -> None:
        tag = apdu[0]
        if tag == acse.AARE:
            self._association_response(Aare.decode(apdu))
        elif tag in SERVICE_ERRORS:
            self._move(Move.REFUSED)
            raise _initiate_error(apdu)
        else:
            self._events.append(Discarded("answer to an earlier request", len(apdu), damaged=False))

    def _association_response(self, aare: Aare) -> None:
        authentication = self._authentication
        if aare.result != acse.AssociationResult.ACCEPTED or authentication is None:
            self._move(Move.REFUSED)
            diagnostic = None if aare.provider else aare.diagnostic
            refusal = AuthenticationFailed if diagnostic in acse.ABOUT_AUTHENTICATION else AssociationRefused
            raise refusal(f"the meter refused the association, {aare.reason}", aare.result, diagnostic)
        if aare.user_information[:1] == bytes((acse.CONFIRMED_SERVICE_ERROR,)):
            self._move(Move.REFUSED)
            raise _initiate_error(aare.user_information)
        information = authentication.accept(aare)
        if information[:1] == bytes((acse.CONFIRMED_SERVICE_ERROR,)):
            self._move(Move.REFUSED)
            raise _initiate_error(information)
        self.negotiated = InitiateResponse.decode(information)
        self._agreed = int(self.negotiated.conformance)
        max_pdu = self.negotiated.max_receive_pdu
        self._fast.opened(max_pdu)
        self._carrier.agreed(max_pdu, blocks=self.agrees(Conformance.GENERAL_BLOCK_TRANSFER))
        self._protection = authentication.protection
        if authentication.needs_proof:
            self._move(Move.CHALLENGED)
            self._prove(authentication.proof())
        else:
            self._accepted(self.negotiated)

    def _accepted(self, negotiated: InitiateResponse) -> None:
        self._move(Move.ACCEPTED)
        self._events.append(AssociationOpened(negotiated, self._link_opened))

    def _prove(self, proof: bytes) -> None:
        value = Data(DataType.OCTET_STRING, proof)
        if self._parameters.short_names:
            self._exchange = ReadExchange([(_SN_REPLY_TO_HLS, SelectiveAccess(1, value))])
        else:
            self._exchange = ActionExchange([(_REPLY_TO_HLS, value)])
        self._invoke_id = self._invoke_id + 1 & xdlms.INVOKE_ID_MASK
        self._carrier.send(self._protected(self._exchange.start(self._invoke_id, self._room())))

    def _receive_while_authenticating(self, apdu: bytes) -> None:
        exchange, authentication, negotiated = self._exchange, self._authentication, self.negotiated
        if apdu[0] in SERVICE_ERRORS:
            self._refused()
            raise _initiate_error(apdu)
        if exchange is None or authentication is None or negotiated is None:
            raise LocalProtocolError("authenticating without an exchange")
        step = exchange.receive(apdu)
        if isinstance(step, Ask):
            self._carrier.send(self._protected(step.apdu))
        elif isinstance(step, Ignored):
            self._events.append(Discarded(step.reason, len(apdu), damaged=False))
        else:
            [result] = step.results
            if isinstance(result, DataAccessError):
                self._refused()
                raise AuthenticationFailed(f"the meter does not take our authentication: {result}")
            try:
                authentication.check(result)
            except AssociationRefused:
                self._refused()
                raise
            self._exchange = None
            self._accepted(negotiated)

    def _refused(self) -> None:
        self._move(Move.REFUSED)
        self._exchange = self._protection = self.negotiated = None
        self._agreed = 0

    def _receive_while_busy(self, apdu: bytes) -> None:
        tag = apdu[0]
        if tag in SERVICE_ERRORS:
            error = service_error(apdu)
            self._answered()
            raise error
        exchange = self._exchange
        if exchange is None:
            # Sent on the fast path and answered in an unusual way: from here on it is an exchange like any other.
            exchange = self._exchange = self._fast.exchange(self._invoke_id)
        step = exchange.receive(apdu)
        if isinstance(step, Ask):
            self._carrier.send(self._protected(step.apdu))
        elif isinstance(step, Ignored):
            self._events.append(Discarded(step.reason, len(apdu), damaged=False))
        else:
            self._answered()
            self._fast.answered(apdu)
            self._events.append(RequestCompleted(step.results))

    def _receive_while_releasing(self, apdu: bytes) -> None:
        if apdu[0] not in (acse.RLRE, *SERVICE_ERRORS):
            self._events.append(Discarded("answer to an earlier request", len(apdu), damaged=False))
            return
        self._disconnect()

    _receivers: ClassVar[dict[State, Callable[[ClientAssociation, bytes], None]]] = {
        State.ASSOCIATING: _receive_while_associating,
        State.AUTHENTICATING: _receive_while_authenticating,
        State.BUSY: _receive_while_busy,
        State.RELEASING: _receive_while_releasing,
    }

    def _answered(self) -> None:
        self._exchange = None
        self._move(Move.ANSWERED)


def _initiate_error(apdu: bytes) -> MeterError:
    """What an error in answer to the AARQ means: that it cannot be deciphered is a matter of keys."""
    error = service_error(apdu)
    if apdu.startswith(_DECIPHERING_ERROR[apdu[0]], 2):
        return AuthenticationFailed(f"the meter has other keys, or demands another protection: {error}")
    return error
