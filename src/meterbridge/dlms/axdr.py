"""A-XDR: the common data types of COSEM, encoded and decoded (IEC 61334-6; Green Book, Data).

Two decoders for one encoding: `decode` keeps each type, so that `encode` gives the same octets back; `decode_value`
gives plain Python values and is the quick one.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from meterbridge.dlms.cosem_time import Date, DateTime, Time
from meterbridge.errors import LocalProtocolError, RemoteProtocolError

MAX_DEPTH = 32
"""Deepest nesting accepted; nothing in COSEM comes near it."""

_MOST_VALUES_AN_OCTET = 8


class DataType(enum.IntEnum):
    """Tags of the Data CHOICE."""

    NULL_DATA = 0
    ARRAY = 1
    STRUCTURE = 2
    BOOLEAN = 3
    BIT_STRING = 4
    DOUBLE_LONG = 5
    DOUBLE_LONG_UNSIGNED = 6
    OCTET_STRING = 9
    VISIBLE_STRING = 10
    UTF8_STRING = 12
    BCD = 13
    INTEGER = 15
    LONG = 16
    UNSIGNED = 17
    LONG_UNSIGNED = 18
    COMPACT_ARRAY = 19
    LONG64 = 20
    LONG64_UNSIGNED = 21
    ENUM = 22
    FLOAT32 = 23
    FLOAT64 = 24
    DATE_TIME = 25
    DATE = 26
    TIME = 27
    DONT_CARE = 255


@dataclass(frozen=True, slots=True)
class BitString:
    """A bit string, first bit first, as text of `0` and `1`."""

    bits: str

    def __str__(self) -> str:
        return self.bits

    def __getitem__(self, index: int) -> bool:
        return self.bits[index] == "1"


@dataclass(frozen=True, slots=True)
class TypeDescription:
    """Type of a compact array's elements.

    Args:
        type: the tag.
        count: number of elements, for ARRAY.
        elements: descriptions of the members for STRUCTURE, of the one element type for ARRAY.
    """

    type: DataType
    count: int = 0
    elements: tuple[TypeDescription, ...] = ()


@dataclass(frozen=True, slots=True)
class CompactArray:
    """Elements of one described type, sent without their tags."""

    description: TypeDescription
    elements: tuple[Data, ...]


class Data(NamedTuple):
    """A value with its COSEM type.

    `value` is None, bool, int, float, bytes, str, BitString, Date, Time, DateTime, CompactArray, or a tuple of Data for
    ARRAY and STRUCTURE.
    """

    type: DataType
    value: Any = None

    def plain(self) -> Any:
        """Return plain Python values: ARRAY becomes a list, STRUCTURE a tuple, the rest their `value`."""
        if self.type is DataType.ARRAY:
            return [element.plain() for element in self.value]
        if self.type is DataType.STRUCTURE:
            return tuple(element.plain() for element in self.value)
        if self.type is DataType.COMPACT_ARRAY:
            return [element.plain() for element in self.value.elements]
        return self.value


# ---------------------------------------------------------------------------------------------------------------------
# lengths


def encode_length(length: int) -> bytes:
    """Encode a length: one octet below 128, otherwise the number of octets and the octets."""
    if length < 0x80:
        return bytes((length,))
    octets = length.to_bytes((length.bit_length() + 7) // 8, "big")
    return bytes((0x80 | len(octets),)) + octets


def decode_length(octets: bytes, position: int) -> tuple[int, int]:
    """Read a length at `position`; return it and the position behind it.

    Raises:
        RemoteProtocolError: cut short, or more than four octets long.
    """
    try:
        first = octets[position]
        if first < 0x80:
            return first, position + 1
        size = first & 0x7F
        if not 1 <= size <= 4:
            raise RemoteProtocolError(f"length field of {size} octets")
        end = position + 1 + size
        if end > len(octets):
            raise RemoteProtocolError("data cut short in a length field")
        return int.from_bytes(octets[position + 1 : end], "big"), end
    except IndexError:
        raise RemoteProtocolError("data cut short where a length is due") from None


# ---------------------------------------------------------------------------------------------------------------------
# decoding

_FIXED: dict[int, struct.Struct] = {
    DataType.DOUBLE_LONG: struct.Struct(">i"),
    DataType.DOUBLE_LONG_UNSIGNED: struct.Struct(">I"),
    DataType.INTEGER: struct.Struct(">b"),
    DataType.LONG: struct.Struct(">h"),
    DataType.UNSIGNED: struct.Struct(">B"),
    DataType.LONG_UNSIGNED: struct.Struct(">H"),
    DataType.LONG64: struct.Struct(">q"),
    DataType.LONG64_UNSIGNED: struct.Struct(">Q"),
    DataType.ENUM: struct.Struct(">B"),
    DataType.FLOAT32: struct.Struct(">f"),
    DataType.FLOAT64: struct.Struct(">d"),
}
_UNPACK: dict[int, tuple[Callable[..., tuple[Any, ...]], int]] = {
    tag: (layout.unpack_from, layout.size) for tag, layout in _FIXED.items()
}
FIXED_SIZE_CODES: dict[int, tuple[str, int]] = {tag: (layout.format[1:], layout.size) for tag, layout in _FIXED.items()}
"""By tag, for types of fixed size: the `struct` code, big-endian, and the size in octets."""
_TEMPORAL: dict[int, tuple[Callable[[bytes], Any], int]] = {
    DataType.DATE_TIME: (DateTime, 12),
    DataType.DATE: (Date, 5),
    DataType.TIME: (Time, 4),
}
_TYPES = {int(member): member for member in DataType}
_NULL = Data(DataType.NULL_DATA)
"""The same for all of them: an octet each is all that a meter need send."""


def _take(octets: bytes, position: int, size: int) -> bytes:
    end = position + size
    if end > len(octets):
        raise RemoteProtocolError(f"data cut short: {size} octets due, {max(0, len(octets) - position)} there")
    return octets[position:end]


def _text(octets: bytes, encoding: str) -> str:
    # Meters put Latin-1 and stray zero octets into visible strings; none of that may cost the value.
    try:
        return octets.decode(encoding)
    except UnicodeDecodeError:
        return octets.decode("latin-1")


def _decode_simple(tag: int, octets: bytes, position: int) -> tuple[Any, int]:
    """Decode one value that holds no other; `position` is behind the tag."""
    fixed = _UNPACK.get(tag)
    if fixed is not None:
        unpack, size = fixed
        if position + size > len(octets):
            raise RemoteProtocolError(f"data cut short in a {_TYPES[tag].name.lower().replace('_', '-')}")
        return unpack(octets, position)[0], position + size
    if tag == DataType.OCTET_STRING:
        size, position = decode_length(octets, position)
        return bytes(_take(octets, position, size)), position + size
    if tag == DataType.VISIBLE_STRING:
        size, position = decode_length(octets, position)
        return _text(_take(octets, position, size), "ascii"), position + size
    if tag == DataType.UTF8_STRING:
        size, position = decode_length(octets, position)
        return _text(_take(octets, position, size), "utf-8"), position + size
    if tag in (DataType.NULL_DATA, DataType.DONT_CARE):
        return None, position
    if tag == DataType.BOOLEAN:
        return _take(octets, position, 1)[0] != 0, position + 1
    if tag == DataType.BCD:
        return _take(octets, position, 1)[0], position + 1
    if tag == DataType.BIT_STRING:
        bits, position = decode_length(octets, position)
        size = (bits + 7) // 8
        content = _take(octets, position, size)
        return BitString("".join(f"{octet:08b}" for octet in content)[:bits]), position + size
    temporal = _TEMPORAL.get(tag)
    if temporal is not None:
        make, size = temporal
        return make(bytes(_take(octets, position, size))), position + size
    raise RemoteProtocolError(f"data type {tag} does not exist")


def _count(octets: bytes, position: int) -> tuple[int, int]:
    count, position = decode_length(octets, position)
    # Each element takes an octet at least: a forged count is refused before anything is allocated.
    if count > len(octets) - position:
        raise RemoteProtocolError(f"{count} elements announced, {len(octets) - position} octets left")
    return count, position


def decode_value_at(octets: bytes, position: int, depth: int = 0) -> tuple[Any, int]:
    """Decode the Data at `position` to plain Python values; return them and the position behind them.

    Raises:
        RemoteProtocolError: cut short, unknown type, forged count, or nested deeper than MAX_DEPTH.
    """
    if position >= len(octets):
        raise RemoteProtocolError("data cut short where a type is due")
    tag = octets[position]
    if tag == DataType.STRUCTURE or tag == DataType.ARRAY:
        if depth >= MAX_DEPTH:
            raise RemoteProtocolError(f"data nested deeper than {MAX_DEPTH}")
        count, position = _count(octets, position + 1)
        elements: list[Any] = []
        for _ in range(count):
            if position < len(octets) and octets[position] == DataType.NULL_DATA:
                # One octet is a value: what claims most is taken in quickest.
                elements.append(None)
                position += 1
                continue
            element, position = decode_value_at(octets, position, depth + 1)
            elements.append(element)
        return (tuple(elements) if tag == DataType.STRUCTURE else elements), position
    if tag == DataType.COMPACT_ARRAY:
        data, position = _decode_compact_array(octets, position + 1, depth)
        return [element.plain() for element in data.elements], position
    return _decode_simple(tag, octets, position + 1)


def decode_at(octets: bytes, position: int, depth: int = 0) -> tuple[Data, int]:
    """Decode the Data at `position`, types kept; return it and the position behind it.

    Raises:
        RemoteProtocolError: as `decode_value_at`.
    """
    if position >= len(octets):
        raise RemoteProtocolError("data cut short where a type is due")
    tag = octets[position]
    if tag in (DataType.STRUCTURE, DataType.ARRAY):
        if depth >= MAX_DEPTH:
            raise RemoteProtocolError(f"data nested deeper than {MAX_DEPTH}")
        count, position = _count(octets, position + 1)
        elements = []
        for _ in range(count):
            if position < len(octets) and octets[position] == DataType.NULL_DATA:
                elements.append(_NULL)
                position += 1
                continue
            element, position = decode_at(octets, position, depth + 1)
            elements.append(element)
        return Data(_TYPES[tag], tuple(elements)), position
    if tag == DataType.COMPACT_ARRAY:
        array, position = _decode_compact_array(octets, position + 1, depth)
        return Data(DataType.COMPACT_ARRAY, array), position
    value, position = _decode_simple(tag, octets, position + 1)
    return Data(_TYPES[tag], value), position


def _whole(octets: bytes, position: int) -> None:
    if position != len(octets):
        raise RemoteProtocolError(f"{len(octets) - position} octets behind the data")


def decode(octets: bytes) -> Data:
    """Decode octets that are one Data and nothing else, types kept.

    Raises:
        RemoteProtocolError: malformed, or octets left over.
    """
    data, position = decode_at(octets, 0)
    _whole(octets, position)
    return data


def decode_value(octets: bytes) -> Any:
    """Decode octets that are one Data and nothing else, to plain Python values.

    Raises:
        RemoteProtocolError: malformed, or octets left over.
    """
    value, position = decode_value_at(octets, 0)
    _whole(octets, position)
    return value


# ---------------------------------------------------------------------------------------------------------------------
# compact arrays


def _decode_description(octets: bytes, position: int, depth: int) -> tuple[TypeDescription, int]:
    if depth >= MAX_DEPTH:
        raise RemoteProtocolError(f"type description nested deeper than {MAX_DEPTH}")
    tag = _take(octets, position, 1)[0]
    if tag not in _TYPES or tag == DataType.COMPACT_ARRAY:
        raise RemoteProtocolError(f"type {tag} cannot stand in a type description")
    kind = _TYPES[tag]
    position += 1
    if kind is DataType.ARRAY:
        count = int.from_bytes(_take(octets, position, 2), "big")
        element, position = _decode_description(octets, position + 2, depth + 1)
        return TypeDescription(kind, count, (element,)), position
    if kind is DataType.STRUCTURE:
        members, position = _count(octets, position)
        elements = []
        for _ in range(members):
            element, position = _decode_description(octets, position, depth + 1)
            elements.append(element)
        return TypeDescription(kind, 0, tuple(elements)), position
    return TypeDescription(kind), position


def _decode_described(description: TypeDescription, octets: bytes, position: int) -> tuple[Data, int]:
    kind = description.type
    if kind is DataType.ARRAY or kind is DataType.STRUCTURE:
        members = description.elements * description.count if kind is DataType.ARRAY else description.elements
        elements = []
        for member in members:
            element, position = _decode_described(member, octets, position)
            elements.append(element)
        return Data(kind, tuple(elements)), position
    value, position = _decode_simple(kind, octets, position)
    return Data(kind, value), position


def _least(description: TypeDescription) -> int:
    """Least octets an element of this type takes: bounds what a few octets of description can claim."""
    kind = description.type
    if kind is DataType.ARRAY:
        return description.count * _least(description.elements[0])
    if kind is DataType.STRUCTURE:
        return sum(_least(member) for member in description.elements)
    if kind in (DataType.NULL_DATA, DataType.DONT_CARE):
        return 0
    if kind in _FIXED:
        return _FIXED[kind].size
    return _TEMPORAL[kind][1] if kind in _TEMPORAL else 1


def _leaves(description: TypeDescription) -> int:
    """Number of values one element of this type holds."""
    if description.type is DataType.ARRAY:
        return 1 + description.count * _leaves(description.elements[0])
    return 1 + sum(_leaves(member) for member in description.elements)


def _decode_compact_array(octets: bytes, position: int, depth: int) -> tuple[CompactArray, int]:
    description, position = _decode_description(octets, position, depth + 1)
    size, position = decode_length(octets, position)
    contents = bytes(_take(octets, position, size))
    least = _least(description)
    # Without the second bound, nulls that take no octet would let a short message claim millions of values.
    if size and (least == 0 or least > size or _leaves(description) > _MOST_VALUES_AN_OCTET * least):
        raise RemoteProtocolError("compact array whose contents do not fit its type description")
    elements = []
    inner = 0
    while inner < size:
        element, inner = _decode_described(description, contents, inner)
        elements.append(element)
    return CompactArray(description, tuple(elements)), position + size


# ---------------------------------------------------------------------------------------------------------------------
# encoding


def encode(data: Data) -> bytes:
    """Encode a Data with its type.

    Raises:
        LocalProtocolError: the value does not fit the type.
    """
    if data.type is DataType.COMPACT_ARRAY:
        array: CompactArray = data.value
        contents = b"".join(_encode_untagged(element) for element in array.elements)
        return (
            bytes((DataType.COMPACT_ARRAY,))
            + _encode_description(array.description)
            + encode_length(len(contents))
            + contents
        )
    if data.type in (DataType.ARRAY, DataType.STRUCTURE):
        elements: Sequence[Data] = data.value
        return bytes((data.type,)) + encode_length(len(elements)) + b"".join(encode(element) for element in elements)
    return bytes((data.type,)) + _encode_untagged(data)


def _encode_description(description: TypeDescription) -> bytes:
    head = bytes((description.type,))
    if description.type is DataType.ARRAY:
        return head + description.count.to_bytes(2, "big") + _encode_description(description.elements[0])
    if description.type is DataType.STRUCTURE:
        members = b"".join(_encode_description(member) for member in description.elements)
        return head + encode_length(len(description.elements)) + members
    return head


def _encode_untagged(data: Data) -> bytes:
    kind, value = data
    try:
        fixed = _FIXED.get(kind)
        if fixed is not None:
            return fixed.pack(value)
        if kind in (DataType.ARRAY, DataType.STRUCTURE):
            return b"".join(_encode_untagged(element) for element in value)
        if kind in (DataType.NULL_DATA, DataType.DONT_CARE):
            return b""
        if kind is DataType.BOOLEAN:
            return b"\x01" if value else b"\x00"
        if kind is DataType.BCD:
            return bytes((value,))
        if kind is DataType.OCTET_STRING:
            return encode_length(len(value)) + bytes(value)
        if kind in (DataType.VISIBLE_STRING, DataType.UTF8_STRING):
            octets: bytes = value.encode("utf-8" if kind is DataType.UTF8_STRING else "latin-1")
            return encode_length(len(octets)) + octets
        if kind is DataType.BIT_STRING:
            bits = value.bits
            padded = bits.ljust((len(bits) + 7) // 8 * 8, "0")
            return encode_length(len(bits)) + bytes(int(padded[i : i + 8], 2) for i in range(0, len(padded), 8))
        if kind in _TEMPORAL:
            return bytes(value.octets)
    except (struct.error, ValueError, TypeError, AttributeError) as error:
        raise LocalProtocolError(f"{value!r} does not fit {kind.name}: {error}") from None
    raise LocalProtocolError(f"{kind.name} cannot be encoded here")
