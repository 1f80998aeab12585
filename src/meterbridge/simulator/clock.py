"""The clock of a simulated meter: time zone, daylight saving, setting and shifting. Time is an argument."""

from __future__ import annotations

import calendar
import dataclasses
import datetime as dt
import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from meterbridge.dlms import Data, DataAccessResult, DataType, DateTime, LogicalName
from meterbridge.dlms.axdr import encode
from meterbridge.dlms.cosem_time import NOT_SPECIFIED, STATUS_DST, STATUS_INVALID
from meterbridge.dlms.xdlms import data_access_error
from meterbridge.simulator.objects import CosemObject, Method, Reader, Writer, octets, unmatched

if TYPE_CHECKING:
    from meterbridge.simulator.meter import SimulatedMeter

CLOCK: Final = LogicalName.parse("0-0:1.0.0")
_LAST, _SECOND_LAST = 0xFE, 0xFD
# The last Sundays of March, 02:00 in winter time, and of October, 03:00 in summer time.
_LAST_OF_MARCH: Final = bytes.fromhex("ffff03fe0702000000800000")
_LAST_OF_OCTOBER: Final = bytes.fromhex("ffff0afe0703000000800000")
_MOST_SHIFTED: Final = 900


@dataclass(frozen=True, slots=True)
class ClockSettings:
    """Where a clock is and how it keeps summer time.

    Args:
        time_zone: minutes to add to local normal time to get UTC, -60 in Central Europe.
        summer: whether daylight saving is kept.
        deviation: minutes by which it is ahead of normal time.
        begins: date-time of twelve octets, wildcards allowed, in normal time.
        ends: the same, in summer time.
    """

    time_zone: int = 0
    summer: bool = False
    deviation: int = 60
    begins: bytes = _LAST_OF_MARCH
    ends: bytes = _LAST_OF_OCTOBER

    def is_summer(self, t: float) -> bool:
        """Whether daylight saving is on at Unix time `t`."""
        if not self.summer:
            return False
        begin, end = _season(self, dt.datetime.fromtimestamp(t, dt.UTC).year)
        return begin <= t < end if begin < end else not end <= t < begin

    def octets(self, t: float, status: int = 0) -> bytes:
        """Return the twelve octets of local time at Unix time `t`, with its deviation."""
        summer = self.is_summer(t)
        ahead = dt.timedelta(minutes=(self.deviation if summer else 0) - self.time_zone)
        when = dt.datetime.fromtimestamp(t, dt.timezone(ahead))
        return DateTime.from_datetime(when, status | (STATUS_DST if summer else 0)).octets

    def unix(self, when: DateTime) -> float | None:
        """Return the Unix time of a date-time, local where its deviation is not specified; None for no instant."""
        moment = when.to_datetime()
        if moment is None:
            return None
        if moment.tzinfo is not None:
            return moment.timestamp()
        normal = moment.replace(tzinfo=dt.UTC).timestamp() + 60 * self.time_zone
        summer = normal - 60 * self.deviation
        return summer if self.is_summer(summer) else normal


@functools.lru_cache(maxsize=1024)
def _season(settings: ClockSettings, year: int) -> tuple[float, float]:
    begin = _in_year(settings.begins, year).timestamp() + 60 * settings.time_zone
    end = _in_year(settings.ends, year).timestamp() + 60 * (settings.time_zone - settings.deviation)
    return begin, end


def _in_year(pattern: bytes, year: int) -> dt.datetime:
    month, day, weekday, hour, minute = pattern[2:7]
    length = calendar.monthrange(year, month)[1]
    if day in (_LAST, _SECOND_LAST):
        last = length if day == _LAST or weekday != NOT_SPECIFIED else length - 1
        date = dt.date(year, month, last)
        if weekday != NOT_SPECIFIED:
            date -= dt.timedelta(days=(date.isoweekday() - weekday) % 7 + (7 if day == _SECOND_LAST else 0))
    else:
        date = dt.date(year, month, 1 if day == NOT_SPECIFIED else min(day, length))
        if weekday != NOT_SPECIFIED:
            date += dt.timedelta(days=(weekday - date.isoweekday()) % 7)
    time = dt.time(hour if hour < 24 else 0, minute if minute < 60 else 0)
    return dt.datetime.combine(date, time, dt.UTC)


# ---------------------------------------------------------------------------------------------------------------------
# the object


def moment(value: Any) -> DateTime:
    """Return a date-time that came as octet-string or as date-time.

    Raises:
        DataAccessError: it is neither.
    """
    if isinstance(value, DateTime):
        return value
    if not isinstance(value, bytes) or len(value) != 12:
        raise unmatched()
    return DateTime(value)


