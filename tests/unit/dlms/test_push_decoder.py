"""The whole way from octets to values, on frames of our own making: every framing, every arrival, every mishap."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterable, Iterator
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meterbridge.dlms import Frame, Keys, SecurityPolicy
from meterbridge.dlms.acse import Aare, Aarq, ApplicationContext, Mechanism
from meterbridge.dlms.block_transfer import Block
from meterbridge.dlms.ciphering import cipher_apdu
from meterbridge.dlms.counters import ReceivedCounters
from meterbridge.dlms.general_ciphering import make_general_ciphering
from meterbridge.dlms.hdlc_station import LLC_COMMAND, LLC_RESPONSE
from meterbridge.dlms.push_decoder import Decoded, KeyRing, PushDecoder
from meterbridge.dlms.reception import Framing, Reception, Refused
from meterbridge.dlms.security import SecurityContext
from meterbridge.dlms.signing import GeneralHeader
from meterbridge.meter.catalogue.push import load_layouts
from tests.unit.dlms import pushes
from tests.unit.dlms.arrivals import ARRIVALS, NOISE, Arrival, octet_by_octet, whole
from tests.unit.dlms.pushes import (
    KEYS,
    TITLE,
    ciphered,
    in_blocks,
    in_hdlc,
    in_mbus,
    in_wrapper,
    meaning,
    notification,
)
from tests.unit.dlms.strategies import examples

PLAIN = notification(pushes.AIDON, pushes.TIME)
VALUES = {
    "1-1:0.2.129": ("AIDON_V0001", None),
    "1-0:1.7.0": (1362, "W"),
    "1-0:31.7.0": (-9.3, "A"),
    "1-0:32.7.0": (250.0, "V"),
}
LONG = notification(pushes.array(*pushes.AIDON.value * 8), pushes.TIME)
RING = KeyRing({TITLE: KEYS})


def received(
    pieces: Iterable[bytes],
    ring: KeyRing | None = None,
    framing: Framing | None = None,
    counters: ReceivedCounters | None = None,
    max_apdu: int = 1 << 16,
) -> list[Decoded | Refused]:
    decoder = PushDecoder(Reception(framing, max_apdu), ring, load_layouts(), counters)
    events = []
    for piece in pieces:
        decoder.receive_data(piece)
        while (event := decoder.next_event()) is not None:
            events.append(event)
    decoder.end()
    while (event := decoder.next_event()) is not None:
        events.append(event)
    return events


def good(events: Iterable[Decoded | Refused]) -> list[Decoded]:
    return [event for event in events if isinstance(event, Decoded) and event.error is None]


def numbered(apdu: bytes, size: int) -> list[bytes]:
    """I frames, segmented."""
    information = LLC_RESPONSE + apdu
    starts = range(0, len(information), size)
    return [
        Frame(
            pushes.CLIENT, pushes.SERVER, index % 8 << 1, information[start : start + size], start != starts[-1]
        ).encode()
        for index, start in enumerate(starts)
    ]


FRAMES = {
    "hdlc": (Framing.HDLC, in_hdlc(PLAIN)),
    "hdlc, segmented": (Framing.HDLC, in_hdlc(PLAIN, size=30)),
    "hdlc, numbered": (Framing.HDLC, numbered(PLAIN, size=30)),
    "hdlc, as a command": (Framing.HDLC, in_hdlc(PLAIN, llc=LLC_COMMAND)),
    "hdlc, in blocks": (Framing.HDLC, in_blocks(PLAIN, size=40)),
    "mbus": (Framing.MBUS, in_mbus(PLAIN)),
    "mbus, segmented": (Framing.MBUS, in_mbus(PLAIN, size=30)),
    "wrapper": (Framing.WRAPPER, [in_wrapper([PLAIN])]),
    "wrapper, in blocks": (
        Framing.WRAPPER,
        [
            in_wrapper([Block(1, 0, PLAIN[:50], False, True, 0).encode()]),
            in_wrapper([Block(2, 0, PLAIN[50:], True, False, 0).encode()]),
        ],
    ),
}  # fmt: skip


@pytest.mark.parametrize("told", [True, False], ids=["framing told", "framing found out"])
@pytest.mark.parametrize("arrival", ARRIVALS)
@pytest.mark.parametrize("which", FRAMES)
def test_a_push_is_decoded_however_it_is_framed_and_arrives(which: str, arrival: Arrival, told: bool) -> None:
    framing, frames = FRAMES[which]
    octets = b"".join(frames)
    events = received(arrival(octets + octets), framing=framing if told else None)
    assert [(push.framing, push.apdu, push.time) for push in good(events)] == [
        (framing, "data-notification", pushes.TIME)
    ] * 2
    assert [meaning(push.values) for push in good(events)] == [VALUES] * 2
    bad = [event for event in events if isinstance(event, Decoded) and event.error is not None]
    assert bad == []


def test_a_bare_apdu() -> None:
    for pieces in (whole(PLAIN), octet_by_octet(PLAIN)):
        [push] = received(pieces)
        assert isinstance(push, Decoded)
        assert (push.framing, push.offset, meaning(push.values)) == (Framing.RAW, 0, VALUES)


@pytest.mark.parametrize("which", FRAMES)
def test_offsets_are_where_frames_begin(which: str) -> None:
    framing, frames = FRAMES[which]
    octets = b"".join(frames)
    events = received(octet_by_octet(NOISE + octets + octets), framing=framing)
    assert [push.offset for push in good(events)] == [len(NOISE), len(NOISE) + len(octets)]


@pytest.mark.parametrize(
    "frames",
    [numbered(PLAIN, size=30), in_blocks(PLAIN, size=40), in_mbus(PLAIN, size=30)],
    ids=["hdlc segments", "blocks", "mbus segments"],
)
def test_with_any_frame_missing_nothing_is_made_up(frames: list[bytes]) -> None:
    for missing in range(len(frames)):
        events = received(octet_by_octet(b"".join(frames[:missing] + frames[missing + 1 :] + frames)))
        assert [meaning(push.values) for push in good(events)] == [VALUES]
        assert len(events) > 1


def test_unnumbered_segments_with_one_damaged_are_given_up() -> None:
    # Without its second segment, this very APDU would read as other values.
    frames = in_hdlc(PLAIN, size=30)
    for broken in range(len(frames)):
        damaged = bytearray(frames[broken])
        damaged[-5] ^= 1
        stream = [*frames[:broken], bytes(damaged), *frames[broken + 1 :], *frames]
        for arrival in (whole, octet_by_octet):
            events = received(arrival(b"".join(stream)))
            assert [meaning(push.values) for push in good(events)] == [VALUES]
            assert all(isinstance(event, Refused) or event.error is None for event in events)


def test_an_end_in_the_middle_is_said() -> None:
    frames = in_hdlc(PLAIN, size=30)
    assert received(frames[:-1]) == [Refused(Framing.HDLC, 0, "the end of the APDU is missing")]
    events = received([b"".join(frames)[:-40]])
    assert [event.reason for event in events if isinstance(event, Refused)] == [
        "an APDU with damaged octets between its segments",
        "the end of the frame is missing",
    ]
    assert good(events) == []


@pytest.mark.parametrize(
    "frames", [in_hdlc(LONG), in_mbus(LONG), [in_wrapper([LONG])]], ids=["hdlc", "mbus", "wrapper"]
)
def test_a_frame_cut_short_does_not_take_the_last_one_along(frames: list[bytes]) -> None:
    short = {0x7E: in_hdlc, 0x68: in_mbus}.get(frames[0][0], lambda apdu: [in_wrapper([apdu])])(PLAIN)
    cut = frames[0][:60]
    for arrival in (whole, octet_by_octet):
        events = received(arrival(b"".join(short) + cut + b"".join(short)))
        assert [(push.offset, meaning(push.values)) for push in good(events)] == [
            (0, VALUES),
            (len(b"".join(short)) + len(cut), VALUES),
        ]
        assert "the end of the frame is missing" in [event.reason for event in events if isinstance(event, Refused)]


def test_a_damaged_frame_is_refused_with_its_place_and_decoding_goes_on() -> None:
    [frame] = in_hdlc(PLAIN)
    damaged = bytearray(frame)
    damaged[40] ^= 1
    events = received(octet_by_octet(frame + bytes(damaged) + frame))
    assert [push.offset for push in good(events)] == [0, 2 * len(frame)]
    [refused] = [event for event in events if isinstance(event, Refused)]
    assert (refused.offset, refused.reason) == (len(frame), "frame check sequence wrong")
    assert len(frame) - 2 <= refused.octets <= len(frame)


def test_hdlc_frames_that_carry_nothing_are_named() -> None:
    receive_ready = Frame(pushes.CLIENT, pushes.SERVER, 0x11).encode()
    events = received([receive_ready + in_hdlc(PLAIN)[0]])
    assert [(event.reason, event.harmless) for event in events if isinstance(event, Refused)] == [
        ("HDLC RR frame: it carries no APDU", True)
    ]
    assert len(good(events)) == 1


# ---- ciphering


@pytest.mark.parametrize("policy", [SecurityPolicy.AUTHENTICATED, SecurityPolicy.ENCRYPTED, SecurityPolicy.BOTH])
@pytest.mark.parametrize("frame", [in_hdlc, in_blocks, in_mbus])
def test_a_ciphered_push(frame: object, policy: SecurityPolicy) -> None:
    frames = frame(ciphered(LONG, counter=77, policy=policy))  # type: ignore[operator]
    [push] = received(octet_by_octet(b"".join(frames)), RING)
    assert isinstance(push, Decoded)
    assert (push.error, push.apdu, push.system_title, push.invocation_counter) == (
        None,
        "data-notification",
        TITLE,
        77,
    )
    assert len(push.values) == 32


def test_without_keys_it_is_reported_as_ciphered() -> None:
    for ring in (None, KeyRing({b"OTHER123": KEYS})):
        [push] = received([b"".join(in_hdlc(ciphered(PLAIN, 5)))], ring)
        assert isinstance(push, Decoded)
        assert (push.apdu, push.system_title, push.invocation_counter) == ("general-glo-ciphering", TITLE, 5)
        assert push.error == f"the APDU is ciphered, and the key of {TITLE.hex().upper()} is not known"
        assert push.values == {}


@pytest.mark.parametrize(
    ("keys", "error"),
    [
        (Keys(encryption=KEYS.encryption), "an authenticated APDU needs the authentication key"),
        (Keys(authentication=KEYS.authentication), "ciphered with the encryption key, which is not known"),
        (Keys(bytes(16), KEYS.authentication), "authentication tag of the APDU with invocation counter 1 is wrong"),
        (Keys(KEYS.encryption, bytes(16)), "authentication tag of the APDU with invocation counter 1 is wrong"),
    ],
)
def test_wrong_keys_are_said_and_never_shown(keys: Keys, error: str) -> None:
    [push] = received([b"".join(in_hdlc(ciphered(PLAIN)))], KeyRing(default=keys))
    assert isinstance(push, Decoded)
    assert error in str(push.error)
    for key in (keys.encryption, keys.authentication):
        assert key is None or key.hex() not in repr((push, keys)).lower()


@given(st.integers(0, 10_000), st.integers(1, 255))
@examples(0.5)
def test_a_flipped_octet_of_an_authenticated_push_gives_no_values(position: int, flip: int) -> None:
    apdu = bytearray(ciphered(PLAIN))
    apdu[position % len(apdu)] ^= flip
    for event in received([bytes(apdu)], RING, Framing.RAW):
        assert isinstance(event, Refused) or (event.error is not None and not event.values)


def test_a_push_said_again_is_taken_once_where_counters_are_kept() -> None:
    counters = ReceivedCounters()
    first, second = (b"".join(in_hdlc(ciphered(PLAIN, counter))) for counter in (8, 9))
    events = received([first, second, second, first], RING, counters=counters)
    assert [push.invocation_counter for push in good(events)] == [8, 9]
    assert [event.error for event in events if isinstance(event, Decoded)][2:] == [
        "invocation counter 9 after 9: an APDU said again is not taken",
        "invocation counter 8 after 9: an APDU said again is not taken",
    ]
    # A forged counter does not shut the meter out: its tag is wrong.
    forged = bytearray(ciphered(PLAIN, 10))
    forged[12:16] = b"\xff" * 4
    events = received([bytes(forged)], RING, Framing.RAW, counters)
    assert good(events) == []
    assert len(good(received([ciphered(PLAIN, 10)], RING, Framing.RAW, counters))) == 1


def test_general_ciphering_and_layers_of_it() -> None:
    context = SecurityContext(TITLE, KEYS, general=True)
    header = GeneralHeader(b"\x01", TITLE, b"HEADEND1")
    for header_authenticated in (True, False):
        apdu = make_general_ciphering(PLAIN, context, 3, header, header_authenticated=header_authenticated).encode()
        [push] = received([apdu], RING)
        assert isinstance(push, Decoded)
        assert (push.error, push.invocation_counter, meaning(push.values)) == (None, 3, VALUES)
    deep = PLAIN
    for counter in range(5):
        deep = ciphered(deep, counter)
    [push] = received([deep], RING, Framing.RAW)
    assert isinstance(push, Decoded)
    assert push.error is not None


def test_the_titles_of_an_association_open_its_apdus() -> None:
    server = SecurityContext(TITLE, KEYS)
    client = SecurityContext(b"CLIENT01", KEYS)
    get = bytes.fromhex("C001C1000301000108 00FF0200")
    answer = bytes.fromhex("C401C1000600001234")
    trace = in_wrapper(
        [
            Aarq(ApplicationContext.LN_CIPHERED, b"\x21\x05", Mechanism.LLS, b"secret99", b"CLIENT01").encode(),
            Aare(3, 0, system_title=TITLE).encode(),
            cipher_apdu(get, client, 1),
            cipher_apdu(answer, server, 2),
        ]
    )
    events = received([trace], KeyRing(default=KEYS))
    assert [push.apdu for push in good(events)] == ["aarq", "aare", "get-request", "get-response"]
    assert "secret99" not in repr([push.fields for push in good(events)])


# ---- whatever comes

SHARDS = st.sampled_from(
    [
        *in_hdlc(PLAIN, size=30),
        *in_blocks(ciphered(PLAIN), size=60),
        *in_mbus(PLAIN, size=40),
        in_wrapper([PLAIN]),
        NOISE,
        b"\x7e",
        b"\x68\x68",
        b"\x00\x01",
    ]
)


@given(
    st.lists(st.one_of(SHARDS, st.binary(max_size=40)), max_size=12),
    st.sampled_from([None, *Framing]),
    st.integers(1, 50),
)
@examples(0.5)
def test_whatever_comes_nothing_raises(shards: list[bytes], framing: Framing | None, size: int) -> None:
    octets = b"".join(shards)
    pieces = (octets[start : start + size] for start in range(0, len(octets), size))
    for event in received(pieces, RING, framing):
        assert event.offset >= 0
        assert isinstance(event, Decoded) or event.reason


@given(st.binary(max_size=200))
def test_any_octets_as_an_apdu_give_fields_or_a_reason(octets: bytes) -> None:
    for event in received([octets], RING, Framing.RAW):
        assert isinstance(event, Decoded)
        assert (event.fields is None) == (event.error is not None)


def endless(shard: bytes, octets: int) -> Iterator[bytes]:
    piece = shard * (4096 // len(shard) + 1)
    for _ in range(octets // len(piece)):
        yield piece


@pytest.mark.parametrize(
    "shard",
    [
        NOISE,
        b"\x7e",
        b"\x68",
        b"\x68\xff\xff\x68",
        b"\x00\x01\x00\x01\x00\x67\xff\xff\x0f",
        b"\x7e\xa7\xff",
        in_hdlc(LONG, size=30)[0],
        in_blocks(LONG, size=60)[0],
        in_mbus(LONG, size=60)[0],
        in_mbus(LONG, size=60)[1],
    ],
    ids=lambda shard: shard[:6].hex(),
)
def test_memory_stays_bounded_on_an_endless_stream(shard: bytes) -> None:
    decoder = PushDecoder(Reception(None, 4096, bare=False))
    tracemalloc.start()
    try:
        for piece in endless(shard, 100_000):
            decoder.receive_data(piece)
            while decoder.next_event() is not None:
                pass
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 200_000


def in_stretches(octets: bytes, framing: Framing | None) -> tuple[list[Decoded | Refused], int]:
    """What is received of octets fed in the largest pieces that leave offsets exact, and how many those were."""
    reception = Reception(framing)
    decoder = PushDecoder(reception)
    events: list[Decoded | Refused] = []
    position = number = 0
    while position < len(octets):
        size = decoder.stretch(octets, position)
        assert size >= 1
        decoder.receive_data(octets[position : position + size])
        position += size
        number += 1
        while (event := decoder.next_event()) is not None:
            events.append(event)
    decoder.end()
    while (event := decoder.next_event()) is not None:
        events.append(event)
    return events, number


SHORT = notification(pushes.structure(pushes.u16(7), pushes.text("seven")), pushes.TIME)
SHORT_FRAMES = (
    *in_hdlc(SHORT),
    *in_hdlc(SHORT, size=20),
    *in_mbus(SHORT),
    *in_mbus(SHORT, size=9),
    in_wrapper([SHORT]),
    SHORT,
)
OPENINGS = tuple(
    map(bytes.fromhex, ("7e", "7e7e", "7ea0", "7ea00a", "68040468", "68", "00010001000100090f", "00", "0001"))
)
PIECES = st.one_of(
    st.binary(max_size=20),
    st.builds(lambda frame, cut: frame[: len(frame) - cut], st.sampled_from(SHORT_FRAMES), st.integers(0, 12)),
    st.sampled_from(OPENINGS),
)


@examples(0.5)
@given(st.lists(PIECES, max_size=6).map(b"".join), st.sampled_from((None, *Framing)))
def test_stretches_tell_the_same_as_octet_by_octet(octets: bytes, framing: Framing | None) -> None:
    decoder = PushDecoder(Reception(framing))
    expected: list[Decoded | Refused] = []
    for octet in octet_by_octet(octets):
        decoder.receive_data(octet)
        while (event := decoder.next_event()) is not None:
            expected.append(event)
    decoder.end()
    while (event := decoder.next_event()) is not None:
        expected.append(event)
    assert in_stretches(octets, framing)[0] == expected


def test_noise_by_the_megabyte_is_taken_in_long_stretches() -> None:
    """64 MiB of it, the most that `decode` takes, end in minutes and not in hours."""
    noise = Random(7).randbytes(300_000)
    events, number = in_stretches(noise, None)
    assert number < len(noise) / 15
    assert not any(isinstance(event, Decoded) for event in events)
    assert in_stretches(bytes(range(1, 0x60)) * 1000, None)[1] == 1


def test_an_apdu_larger_than_allowed_is_refused() -> None:
    events = received(in_hdlc(LONG, size=100), max_apdu=200)
    assert good(events) == []
    assert "an APDU of more than 200 octets" in [event.reason for event in events if isinstance(event, Refused)]
    [refused] = received([LONG], max_apdu=200)
    assert isinstance(refused, Refused)
    assert refused.reason == "an APDU of more than 200 octets"
