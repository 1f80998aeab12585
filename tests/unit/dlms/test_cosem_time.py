from __future__ import annotations

import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meterbridge.dlms import Date, DateTime, Time

_zones = st.none() | st.integers(-720, 840).map(lambda minutes: dt.timezone(dt.timedelta(minutes=minutes)))


@given(st.datetimes(timezones=_zones), st.integers(0, 254))
def test_datetimes_survive_to_the_hundredth(when: dt.datetime, status: int) -> None:
    encoded = DateTime.from_datetime(when, status)
    assert encoded.to_datetime() == when.replace(microsecond=when.microsecond // 10_000 * 10_000)
    assert encoded.status == status
    offset = when.utcoffset()
    assert encoded.deviation == (None if offset is None else -offset // dt.timedelta(minutes=1))
    assert encoded.octets[4] == when.isoweekday()


@given(st.binary(min_size=12, max_size=12))
def test_arbitrary_octets_are_shown_and_raise_nothing(octets: bytes) -> None:
    when = DateTime(octets)
    assert str(when).startswith(str(when.date))
    assert str(when.time) in str(when)
    when.to_datetime()
    assert isinstance(when.daylight_saving, bool)


@pytest.mark.parametrize(
    ("octets", "text", "moment"),
    [
        (
            "07e9 0b 0b ff 0a1e00 00 ffc4 00",
            "2025-11-11 10:30:00 +01:00",
            dt.datetime(2025, 11, 11, 9, 30, tzinfo=dt.UTC),
        ),
        ("07e9 06 0b ff 0a1e00 ff 8000 80", "2025-06-11 10:30:00", dt.datetime(2025, 6, 11, 10, 30)),
        (
            "07e9 0b 0b ff 0a1eff 19 0000 ff",
            "2025-11-11 10:30:**.25 +00:00",
            dt.datetime(2025, 11, 11, 10, 30, 0, 250_000, dt.UTC),
        ),
        ("ffff ff ff ff ffffff ff 8000 ff", "****-**-** **:**:**", None),
        ("ffff fe fe 07 020000 00 8000 00", "****-daylight-savings-begin-last 02:00:00", None),
        ("07e9 02 1e ff 000000 00 8000 00", "2025-02-30 00:00:00", None),
        ("07e9 0b 0b ff 0a1e00 00 7fff 00", "2025-11-11 10:30:00 -546:07", None),
    ],
)
def test_date_times_as_meters_send_them(octets: str, text: str, moment: dt.datetime | None) -> None:
    when = DateTime(bytes.fromhex(octets))
    assert str(when) == text
    assert when.to_datetime() == moment


def test_sizes() -> None:
    for make, size in ((DateTime, 12), (Date, 5), (Time, 4)):
        for wrong in (0, size - 1, size + 1):
            with pytest.raises(ValueError, match=f"{size} octets"):
                make(bytes(wrong))
