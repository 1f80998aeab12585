"""What physical meters pushed, against what an independent translator made of it: ../shared/vectors/push."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest

from meterbridge.dlms import Data, DataType, DateTime, Keys
from meterbridge.dlms.axdr import decode
from meterbridge.dlms.mbus import LongFrame, LongFrameDecoder
from meterbridge.dlms.notification import DataNotification
from meterbridge.dlms.push_decoder import Decoded, KeyRing, PushDecoder
from meterbridge.dlms.reception import Framing, Reception, Refused
from meterbridge.meter.catalogue.push import load_layouts
from tests.unit.dlms.arrivals import ARRIVALS, Arrival, leading_noise, octet_by_octet, whole

PUSHES = {
    "hdlc_iskra550": Framing.HDLC,
    "hdlc_kaifa_ma304h3e": Framing.HDLC,
    "hdlc_kamstrup_omnipower": Framing.HDLC,
    "hdlc_landis_gyr_e450": Framing.HDLC,
    "hdlc_lgz_e450_2": Framing.HDLC,
    "hdlc_norway_han_1phase": Framing.HDLC,
    "hdlc_norway_han_3phase": Framing.HDLC,
    "mbus_netz_noe_p1": Framing.MBUS,
    "raw_egd_example": Framing.RAW,
    "raw_energomera": Framing.RAW,
    "raw_sagecom_xt211": Framing.RAW,
    "raw_salzburg_netz": Framing.RAW,
}
FRAMED = [name for name, framing in PUSHES.items() if framing is not Framing.RAW]
PARTS = {"hdlc_iskra550": 3, "hdlc_landis_gyr_e450": 3, "hdlc_lgz_e450_2": 3, "mbus_netz_noe_p1": 2}
NO_KEY = "mbus_kmswest"
DAMAGED = "hdlc_landis_gyr_zmf100"

# What the messages themselves, or the catalogue where they say nothing, make of some of it.
EXPECTED: dict[str, dict[str, tuple[object, str | None]]] = {
    "hdlc_iskra550": {"1-0:1.7.0": (182, "W"), "1-0:32.7.0": (236.4, "V"), "1-0:31.7.0": (0.63, "A")},
    "hdlc_kaifa_ma304h3e": {
        "1-1:0.2.129": (b"KFM_001", None),
        "1-0:1.7.0": (948, "W"),
        "1-0:31.7.0": (1.416, "A"),
        "1-0:72.7.0": (238.9, "V"),
    },
    "hdlc_kamstrup_omnipower": {
        "1-1:0.2.129": ("Kamstrup_V0001", None),
        "1-1:1.7.0": (1083, "W"),
        "1-1:31.7.0": (0.57, "A"),
        "1-1:1.8.0": (63_074_980, "Wh"),
        "1-1:13.7.0": (0.83, None),
    },
    "hdlc_landis_gyr_e450": {"1-0:1.8.0": (4_408_736, "Wh"), "1-0:3.7.0": (1735, "var")},
    "hdlc_lgz_e450_2": {"1-0:1.8.1": (8_768_040, "Wh"), "1-0:4.7.0": (379, "var")},
    "hdlc_norway_han_1phase": {"0-0:96.1.7": ("6515", None), "1-0:31.7.0": (9.3, "A"), "1-0:32.7.0": (250.0, "V")},
    "hdlc_norway_han_3phase": {"1-0:51.7.0": (7.5, "A"), "1-0:3.8.0": (6_614_347, "varh")},
    "mbus_netz_noe_p1": {"1-0:32.7.0": (233.7, "V"), "1-0:13.7.0": (1.0, None), "34": (b"181220000009", None)},
    "raw_egd_example": {"0-0:42.0.0": (b"EGD012345", None), "1-0:1.8.0": (8, "Wh"), "0-6:96.3.10": (0, None)},
    "raw_energomera": {"0-0:42.0.0": (b"EMR0222173608710", None), "0-0:97.98.10": (65535, None)},
    "raw_sagecom_xt211": {"1-0:1.7.0": (1956, "W"), "1-0:1.8.0": (4_913_794, "Wh"), "0-0:96.14.0": (b"T2", None)},
    "raw_salzburg_netz": {"1-0:32.7.0": (229.2, "V"), "1-0:3.8.0": (4818, "varh")},
}


@pytest.fixture(scope="module")
def folder(shared: Path) -> Path:
    return shared / "vectors" / "push"


def dump(folder: Path, name: str) -> bytes:
    return bytes.fromhex(re.sub(r"[^0-9a-fA-F]", "", (folder / f"{name}.log").read_text("utf-8-sig")))


def keys(folder: Path, name: str) -> KeyRing:
    def key(suffix: str) -> bytes | None:
        path = folder / f"{name}.{suffix}"
        return bytes.fromhex(path.read_text()) if path.exists() else None

    encryption = key("key")
    return KeyRing(default=None if encryption is None else Keys(encryption, key("gak")))


def received(
    pieces: Iterator[bytes], ring: KeyRing, framing: Framing | None = None
) -> tuple[list[Decoded], list[Refused]]:
    decoder = PushDecoder(Reception(framing), ring, load_layouts())
    for piece in pieces:
        decoder.receive_data(piece)
    decoder.end()
    decoded: list[Decoded] = []
    refused: list[Refused] = []
    while (event := decoder.next_event()) is not None:
        if isinstance(event, Decoded):
            decoded.append(event)
        else:
            refused.append(event)
    return decoded, refused


# ---- the translator's XML

_TYPES = {
    "UINT8": DataType.UNSIGNED,
    "UINT16": DataType.LONG_UNSIGNED,
    "UINT32": DataType.DOUBLE_LONG_UNSIGNED,
    "INT8": DataType.INTEGER,
    "INT16": DataType.LONG,
    "INT32": DataType.DOUBLE_LONG,
    "ENUM": DataType.ENUM,
}
_LISTS = {"STRUCTURE": DataType.STRUCTURE, "ARRAY": DataType.ARRAY}


def time_spellings(octets: bytes) -> set[str]:
    """How the translator writes a date-time: hundredths and deviation only where they are specified, the deviation
    with the sign it has on the wire."""
    if len(octets) != 12:
        return set()
    time = DateTime(octets)
    text = str(DateTime(octets[:8] + b"\x00" + octets[9:]))[:19]
    if octets[8] != 0xFF:
        text += f".{octets[8]:02d}"
    if time.deviation is not None:
        sign = "-" if time.deviation < 0 else "+"
        text += f" {sign}{abs(time.deviation) // 60:02d}:{abs(time.deviation) % 60:02d}"
    # Where hundredths are 0 and no deviation is there, it leaves them out.
    return {text, text.replace(".00", "")}


def octet_spellings(octets: bytes) -> set[str]:
    text = octets.rstrip(b"\x00").decode("latin-1")
    return {text, ".".join(map(str, octets)), octets.hex().upper()} | time_spellings(octets)


def assert_same(element: ElementTree.Element, data: Data) -> None:
    tag, value = element.tag, element.get("Value", "")
    if tag in _LISTS:
        assert data.type is _LISTS[tag]
        assert len(data.value) == int(element.get("Qty", "-1")) == len(element)
        for child, member in zip(element, data.value, strict=True):
            assert_same(child, member)
    elif tag in _TYPES:
        assert data == Data(_TYPES[tag], int(value))
    elif tag == "OCTETSTRING":
        assert data.type is DataType.OCTET_STRING
        assert value in octet_spellings(data.value)
    elif tag == "VISIBLESTRING":
        assert data == Data(DataType.VISIBLE_STRING, value) or data.value.rstrip("\0") == value
    elif tag == "NullData":
        assert data == Data(DataType.NULL_DATA)
    elif tag == "AttributeDescriptor":
        class_id, name, attribute = (int(child.get("Value", ""), 16) if i != 1 else child.get("Value", "")
                                     for i, child in enumerate(element))  # fmt: skip
        members = [member.value for member in data.value]
        assert members == [class_id, bytes(map(int, str(name).split("."))), attribute]
    else:
        raise AssertionError(f"the translator says {tag}, which nobody here knows")


def translated(folder: Path, name: str) -> ElementTree.Element:
    return ElementTree.parse(folder / f"{name}_decoded.xml").getroot()


# ---- tests


def test_every_dump_of_the_folder_is_known_here(folder: Path) -> None:
    assert {path.stem for path in folder.glob("*.log")} == {*PUSHES, NO_KEY, DAMAGED}


@pytest.mark.parametrize("arrival", ARRIVALS)
@pytest.mark.parametrize("name", PUSHES)
def test_a_push_says_what_the_translator_says_however_it_arrives(folder: Path, name: str, arrival: Arrival) -> None:
    octets, framing = dump(folder, name), PUSHES[name]
    if framing is Framing.RAW:
        # Without a frame, nothing tells noise from octets.
        arrival = octet_by_octet if arrival is octet_by_octet else whole
    decoded, _ = received(arrival(octets), keys(folder, name))
    root = translated(folder, name)
    [push] = decoded
    assert (push.framing, push.apdu, push.error) == (framing, "data-notification", None)
    if root.tag == "GeneralGloCiphering":
        assert push.system_title == bytes.fromhex(root.get("SystemTitle", ""))
        assert push.invocation_counter == int(root.get("FrameCounter", ""))
        [root] = root
    else:
        assert push.system_title is None
    notification = DataNotification.decode(push.octets)
    assert notification.long_invoke_id == int(root.get("LongInvokeId", ""), 16)
    time, body = root
    if notification.date_time is None:
        assert time.get("Value") is None
    else:
        assert time.get("Value") in time_spellings(notification.date_time.octets)
    assert_same(body, notification.body)


@pytest.mark.parametrize("name", PUSHES)
def test_its_values_have_names_and_units(folder: Path, name: str) -> None:
    decoded, refused = received(whole(dump(folder, name)), keys(folder, name))
    assert refused == []
    [push] = decoded
    values = {key: (value.value, value.unit) for key, value in push.values.items()}
    for key, expected in EXPECTED[name].items():
        assert values[key] == expected
    unnamed = [key for key, value in push.values.items() if value.logical_name is None]
    # A clock or a notification type that comes without a name, and the number of one Austrian meter.
    assert set(unnamed) <= {"0", "34"}


@pytest.mark.parametrize("name", PUSHES)
def test_encoded_again_it_is_the_same_unless_it_broke_the_standard(folder: Path, name: str) -> None:
    [push], _ = received(whole(dump(folder, name)), keys(folder, name))
    notification = DataNotification.decode(push.octets)
    if notification.bare_descriptors:
        assert name in ("raw_egd_example", "raw_sagecom_xt211")
    elif push.octets[5:7] == b"\x09\x0c":
        assert notification.encode() == push.octets[:5] + push.octets[6:]
    else:
        assert notification.encode() == push.octets


def split(octets: bytes, framing: Framing) -> list[bytes]:
    """A clean dump by its length fields alone."""
    parts = []
    while octets:
        end = octets[1] + 6 if framing is Framing.MBUS else ((octets[1] & 7) << 8 | octets[2]) + 2
        parts.append(octets[:end])
        octets = octets[end:]
    return parts


@pytest.mark.parametrize("name", PARTS)
def test_with_a_frame_missing_nothing_is_made_up_and_the_next_push_is_whole(folder: Path, name: str) -> None:
    parts = split(dump(folder, name), PUSHES[name])
    assert len(parts) == PARTS[name]
    for missing in range(len(parts)):
        rest = b"".join(parts[:missing] + parts[missing + 1 :])
        for arrival in (whole, octet_by_octet, leading_noise):
            decoded, refused = received(arrival(rest + b"".join(parts)), keys(folder, name))
            good = [push for push in decoded if push.error is None]
            bad = [push.error for push in decoded if push.error is not None]
            bad += [each.reason for each in refused if not each.reason.startswith("noise")]
            assert len(good) == 1
            assert bad


@pytest.mark.parametrize("name", FRAMED)
def test_one_flipped_bit_is_refused_with_its_place(folder: Path, name: str) -> None:
    octets = dump(folder, name)
    for position in range(4, len(octets) - 3, 37):
        damaged = bytearray(octets)
        damaged[position] ^= 0x10
        decoded, refused = received(whole(bytes(damaged) + octets), keys(folder, name), PUSHES[name])
        assert [push.error for push in decoded].count(None) >= 1
        assert refused or len(decoded) > 1
        assert len([push for push in decoded if push.error is None]) == 1


@pytest.mark.parametrize("arrival", ARRIVALS)
@pytest.mark.parametrize("framing", [None, Framing.HDLC])
def test_the_push_whose_frame_check_fails_is_refused(folder: Path, arrival: Arrival, framing: Framing | None) -> None:
    decoded, refused = received(arrival(dump(folder, DAMAGED)), KeyRing(), framing)
    assert decoded == []
    assert "frame check sequence wrong" in [each.reason for each in refused]


@pytest.mark.parametrize("arrival", ARRIVALS)
def test_without_a_key_it_is_reported_as_ciphered(folder: Path, arrival: Arrival) -> None:
    [push], _ = received(arrival(dump(folder, NO_KEY)), keys(folder, NO_KEY))
    root = translated(folder, NO_KEY)
    assert (push.framing, push.apdu) == (Framing.MBUS, "general-glo-ciphering")
    assert push.system_title == bytes.fromhex(root.get("SystemTitle", ""))
    assert push.invocation_counter == int(root.get("FrameCounter", ""))
    assert push.octets.hex().upper().endswith(root.get("Ciphertext", "-"))
    assert push.error == "the APDU is ciphered, and the key of 454C536570000001 is not known"


@pytest.mark.parametrize("name", [name for name in PUSHES if name.startswith(("hdlc_kam", "hdlc_l", "mbus_n"))])
def test_wrong_keys_give_no_values(folder: Path, name: str) -> None:
    ring = keys(folder, name)
    assert ring.default is not None
    wrong = KeyRing(default=Keys(bytes(16), ring.default.authentication))
    [push], _ = received(whole(dump(folder, name)), wrong)
    assert push.error is not None
    assert push.values == {}


@pytest.mark.parametrize("name", ["mbus_netz_noe_p1", NO_KEY])
def test_mbus_frames_are_the_same_encoded_again(folder: Path, name: str) -> None:
    octets = dump(folder, name)
    decoder = LongFrameDecoder()
    decoder.receive_data(octets)
    frames = []
    while isinstance(event := decoder.next_event(), LongFrame):
        frames.append(event)
    assert event is None
    assert b"".join(frame.encode() for frame in frames) == octets
    assert [frame.sequence for frame in frames] == list(range(len(frames)))
    assert [frame.final for frame in frames] == [False] * (len(frames) - 1) + [True]


def test_the_standard_reading_comes_first(folder: Path) -> None:
    [push], _ = received(whole(dump(folder, "raw_energomera")), KeyRing())
    notification = DataNotification.decode(push.octets)
    assert not notification.bare_descriptors
    assert decode(push.octets[18:]) == notification.body
