"""Decoded data as people and JSON take it."""

from __future__ import annotations

from meterbridge.dlms import BitString, Data, Date, DateTime, Time

_CLOCK_CLASS = 8
_TIME_ATTRIBUTE = 2


def displayed(value: object, class_id: int = 0, attribute: int = 0) -> object:
    """Return a decoded value as JSON can hold it.

    Octets become text where all of them print, upper-case hex otherwise; the time of a Clock becomes ISO 8601 where it
    is a single instant; arrays and structures become lists.
    """
    if isinstance(value, bytes):
        if class_id == _CLOCK_CLASS and attribute == _TIME_ATTRIBUTE and len(value) == 12:
            return displayed(DateTime(value))
        return value.decode("ascii") if value and all(0x20 <= octet < 0x7F for octet in value) else value.hex().upper()
    if isinstance(value, DateTime):
        instant = value.to_datetime()
        return str(value) if instant is None else instant.isoformat()
    if isinstance(value, Data):
        return displayed(value.plain(), class_id, attribute)
    if isinstance(value, (Date, Time, BitString)):
        return str(value)
    if isinstance(value, (list, tuple)):
        return [displayed(element) for element in value]
    return value
