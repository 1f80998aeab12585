"""Client and server end of a link over a line that drops, repeats, damages and splits what is sent.

Whatever the line does: an APDU that arrives is the one that was sent, once and in order, and the link ends an exchange,
with the answer or without, after a bounded number of steps.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from meterbridge.dlms import (
    ApduReceived,
    Discarded,
    HdlcLink,
    HdlcParameters,
    HdlcServerLink,
    LinkOpened,
    WrapperLink,
    client_address,
    server_address,
)
from tests.unit.dlms.arrivals import NOISE
from tests.unit.dlms.strategies import examples, hdlc_parameters

CLIENT, SERVER = client_address(1), server_address(1, 17)
# Beyond a turn for each frame: what losses and repetitions may take.
MORE_TURNS = 400
SMALLEST_FRAME = 16


def frames_in(octets: bytes) -> list[bytes]:
    """Split what a link sends, which is clean, by its length fields."""
    parts = []
    while octets:
        end = ((octets[1] & 7) << 8 | octets[2]) + 2
        parts.append(octets[:end])
        octets = octets[end:]
    return parts


@dataclass
class Line:
    """A line between two ends; each probability is of one frame."""

    dice: random.Random
    drop: float = 0.0
    repeat: float = 0.0
    damage: float = 0.0
    noise: float = 0.0
    split: bool = False
    carried: int = 0

    def carry(self, octets: bytes) -> list[bytes]:
        arriving = []
        for frame in frames_in(octets):
            self.carried += 1
            if self.dice.random() < self.drop:
                continue
            if self.dice.random() < self.damage:
                damaged = bytearray(frame)
                damaged[self.dice.randrange(len(frame))] ^= 1 << self.dice.randrange(8)
                frame = bytes(damaged)
            if self.dice.random() < self.noise:
                frame = NOISE + frame
            arriving.append(frame)
            if self.dice.random() < self.repeat:
                arriving.append(frame)
        stream = b"".join(arriving)
        if not self.split:
            return [stream] if stream else []
        pieces = []
        while stream:
            size = self.dice.randrange(1, 40)
            pieces.append(stream[:size])
            stream = stream[size:]
        return pieces


@dataclass
class Exchange:
    """A client that asks and a server that answers what it heard, each over a line of its own mood."""

    client: HdlcLink
    server: HdlcServerLink
    line: Line
    heard: list[bytes] = field(default_factory=list)
    answers: dict[bytes, bytes] = field(default_factory=dict)

    def server_turn(self, pieces: list[bytes]) -> None:
        for piece in pieces:
            self.server.receive_data(piece)
            while (event := self.server.next_event()) is not None:
                if isinstance(event, ApduReceived):
                    self.heard.append(event.apdu)
                    self.server.send(self.answers[event.apdu])

    def until(self, wanted: type[LinkOpened] | type[ApduReceived]) -> LinkOpened | ApduReceived | None:
        """Let both ends talk until the client has its event; None when it gives up."""
        longest = max((len(said) + len(answer) for said, answer in self.answers.items()), default=0)
        most_turns = longest // SMALLEST_FRAME + MORE_TURNS
        for _ in range(most_turns):
            self.server_turn(self.line.carry(self.client.data_to_send()))
            arriving = self.line.carry(self.server.data_to_send())
            found: LinkOpened | ApduReceived | None = None
            for piece in arriving:
                self.client.receive_data(piece)
                while (event := self.client.next_event()) is not None:
                    if isinstance(event, wanted):
                        assert found is None
                        found = event
                    else:
                        assert isinstance(event, Discarded)
            if found is not None:
                return found
            pending = self.client.data_to_send()
            if pending:
                self.server_turn(self.line.carry(pending))
            elif not arriving and not self.client.handle_timeout():
                return None
        raise AssertionError(f"neither an answer nor an end after {most_turns} turns")


def made(label: bytes, size: int) -> bytes:
    """An APDU told from every other by each of its parts."""
    return (label * (size // len(label) + 1))[: max(size, len(label))]


def exchanges(ours: HdlcParameters, theirs: HdlcParameters, line: Line, sizes: list[tuple[int, int]]) -> int:
    """Run some exchanges and check them; return how many were answered before the link gave up."""
    pairs = [
        (made(b"request %d;" % index, request), made(b"answer to %d;" % index, answer))
        for index, (request, answer) in enumerate(sizes)
    ]
    talk = Exchange(HdlcLink(CLIENT, SERVER, ours), HdlcServerLink(CLIENT, SERVER, theirs), line, answers=dict(pairs))
    talk.client.connect()
    if talk.until(LinkOpened) is None:
        return 0
    answered = 0
    for request, answer in pairs:
        talk.client.send(request)
        event = talk.until(ApduReceived)
        # Never a wrong one, never one twice: what was heard is a prefix of what was said.
        assert talk.heard == [said for said, _ in pairs[: len(talk.heard)]]
        if event is None:
            break
        assert isinstance(event, ApduReceived)
        assert event.apdu == answer
        assert talk.heard[-1] == request
        answered += 1
    return answered


sizes = st.lists(st.tuples(st.integers(12, 3000), st.integers(12, 6000)), min_size=1, max_size=6)


@examples(0.6)
@given(hdlc_parameters, hdlc_parameters, sizes, st.integers(0, 2**32))
@example(HdlcParameters(16, 16, 1, 1), HdlcParameters(16, 16, 1, 1), [(3000, 6000)], 1)
def test_a_clean_line_answers_everything(
    ours: HdlcParameters, theirs: HdlcParameters, several: list[tuple[int, int]], seed: int
) -> None:
    line = Line(random.Random(seed), split=True)
    assert exchanges(ours, theirs, line, several) == len(several)


@examples(1.5)
@given(
    hdlc_parameters,
    hdlc_parameters,
    st.lists(st.tuples(st.integers(12, 400), st.integers(12, 1200)), min_size=1, max_size=6),
    st.sampled_from([0.0, 0.02, 0.1, 0.3]),
    st.sampled_from([0.0, 0.1, 0.5]),
    st.sampled_from([0.0, 0.02, 0.2]),
    st.sampled_from([0.0, 0.3]),
    st.booleans(),
    st.integers(0, 2**32),
)
def test_a_bad_line_never_brings_a_wrong_apdu_and_never_wedges(
    ours: HdlcParameters,
    theirs: HdlcParameters,
    several: list[tuple[int, int]],
    drop: float,
    repeat: float,
    damage: float,
    noise: float,
    split: bool,
    seed: int,
) -> None:
    exchanges(ours, theirs, Line(random.Random(seed), drop, repeat, damage, noise, split), several)


@pytest.mark.parametrize("window", range(1, 8))
@pytest.mark.parametrize("size", [16, 64, 128, 2030])
def test_a_line_that_loses_one_frame_in_twenty_answers_nearly_everything(window: int, size: int) -> None:
    parameters = HdlcParameters(size, size, window, window)
    answered = asked = 0
    for seed in range(8):
        line = Line(random.Random(seed * 100 + window), drop=0.05)
        answered += exchanges(parameters, parameters, line, [(size * 3, size * 6)] * 4)
        asked += 4
    assert answered >= asked * 0.9


@pytest.mark.parametrize("window", range(1, 8))
def test_repeated_frames_cost_nothing_but_themselves(window: int) -> None:
    """One answer repeated must not be answered, or each exchange after it is said twice, for ever."""
    parameters = HdlcParameters(64, 64, window, window)
    clean, twice = Line(random.Random(1)), Line(random.Random(1), repeat=1.0)
    sizes = [(40, 40)] * 20 + [(200, 600)] * 5
    assert exchanges(parameters, parameters, clean, sizes) == len(sizes)
    assert exchanges(parameters, parameters, twice, sizes) == len(sizes)
    # The server answers each repeated request, and the client none of those answers.
    assert twice.carried <= 2.5 * clean.carried


def test_one_spurious_time_out_does_not_double_the_traffic_that_follows() -> None:
    client, server = HdlcLink(CLIENT, SERVER), HdlcServerLink(CLIENT, SERVER)
    talk = Exchange(client, server, Line(random.Random(0)), answers={b"ask": b"told"})
    client.connect()
    assert talk.until(LinkOpened)
    client.send(b"ask")
    # The meter is slow, not deaf: the request is said again while its answer is under way.
    assert client.handle_timeout()
    assert talk.until(ApduReceived)
    before = talk.line.carried
    for _ in range(10):
        client.send(b"ask")
        assert talk.until(ApduReceived)
    assert talk.line.carried - before == 20


@examples(0.6)
@given(
    st.lists(st.binary(min_size=1, max_size=300), min_size=1, max_size=6),
    st.lists(st.sampled_from([b"", NOISE, b"\x00\x01", b"\x00", b"\x00\x01\x00\x01\x00\x01", b"\xff" * 20])),
    st.integers(1, 40),
)
def test_a_wrapper_finds_its_apdus_between_noise(apdus: list[bytes], noise: list[bytes], cut: int) -> None:
    ours, theirs = WrapperLink(1, 17), WrapperLink(17, 1)
    for link in (ours, theirs):
        link.connect()
        assert isinstance(link.next_event(), LinkOpened)
    stream = b""
    for index, apdu in enumerate(apdus):
        theirs.send(apdu)
        stream += (noise[index] if index < len(noise) else b"") + theirs.data_to_send()
    found: list[bytes] = []
    skipped = 0
    for start in range(0, len(stream), cut):
        ours.receive_data(stream[start : start + cut])
        while (event := ours.next_event()) is not None:
            if isinstance(event, ApduReceived):
                found.append(event.apdu)
            else:
                assert isinstance(event, Discarded)
                skipped += event.octets
    assert found == apdus
    assert skipped == sum(map(len, noise[: len(apdus)]))