def _shown(meter: SimulatedMeter, t: int) -> bytes:
    status = STATUS_INVALID if meter.clock_invalid else 0
    return octets(meter.clock.octets(t + meter.clock_offset, status))


def _status(meter: SimulatedMeter, t: int) -> bytes:
    summer = STATUS_DST if meter.clock.is_summer(t + meter.clock_offset) else 0
    return encode(Data(DataType.UNSIGNED, summer | (STATUS_INVALID if meter.clock_invalid else 0)))


def _set_time(meter: SimulatedMeter, t: int, value: Data) -> None:
    when = meter.clock.unix(moment(value.value))
    if when is None:
        raise unmatched()
    _put_right(meter, t, when)


def _put_right(meter: SimulatedMeter, t: int, when: float) -> None:
    meter.clock_offset = int(when) - t
    meter.clock_invalid = False


def _setting(field: str, kind: DataType, low: int, high: int) -> Writer:
    def write(meter: SimulatedMeter, t: int, value: Data) -> None:
        if value.type is not kind or not low <= value.value <= high:
            raise unmatched()
        meter.clock = dataclasses.replace(meter.clock, **{field: value.value})

    return write


def _season_setting(change: Callable[[ClockSettings, bytes], ClockSettings]) -> Writer:
    def write(meter: SimulatedMeter, t: int, value: Data) -> None:
        pattern = moment(value.value).octets
        month, day, weekday = pattern[2:5]
        if not 1 <= month <= 12 or (day not in (_LAST, _SECOND_LAST, NOT_SPECIFIED) and not 1 <= day <= 31):
            raise unmatched()
        if weekday != NOT_SPECIFIED and not 1 <= weekday <= 7:
            raise unmatched()
        meter.clock = change(meter.clock, pattern)

    return write


def _adjust_to(step: int) -> Method:
    def adjust(meter: SimulatedMeter, t: int, parameters: Data) -> None:
        shown = t + meter.clock_offset
        meter.clock_offset += (shown + step // 2) // step * step - shown

    return adjust


def _adjust_to_preset_time(meter: SimulatedMeter, t: int, parameters: Data) -> None:
    if meter.preset_time is None:
        raise data_access_error(DataAccessResult.OTHER_REASON)
    when, first, last = meter.preset_time
    if not first <= t + meter.clock_offset <= last:
        raise data_access_error(DataAccessResult.OTHER_REASON)
    meter.preset_time = None
    _put_right(meter, t, when)


def _preset_adjusting_time(meter: SimulatedMeter, t: int, parameters: Data) -> None:
    match parameters.plain():
        case (when, first, last):
            times = [meter.clock.unix(moment(value)) for value in (when, first, last)]
        case _:
            raise unmatched()
    preset, begin, end = times
    if preset is None or begin is None or end is None:
        raise unmatched()
    meter.preset_time = preset, begin, end


def _shift_time(meter: SimulatedMeter, t: int, parameters: Data) -> None:
    if parameters.type is not DataType.LONG or not -_MOST_SHIFTED <= parameters.value <= _MOST_SHIFTED:
        raise unmatched()
    meter.clock_offset += parameters.value


def _of_settings(show: Callable[[ClockSettings], Data]) -> Reader:
    return lambda meter, t: encode(show(meter.clock))


def clock() -> CosemObject:
    """Make the Clock, version 0; all but status and clock base may be written."""
    return CosemObject(
        8,
        0,
        CLOCK,
        {
            2: _shown,
            3: _of_settings(lambda settings: Data(DataType.LONG, settings.time_zone)),
            4: _status,
            5: _of_settings(lambda settings: Data(DataType.OCTET_STRING, settings.begins)),
            6: _of_settings(lambda settings: Data(DataType.OCTET_STRING, settings.ends)),
            7: _of_settings(lambda settings: Data(DataType.INTEGER, settings.deviation)),
            8: _of_settings(lambda settings: Data(DataType.BOOLEAN, settings.summer)),
            9: encode(Data(DataType.ENUM, 1)),
        },
        writers={
            2: _set_time,
            3: _setting("time_zone", DataType.LONG, -840, 840),
            5: _season_setting(lambda settings, begins: dataclasses.replace(settings, begins=begins)),
            6: _season_setting(lambda settings, ends: dataclasses.replace(settings, ends=ends)),
            7: _setting("deviation", DataType.INTEGER, -120, 120),
            8: _setting("summer", DataType.BOOLEAN, 0, 1),
        },
        methods={
            1: _adjust_to(900),
            2: _adjust_to(900),
            3: _adjust_to(60),
            4: _adjust_to_preset_time,
            5: _preset_adjusting_time,
            6: _shift_time,
        },
        first_method=0x60,
    )
