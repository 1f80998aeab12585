"""The client end of a link against frames that are whole and must not be: sequence numbers of nothing that was sent."""

from __future__ import annotations

import pytest

from meterbridge.dlms import (
    ApduReceived,
    Discarded,
    Frame,
    HdlcLink,
    HdlcServerLink,
    LinkOpened,
    client_address,
    server_address,
)
from meterbridge.dlms.hdlc import POLL_FINAL

CLIENT, SERVER = client_address(1), server_address(1)
RR = 1


def answered(control: int, information: bytes = b"") -> bytes:
    return Frame(CLIENT, SERVER, control | POLL_FINAL, information).encode()


@pytest.fixture
def link() -> HdlcLink:
    """One that is open and has just asked."""
    client, server = HdlcLink(CLIENT, SERVER), HdlcServerLink(CLIENT, SERVER)
    client.connect()
    server.receive_data(client.data_to_send())
    while server.next_event() is not None:
        pass
    client.receive_data(server.data_to_send())
    assert isinstance(client.next_event(), LinkOpened)
    client.send(b"ask")
    assert client.data_to_send()
    return client


@pytest.mark.parametrize("number", range(2, 8))
@pytest.mark.parametrize("information", [b"\xe6\xe7\x00lie", b""])
def test_an_acknowledgement_of_frames_never_sent_is_set_aside(link: HdlcLink, number: int, information: bytes) -> None:
    link.receive_data(answered(number << 5 | (0 if information else RR), information))
    event = link.next_event()
    assert isinstance(event, Discarded)
    assert f"N(R)={number} for frames never sent" in event.reason
    assert link.next_event() is None
    # Nothing was acknowledged by it: the request can be repeated, and its answer is taken.
    assert not link.delivered
    assert link.handle_timeout()
    link.data_to_send()
    link.receive_data(answered(1 << 5, b"\xe6\xe7\x00told"))
    heard = link.next_event()
    assert isinstance(heard, ApduReceived)
    assert heard.apdu == b"told"


@pytest.mark.parametrize("number", range(1, 8))
def test_information_out_of_turn_is_set_aside(link: HdlcLink, number: int) -> None:
    link.receive_data(answered(1 << 5 | number << 1, b"\xe6\xe7\x00lie"))
    event = link.next_event()
    assert isinstance(event, Discarded)
    assert f"N(S)={number} where 0 is due" in event.reason
    assert link.next_event() is None
    link.receive_data(answered(1 << 5, b"\xe6\xe7\x00told"))
    heard = link.next_event()
    assert isinstance(heard, ApduReceived)
    assert heard.apdu == b"told"
