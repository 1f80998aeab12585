"""The quick way gives what the full way gives, whatever stands between two exchanges, and believes nothing else."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meterbridge.dlms import (
    AssociationClosed,
    AssociationParameters,
    AttributeDescriptor,
    ClientAssociation,
    Conformance,
    DataType,
    Frame,
    HdlcLink,
    LogicalName,
    PreparedGet,
    RequestCompleted,
    State,
    WrapperLink,
    client_address,
    server_address,
)
from meterbridge.dlms.acse import AARQ, RLRE, Aare, InitiateResponse
from meterbridge.dlms.hdlc import fcs
from meterbridge.dlms.hdlc_server_link import HdlcServerLink
from meterbridge.dlms.link import ApduReceived
from meterbridge.dlms.xdlms import GetRequest, GetResponse, data_access_error
from meterbridge.errors import DataAccessError, LocalProtocolError

SERVICES = Conformance.GET | Conformance.MULTIPLE_REFERENCES
NAMES = ("1-0:32.7.0", "1-0:31.7.0", "1-0:1.8.0")
ATTRIBUTES = tuple(AttributeDescriptor(3, LogicalName.parse(name), 2) for name in NAMES)
ONE, ALL = ATTRIBUTES[:1], ATTRIBUTES


class Line:
    """A client and a meter whose every value says how many requests it has answered: a stale answer shows."""

    def __init__(self, framing: str, services: Conformance = SERVICES) -> None:
        client, server = client_address(1), server_address(1)
        hdlc = framing == "hdlc"
        self.client = ClientAssociation(
            HdlcLink(client, server) if hdlc else WrapperLink(1, 1), AssociationParameters(conformance=services)
        )
        self.hdlc = HdlcServerLink(client, server) if hdlc else None
        self.wrapper = WrapperLink(1, 1)
        self.wrapper.connect()
        self.answered = 0
        self.text = self.refuses = False
        self.tag = DataType.LONG_UNSIGNED
        self.base = 0
        self.prepared = {attributes: PreparedGet(attributes) for attributes in (ONE, ALL)}
        self.client.open()
        self.client.next_event()
        while self.client.state is not State.READY:
            self.client.receive_data(self.answer(self.client.data_to_send()))
            self.client.next_event()

    def answer(self, octets: bytes) -> bytes:
        """What the meter says to what was sent."""
        link = self.hdlc or self.wrapper
        link.receive_data(octets)
        while (event := link.next_event()) is not None:
            if isinstance(event, ApduReceived):
                link.send(self._answer(event.apdu))
        return link.data_to_send()

    def _answer(self, apdu: bytes) -> bytes:
        if apdu[0] == AARQ:
            return Aare(1, 0, 0, InitiateResponse(SERVICES, 1024).encode()).encode()
        if apdu[0] == 0x62:
            return bytes((RLRE, 3, 0x80, 1, 0))
        request = GetRequest.decode(apdu)
        self.answered += 1
        return GetResponse(request.invoke_id, tuple(map(self._value, request.attributes)), request.with_list).encode()

    def _value(self, attribute: AttributeDescriptor) -> bytes | DataAccessError:
        if self.refuses:
            return data_access_error(4)
        if self.text:
            return b"\x09\x02\x00" + bytes((self.answered & 0xFF,))
        return bytes((self.tag,)) + (self.base + self.answered & 0xFFFF).to_bytes(2, "big")

    def results(self, answer: bytes) -> object:
        """What the client makes of octets; None when it waits on."""
        found = self.client.receive_data(answer)
        if found is not None:
            return found
        result = None
        while (event := self.client.next_event()) is not None:
            if isinstance(event, RequestCompleted):
                result = event.results
        return result

    def expected(self, attributes: tuple[AttributeDescriptor, ...]) -> tuple[object, ...]:
        value: object = bytes((0, self.answered & 0xFF)) if self.text else self.answered & 0xFFFF
        return (value,) * len(attributes)

    # ---- what may happen between and in exchanges; each ends READY

    def quick(self, attributes: tuple[AttributeDescriptor, ...]) -> None:
        answer = self.answer(self.client.get_prepared(self.prepared[attributes]))
        assert self.results(answer) == self.expected(attributes)

    def full(self, attributes: tuple[AttributeDescriptor, ...]) -> None:
        self.client.get(attributes)
        assert self.results(self.answer(self.client.data_to_send())) == self.expected(attributes)

    def lost_request(self, attributes: tuple[AttributeDescriptor, ...]) -> None:
        self.client.get_prepared(self.prepared[attributes])
        assert self.client.handle_timeout()
        assert self.results(self.answer(self.client.data_to_send())) == self.expected(attributes)

    def lost_answer(self, attributes: tuple[AttributeDescriptor, ...]) -> None:
        self.answer(self.client.get_prepared(self.prepared[attributes]))
        assert self.client.handle_timeout()
        assert self.results(self.answer(self.client.data_to_send())) == self.expected(attributes)

    def damaged_answer(self, attributes: tuple[AttributeDescriptor, ...]) -> None:
        answer = bytearray(self.answer(self.client.get_prepared(self.prepared[attributes])))
        answer[-4] ^= 0x10
        assert self.results(bytes(answer)) is None
        assert self.client.handle_timeout()
        assert self.results(self.answer(self.client.data_to_send())) == self.expected(attributes)

    def repeated_answer(self, attributes: tuple[AttributeDescriptor, ...]) -> None:
        answer = self.answer(self.client.get_prepared(self.prepared[attributes]))
        assert self.results(answer) == self.expected(attributes)
        assert self.results(answer) is None
        assert self.client.state is State.READY

    def split_answer(self, attributes: tuple[AttributeDescriptor, ...]) -> None:
        answer = self.answer(self.client.get_prepared(self.prepared[attributes]))
        assert self.results(answer[:7]) is None
        assert self.results(answer[7:]) == self.expected(attributes)

    def noise_first(self, attributes: tuple[AttributeDescriptor, ...]) -> None:
        answer = self.answer(self.client.get_prepared(self.prepared[attributes]))
        assert self.results(b"\x55\xaa" + answer) == self.expected(attributes)

    def keep_alive(self, attributes: tuple[AttributeDescriptor, ...]) -> None:
        if self.client.keep_alive():
            assert self.results(self.answer(self.client.data_to_send())) is None

    def other_type(self, attributes: tuple[AttributeDescriptor, ...]) -> None:
        self.text = not self.text
        self.quick(attributes)


ANYWHERE = (Line.quick, Line.full, Line.repeated_answer, Line.split_answer, Line.noise_first, Line.other_type)
ON_HDLC = (*ANYWHERE, Line.lost_request, Line.lost_answer, Line.damaged_answer, Line.keep_alive)
Step = Callable[[Line, tuple[AttributeDescriptor, ...]], None]


@given(st.lists(st.tuples(st.sampled_from(ON_HDLC), st.sampled_from((ONE, ALL))), max_size=40))
def test_whatever_happens_between_quick_exchanges_over_hdlc(
    steps: list[tuple[Step, tuple[AttributeDescriptor, ...]]],
) -> None:
    line = Line("hdlc")
    for step, attributes in steps:
        step(line, attributes)


@given(st.lists(st.tuples(st.sampled_from(ANYWHERE), st.sampled_from((ONE, ALL))), max_size=40))
def test_whatever_happens_between_quick_exchanges_over_a_wrapper(
    steps: list[tuple[Step, tuple[AttributeDescriptor, ...]]],
) -> None:
    line = Line("wrapper")
    for step, attributes in steps:
        step(line, attributes)


@pytest.mark.parametrize("framing", ["hdlc", "wrapper"])
def test_a_repeated_request_is_answered_by_the_octets_alone(framing: str) -> None:
    line = Line(framing)
    # As many as there are pairs of sequence numbers and invoke id: from then on all is known.
    for _ in range(16):
        line.quick(ALL)
    for _ in range(32):
        answer = line.answer(line.client.get_prepared(line.prepared[ALL]))
        assert line.client.receive_data(answer) == line.expected(ALL)


@pytest.mark.parametrize("attributes", [ONE, ALL])
def test_no_single_damaged_octet_is_believed(attributes: tuple[AttributeDescriptor, ...]) -> None:
    line = Line("hdlc")
    for _ in range(16):
        line.quick(attributes)
    for place in range(80):
        answer = line.answer(line.client.get_prepared(line.prepared[attributes]))
        if place >= len(answer):
            return
        for bit in range(8):
            damaged = bytearray(answer)
            damaged[place] ^= 1 << bit
            assert line.client.receive_data(bytes(damaged)) is None
        assert line.client.handle_timeout()
        assert line.results(line.answer(line.client.data_to_send())) == line.expected(attributes)
        for _ in range(16):
            line.quick(attributes)


@given(st.binary(min_size=1, max_size=60), st.binary(min_size=1, max_size=60))
def test_the_check_over_flags_and_all_depends_on_the_length_alone(one: bytes, other: bytes) -> None:
    other = (other * 60)[: len(one)]
    whole = [Frame(server_address(1), client_address(1), 0x10, information).encode() for information in (one, other)]
    assert fcs(whole[0]) == fcs(whole[1])


def test_a_refused_object_stands_in_its_place() -> None:
    line = Line("hdlc")
    for _ in range(16):
        line.quick(ONE)
    line.refuses = True
    results = line.results(line.answer(line.client.get_prepared(line.prepared[ONE])))
    assert isinstance(results, tuple)
    assert isinstance(results[0], DataAccessError)


@pytest.mark.parametrize("framing", ["hdlc", "wrapper"])
@pytest.mark.parametrize("attributes", [ONE, ALL])
def test_values_that_change_their_type_but_not_their_size_are_read_as_what_they_are(
    framing: str, attributes: tuple[AttributeDescriptor, ...]
) -> None:
    line = Line(framing)
    for _ in range(32):
        line.quick(attributes)
    line.base = -1000
    for tag, modulus in ((DataType.LONG, 0), (DataType.LONG_UNSIGNED, 0x10000)):
        line.tag = tag
        for _ in range(20):
            results = line.results(line.answer(line.client.get_prepared(line.prepared[attributes])))
            assert results == (modulus - 1000 + line.answered,) * len(attributes)


def test_it_is_over_with_the_association() -> None:
    line = Line("hdlc")
    for _ in range(20):
        line.quick(ONE)
    line.client.release()
    line.client.receive_data(line.answer(line.client.data_to_send()))
    line.client.next_event()
    line.client.receive_data(line.answer(line.client.data_to_send()))
    assert isinstance(line.client.next_event(), AssociationClosed)
    with pytest.raises(LocalProtocolError):
        line.client.get_prepared(line.prepared[ONE])


def test_a_second_request_waits_for_the_first() -> None:
    line = Line("hdlc")
    for _ in range(20):
        line.quick(ONE)
    line.client.get_prepared(line.prepared[ONE])
    with pytest.raises(LocalProtocolError):
        line.client.get_prepared(line.prepared[ONE])
