"""Octets that physical meters sent, from ../shared/vectors: none of them is copied into the repository."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from meterbridge.dlms import (
    AssociationOpened,
    AssociationParameters,
    ClientAssociation,
    Conformance,
    Frame,
    HdlcLink,
    LinkOpened,
    client_address,
    server_address,
)
from meterbridge.dlms.acse import Aare, InitiateResponse
from meterbridge.dlms.hdlc_station import LLC_RESPONSE
from meterbridge.errors import AuthenticationFailed, ServiceError
from tests.unit.dlms.arrivals import ARRIVALS, Arrival, crc16_x25, decoded, octet_by_octet, whole

# Frames in each dump.
PUSHES = {
    "hdlc_iskra550": 3,
    "hdlc_kaifa_ma304h3e": 1,
    "hdlc_kamstrup_omnipower": 1,
    "hdlc_landis_gyr_e450": 3,
    "hdlc_lgz_e450_2": 3,
    "hdlc_norway_han_1phase": 1,
    "hdlc_norway_han_3phase": 1,
}
SEGMENTED = {"hdlc_iskra550"}
DAMAGED = "hdlc_landis_gyr_zmf100"


@pytest.fixture(scope="module")
def vectors(shared: Path) -> Path:
    return shared / "vectors"


def dump(vectors: Path, name: str) -> bytes:
    return bytes.fromhex(re.sub(r"[^0-9a-fA-F]", "", (vectors / "push" / f"{name}.log").read_text()))


def by_length(octets: bytes) -> list[bytes]:
    """Split a clean dump by its length fields alone."""
    parts = []
    while octets:
        end = ((octets[1] & 7) << 8 | octets[2]) + 2
        parts.append(octets[:end])
        octets = octets[end:]
    return parts


def single_frame(vectors: Path, what: str) -> bytes:
    for line in (vectors / "README.md").read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("|") and what in line and cells[0].startswith("`"):
            return bytes.fromhex(cells[0].split("`")[1])
    raise AssertionError(f"{what} is not in the table of single frames")


def test_every_dump_of_the_folder_is_known_here(vectors: Path) -> None:
    found = {path.stem for path in (vectors / "push").glob("hdlc_*.log")}
    assert found == {*PUSHES, DAMAGED}


@pytest.mark.parametrize("arrival", ARRIVALS)
@pytest.mark.parametrize("name", PUSHES)
def test_a_push_splits_into_its_frames_however_it_arrives(vectors: Path, name: str, arrival: Arrival) -> None:
    octets = dump(vectors, name)
    parts = by_length(octets)
    assert len(parts) == PUSHES[name]
    assert all(crc16_x25(part[1:-3]) == int.from_bytes(part[-3:-1], "little") for part in parts)
    frames, _ = decoded(arrival(octets))
    assert [frame.encode() for frame in frames] == parts
    assert [frame.segmented for frame in frames] == ([True, True, False] if name in SEGMENTED else [False] * len(parts))
    assert frames[0].information[:2] == b"\xe6\xe7"


@pytest.mark.parametrize("name", [name for name, count in PUSHES.items() if count > 1])
def test_a_push_with_a_frame_missing_keeps_the_others(vectors: Path, name: str) -> None:
    parts = by_length(dump(vectors, name))
    for missing in range(len(parts)):
        rest = parts[:missing] + parts[missing + 1 :]
        frames, discarded = decoded(octet_by_octet(b"".join(rest)))
        assert [frame.encode() for frame in frames] == rest
        assert discarded == []
        # Cut in the middle instead: the frames before it stand, and those behind it are found again.
        half = [*parts[:missing], parts[missing][: len(parts[missing]) // 2], *parts[missing + 1 :], *parts]
        frames, _ = decoded(whole(b"".join(half)))
        assert {frame.encode() for frame in frames} == set(parts)


@pytest.mark.parametrize("arrival", ARRIVALS)
def test_the_push_whose_frame_check_fails_is_refused(vectors: Path, arrival: Arrival) -> None:
    frames, discarded = decoded(arrival(dump(vectors, DAMAGED)))
    assert frames == []
    assert "frame check sequence wrong" in [event.reason for event in discarded]


@pytest.mark.parametrize("arrival", ARRIVALS)
def test_0x7e_inside_a_frame_is_legal(vectors: Path, arrival: Arrival) -> None:
    octets = single_frame(vectors, "GET response, 4-byte server address")
    frames, _ = decoded(arrival(octets))
    assert [frame.encode() for frame in frames] == [octets]
    assert octets[-3:-1] == b"\x7e\x8c"
    assert frames[0].source == server_address(1, 3875)
    assert frames[0].destination == client_address(1)


def test_four_octet_addresses_parse_and_max_info_is_taken_from_the_answer(vectors: Path) -> None:
    # The table cuts it: what is missing are the windows and the frame check.
    start = single_frame(vectors, "max info 242")
    content = start[1:] + bytes.fromhex("070400000001080400000001")
    octets = b"\x7e" + content + crc16_x25(content).to_bytes(2, "little") + b"\x7e"
    assert len(octets) == (octets[1] & 7) << 8 | octets[2] + 2
    assert crc16_x25(octets[1:9]) == int.from_bytes(octets[9:11], "little")
    link = HdlcLink(client_address(1), server_address(1, 2836))
    link.connect()
    link.receive_data(octets)
    # Of 242 we take no more than our own 128; a link that takes more gets it.
    assert link.next_event() == LinkOpened(128, 128, 1, 1)


def test_a_service_error_in_place_of_an_aare_names_itself_and_the_link_stays_usable(vectors: Path) -> None:
    octets = single_frame(vectors, "confirmed-service-error (deciphering)")
    client, server = client_address(48), server_address(1)
    association = ClientAssociation(HdlcLink(client, server), AssociationParameters())
    association.open()
    association.receive_data(Frame(client, server, 0x73).encode())
    assert association.next_event() is None
    # Its N(S) is 1: another refusal came before it.
    association.receive_data(Frame(client, server, 0x30, LLC_RESPONSE + b"\xd8\x01\x01").encode())
    with pytest.raises(ServiceError, match="operation not possible"):
        association.next_event()
    association.associate()
    association.receive_data(octets)
    with pytest.raises(AuthenticationFailed, match="deciphering error"):
        association.next_event()
    association.associate()
    aare = Aare(1, 0, 0, InitiateResponse(Conformance.GET, 1024).encode())
    association.receive_data(Frame(client, server, 0x74, LLC_RESPONSE + aare.encode()).encode())
    assert isinstance(association.next_event(), AssociationOpened)
