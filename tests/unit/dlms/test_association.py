"""The client end of an association, fed by hand over a wrapper, which adds nothing of its own, and over HDLC."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meterbridge.dlms import (
    AssociationClosed,
    AssociationEvent,
    AssociationOpened,
    AssociationParameters,
    AttributeDescriptor,
    ClientAssociation,
    Conformance,
    Data,
    DataType,
    Discarded,
    Frame,
    HdlcLink,
    HdlcParameters,
    LogicalName,
    Notified,
    RequestCompleted,
    SelectiveAccess,
    State,
    WrapperLink,
    client_address,
    server_address,
)
from meterbridge.dlms.acse import Aare, Aarq, ConfirmedServiceError, InitiateResponse, Mechanism, Release
from meterbridge.dlms.authentication import Credentials
from meterbridge.dlms.axdr import encode
from meterbridge.dlms.hdlc import POLL_FINAL, Control
from meterbridge.dlms.hdlc_station import LLC_RESPONSE
from meterbridge.dlms.reception import APDU_TAGS
from meterbridge.dlms.xdlms import (
    ExceptionResponse,
    GetRequest,
    GetResponse,
    GetResponseBlock,
    data_access_error,
    encode_results,
)
from meterbridge.errors import (
    AssociationRefused,
    AuthenticationFailed,
    ConnectionLost,
    DataAccessError,
    LocalProtocolError,
    MeterError,
    RemoteProtocolError,
    ServiceError,
)
from tests.unit.dlms.strategies import examples

SERVICES = Conformance.GET | Conformance.MULTIPLE_REFERENCES | Conformance.BLOCK_TRANSFER_WITH_GET_OR_READ
ACCEPTED = Aare(1, 0, 0, InitiateResponse(SERVICES, 1024).encode()).encode()
CHALLENGING = Aare(
    1, 0, 14, InitiateResponse(SERVICES, 1024).encode(), mechanism=3, authentication_value=b"challenge"
).encode()
VOLTAGE = AttributeDescriptor(3, LogicalName.parse("1-0:32.7.0"), 2)
CURRENT = AttributeDescriptor(3, LogicalName.parse("1-0:31.7.0"), 2)
NUMBER = encode(Data(DataType.LONG_UNSIGNED, 2301))


class Meter:
    """An association over a wrapper and the meter's pen: what it writes is taken in at once."""

    def __init__(self, parameters: AssociationParameters | None = None) -> None:
        self.association = ClientAssociation(WrapperLink(1, 17), parameters or AssociationParameters())
        self._pen = WrapperLink(17, 1)
        self._pen.connect()
        self._pen.next_event()

    def asked(self) -> list[bytes]:
        """APDUs the client has sent since last asked."""
        self._pen.receive_data(self.association.data_to_send())
        apdus = []
        while (event := self._pen.next_event()) is not None:
            apdus.append(event.apdu)  # type: ignore[union-attr]
        return apdus

    def says(self, *apdus: bytes) -> list[AssociationEvent]:
        for apdu in apdus:
            self._pen.send(apdu)
        self.association.receive_data(self._pen.data_to_send())
        return self.events()

    def events(self) -> list[AssociationEvent]:
        found = []
        while (event := self.association.next_event()) is not None:
            found.append(event)
        return found


def in_state(state: State) -> Meter:
    """An association led to a state by legal moves only."""
    challenged = state is State.AUTHENTICATING
    meter = Meter(AssociationParameters(credentials=Credentials(Mechanism.HLS_MD5, b"secret")) if challenged else None)
    association = meter.association
    if state is State.CLOSED:
        return meter
    association.open()
    if state is State.LINKING:
        return meter
    meter.events()
    if state is State.LINKED:
        with pytest.raises(AssociationRefused):
            meter.says(Aare(1, 1, 13).encode())
    elif state is State.DISCONNECTING:
        association.release()
    elif challenged:
        meter.says(CHALLENGING)
    elif state is not State.ASSOCIATING:
        meter.says(ACCEPTED)
        if state is State.BUSY:
            association.get((VOLTAGE,))
        elif state is State.RELEASING:
            association.release()
    assert state_of(association) is state
    meter.asked()
    return meter


def state_of(association: ClientAssociation) -> State:
    """Its state, which a call may have changed."""
    return association.state


def busy(*attributes: AttributeDescriptor, typed: bool = False) -> tuple[Meter, int]:
    """An association that waits for an answer, and the invoke id it waits for."""
    meter = in_state(State.READY)
    meter.association.get(attributes or (VOLTAGE,), typed=typed)
    [request] = meter.asked()
    return meter, GetRequest.decode(request).invoke_id


