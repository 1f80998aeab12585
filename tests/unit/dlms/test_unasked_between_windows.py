"""What a meter says unasked between the windows of a long request or answer: an event, never lost, never the answer.

Nothing here waits for a time-out: whatever the meter's turn ends with, the client says what is due next.
"""

from __future__ import annotations

import itertools

import pytest

from meterbridge.dlms import (
    AssociationOpened,
    AssociationParameters,
    AttributeDescriptor,
    ClientAssociation,
    Data,
    DataType,
    Frame,
    FrameDecoder,
    HdlcLink,
    HdlcParameters,
    LogicalName,
    Notified,
    RequestCompleted,
    client_address,
    server_address,
)
from meterbridge.dlms.acse import AARQ, Aare, ApplicationContext, InitiateResponse
from meterbridge.dlms.association_parameters import PROPOSED_CONFORMANCE
from meterbridge.dlms.axdr import encode
from meterbridge.dlms.hdlc import POLL_FINAL, RR, Control
from meterbridge.dlms.hdlc_station import LLC_COMMAND, LLC_RESPONSE

CLIENT, SERVER = client_address(1), server_address(1)
CUSTOMER = AttributeDescriptor(1, LogicalName.parse("0-0:96.1.1"), 2)
VALUE = Data(DataType.OCTET_STRING, bytes(range(250)))
EVENT = bytes.fromhex("c20000030100200700ff021105")
SIZE = 32


class Secondary:
    """A meter that has an event to tell in its turn, once.

    Args:
        window: frames of one turn, either way.
        when: in which of its turns after it was associated.
        how: it tells it.
    """

    def __init__(self, window: int, when: int, how: str) -> None:
        self.window, self.when, self.how = window, when, how
        self.decoder = FrameDecoder()
        self.received = self.sent = self.turns = 0
        self.assembled = bytearray()
        self.asked: list[bytes] = []
        self.queue: list[tuple[bytes, bool]] = []
        self.deaf = how == "before it heard"
        self.out = bytearray()

    def take(self, octets: bytes) -> bytes:
        self.out.clear()
        self.decoder.receive_data(octets)
        while (event := self.decoder.next_event()) is not None:
            assert isinstance(event, Frame)
            self.frame(event)
        return bytes(self.out)

    def frame(self, frame: Frame) -> None:
        if frame.unnumbered == Control.SNRM and not frame.is_information and not frame.is_supervisory:
            agreed = HdlcParameters(SIZE, SIZE, self.window, self.window)
            self.write(Control.UA | POLL_FINAL, agreed.encode())
            return
        if frame.is_information:
            mine = frame.final and self.asked and self.turns + 1 == self.when and self.deaf
            if mine:
                self.deaf = False  # it was speaking already when the last frame of the window came
            elif frame.send_sequence == self.received:
                self.received = self.received + 1 & 7
                self.assembled += frame.information
                if not frame.segmented:
                    assert self.assembled.startswith(LLC_COMMAND)
                    self.asked.append(bytes(self.assembled[3:]))
                    self.assembled.clear()
                    self.answer(self.asked[-1])
        if frame.final:
            self.turn()

    def answer(self, apdu: bytes) -> None:
        if apdu[0] == AARQ:
            response = InitiateResponse(PROPOSED_CONFORMANCE, 0).encode()
            answer = Aare(ApplicationContext.LN, 0, 0, response).encode()
        elif apdu[0] == 0xC1:
            answer = bytes((0xC5, 1, apdu[2], 0))
        else:
            answer = bytes((0xC4, 1, apdu[2], 0)) + encode(VALUE)
        self.say(answer)

    def say(self, apdu: bytes) -> None:
        information = LLC_RESPONSE + apdu
        for start in range(0, len(information), SIZE):
            self.queue.append((information[start : start + SIZE], start + SIZE < len(information)))

    def turn(self) -> None:
        if self.asked:
            self.turns += 1
        if self.asked and self.turns == self.when:
            self.tell()
            return
        part, self.queue = self.queue[: self.window], self.queue[self.window :]
        for index, (information, segmented) in enumerate(part):
            self.information(information, segmented, final=index == len(part) - 1)
        if not part:
            self.write(self.received << 5 | RR | POLL_FINAL)

    def tell(self) -> None:
        if self.how.startswith("UI"):
            alone = self.how == "UI"
            self.write(Control.UI | (POLL_FINAL if alone else 0), LLC_RESPONSE + EVENT)
            if not alone:
                self.turn_goes_on()
        elif self.how == "I, RR":
            self.information(LLC_RESPONSE + EVENT, False, final=False)
            self.write(self.received << 5 | RR | POLL_FINAL)
        elif self.how.startswith("segments"):
            polled = self.how == "segments, polled"
            self.information(LLC_RESPONSE + EVENT[:5], True, final=polled)
            if polled:
                self.queue.insert(0, (EVENT[5:], False))
            else:
                self.information(EVENT[5:], False, final=True)
        else:
            self.information(LLC_RESPONSE + EVENT, False, final=True)

    def turn_goes_on(self) -> None:
        self.when = 0
        self.turn()

    def information(self, octets: bytes, segmented: bool, *, final: bool) -> None:
        number, self.sent = self.sent, self.sent + 1 & 7
        self.write(self.received << 5 | number << 1 | (POLL_FINAL if final else 0), octets, segmented)

    def write(self, control: int, information: bytes = b"", segmented: bool = False) -> None:
        self.out += Frame(CLIENT, SERVER, control, information, segmented).encode()


