"""General block transfer: both ends, windows, lost blocks, both ways to acknowledge, peers that abuse it."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meterbridge.dlms import (
    ApduReceived,
    AssociationOpened,
    AssociationParameters,
    AttributeDescriptor,
    ClientAssociation,
    Conformance,
    Data,
    DataType,
    Discarded,
    HdlcLink,
    HdlcParameters,
    HdlcServerLink,
    LogicalName,
    RequestCompleted,
    WrapperLink,
    client_address,
    server_address,
)
from meterbridge.dlms.acse import Aare, InitiateResponse
from meterbridge.dlms.axdr import encode
from meterbridge.dlms.block_transfer import MAX_WINDOW, Block, BlockTransfer
from meterbridge.dlms.xdlms import GetResponse
from meterbridge.errors import MeterError, RemoteProtocolError
from tests.unit.dlms.strategies import examples

ANYTHING = AttributeDescriptor(1, LogicalName.parse("0-0:96.1.0"), 2)
AGREED = InitiateResponse(Conformance.GET | Conformance.GENERAL_BLOCK_TRANSFER, 100)


def carried(apdu: bytes, size: int, ours: int, theirs: int, lose: set[int]) -> bytes | None:
    """Send an APDU from one transfer to another; blocks with these numbers of theirs are lost on the way, once."""
    sender, receiver = BlockTransfer(ours, size), BlockTransfer(theirs, size)
    under_way = sender.send(apdu)
    sent = 0
    for _ in range(400):
        whole = None
        answers: list[bytes] = []
        for block in under_way:
            sent += 1
            if sent in lose:
                continue
            due, whole = receiver.receive(block)
            answers += due
        if whole is not None:
            return whole
        if not answers:
            return None
        under_way = [block for answer in answers for block in sender.receive(answer)[0]]
    raise AssertionError("no end")


@examples(1)
@given(st.binary(min_size=1, max_size=2000), st.integers(10, 200), st.integers(1, 63), st.integers(1, 63))
def test_what_goes_in_comes_out(apdu: bytes, size: int, ours: int, theirs: int) -> None:
    assert carried(apdu, size, ours, theirs, set()) == apdu


@pytest.mark.parametrize("theirs", [2, 5, 63])
def test_a_block_lost_in_the_middle_of_a_window_is_sent_again(theirs: int) -> None:
    apdu = bytes(range(250))
    for lost in (2, 3, 5):
        # What ends a window is answered; what is lost at its end is the link's to bring.
        outcome = carried(apdu, 20, 1, theirs, {lost})
        assert outcome in (apdu, None)
        assert outcome == apdu or theirs == 2 or lost == 5


@pytest.mark.parametrize("counted", [True, False])
def test_acknowledgements_that_are_counted_as_blocks_and_such_that_are_not(counted: bool) -> None:
    ours = BlockTransfer(4, 20)
    ours.send(bytes(range(25)))
    # The peer took all three blocks, says so, and answers in two.
    first = 2 if counted else 1
    assert ours.receive(Block(1, 3, b"", False, False, 4).encode()) == ([], None)
    assert ours.receive(Block(first, 3, b"ab", False, True, 4).encode()) == ([], None)
    assert ours.streaming
    assert ours.receive(Block(first + 1, 3, b"cd", True, False, 4).encode()) == ([], b"abcd")


def test_our_acknowledgements_go_on_counting() -> None:
    ours = BlockTransfer(4)
    numbers = []
    for number in range(1, 4):
        [answer], _ = ours.receive(Block(number, 0, b"x", False, False, 4).encode())
        numbers.append((Block.decode(answer).number, Block.decode(answer).acknowledged))
    assert numbers == [(1, 1), (2, 2), (3, 3)]


@pytest.mark.parametrize("block", [Block(1, 0, b"", True, False, 1), Block(0, 0, b"", False, True, 1)])
def test_a_block_of_nothing_is_no_apdu(block: Block) -> None:
    association, meter = associated(HdlcParameters())
    assert not [event for event in said(association, meter, block.encode()) if not isinstance(event, Discarded)]
    association.get((ANYTHING,))
    association.data_to_send()
    said(association, meter, block.encode())
    assert said(association, meter, answer(b"\x16\x05")) == [RequestCompleted((5,))]


@pytest.mark.parametrize("streaming", [True, False])
@pytest.mark.parametrize("number", [1, 7])
def test_a_storm_of_blocks_that_bring_nothing_is_ended(number: int, streaming: bool) -> None:
    transfer = BlockTransfer(8)
    transfer.receive(Block(1, 0, b"x", False, True, 8).encode())
    with pytest.raises(RemoteProtocolError, match="nothing new"):
        for _ in range(3 * MAX_WINDOW):
            transfer.receive(Block(number, 0, b"y" * 100, False, streaming, 8).encode())


def test_a_peer_that_acknowledges_nothing_for_ever_is_given_up() -> None:
    transfer = BlockTransfer(8, 20)
    transfer.send(bytes(100))
    with pytest.raises(RemoteProtocolError, match="nothing new"):
        for _ in range(3 * MAX_WINDOW):
            assert len(transfer.receive(Block(1, 0, b"", True, False, 63).encode())[0]) <= 63


@pytest.mark.parametrize("begun", [True, False])
def test_blocks_without_data_that_count_on_for_ever_are_ended(begun: bool) -> None:
    transfer = BlockTransfer(8)
    if begun:
        transfer.receive(Block(1, 0, b"x", False, True, 8).encode())
    with pytest.raises(RemoteProtocolError, match="nothing new"):
        for number in range(1 + begun, 4 * MAX_WINDOW):
            transfer.receive(Block(number, 0, b"", False, True, 8).encode())


def test_acknowledgements_that_go_back_and_forth_are_ended() -> None:
    transfer = BlockTransfer(8, 20)
    transfer.send(bytes(100))
    with pytest.raises(RemoteProtocolError, match="nothing new"):
        for turn in range(4 * MAX_WINDOW):
            transfer.receive(Block(1, 1 + turn % 2, b"", True, False, 8).encode())


def test_a_number_that_jumps_is_asked_for_again_and_not_taken() -> None:
    transfer = BlockTransfer(8)
    transfer.receive(Block(1, 0, b"a", False, False, 8).encode())
    for number in (3, 0, 0xFFFF, 1):
        [answer], whole = transfer.receive(Block(number, 0, b"z", True, False, 8).encode())
        assert whole is None
        assert Block.decode(answer).acknowledged == 1
    assert transfer.receive(Block(2, 0, b"b", True, False, 8).encode()) == ([], b"ab")


def test_blocks_without_end_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("meterbridge.dlms.block_transfer.MAX_APDU", 10_000)
    transfer = BlockTransfer(8)
    with pytest.raises(RemoteProtocolError, match="more than 10000"):
        for number in range(1, 200):
            transfer.receive(Block(number, 0, bytes(100), False, True, 8).encode())


@examples(1)
@given(
    st.lists(
        st.builds(
            Block,
            st.integers(0, 0xFFFF),
            st.integers(0, 0xFFFF),
            st.binary(max_size=5),
            st.booleans(),
            st.booleans(),
            st.integers(0, 63),
        ),
        max_size=30,
    ),
    st.booleans(),
)
def test_whatever_blocks_come_the_fault_is_the_peers(blocks: list[Block], sending: bool) -> None:
    transfer = BlockTransfer(8, 20)
    if sending:
        transfer.send(bytes(100))
    try:
        for block in blocks:
            due, whole = transfer.receive(block.encode())
            assert len(due) <= MAX_WINDOW
            assert whole != b""
    except RemoteProtocolError:
        pass


# ---- over HDLC, where the meter speaks when it is polled


def associated(parameters: HdlcParameters) -> tuple[ClientAssociation, HdlcServerLink]:
    client, server = client_address(1), server_address(1)
    association = ClientAssociation(HdlcLink(client, server, parameters), AssociationParameters())
    meter = HdlcServerLink(client, server, parameters)
    association.open()
    for _ in range(4):
        meter.receive_data(association.data_to_send())
        while (event := meter.next_event()) is not None:
            if isinstance(event, ApduReceived):
                meter.send(Aare(1, 0, 0, AGREED.encode()).encode())
        association.receive_data(meter.data_to_send())
        while (happened := association.next_event()) is not None:
            if isinstance(happened, AssociationOpened):
                return association, meter
    raise AssertionError("not associated")


def said(association: ClientAssociation, meter: HdlcServerLink, *apdus: bytes) -> list[object]:
    """Let the meter send APDUs one behind the other; what the association makes of them."""
    meter.receive_data(association.data_to_send())
    while meter.next_event() is not None:
        pass
    meter.send(*apdus)
    events: list[object] = []
    for _ in range(50):
        association.receive_data(meter.data_to_send())
        while (event := association.next_event()) is not None:
            events.append(event)
        asked = association.data_to_send()
        if not asked:
            return events
        meter.receive_data(asked)
        while meter.next_event() is not None:
            pass
    raise AssertionError("no end")


def answer(data: bytes, invoke_id: int = 1) -> bytes:
    return GetResponse(invoke_id, (data,)).encode()


@pytest.mark.parametrize("window", [1, 3, 7])
@pytest.mark.parametrize("size", [50, 400])
def test_a_meter_that_streams_blocks_over_hdlc_is_let_go_on(window: int, size: int) -> None:
    """Its frame ends its turn, its block says that more comes by itself: somebody has to poll."""
    association, meter = associated(HdlcParameters(128, 128, window, window))
    association.get((ANYTHING,))
    content = bytes(random.Random(size).randbytes(size * 8))
    whole = answer(encode(Data(DataType.OCTET_STRING, content)))
    parts = [whole[start : start + size] for start in range(0, len(whole), size)]
    blocks = [
        Block(number, 0, part, number == len(parts), number < len(parts), 8).encode()
        for number, part in enumerate(parts, 1)
    ]
    assert said(association, meter, *blocks) == [RequestCompleted((content,))]


@pytest.mark.parametrize(("window", "at_once"), [(1, 1), (4, 8), (7, 8)])
def test_a_long_request_goes_out_a_window_at_a_time(window: int, at_once: int) -> None:
    """With an HDLC window the meter takes its own window of blocks before it has to answer."""
    association, meter = associated(HdlcParameters(128, 128, window, window))
    association.set([(ANYTHING, Data(DataType.OCTET_STRING, bytes(1500)))])
    received, turns = BlockTransfer(8, 100), [0]
    for _ in range(200):
        meter.receive_data(association.data_to_send())
        while (event := meter.next_event()) is not None:
            if not isinstance(event, ApduReceived):
                continue
            turns[-1] += 1
            due, whole = received.receive(event.apdu)
            if due:
                meter.send(*due)
                turns.append(0)
        polled = meter.data_to_send()
        if whole is not None:
            break
        if not polled:
            meter.go_on()
            polled = meter.data_to_send()
        association.receive_data(polled)
        assert association.next_event() is None
    assert whole is not None
    assert whole[:2] == b"\xc1\x01"
    assert len(whole) > 1500
    assert turns[0] == 1
    assert max(turns) == at_once


def test_blocks_of_the_wrapper_need_no_poll() -> None:
    link = WrapperLink(1, 1)
    link.connect()
    link.go_on()
    assert link.data_to_send() == b""
    with pytest.raises(MeterError):
        link.send(b"x", bytes(0x10000))