# ---- the table of moves

OPEN: Callable[[ClientAssociation], None] = ClientAssociation.open
ASSOCIATE: Callable[[ClientAssociation], None] = ClientAssociation.associate
LEGAL = {(State.CLOSED, OPEN), (State.LINKED, ASSOCIATE)}


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("move", [OPEN, ASSOCIATE])
def test_opening_and_associating(state: State, move: Callable[[ClientAssociation], None]) -> None:
    meter = in_state(state)
    if (state, move) in LEGAL:
        move(meter.association)
        assert state_of(meter.association) is not state
    else:
        with pytest.raises(LocalProtocolError, match="not possible"):
            move(meter.association)
        assert state_of(meter.association) is state
        assert meter.asked() == []


@pytest.mark.parametrize("state", State)
def test_getting(state: State) -> None:
    meter = in_state(state)
    if state is State.READY:
        meter.association.get((VOLTAGE,))
        [request] = meter.asked()
        assert GetRequest.decode(request).attributes == (VOLTAGE,)
    else:
        with pytest.raises(LocalProtocolError, match="not possible"):
            meter.association.get((VOLTAGE,))
        assert meter.asked() == []
        assert state_of(meter.association) is state


@pytest.mark.parametrize("state", State)
def test_releasing_is_possible_always(state: State) -> None:
    meter = in_state(state)
    meter.association.release()
    if state is State.READY:
        assert meter.asked() == [Release(response=False).encode()]
        meter.says(Release(response=True).encode())
    elif state is State.RELEASING:
        assert meter.association.handle_timeout()
    closed = meter.events()
    assert state_of(meter.association) is State.CLOSED
    assert all(event == AssociationClosed("disconnected", requested=True) for event in closed)
    # And it opens anew.
    meter.association.open()
    meter.events()
    assert state_of(meter.association) is State.ASSOCIATING


@pytest.mark.parametrize("state", State)
def test_an_answer_that_nobody_asked_for_is_set_aside(state: State) -> None:
    meter = in_state(state)
    if state is State.LINKING:
        meter.events()
    before = meter.association.state
    events = meter.says(GetResponse(9, (NUMBER,)).encode())
    assert Discarded in {type(event) for event in events}
    assert not any(isinstance(event, RequestCompleted) for event in events)
    assert state_of(meter.association) is (State.CLOSED if before is State.DISCONNECTING else before)


def test_a_get_that_cannot_be_sent_leaves_the_association_ready() -> None:
    meter = in_state(State.READY)
    with pytest.raises(LocalProtocolError, match="something to ask for"):
        meter.association.get(())
    wrong = AttributeDescriptor(7, VOLTAGE.logical_name, 2, SelectiveAccess(1, Data(DataType.UNSIGNED, 1000)))
    with pytest.raises(LocalProtocolError):
        meter.association.get((wrong,))
    assert state_of(meter.association) is State.READY
    assert meter.asked() == []


def test_a_list_the_meter_did_not_agree_to_is_not_sent() -> None:
    meter = in_state(State.ASSOCIATING)
    meter.says(Aare(1, 0, 0, InitiateResponse(Conformance.GET, 1024).encode()).encode())
    with pytest.raises(LocalProtocolError, match="lists"):
        meter.association.get((VOLTAGE, CURRENT))
    assert meter.association.agrees(Conformance.GET)
    assert state_of(meter.association) is State.READY


# ---- association


def test_a_password_makes_lls_and_is_never_shown() -> None:
    parameters = AssociationParameters(password=b"hunter22")
    assert "hunter22" not in repr(parameters)
    meter = Meter(parameters)
    meter.association.open()
    meter.events()
    [request] = meter.asked()
    aarq = Aarq.decode(request)
    assert (aarq.mechanism, aarq.authentication_value) == (Mechanism.LLS, b"hunter22")


def test_accepted() -> None:
    meter = in_state(State.ASSOCIATING)
    [opened] = meter.says(ACCEPTED)
    assert isinstance(opened, AssociationOpened)
    assert opened.negotiated.max_receive_pdu == 1024