def exchanged(association: ClientAssociation, meter: Secondary) -> tuple[list[bytes], tuple[object, ...]]:
    """Move octets until the request is completed; what was notified, and the results."""
    notified: list[bytes] = []
    for _ in range(100):
        while (event := association.next_event()) is not None:
            if isinstance(event, Notified):
                notified.append(event.apdu)
            elif isinstance(event, RequestCompleted):
                return notified, event.results
            else:
                assert isinstance(event, AssociationOpened), event
                return notified, ()
        octets = association.data_to_send()
        assert octets, "both wait for each other"
        association.receive_data(meter.take(octets))
    raise AssertionError("it never ends")


def associated(meter: Secondary) -> ClientAssociation:
    parameters = HdlcParameters(SIZE, SIZE, meter.window, meter.window)
    association = ClientAssociation(HdlcLink(CLIENT, SERVER, parameters), AssociationParameters())
    association.open()
    when, meter.when = meter.when, 0
    exchanged(association, meter)
    meter.turns, meter.when = 0, when
    return association


IN_FRAMES = ("I", "I, RR", "segments", "segments, polled", "UI", "UI, RR", "before it heard")


@pytest.mark.parametrize(("window", "turns"), [(1, 9), (2, 5), (3, 3), (7, 2)])
@pytest.mark.parametrize("how", IN_FRAMES)
def test_between_the_windows_of_a_request(how: str, window: int, turns: int) -> None:
    for when in range(1, turns + 1):
        meter = Secondary(window, when, how)
        association = associated(meter)
        association.set([(CUSTOMER, VALUE)])
        assert exchanged(association, meter) == ([EVENT], (None,))
        asked = meter.asked[-1]
        assert asked.endswith(encode(VALUE))
        assert len(meter.asked) == 2, "the request came once, and whole"
        # The numbers agree still: the next request is answered like any other.
        association.get((CUSTOMER,))
        assert exchanged(association, meter) == ([], (VALUE.value,))


@pytest.mark.parametrize("window", [1, 2, 7])
@pytest.mark.parametrize("how", ["UI", "UI, RR"])
def test_between_the_windows_of_an_answer(how: str, window: int) -> None:
    """A numbered frame there would be part of the answer; what has no number may come anywhere."""
    for when in range(1, -(-9 // window) + 1):
        meter = Secondary(window, when, how)
        association = associated(meter)
        association.get((CUSTOMER,))
        assert exchanged(association, meter) == ([EVENT], (VALUE.value,))


@pytest.mark.parametrize("how", ["I", "segments", "UI"])
def test_before_an_answer_that_is_due(how: str) -> None:
    for window, when in itertools.product((1, 3), (1,)):
        meter = Secondary(window, when, how)
        association = associated(meter)
        association.get((CUSTOMER,))
        assert exchanged(association, meter) == ([EVENT], (VALUE.value,))


def test_an_error_before_the_request_was_all_said_is_still_its_answer() -> None:
    meter = Secondary(2, 2, "I")
    association = associated(meter)
    association.set([(CUSTOMER, VALUE)])
    association.receive_data(meter.take(association.data_to_send()))
    assert association.next_event() is None
    association.data_to_send()
    heard, next_number = meter.received + 2 & 7, meter.sent
    refusal = Frame(
        CLIENT, SERVER, heard << 5 | next_number << 1 | POLL_FINAL, LLC_RESPONSE + bytes((0xC5, 1, 0xC1, 3))
    )
    association.receive_data(refusal.encode())
    event = association.next_event()
    assert isinstance(event, RequestCompleted)
    assert str(event.results[0]) == "read-write-denied"
    assert association.next_event() is None
    assert association.data_to_send() == b"", "the rest is not said any more"
    # Nor behind an event that comes before the next answer.
    association.get((CUSTOMER,))
    association.data_to_send()
    event_frame = Frame(
        CLIENT, SERVER, heard + 1 << 5 & 0xFF | (next_number + 1 & 7) << 1 | POLL_FINAL, LLC_RESPONSE + EVENT
    )
    association.receive_data(event_frame.encode())
    assert association.next_event() == Notified(EVENT)
    assert association.next_event() is None
    assert association.data_to_send() == Frame(SERVER, CLIENT, (next_number + 2 & 7) << 5 | RR | POLL_FINAL).encode()


def test_an_event_in_the_middle_of_the_meters_turn_is_not_polled_behind() -> None:
    meter = Secondary(1, 0, "")
    association = associated(meter)
    association.get((CUSTOMER,))
    association.receive_data(meter.take(association.data_to_send()))
    assert association.next_event() is None
    assert association.data_to_send(), "the first segment ended the meter's turn: polled"
    association.receive_data(Frame(CLIENT, SERVER, Control.UI, LLC_RESPONSE + EVENT).encode())
    assert association.next_event() == Notified(EVENT)
    assert association.data_to_send() == b""
