"""M-Bus long frames: encoded, taken out of streams, and put together to APDUs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meterbridge.dlms import Discarded
from meterbridge.dlms.mbus import BROADCAST, SEND_USER_DATA, LongFrame, LongFrameDecoder, transport_frames
from meterbridge.dlms.reassembly import TransportSegments
from meterbridge.errors import LocalProtocolError
from tests.unit.dlms.arrivals import ARRIVALS, NOISE, Arrival, octet_by_octet

frames = st.builds(LongFrame, st.integers(0, 255), st.integers(0, 255), st.integers(0, 255), st.binary(max_size=252))


def taken(pieces: object) -> tuple[list[LongFrame], list[Discarded]]:
    decoder = LongFrameDecoder()
    found: list[LongFrame] = []
    discarded: list[Discarded] = []
    for piece in pieces:  # type: ignore[attr-defined]
        decoder.receive_data(piece)
        assert decoder.pending <= 261
        while (event := decoder.next_event()) is not None:
            if isinstance(event, LongFrame):
                found.append(event)
            else:
                discarded.append(event)
    return found, discarded


def test_the_octets_of_a_frame_by_hand() -> None:
    frame = LongFrame(SEND_USER_DATA, BROADCAST, 0x10, bytes.fromhex("0167DB"))
    # 53 + FF + 10 + 01 + 67 + DB = 2A5
    assert frame.encode() == bytes.fromhex("680606 68 53FF10 0167DB A5 16")
    assert (frame.is_transport, frame.final, frame.sequence) == (True, True, 0)


@given(frames)
def test_encoded_and_decoded_it_is_the_same(frame: LongFrame) -> None:
    assert taken(octet_by_octet(frame.encode())) == ([frame], [])


@pytest.mark.parametrize("arrival", ARRIVALS)
def test_frames_are_found_however_they_arrive(arrival: Arrival) -> None:
    sent = [LongFrame(0x53, 0xFF, 0x00, b"\x01\x67" + b"\x68\x16" * 20), LongFrame(0x53, 1, 0x11, b"\x01\x67\x68\x68")]
    found, _ = taken(arrival(b"".join(frame.encode() for frame in sent)))
    assert found == sent


@given(frames, st.integers(0, 300), st.integers(1, 255))
def test_a_flipped_octet_never_gives_that_frame_and_never_hides_the_next(
    frame: LongFrame, position: int, flip: int
) -> None:
    octets = bytearray(frame.encode())
    position %= len(octets)
    octets[position] ^= flip
    after = LongFrame(0x53, 0xFF, 0x10, b"\x01\x67whole")
    # A damaged length may claim what follows, up to one whole frame: then it is the second that is found.
    found, discarded = taken(octet_by_octet(bytes(octets) + after.encode() * 20))
    assert frame not in found
    assert after in found
    assert discarded


def test_a_false_start_costs_itself_only() -> None:
    frame = LongFrame(0x53, 0xFF, 0x10, b"\x01\x67\x0f")
    found, discarded = taken(octet_by_octet(b"\x68\x10\x10\x68" + NOISE[:3] + frame.encode() + bytes(20)))
    assert found == [frame]
    assert discarded[0] == Discarded("M-Bus checksum or stop octet wrong", 1)


@given(st.lists(st.binary(max_size=64), max_size=20))
def test_whatever_comes_it_does_not_raise_and_stays_small(pieces: list[bytes]) -> None:
    decoder = LongFrameDecoder()
    for piece in pieces:
        decoder.receive_data(piece)
        assert decoder.pending <= 261
    # One frame's worth of octets that are no start, and it is in step again.
    decoder.receive_data(bytes(262))
    frame = LongFrame(1, 2, 3, b"in step")
    decoder.receive_data(frame.encode())
    events = []
    while (event := decoder.next_event()) is not None:
        events.append(event)
    assert frame in events


def test_what_does_not_fit_is_our_own_fault() -> None:
    with pytest.raises(LocalProtocolError, match="does not take 253 octets"):
        LongFrame(0, 0, 0, bytes(253)).encode()
    with pytest.raises(LocalProtocolError, match="does not fit sixteen segments"):
        transport_frames(bytes(17), 1, 0x67, size=1)
    with pytest.raises(LocalProtocolError, match=r"outside 1\.\.250"):
        transport_frames(b"", 1, 0x67, size=251)


@given(st.binary(max_size=1000), st.integers(63, 250))
def test_an_apdu_comes_back_together(apdu: bytes, size: int) -> None:
    segments = TransportSegments(2000)
    whole = [segments.take(frame, 7 + i) for i, frame in enumerate(transport_frames(apdu, 1, 0x67, size=size))]
    assert [part.apdu for part in whole[:-1]] == [None] * (len(whole) - 1)
    assert (whole[-1].apdu, whole[-1].offset) == (apdu, 7)
    assert segments.incomplete == []


def test_a_missing_segment_gives_the_apdu_up_with_a_reason() -> None:
    first, second, third = transport_frames(bytes(range(30)), 1, 0x67, size=10)
    segments = TransportSegments(100)
    assert segments.take(second, 0).reasons == ("M-Bus segment 1 whose beginning is missing",)
    assert segments.take(first, 1).reasons == ()
    assert segments.take(third, 2).reasons == ("M-Bus segment 2 where 1 is due",)
    assert segments.take(first, 3).reasons == ()
    assert segments.take(first, 4).reasons == ("an APDU whose end never came",)
    assert segments.take(second, 5).apdu is None
    assert segments.take(third, 6).apdu == bytes(range(30))


def test_two_senders_do_not_mix() -> None:
    ours, theirs = transport_frames(bytes(30), 1, 0x67, size=20), transport_frames(b"\x01" * 30, 2, 0x67, size=20)
    segments = TransportSegments(100)
    assert segments.take(ours[0], 0).apdu is None
    assert segments.take(theirs[0], 1).apdu is None
    assert segments.take(ours[1], 2).apdu == bytes(30)
    assert segments.take(theirs[1], 3).apdu == b"\x01" * 30


def test_more_than_allowed_is_given_up() -> None:
    first, second = transport_frames(bytes(400), 1, 0x67)
    segments = TransportSegments(300)
    assert segments.take(first, 0).apdu is None
    assert segments.take(second, 1).reasons == ("an APDU of more than 300 octets",)
    assert segments.incomplete == []


def test_a_frame_of_another_application_carries_no_apdu() -> None:
    segments = TransportSegments(300)
    assert segments.take(LongFrame(0x08, 1, 0x72, bytes(12)), 0).reasons == (
        "M-Bus frame with CI 0x72: it carries no APDU",
    )
