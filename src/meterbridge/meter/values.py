"""Decoded data as people and JSON take it."""

from __future__ import annotations

from meterbridge.dlms import cosem

_CLOCK_CLASS = 8
_TIME_ATTRIBUTE = 2


def displayed(value: object, class_id: int = 0, attribute: int = 0) -> object:
    """Return a decoded value as JSON can hold it.

    Octets become text where all of them print, upper-case hex otherwise; the time of a Clock becomes ISO 8601 where it
    is a single instant; arrays and structures become lists.
    """
    if class_id == _CLOCK_CLASS and attribute == _TIME_ATTRIBUTE:
        return cosem.present(class_id, attribute, value)
    return cosem.displayed(value)