@pytest.mark.parametrize(
    ("aare", "words", "about_authentication"),
    [
        (Aare(1, 1, 11), "mechanism name not recognised", True),
        (Aare(1, 1, 13), "for good: authentication failure", True),
        (Aare(1, 2, 14), "for now: authentication required", True),
        (Aare(1, 2, 1), "for now: no reason", False),
        (Aare(1, 1, 2), "context name not supported", False),
        (Aare(1, 1, 2, provider=True), "no common ACSE version", False),
        (Aare(1, 1, 13, provider=True), "diagnostic 13", False),
        (Aare(1, 77, 99), "result 77: diagnostic 99", False),
        # Refused with a user information that is none: the refusal counts.
        (Aare(1, 1, 1, b"\xff"), "no reason", False),
    ],
)
def test_refused_and_asked_again(aare: Aare, words: str, about_authentication: bool) -> None:
    meter = in_state(State.ASSOCIATING)
    with pytest.raises(AssociationRefused, match=words) as caught:
        meter.says(aare.encode())
    assert caught.value.result == aare.result
    assert isinstance(caught.value, AuthenticationFailed) is about_authentication
    meter.association.associate()
    assert meter.asked()
    assert any(isinstance(event, AssociationOpened) for event in meter.says(ACCEPTED))


@pytest.mark.parametrize(
    ("answer", "error", "words"),
    [
        (
            ConfirmedServiceError(6, 0, 5).encode(),
            ServiceError,
            "confirmed-service-error, write: application reference",
        ),
        (ConfirmedServiceError(6, 0, 6).encode(), AuthenticationFailed, "other keys.*: confirmed-service-error, write"),
        (ExceptionResponse(1, 2).encode(), ServiceError, "exception-response: service not allowed"),
        (ExceptionResponse(2, 5).encode(), AuthenticationFailed, "other keys.*: exception-response"),
        # An AARE that says accepted, and an error where the agreement should be.
        (Aare(1, 0, 0, ConfirmedServiceError(1, 6, 1).encode()).encode(), ServiceError, "confirmed-service-error"),
        (Aare(1, 0, 0, ConfirmedServiceError(1, 0, 6).encode()).encode(), AuthenticationFailed, "initiate"),
    ],
)
def test_an_error_in_place_of_an_aare_leaves_the_link_usable(
    answer: bytes, error: type[MeterError], words: str
) -> None:
    meter = in_state(State.ASSOCIATING)
    with pytest.raises(error, match=words):
        meter.says(answer)
    assert state_of(meter.association) is State.LINKED
    meter.association.associate()
    assert any(isinstance(event, AssociationOpened) for event in meter.says(ACCEPTED))


@pytest.mark.parametrize(
    "aare",
    [
        b"\x61",
        b"\x61\x00",
        b"\x61\x7f\xa2\x03\x02\x01\x00",
        bytes.fromhex("6109a107060560857405"),
        bytes.fromhex("610ba109060760857405080101"),
        Aare(1, 0).encode(),
        Aare(1, 0, 0, b"\x08").encode(),
        Aare(1, 0, 0, b"\x99" * 14).encode(),
        b"\x0e",
        b"\xd8\x01",
    ],
    ids=lambda aare: aare.hex()[:24],
)
def test_an_aare_that_is_none_breaks_the_protocol(aare: bytes) -> None:
    meter = in_state(State.ASSOCIATING)
    with pytest.raises(RemoteProtocolError):
        meter.says(aare)
    meter.association.release()
    assert state_of(meter.association) is State.DISCONNECTING


@examples(1)
@given(st.lists(st.binary(min_size=1, max_size=40), max_size=4), st.sampled_from(list(State)))
def test_arbitrary_apdus_raise_only_what_is_the_meters_fault(apdus: list[bytes], state: State) -> None:
    meter = in_state(state)
    for apdu in apdus:
        with contextlib.suppress(RemoteProtocolError, ServiceError, AssociationRefused):
            meter.says(apdu)
    meter.association.release()


@examples(2)
@given(st.sampled_from(sorted(APDU_TAGS)), st.binary(max_size=40), st.booleans())
def test_arbitrary_answers_raise_only_what_is_the_meters_fault(tag: int, rest: bytes, many: bool) -> None:
    meter, invoke_id = busy(*((VOLTAGE, CURRENT) if many else (VOLTAGE,)))
    octets = bytearray((tag,)) + rest
    if len(octets) > 2:
        octets[2] = octets[2] & 0xF0 | invoke_id
    with contextlib.suppress(RemoteProtocolError, ServiceError):
        meter.says(bytes(octets))


# ---- GET


def test_one_attribute() -> None:
    meter, invoke_id = busy()
    assert meter.says(GetResponse(invoke_id, (NUMBER,)).encode()) == [RequestCompleted((2301,))]
    assert state_of(meter.association) is State.READY


