"""COSEM objects as a server holds them: shared by all meters of one kind, values by reader."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from struct import Struct
from typing import TYPE_CHECKING, Final, NamedTuple

from meterbridge.dlms import Data, DataAccessResult, DataType, LogicalName
from meterbridge.dlms.axdr import encode
from meterbridge.dlms.xdlms import data_access_error

if TYPE_CHECKING:
    from meterbridge.dlms import SelectiveAccess
    from meterbridge.errors import DataAccessError
    from meterbridge.simulator.meter import SimulatedMeter

Value = bytes | Iterator[bytes]
"""Encoded data, whole or in pieces made as they are wanted."""
Reader = Callable[["SimulatedMeter", int], bytes]
"""Gives an attribute's encoded data at a Unix time in seconds."""
Selector = Callable[["SimulatedMeter", int, "SelectiveAccess | None"], Value]
"""The same for an attribute that knows selective access."""

Writer = Callable[["SimulatedMeter", int, Data], None]
"""Takes a new value at a Unix time in seconds, or raises DataAccessError."""
Method = Callable[["SimulatedMeter", int, Data], Data | None]
"""Does what a method does with its parameters (null-data for none), or raises DataAccessError."""

_NO_ACCESS, _READ, _WRITE = 0, 1, 2
_LONGEST_VALUE: Final = 8192
"""Octets a written value may have."""


class CosemObject(NamedTuple):
    """One object.

    Args:
        class_id: interface class.
        version: of the class.
        logical_name: its name.
        attributes: encoded data where it never changes, otherwise who reads it; attribute 1 is understood.
        hidden: attributes that exist and may not be read.
        selective: attributes that know selective access, with their selectors.
        writers: attributes that may be written.
        methods: by index.
        first_method: offset of method 1 from the base name, with short names.
    """

    class_id: int
    version: int
    logical_name: LogicalName
    attributes: Mapping[int, bytes | Reader]
    hidden: tuple[int, ...] = ()
    selective: Mapping[int, tuple[Selector, tuple[int, ...]]] = {}
    writers: Mapping[int, Writer] = {}
    methods: Mapping[int, Method] = {}
    first_method: int = 0

    @property
    def readable(self) -> list[int]:
        """Attribute indices that may be read."""
        return sorted({1, *self.attributes, *self.selective})


_U16: Final = Struct(">BH")
_U32: Final = Struct(">BI")
_I32: Final = Struct(">Bi")


def unsigned16(value: float) -> bytes:
    """Encode a long-unsigned, rounded and held within its range."""
    return _U16.pack(DataType.LONG_UNSIGNED, min(max(round(value), 0), 0xFFFF))


def unsigned32(value: float) -> bytes:
    """Encode a double-long-unsigned, rounded; it rolls over like a register."""
    return _U32.pack(DataType.DOUBLE_LONG_UNSIGNED, round(value) & 0xFFFFFFFF)


def signed32(value: float) -> bytes:
    """Encode a double-long, rounded and held within its range."""
    return _I32.pack(DataType.DOUBLE_LONG, min(max(round(value), -0x80000000), 0x7FFFFFFF))


def unmatched() -> DataAccessError:
    """Make the error that says that a value has the wrong type."""
    return data_access_error(DataAccessResult.TYPE_UNMATCHED)


def stored(name: LogicalName, index: int, kind: DataType) -> Writer:
    """Make the writer of an attribute that means nothing to the meter: it is kept and given back."""

    def write(meter: SimulatedMeter, t: int, value: Data) -> None:
        octets = encode(value)
        if value.type is not kind or len(octets) > _LONGEST_VALUE:
            raise unmatched()
        meter.written[name, index] = octets

    return write


def octets(value: bytes) -> bytes:
    """Encode an octet-string."""
    return encode(Data(DataType.OCTET_STRING, value))


def structure(*members: Data) -> Data:
    """Put members together."""
    return Data(DataType.STRUCTURE, members)


def array(elements: Iterable[Data]) -> Data:
    """Put elements together."""
    return Data(DataType.ARRAY, tuple(elements))


def scaler_unit(scaler: int, unit: int) -> bytes:
    """Encode attribute 3 of a Register."""
    return encode(structure(Data(DataType.INTEGER, scaler), Data(DataType.ENUM, unit)))


def object_list(objects: Iterable[CosemObject]) -> bytes:
    """Encode attribute 2 of an Association LN, version 1: each object with its access rights."""
    return encode(array(_element(item) for item in objects))


def access_rights(item: CosemObject) -> Data:
    """Return what may be done with an object: its attributes with their modes and selectors, its methods."""
    rights = []
    for index in sorted({*item.readable, *item.hidden, *item.writers}):
        selectors = Data(DataType.NULL_DATA)
        if index in item.selective:
            selectors = array(Data(DataType.INTEGER, selector) for selector in item.selective[index][1])
        mode = _NO_ACCESS if index in item.hidden else _READ
        if index in item.writers:
            mode |= _WRITE
        rights.append(structure(Data(DataType.INTEGER, index), Data(DataType.ENUM, mode), selectors))
    methods = (structure(Data(DataType.INTEGER, index), Data(DataType.ENUM, _READ)) for index in sorted(item.methods))
    return structure(array(rights), array(methods))


def _element(item: CosemObject) -> Data:
    return structure(
        Data(DataType.LONG_UNSIGNED, item.class_id),
        Data(DataType.UNSIGNED, item.version),
        Data(DataType.OCTET_STRING, item.logical_name),
        access_rights(item),
    )
