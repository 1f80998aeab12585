from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from meterbridge.dlms import Frame, FrameDecoder, HdlcParameters, client_address, server_address
from meterbridge.dlms.hdlc import MAX_FRAME, address_parts, fcs
from meterbridge.errors import LocalProtocolError, RemoteProtocolError
from tests.unit.dlms.arrivals import ARRIVALS, NOISE, Arrival, crc16_x25, decoded, octet_by_octet, whole
from tests.unit.dlms.strategies import addresses, examples, hdlc_parameters

frames: st.SearchStrategy[Frame] = st.builds(
    Frame,
    addresses,
    addresses,
    st.integers(0, 255),
    st.binary(max_size=60) | st.binary(max_size=60).map(lambda b: b"\x7e" + b + b"\x7e\x7e\xa0\x07\x7e"),
    st.booleans(),
)


def frame_whose(end: Callable[[bytes], bool]) -> Frame:
    """The first of a family of frames whose encoding satisfies a condition."""
    for number in range(1 << 20):
        frame = Frame(
            b"\x03", b"\x00\x02\x2c\x29", 0x52, b"\xe6\xe7\x00\xc4\x01\xc1\x00\x06" + number.to_bytes(4, "big")
        )
        if end(frame.encode()):
            return frame
    raise AssertionError("no such frame")


FCS_ENDS_IN_FLAG = frame_whose(lambda octets: octets[-2] == 0x7E)
FCS_BEGINS_WITH_FLAG = frame_whose(lambda octets: octets[-3] == 0x7E)
FCS_IS_TWO_FLAGS = frame_whose(lambda octets: octets[-3:-1] == b"\x7e\x7e")
HCS_ENDS_IN_FLAG = next(
    frame
    for control in range(0, 256, 2)
    for server in range(128)
    for frame in [Frame(b"\x03", bytes((server << 1, 0x23)), control, b"\xe6\xe7\x00\x7e")]
    if frame.encode()[8] == 0x7E
)
AWKWARD = {
    "fcs ends in a flag": FCS_ENDS_IN_FLAG,
    "fcs begins with a flag": FCS_BEGINS_WITH_FLAG,
    "fcs is two flags": FCS_IS_TWO_FLAGS,
    "hcs ends in a flag": HCS_ENDS_IN_FLAG,
    "flags inside": Frame(b"\x03", b"\x03", 0x30, b"\x7e\xa0\x07\x7e\x7e" * 5),
    "a whole frame inside": Frame(b"\x03", b"\x03", 0x30, Frame(b"\x03", b"\x03", 0x73).encode()),
    "no information": Frame(b"\x03", b"\x02\x23", 0x73),
    "longest": Frame(b"\x03", b"\x00\x02\x2c\x29", 0x30, bytes(2030)),
}


def test_frame_check_is_crc_16_x_25() -> None:
    assert crc16_x25(b"123456789") == 0x906E
    assert fcs(b"123456789") == 0x906E


@given(st.binary(max_size=100))
def test_frame_check_against_one_bit_by_bit(octets: bytes) -> None:
    assert fcs(octets) == crc16_x25(octets)


def test_a_frame_by_hand() -> None:
    octets = Frame(server_address(1), client_address(16), 0x93).encode()
    assert octets[:6] == bytes.fromhex("7ea007032193")
    assert octets[6:8] == crc16_x25(octets[1:6]).to_bytes(2, "little")
    assert octets[8:] == b"\x7e"


@examples(2)
@given(frames)
def test_frames_survive_the_wire(frame: Frame) -> None:
    octets = frame.encode()
    assert crc16_x25(octets[1:-3]) == int.from_bytes(octets[-3:-1], "little")
    assert decoded(whole(octets)) == ([frame], [])


@examples(0.6)
@given(st.lists(frames, max_size=5), st.data(), st.booleans())
def test_frames_survive_however_the_stream_is_cut(
    several: list[Frame], data: st.DataObject, shared_flags: bool
) -> None:
    octets = b"".join(frame.encode() for frame in several)
    if shared_flags:
        # One flag between two frames closes the one and opens the other.
        octets = b"".join(frame.encode()[:-1] for frame in several) + b"\x7e"
    cuts = sorted(data.draw(st.lists(st.integers(0, len(octets)), max_size=10)))
    pieces = [octets[start:end] for start, end in zip([0, *cuts], [*cuts, len(octets)], strict=True)]
    assert decoded(iter(pieces)) == (several, [])


