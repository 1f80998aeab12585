"""Date, time and date-time as COSEM sends them, wildcards kept (Blue Book, common data types)."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from struct import Struct

_DATE_TIME = Struct(">HBBBBBBBhB")

NOT_SPECIFIED = 0xFF
YEAR_NOT_SPECIFIED = 0xFFFF
DEVIATION_NOT_SPECIFIED = -0x8000
STATUS_DST = 0x80
"""clock_status bit: daylight saving active."""
STATUS_INVALID = 0x01

_MONTHS = {0xFD: "daylight-savings-end", 0xFE: "daylight-savings-begin"}
_DAYS = {0xFD: "second-last", 0xFE: "last"}


def _field(value: int, width: int, special: dict[int, str] | None = None) -> str:
    if special and value in special:
        return special[value]
    return "*" * width if value == NOT_SPECIFIED else f"{value:0{width}d}"


@dataclass(frozen=True, slots=True)
class Date:
    """A date of five octets: year (0xFFFF any), month, day of month, day of week (0xFF any; special values kept)."""

    octets: bytes

    def __post_init__(self) -> None:
        if len(self.octets) != 5:
            raise ValueError(f"a date has 5 octets, not {len(self.octets)}")

    def __str__(self) -> str:
        year = int.from_bytes(self.octets[:2], "big")
        month, day = self.octets[2:4]
        years = "****" if year == YEAR_NOT_SPECIFIED else f"{year:04d}"
        return f"{years}-{_field(month, 2, _MONTHS)}-{_field(day, 2, _DAYS)}"


@dataclass(frozen=True, slots=True)
class Time:
    """A time of four octets: hour, minute, second, hundredths; 0xFF is any."""

    octets: bytes

    def __post_init__(self) -> None:
        if len(self.octets) != 4:
            raise ValueError(f"a time has 4 octets, not {len(self.octets)}")

    def __str__(self) -> str:
        hour, minute, second, hundredths = self.octets
        text = f"{_field(hour, 2)}:{_field(minute, 2)}:{_field(second, 2)}"
        return text if hundredths in (0, NOT_SPECIFIED) else f"{text}.{hundredths:02d}"


@dataclass(frozen=True, slots=True)
class DateTime:
    """A date-time of twelve octets: date, time, deviation in minutes, clock status.

    The deviation is what must be added to local time to get UTC: -60 in Central Europe's winter.
    """

    octets: bytes

    def __post_init__(self) -> None:
        if len(self.octets) != 12:
            raise ValueError(f"a date-time has 12 octets, not {len(self.octets)}")

    @classmethod
    def from_datetime(cls, when: dt.datetime, status: int = 0, *, day_of_week: bool = True) -> DateTime:
        """Encode a datetime; a naive one leaves the deviation unspecified."""
        offset = when.utcoffset()
        deviation = DEVIATION_NOT_SPECIFIED if offset is None else -int(offset.total_seconds()) // 60
        weekday = when.isoweekday() if day_of_week else NOT_SPECIFIED
        hundredths = when.microsecond // 10_000
        return cls(
            _DATE_TIME.pack(
                when.year,
                when.month,
                when.day,
                weekday,
                when.hour,
                when.minute,
                when.second,
                hundredths,
                deviation,
                status,
            )
        )

    @property
    def date(self) -> Date:
        """The date half."""
        return Date(self.octets[:5])

    @property
    def time(self) -> Time:
        """The time half."""
        return Time(self.octets[5:9])

    @property
    def deviation(self) -> int | None:
        """Minutes to add to local time to get UTC, or None where not specified (0x8000)."""
        value = int.from_bytes(self.octets[9:11], "big", signed=True)
        return None if value == DEVIATION_NOT_SPECIFIED else value

    @property
    def status(self) -> int | None:
        """Clock status octet, None where not specified (0xFF)."""
        return None if self.octets[11] == NOT_SPECIFIED else self.octets[11]

    @property
    def daylight_saving(self) -> bool:
        """Whether the status says daylight saving is active."""
        return self.status is not None and bool(self.status & STATUS_DST)

    def to_datetime(self) -> dt.datetime | None:
        """Return it as a datetime, aware where the deviation is specified and naive where not.

        None when it is no single instant: a wildcard in year, month, day, hour or minute, or no such date. Unspecified
        seconds and hundredths count as 0.
        """
        year, month, day, _, hour, minute, second, hundredths, deviation, _ = _DATE_TIME.unpack(self.octets)
        zone = None
        try:
            if deviation != DEVIATION_NOT_SPECIFIED:
                zone = dt.timezone(dt.timedelta(minutes=-deviation))
            return dt.datetime(
                year,
                month,
                day,
                hour,
                minute,
                0 if second == NOT_SPECIFIED else second,
                0 if hundredths == NOT_SPECIFIED else hundredths * 10_000,
                zone,
            )
        except ValueError:
            return None

    def __str__(self) -> str:
        text = f"{self.date} {self.time}"
        deviation = self.deviation
        if deviation is None:
            return text
        sign, minutes = ("-", deviation) if deviation > 0 else ("+", -deviation)
        return f"{text} {sign}{minutes // 60:02d}:{minutes % 60:02d}"