def test_types_are_kept_where_they_are_wanted() -> None:
    meter, invoke_id = busy(typed=True)
    [completed] = meter.says(GetResponse(invoke_id, (NUMBER,)).encode())
    assert completed == RequestCompleted((Data(DataType.LONG_UNSIGNED, 2301),))


def test_a_refused_attribute_stands_in_its_place() -> None:
    meter, invoke_id = busy(VOLTAGE, CURRENT)
    [completed] = meter.says(GetResponse(invoke_id, (data_access_error(4), NUMBER), with_list=True).encode())
    assert isinstance(completed, RequestCompleted)
    refused, value = completed.results
    assert isinstance(refused, DataAccessError)
    assert (str(refused), refused.result, value) == ("object-undefined", 4, 2301)


def test_a_list_refused_as_a_whole() -> None:
    meter, invoke_id = busy(VOLTAGE, CURRENT)
    [completed] = meter.says(GetResponse(invoke_id, (data_access_error(250),)).encode())
    assert isinstance(completed, RequestCompleted)
    assert [result.result for result in completed.results] == [250, 250]


@pytest.mark.parametrize(
    "answer",
    [
        lambda i: GetResponse(i, (NUMBER,), with_list=True).encode(),
        lambda i: GetResponse(i, (NUMBER,) * 3, with_list=True).encode(),
        lambda i: GetResponse(i, (NUMBER,)).encode(),
        lambda i: GetResponse(i, (NUMBER,) * 2, with_list=True).encode() + b"\x00",
        lambda i: GetResponse(i, (NUMBER,) * 2, with_list=True).encode()[:-1],
        lambda i: bytes((0xC4, 9, i, 0, 0)),
        lambda i: bytes((0xC4, 3, i)),
    ],
)
def test_answers_that_do_not_answer(answer: Callable[[int], bytes]) -> None:
    meter, invoke_id = busy(VOLTAGE, CURRENT)
    with pytest.raises(RemoteProtocolError):
        meter.says(answer(invoke_id))


def test_a_late_answer_is_never_taken_for_the_current_one() -> None:
    """The invoke id tells them apart through a whole round of them."""
    meter = in_state(State.READY)
    for turn in range(40):
        meter.association.get((VOLTAGE,))
        [request] = meter.asked()
        invoke_id = GetRequest.decode(request).invoke_id
        for back in range(1, 16):
            late = GetResponse(invoke_id - back & 15, (encode(Data(DataType.UNSIGNED, 13)),)).encode()
            assert meter.says(late) == [Discarded("answer to an earlier request", len(late), damaged=False)]
        block = GetResponseBlock(invoke_id - 1 & 15, True, 1, NUMBER).encode()
        assert isinstance(meter.says(block)[0], Discarded)
        answer = encode(Data(DataType.LONG_UNSIGNED, turn))
        assert meter.says(GetResponse(invoke_id, (answer,)).encode()) == [RequestCompleted((turn,))]


@pytest.mark.parametrize("apdu", ["0f00000001 00 00", "c2 00 0003 0100200700ff 02 11 01", "18 00 01 02 1008 01 11 05"])
def test_what_the_meter_says_unasked_is_no_answer(apdu: str) -> None:
    meter, invoke_id = busy()
    assert meter.says(bytes.fromhex(apdu)) == [Notified(bytes.fromhex(apdu))]
    assert meter.says(GetResponse(invoke_id, (NUMBER,)).encode()) == [RequestCompleted((2301,))]


@pytest.mark.parametrize("apdu", [ACCEPTED.hex(), "6303800100"])
def test_what_is_no_answer_is_set_aside_while_one_is_due(apdu: str) -> None:
    meter, invoke_id = busy()
    assert [type(event) for event in meter.says(bytes.fromhex(apdu))] == [Discarded]
    assert meter.says(GetResponse(invoke_id, (NUMBER,)).encode()) == [RequestCompleted((2301,))]


@pytest.mark.parametrize("error", [ExceptionResponse(1, 1).encode(), ConfirmedServiceError(5, 5, 1).encode()])
def test_an_error_in_place_of_an_answer_leaves_the_association_usable(error: bytes) -> None:
    meter, _ = busy()
    with pytest.raises(ServiceError):
        meter.says(error)
    assert state_of(meter.association) is State.READY
    meter.association.get((VOLTAGE,))
    [request] = meter.asked()
    answer = GetResponse(GetRequest.decode(request).invoke_id, (NUMBER,)).encode()
    assert meter.says(answer) == [RequestCompleted((2301,))]