@pytest.mark.parametrize("arrival", ARRIVALS)
@pytest.mark.parametrize("frame", AWKWARD.values(), ids=AWKWARD.keys())
def test_awkward_frames_however_they_arrive(frame: Frame, arrival: Arrival) -> None:
    found, _ = decoded(arrival(frame.encode()))
    assert found == [frame]


@pytest.mark.parametrize("frame", AWKWARD.values(), ids=AWKWARD.keys())
def test_a_frame_is_there_with_its_last_octet_not_with_its_flag(frame: Frame) -> None:
    """An FCS ending in 0x7E must not make the decoder wait for something more (a time-out in other stacks)."""
    decoder = FrameDecoder()
    octets = frame.encode()[:-1]
    decoder.receive_data(octets[:-1])
    assert decoder.next_event() is None
    decoder.receive_data(octets[-1:])
    assert decoder.next_event() == frame
    assert decoder.pending == 0


@examples(2)
@given(frames, st.data())
def test_a_damaged_octet_is_never_a_frame_and_costs_only_its_own(frame: Frame, data: st.DataObject) -> None:
    octets = bytearray(frame.encode())
    octets[data.draw(st.integers(1, len(octets) - 2))] ^= 1 << data.draw(st.integers(0, 7))
    good = Frame(b"\x03", b"\x03", 0x73)
    found, discarded = decoded(iter([bytes(octets), good.encode() * 800]))
    # A forged length may swallow what follows it only until its check fails: enough good frames always come through.
    assert set(found) <= {good} | ({_embedded(frame)} if _embedded(frame) else set())
    assert good in found
    assert sum(event.octets for event in discarded) > 0


def _embedded(frame: Frame) -> Frame | None:
    inner, _ = decoded(whole(frame.information))
    return inner[0] if inner else None


@examples(1.5)
@given(st.binary(max_size=400) | st.lists(st.sampled_from([0x7E, 0xA0, 0xA8, 0x03, 0x07, 0x10, 0xFF])).map(bytes))
@example(b"\x7e" * 400)
@example(b"\x7e\xa0" * 200)
@example(b"\x7e\xa7\xff" * 200)
def test_noise_raises_nothing_and_is_accounted_for(noise: bytes) -> None:
    decoder = FrameDecoder()
    taken = 0
    for piece in octet_by_octet(noise):
        decoder.receive_data(piece)
        while (event := decoder.next_event()) is not None:
            taken += len(event.encode()) - 1 if isinstance(event, Frame) else event.octets
        assert decoder.pending <= MAX_FRAME + 1
    assert taken + decoder.pending <= len(noise)
    assert taken + decoder.pending >= len(noise) - noise.count(0x7E)


