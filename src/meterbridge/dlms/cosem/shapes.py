"""How decoded values become what people and JSON take: shapes, put together from a few pieces.

A shape is a function from a plain value to something JSON can hold. None of them fails: a value of another form than
the class prescribes, and meters send such, is shown as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from meterbridge.dlms.axdr import BitString, Data
from meterbridge.dlms.conformance import Conformance
from meterbridge.dlms.cosem_time import NOT_SPECIFIED, Date, DateTime, Time
from meterbridge.dlms.obis import LogicalName
from meterbridge.dlms.units import unit_symbol

Shape = Callable[[Any], Any]

_ASSOCIATION_ARCS = bytes.fromhex("608574050801"), bytes.fromhex("608574050802")
_OLDEST_YEAR, _NEWEST_YEAR = 1990, 2120
_LONGEST_DEVIATION = 14 * 60


def displayed(value: Any) -> Any:
    """Return any decoded value as JSON can hold it.

    Octets become text where all of them print, upper-case hex otherwise; a date-time becomes ISO 8601 where it is a
    single instant, text with `*` for its wildcards otherwise; arrays and structures become lists.
    """
    if isinstance(value, bytes):
        return value.decode("ascii") if value and all(0x20 <= octet < 0x7F for octet in value) else value.hex().upper()
    if isinstance(value, DateTime):
        instant = value.to_datetime()
        return str(value) if instant is None else instant.isoformat()
    if isinstance(value, Data):
        return displayed(value.plain())
    if isinstance(value, (Date, Time, BitString)):
        return str(value)
    if isinstance(value, (list, tuple)):
        return [displayed(element) for element in value]
    return value


def hexadecimal(value: Any) -> Any:
    """Octets as upper-case hex."""
    return value.hex().upper() if isinstance(value, bytes) else displayed(value)


def obis(value: Any) -> Any:
    """Six octets as a logical name of dotted groups."""
    return str(LogicalName(value)) if isinstance(value, bytes) and len(value) == 6 else displayed(value)


def date_time(value: Any) -> Any:
    """Twelve octets as a date-time."""
    return displayed(DateTime(value)) if isinstance(value, bytes) and len(value) == 12 else displayed(value)


def date(value: Any) -> Any:
    """Five octets as a date."""
    return str(Date(value)) if isinstance(value, bytes) and len(value) == 5 else displayed(value)


def time(value: Any) -> Any:
    """Four octets as a time of day."""
    return str(Time(value)) if isinstance(value, bytes) and len(value) == 4 else displayed(value)


def row_value(value: Any) -> Any:
    """A value of a profile's row, where octets that cannot well be anything but a date-time are one."""
    if isinstance(value, (list, tuple)):
        return [row_value(element) for element in value]
    if isinstance(value, bytes) and len(value) == 12 and _is_date_time(DateTime(value)):
        return date_time(value)
    return displayed(value)


def _is_date_time(value: DateTime) -> bool:
    instant, deviation = value.to_datetime(), value.deviation
    return (
        instant is not None
        and _OLDEST_YEAR <= instant.year <= _NEWEST_YEAR
        and (value.octets[4] == NOT_SPECIFIED or value.octets[4] == instant.isoweekday())
        and (deviation is None or abs(deviation) <= _LONGEST_DEVIATION)
    )


def enumeration(names: Mapping[int, str]) -> Shape:
    """An enum by name; a number that has none stays a number."""

    def shape(value: Any) -> Any:
        return names.get(value, value) if isinstance(value, int) else displayed(value)

    return shape


def flags(names: Mapping[int, str]) -> Shape:
    """The bits that are set in a number, by name; bit 0 is the lowest."""

    def shape(value: Any) -> Any:
        if not isinstance(value, int) or value < 0:
            return displayed(value)
        return [names.get(bit, f"bit {bit}") for bit in range(value.bit_length()) if value >> bit & 1]

    return shape


def structure(**members: Shape) -> Shape:
    """A structure as an object with its members' names."""

    def shape(value: Any) -> Any:
        if not isinstance(value, (list, tuple)) or len(value) != len(members):
            return displayed(value)
        return {name: member(element) for (name, member), element in zip(members.items(), value, strict=True)}

    return shape


def array(element: Shape) -> Shape:
    """An array, element by element."""

    def shape(value: Any) -> Any:
        return [element(one) for one in value] if isinstance(value, list) else displayed(value)

    return shape


def scaler_unit(value: Any) -> Any:
    """Scaler and unit of a register: `{"scaler": -1, "unit": "V"}`."""
    match value:
        case (int(scaler), int(unit)):
            return {"scaler": scaler, "unit": unit_symbol(unit)}
    return displayed(value)


def conformance(value: Any) -> Any:
    """The services of a conformance block, by name."""
    if not isinstance(value, BitString) or len(value.bits) != 24:
        return displayed(value)
    block = Conformance(int(value.bits, 2))
    return [service.name.lower().replace("_", "-") for service in Conformance if service in block and service.name]


def association_name(names: Mapping[int, str]) -> Shape:
    """The last arc, by name, of an object identifier for associations, be it octets or a structure of its arcs."""

    def shape(value: Any) -> Any:
        match value:
            case bytes() if len(value) == 7 and value[:6] in _ASSOCIATION_ARCS:
                return names.get(value[6], value[6])
            case (2, 16, 756, 5, 8, _, int(arc)):
                return names.get(arc, arc)
        return hexadecimal(value)

    return shape