# ---- blocks


def blocks_of(octets: bytes, size: int, invoke_id: int) -> list[bytes]:
    starts = range(0, len(octets), size)
    return [
        GetResponseBlock(invoke_id, start + size >= len(octets), number, octets[start : start + size]).encode()
        for number, start in enumerate(starts, 1)
    ]


@pytest.mark.parametrize("size", [1, 2, 3, 100, 5000])
@pytest.mark.parametrize("repeat", [False, True])
def test_a_list_comes_in_blocks(size: int, repeat: bool) -> None:
    meter, invoke_id = busy(VOLTAGE, CURRENT)
    octets = encode_results((encode(Data(DataType.OCTET_STRING, b"x" * 200)), data_access_error(2)))
    blocks = blocks_of(octets, size, invoke_id)
    events: list[AssociationEvent] = []
    for number, block in enumerate(blocks, 1):
        last = number == len(blocks)
        events += meter.says(block, *([block] if repeat and not last else []))
        asked = [GetRequest.decode(apdu).block_number for apdu in meter.asked()]
        # A repeated block is not acknowledged twice: that would ask for one too many.
        assert asked == ([] if last else [number])
    [completed] = [event for event in events if isinstance(event, RequestCompleted)]
    assert completed.results[0] == b"x" * 200
    assert isinstance(completed.results[1], DataAccessError)
    assert sum(isinstance(event, Discarded) for event in events) == (len(blocks) - 1 if repeat else 0)


@pytest.mark.parametrize("number", [0, 2, 3, 0xFFFFFFFF])
def test_a_first_block_of_another_number_breaks_the_protocol(number: int) -> None:
    meter, invoke_id = busy()
    with pytest.raises(RemoteProtocolError, match="block"):
        meter.says(GetResponseBlock(invoke_id, False, number, b"\x09").encode())


def test_a_block_left_out_breaks_the_protocol() -> None:
    meter, invoke_id = busy()
    first, _, third, *_ = blocks_of(encode(Data(DataType.OCTET_STRING, bytes(100))), 20, invoke_id)
    meter.says(first)
    with pytest.raises(RemoteProtocolError, match="block 3 where 2"):
        meter.says(third)


def test_a_block_may_say_why_there_are_no_more() -> None:
    meter, invoke_id = busy(VOLTAGE, CURRENT)
    meter.says(GetResponseBlock(invoke_id, False, 1, b"\x02\x00").encode())
    [completed] = meter.says(GetResponseBlock(invoke_id, True, 2, data_access_error(15)).encode())
    assert isinstance(completed, RequestCompleted)
    assert [str(result) for result in completed.results] == ["long-get-aborted"] * 2
    assert state_of(meter.association) is State.READY


def test_empty_blocks_that_never_end_are_refused() -> None:
    meter, invoke_id = busy()
    with pytest.raises(RemoteProtocolError, match="empty"):
        meter.says(GetResponseBlock(invoke_id, False, 1, b"").encode())


def test_blocks_that_never_end_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("meterbridge.dlms.data_blocks.MAX_BLOCKED_DATA", 1000)
    meter, invoke_id = busy()
    with pytest.raises(RemoteProtocolError, match="more than 1000"):
        for number in range(1, 100):
            meter.says(GetResponseBlock(invoke_id, False, number, bytes(100)).encode())


@pytest.mark.parametrize(
    "octets", ["c402c10100000001 00 05 01", "c402c101000000010000ff", "c402c1010000", "c402c10100000001"]
)
def test_a_block_whose_length_is_wrong_breaks_the_protocol(octets: str) -> None:
    meter, _ = busy()
    with pytest.raises(RemoteProtocolError):
        meter.says(bytes.fromhex(octets))


def test_an_error_in_the_middle_of_blocks_ends_them() -> None:
    meter, invoke_id = busy()
    meter.says(GetResponseBlock(invoke_id, False, 1, b"\x09").encode())
    meter.asked()
    with pytest.raises(ServiceError):
        meter.says(ExceptionResponse(2, 3).encode())
    meter.association.get((VOLTAGE,))
    [request] = meter.asked()
    answer = GetResponse(GetRequest.decode(request).invoke_id, (NUMBER,)).encode()
    assert meter.says(answer) == [RequestCompleted((2301,))]


# ---- the end