@pytest.mark.parametrize("noise", [b"\x00", b"\x7e", b"\x7e\xa7", b"\x7e\xa7\xff\x03\x03\x10", NOISE, b"\x7e\xa0\x10"])
def test_noise_is_bounded_in_memory_and_time(noise: bytes) -> None:
    decoder = FrameDecoder()
    octets = noise * (200_000 // len(noise))
    started = time.process_time()
    for start in range(0, len(octets), 4096):
        decoder.receive_data(octets[start : start + 4096])
        while decoder.next_event() is not None:
            pass
        assert decoder.pending <= MAX_FRAME + 1
    assert time.process_time() - started < 2


def test_a_header_check_stops_a_false_start_at_once() -> None:
    """The forged length of 2047 octets must not be waited for."""
    good = Frame(b"\x03", b"\x03", 0x30, b"\xe6\xe7\x00")
    found, discarded = decoded(whole(bytes.fromhex("7ea7ff0303100000") + good.encode()))
    assert found == [good]
    assert discarded[0].reason == "header check sequence wrong"


def test_what_a_modem_says_is_noise() -> None:
    good = Frame(b"\x03", b"\x03", 0x73)
    found, discarded = decoded(iter([b"NEXERRORNO-1", good.encode()]))
    assert found == [good]
    assert [(event.octets, event.damaged) for event in discarded] == [(12, True)]


def test_clearing_forgets_half_a_frame() -> None:
    decoder = FrameDecoder()
    octets = Frame(b"\x03", b"\x03", 0x30, b"\xe6\xe7\x00abc").encode()
    decoder.receive_data(octets[:12])
    assert decoder.pending == 12
    assert decoder.clear() == 12
    decoder.receive_data(octets)
    assert isinstance(decoder.next_event(), Frame)


@pytest.mark.parametrize(
    ("logical", "physical", "size", "octets"),
    [
        (1, None, None, "03"),
        (127, None, None, "ff"),
        (1, 17, None, "0223"),
        (1, 2836, None, "00022c29"),
        (16383, 16383, None, "fefefeff"),
        (1, 17, 4, "00020023"),
        (1, None, 4, "00020001"),
        (300, None, None, "04580001"),
    ],
)
def test_server_addresses(logical: int, physical: int | None, size: int | None, octets: str) -> None:
    assert server_address(logical, physical, size).hex() == octets


@given(st.integers(0, 16383), st.integers(0, 16383))
def test_server_addresses_come_apart_again(logical: int, physical: int) -> None:
    octets = server_address(logical, physical)
    assert address_parts(octets) == (logical, physical)
    assert [octet & 1 for octet in octets] == [0] * (len(octets) - 1) + [1]


@pytest.mark.parametrize(
    ("logical", "physical", "size"),
    [(-1, None, None), (16384, None, None), (1, 16384, None), (1, 1, 1), (1, 1, 3), (128, 1, 2)],
)
def test_server_addresses_that_do_not_exist(logical: int, physical: int | None, size: int | None) -> None:
    with pytest.raises(LocalProtocolError):
        server_address(logical, physical, size)


def test_client_addresses() -> None:
    assert client_address(16) == b"\x21"
    for sap in (-1, 128):
        with pytest.raises(LocalProtocolError):
            client_address(sap)


def test_a_frame_too_long_for_its_length_field_is_our_fault() -> None:
    with pytest.raises(LocalProtocolError):
        Frame(b"\x03", b"\x03", 0x10, bytes(2040)).encode()


# ---- link parameters


@given(hdlc_parameters)
def test_link_parameters_survive_the_wire(parameters: HdlcParameters) -> None:
    assert HdlcParameters.decode(parameters.encode()) == parameters


@pytest.mark.parametrize(
    ("octets", "parameters"),
    [
        ("", HdlcParameters()),
        ("818014 050200f2 060200f2 070400000001 080400000001", HdlcParameters(242, 242, 1, 1)),
        # Some leave parts out, use one octet for windows, or name what we do not know.
        ("818003 050140", HdlcParameters(max_information_send=64)),
        ("818006 070104 080102", HdlcParameters(window_send=4, window_receive=2)),
        ("818006 090177 060140", HdlcParameters(max_information_receive=64)),
        # Out of range: brought into it.
        ("818010 05020000 0602ffff 070100 0801ff 0000", HdlcParameters(16, 2030, 1, 7)),
        ("818000", HdlcParameters()),
    ],
)
def test_link_parameters_as_meters_send_them(octets: str, parameters: HdlcParameters) -> None:
    assert HdlcParameters.decode(bytes.fromhex(octets)) == parameters


@pytest.mark.parametrize("octets", ["81", "8180", "820003050140", "818004 05044000", "00"])
def test_link_parameters_that_are_none(octets: str) -> None:
    with pytest.raises(RemoteProtocolError):
        HdlcParameters.decode(bytes.fromhex(octets))


@examples(2)
@given(st.binary(max_size=40).map(lambda b: b"\x81\x80" + b) | st.binary(max_size=10))
def test_arbitrary_link_parameters_are_refused_or_within_range(octets: bytes) -> None:
    try:
        parameters = HdlcParameters.decode(octets)
    except RemoteProtocolError:
        return
    assert 16 <= parameters.max_information_send <= 2030
    assert 1 <= parameters.window_receive <= 7


@pytest.mark.parametrize(
    "wrong",
    [{"max_information_send": 15}, {"max_information_receive": 2031}, {"window_send": 0}, {"window_receive": 8}],
)
def test_link_parameters_out_of_range_are_our_fault(wrong: dict[str, int]) -> None:
    with pytest.raises(LocalProtocolError):
        HdlcParameters(**wrong)
