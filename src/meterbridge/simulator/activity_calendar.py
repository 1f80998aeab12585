"""The tariff calendar of a simulated meter: an active one, and a passive one that is written and then activated."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from meterbridge.dlms import Data, DataType, LogicalName
from meterbridge.dlms.axdr import encode
from meterbridge.simulator.objects import CosemObject, array, stored, structure

if TYPE_CHECKING:
    from meterbridge.simulator.meter import SimulatedMeter

ACTIVITY_CALENDAR: Final = LogicalName.parse("0-0:13.0.0")
_TARIFF_SCRIPTS: Final = LogicalName.parse("0-0:10.0.100")
_NEVER: Final = bytes.fromhex("ffffffffffffffffff800000")
_PASSIVE: Final = 4
"""Added to the index of an active attribute, 2..5, gives its passive one."""


def _text(value: bytes) -> Data:
    return Data(DataType.OCTET_STRING, value)


def _season(name: bytes, month: int, week: bytes) -> Data:
    start = bytes((0xFF, 0xFF, month, 1, 0xFF, 0, 0, 0, 0, 0x80, 0, 0))
    return structure(_text(name), _text(start), _text(week))


def _week(name: bytes, workday: int, weekend: int) -> Data:
    days = (workday,) * 5 + (weekend,) * 2
    return structure(_text(name), *(Data(DataType.UNSIGNED, day) for day in days))


def _day(number: int, *switches: tuple[int, int]) -> Data:
    schedule = array(
        structure(_text(bytes((hour, 0, 0, 0))), _text(_TARIFF_SCRIPTS), Data(DataType.LONG_UNSIGNED, tariff))
        for hour, tariff in switches
    )
    return structure(Data(DataType.UNSIGNED, number), schedule)


_ACTIVE: Final = {
    2: _text(b"TOU-1"),
    3: array((_season(b"W", 10, b"W"), _season(b"S", 4, b"S"))),
    4: array((_week(b"W", 1, 2), _week(b"S", 1, 2))),
    5: array((_day(1, (0, 2), (6, 1), (22, 2)), _day(2, (0, 2)))),
}


def _activate(meter: SimulatedMeter, t: int, parameters: Data) -> None:
    for index in _ACTIVE:
        passive = meter.written.get((ACTIVITY_CALENDAR, index + _PASSIVE))
        if passive is not None:
            meter.written[ACTIVITY_CALENDAR, index] = passive


def activity_calendar() -> CosemObject:
    """Make the Activity Calendar; its passive half and the time of activation may be written."""
    passive = {index + _PASSIVE: value for index, value in _ACTIVE.items()}
    attributes = {**_ACTIVE, **passive, 10: _text(_NEVER)}
    return CosemObject(
        20,
        0,
        ACTIVITY_CALENDAR,
        {index: encode(value) for index, value in attributes.items()},
        writers={
            index: stored(ACTIVITY_CALENDAR, index, value.type)
            for index, value in attributes.items()
            if index not in _ACTIVE
        },
        methods={1: _activate},
        first_method=0x50,
    )