@pytest.mark.parametrize(
    "answer", [Release(response=True).encode(), ExceptionResponse(1, 1).encode(), b"\x0e\x01\x06\x00"]
)
def test_whatever_answers_rlrq_the_association_ends(answer: bytes) -> None:
    meter = in_state(State.RELEASING)
    assert meter.says(answer) == [AssociationClosed("disconnected", requested=True)]


def test_an_rlrq_that_stays_unanswered_costs_one_time_out() -> None:
    meter = in_state(State.RELEASING)
    assert meter.association.handle_timeout()
    assert meter.events() == [AssociationClosed("disconnected", requested=True)]


CLIENT, SERVER = client_address(1), server_address(1)


def hdlc_ready() -> ClientAssociation:
    association = ClientAssociation(HdlcLink(CLIENT, SERVER), AssociationParameters())
    association.open()
    association.receive_data(Frame(CLIENT, SERVER, Control.UA | POLL_FINAL).encode())
    assert association.next_event() is None
    association.receive_data(Frame(CLIENT, SERVER, 0x30, LLC_RESPONSE + ACCEPTED).encode())
    assert isinstance(association.next_event(), AssociationOpened)
    return association


@pytest.mark.parametrize("control", [Control.DM, Control.FRMR])
def test_a_link_ended_in_the_middle_of_a_request(control: Control) -> None:
    association = hdlc_ready()
    association.get((VOLTAGE,))
    association.receive_data(Frame(CLIENT, SERVER, control | POLL_FINAL).encode())
    with pytest.raises(ConnectionLost):
        association.next_event()
    assert state_of(association) is State.CLOSED
    association.open()
    assert state_of(association) is State.LINKING


def test_a_block_and_the_links_end_in_the_same_octets() -> None:
    """What the association makes of the block is sent on a link that still stood then: the meter ended it, not we."""
    association = hdlc_ready()
    association.get((VOLTAGE,))
    block = GetResponseBlock(1, False, 1, b"\x09\x20").encode()
    association.receive_data(
        Frame(CLIENT, SERVER, 0x52, LLC_RESPONSE + block).encode() + Frame(CLIENT, SERVER, 0x1F).encode()
    )
    with pytest.raises(ConnectionLost):
        association.next_event()


def test_a_link_that_opens_and_ends_in_the_same_octets() -> None:
    association = ClientAssociation(HdlcLink(CLIENT, SERVER), AssociationParameters())
    association.open()
    association.receive_data(Frame(CLIENT, SERVER, 0x73).encode() + Frame(CLIENT, SERVER, 0x1F).encode())
    with pytest.raises(ConnectionLost):
        association.next_event()


def test_a_link_refused() -> None:
    association = ClientAssociation(HdlcLink(CLIENT, SERVER), AssociationParameters())
    association.open()
    association.receive_data(Frame(CLIENT, SERVER, 0x1F).encode())
    with pytest.raises(AssociationRefused, match="DM"):
        association.next_event()
    assert state_of(association) is State.CLOSED


def test_disc_from_the_meter_in_the_middle_is_no_frame_of_a_secondary() -> None:
    association = hdlc_ready()
    association.get((VOLTAGE,))
    association.receive_data(Frame(CLIENT, SERVER, Control.DISC | POLL_FINAL).encode())
    assert isinstance(association.next_event(), Discarded)
    assert state_of(association) is State.BUSY


def test_release_over_hdlc_ends_with_disc_and_ua() -> None:
    association = hdlc_ready()
    association.data_to_send()
    association.release()
    association.receive_data(Frame(CLIENT, SERVER, 0x52, LLC_RESPONSE + Release(response=True).encode()).encode())
    assert association.next_event() is None
    assert Frame(SERVER, CLIENT, Control.DISC | POLL_FINAL).encode() in association.data_to_send()
    association.receive_data(Frame(CLIENT, SERVER, 0x73).encode())
    assert association.next_event() == AssociationClosed("disconnected", requested=True)


def test_a_request_refused_before_it_was_all_said() -> None:
    """A meter with small frames answers the first part of an AARQ with an error: the next request is no bug of ours."""
    link = HdlcLink(CLIENT, SERVER, HdlcParameters(max_information_send=16))
    association = ClientAssociation(link, AssociationParameters(b"00000000"))
    association.open()
    association.receive_data(Frame(CLIENT, SERVER, 0x73).encode())
    assert association.next_event() is None
    association.receive_data(Frame(CLIENT, SERVER, 0x30, LLC_RESPONSE + b"\xd8\x01\x01").encode())
    with pytest.raises(ServiceError):
        association.next_event()
    association.associate()
    assert state_of(association) is State.ASSOCIATING
