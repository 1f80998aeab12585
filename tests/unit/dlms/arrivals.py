"""The ways octets may arrive, and a frame check of the tests' own."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from meterbridge.dlms import Discarded, Frame, FrameDecoder

Arrival = Callable[[bytes], Iterator[bytes]]

NOISE = b"\x00\x55NEXERRORNO-1\r\n\xff"


def crc16_x25(octets: bytes) -> int:
    """Bit by bit, so that it shares no mistake with the library's."""
    register = 0xFFFF
    for octet in octets:
        register ^= octet
        for _ in range(8):
            register = register >> 1 ^ (0x8408 if register & 1 else 0)
    return register ^ 0xFFFF


def whole(octets: bytes) -> Iterator[bytes]:
    yield octets


def octet_by_octet(octets: bytes) -> Iterator[bytes]:
    for index in range(len(octets)):
        yield octets[index : index + 1]


def leading_noise(octets: bytes) -> Iterator[bytes]:
    yield NOISE + octets


def leading_broken_frame(octets: bytes) -> Iterator[bytes]:
    """The tail of a frame that began before we listened, its closing flag serving as no one's opening flag."""
    yield bytes.fromhex("0002ff16239902 7e") + octets


def trailing_octets(octets: bytes) -> Iterator[bytes]:
    yield octets + NOISE


def in_sevens(octets: bytes) -> Iterator[bytes]:
    for start in range(0, len(octets), 7):
        yield octets[start : start + 7]


ARRIVALS: tuple[Arrival, ...] = (
    whole,
    octet_by_octet,
    in_sevens,
    leading_noise,
    leading_broken_frame,
    trailing_octets,
)


def decoded(pieces: Iterator[bytes]) -> tuple[list[Frame], list[Discarded]]:
    """Everything a fresh decoder makes of some pieces."""
    decoder = FrameDecoder()
    frames: list[Frame] = []
    discarded: list[Discarded] = []
    for piece in pieces:
        decoder.receive_data(piece)
        while (event := decoder.next_event()) is not None:
            if isinstance(event, Frame):
                frames.append(event)
            else:
                discarded.append(event)
    return frames, discarded
