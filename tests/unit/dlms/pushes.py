"""Pushes as meters of various makes shape them, built with our own encoders: no octet of a physical meter."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from meterbridge.dlms import (
    Data,
    DataType,
    DateTime,
    Frame,
    Keys,
    LogicalName,
    SecurityContext,
    SecurityPolicy,
    client_address,
    server_address,
)
from meterbridge.dlms.block_transfer import Block
from meterbridge.dlms.ciphering import cipher_apdu
from meterbridge.dlms.hdlc import Control
from meterbridge.dlms.hdlc_station import LLC_RESPONSE
from meterbridge.dlms.mbus import transport_frames
from meterbridge.dlms.notification import DataNotification
from meterbridge.dlms.wrapper_stream import WrapperFrame

TIME = DateTime(bytes.fromhex("07E90B18010A1E0000FFC400"))
KEYS = Keys(encryption=bytes(range(16)), authentication=bytes(range(0xD0, 0xE0)))
TITLE = b"MBR\x00\x00\x00\x00\x07"
CLIENT, SERVER = client_address(103), server_address(1, 1)


def structure(*members: Data) -> Data:
    return Data(DataType.STRUCTURE, members)


def array(*members: Data) -> Data:
    return Data(DataType.ARRAY, members)


def octets(value: bytes | str) -> Data:
    return Data(DataType.OCTET_STRING, value.encode() if isinstance(value, str) else value)


def text(value: str) -> Data:
    return Data(DataType.VISIBLE_STRING, value)


def u8(value: int) -> Data:
    return Data(DataType.UNSIGNED, value)


def u16(value: int) -> Data:
    return Data(DataType.LONG_UNSIGNED, value)


def u32(value: int) -> Data:
    return Data(DataType.DOUBLE_LONG_UNSIGNED, value)


def i8(value: int) -> Data:
    return Data(DataType.INTEGER, value)


def enum(value: int) -> Data:
    return Data(DataType.ENUM, value)


def name(obis: str) -> Data:
    return octets(bytes(LogicalName.parse(obis)))


def scaler_unit(scaler: int, unit: int) -> Data:
    return structure(i8(scaler), enum(unit))


def descriptor(class_id: int, obis: str, attribute: int) -> Data:
    return structure(u16(class_id), name(obis), i8(attribute))


def push_object(class_id: int, obis: str, attribute: int) -> Data:
    return structure(u16(class_id), name(obis), i8(attribute), u16(0))


def notification(body: Data, time: DateTime | None = None, invoke_id: int = 0x40000000) -> bytes:
    return DataNotification(invoke_id, time, body).encode()


def in_hdlc(apdu: bytes, size: int = 2000, llc: bytes = LLC_RESPONSE) -> list[bytes]:
    """UI frames, segmented where the APDU does not fit one."""
    information = llc + apdu
    starts = range(0, len(information), size)
    return [
        Frame(
            CLIENT, SERVER, Control.UI | 0x10, information[start : start + size], start + size < len(information)
        ).encode()
        for start in starts
    ]


def in_blocks(apdu: bytes, size: int = 100) -> list[bytes]:
    """A general block transfer, each block an UI frame, only the first with its LLC header."""
    parts = [apdu[start : start + size] for start in range(0, len(apdu), size)]
    frames = []
    for index, part in enumerate(parts):
        block = Block(index + 1, 0, part, index + 1 == len(parts), True, 0).encode()
        frames += in_hdlc(block, llc=LLC_RESPONSE if index == 0 else b"")
    return frames


def in_mbus(apdu: bytes, size: int = 250) -> list[bytes]:
    return [frame.encode() for frame in transport_frames(apdu, 1, 0x67, size=size)]


def in_wrapper(apdus: Iterable[bytes]) -> bytes:
    return b"".join(WrapperFrame(1, 103, apdu).encode() for apdu in apdus)


def ciphered(apdu: bytes, counter: int = 1, keys: Keys = KEYS, policy: SecurityPolicy = SecurityPolicy.BOTH) -> bytes:
    context = SecurityContext(TITLE, keys, policy=policy, general=True)
    return cipher_apdu(apdu, context, counter)


def meaning(values: Any) -> dict[str, tuple[object, str | None]]:
    """Values and units by key."""
    return {key: (value.value, value.unit) for key, value in values.items()}


# ---- one list of each shape, and what it means

AIDON = array(
    structure(name("1-1:0.2.129"), text("AIDON_V0001")),
    structure(name("1-0:1.7.0"), u32(1362), scaler_unit(0, 27)),
    structure(name("1-0:31.7.0"), Data(DataType.LONG, -93), scaler_unit(-1, 33)),
    structure(name("1-0:32.7.0"), u16(2500), scaler_unit(-1, 35)),
)
ISKRA = structure(
    structure(name("0-0:96.1.1"), octets("160456")),
    structure(name("1-0:1.8.0"), u32(261927), scaler_unit(0, 30)),
    structure(name("1-0:32.7.0"), u16(2364), scaler_unit(-1, 35)),
)
KAIFA = structure(
    octets("KFM_001"), octets("6970000000000001"), octets("MA304H3E"), u32(948), u32(0), u32(0), u32(64),
    u32(1416), u32(3241), u32(3119), u32(2385), u32(0), u32(2389),
)  # fmt: skip
KAIFA_POWER = structure(u32(948))
KAMSTRUP = structure(
    text("Kamstrup_V0001"),
    name("1-1:1.8.0"), u32(6307498), name("1-1:1.7.0"), u32(1083), name("1-1:31.7.0"), u32(57),
    name("1-1:32.7.0"), u16(222), name("0-1:1.0.0"), octets(TIME.octets), name("1-1:0.0.1"), u32(7),
)  # fmt: skip
LANDIS = structure(octets(TIME.octets), name("1-0:1.8.1"), u32(3593919), name("1-0:3.7.0"), u32(1735))
NETZ = structure(
    octets(TIME.octets),
    name("1-0:1.8.0"), u32(12937), scaler_unit(0, 30), name("1-0:13.7.0"), u16(998), scaler_unit(-3, 255),
    octets("181220000009"),
)  # fmt: skip
SALZBURG = structure(
    name("0-0:1.0.0"), octets(TIME.octets), structure(name("1-0:31.7.0"), u16(165), scaler_unit(-2, 33))
)
DESCRIPTORS = structure(
    enum(1),
    array(
        structure(descriptor(1, "0-0:96.1.1", 2), octets("5100005149")),
        structure(descriptor(70, "0-0:96.3.10", 3), enum(1)),
        structure(descriptor(3, "1-0:1.7.0", 2), u32(1956)),
    ),
)
DESCRIBED = structure(
    array(
        push_object(40, "0-0:25.9.0", 2), push_object(1, "0-0:42.0.0", 2),
        push_object(3, "1-0:1.8.0", 2), push_object(3, "1-0:1.8.0", 3), push_object(1, "0-0:97.98.0", 2),
    ),
    octets("MBR0001"), u32(1234), scaler_unit(1, 30), u32(16),
)  # fmt: skip
