"""Rows of a load profile as readings: each once, at its own time, however the meter tells and compares times."""

from __future__ import annotations

import datetime as dt
from typing import Any, cast
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meterbridge.dlms import DateTime, LogicalName
from meterbridge.errors import ConfigurationError
from meterbridge.meter import DLMSClient, Interval, ProfileColumn, ProfileHistory, ProfileTable, parse_model
from meterbridge.meter.backfill import unix_ms
from meterbridge.model import MeterId, Reading

BERLIN = ZoneInfo("Europe/Berlin")
QUARTER = 900_000
HOUR = 4 * QUARTER
# When clocks go back, and forward.
AUTUMN = round(dt.datetime(2026, 10, 25, 1, tzinfo=dt.UTC).timestamp() * 1000)
SPRING = round(dt.datetime(2026, 3, 29, 1, tzinfo=dt.UTC).timestamp() * 1000)
PROFILE = LogicalName.parse("1-0:99.1.0")
COLUMNS = (
    ProfileColumn("clock", 8, LogicalName.parse("0-0:1.0.0"), 2),
    ProfileColumn("active_energy", 3, LogicalName.parse("1-0:1.8.0"), 2, unit="Wh"),
    ProfileColumn("1-0:9.9.9", 3, LogicalName.parse("1-0:9.9.9"), 2, scaler=None),
)


def local(ms: int) -> dt.datetime:
    """A fixed-offset local time, as meters tell it."""
    when = dt.datetime.fromtimestamp(ms / 1000, BERLIN)
    return when.replace(tzinfo=dt.timezone(when.utcoffset() or dt.timedelta(0)), fold=0)


class LocalMeter:
    """Compares wall-clock figures only; its client asks in the deviation it saw last, as ours does."""

    def __init__(self, now: int, rows: list[int], *, tells: bool, newest_first: bool) -> None:
        self.model = parse_model("m", "")
        self.now = now
        self.rows = sorted(rows, reverse=newest_first)
        self.tells = tells
        self.zone = local(now).tzinfo
        self.asked = 0

    async def get(self, attributes: list[Any]) -> list[Any]:
        return [DateTime.from_datetime(self._told(self.now))]

    async def read_profile(
        self, name: LogicalName, start: dt.datetime, end: dt.datetime, *, may_go_on: None = None
    ) -> ProfileTable:
        assert name == PROFILE
        self.asked += 1
        first, last = (t.astimezone(self.zone).replace(tzinfo=None) if t.tzinfo else t for t in (start, end))
        found = [ms for ms in self.rows if first <= local(ms).replace(tzinfo=None) <= last]
        times = [self._told(ms) for ms in found]
        if self.tells and times:
            self.zone = times[-1].tzinfo
        rows = [(time, ms // QUARTER, 7) for time, ms in zip(times, found, strict=True)]
        if self.tells:
            rows = [row for row in rows if start <= row[0] <= end]
        return ProfileTable(PROFILE, COLUMNS, rows, QUARTER // 1000)

    def _told(self, ms: int) -> dt.datetime:
        return local(ms) if self.tells else local(ms).replace(tzinfo=None)


@given(
    change=st.sampled_from([AUTUMN, SPRING]),
    asked_after=st.booleans(),
    tells=st.booleans(),
    newest_first=st.booleans(),
    begin=st.integers(min_value=-24, max_value=4),
    spans=st.lists(st.integers(min_value=QUARTER // 3, max_value=5 * HOUR), min_size=1, max_size=10),
)
async def test_every_row_comes_exactly_once_over_a_season_change(
    change: int, asked_after: bool, tells: bool, newest_first: bool, begin: int, spans: list[int]
) -> None:
    rows = [change + n * QUARTER for n in range(-40, 240)]
    now = change + 90 * HOUR if asked_after else change - 90 * HOUR
    meter = LocalMeter(now, rows, tells=tells, newest_first=newest_first)
    history = ProfileHistory(MeterId(7), cast(DLMSClient, meter), BERLIN)
    start = end = change + begin * QUARTER
    given_back: list[Reading] = []
    for span in spans:
        piece = await history.read(Interval(end, end + span))
        end += span
        assert piece.undated == 0
        given_back += piece.readings
    assert [reading.ts for reading in given_back] == [ms for ms in rows if start <= ms < end]
    for reading in given_back:
        assert reading.meter == 7
        assert {name: quantity.value for name, quantity in reading.values.items()} == {
            "active_energy": float(reading.ts // QUARTER)
        }


async def test_a_season_without_change_is_asked_for_once() -> None:
    meter = LocalMeter(AUTUMN, [AUTUMN + n * QUARTER for n in range(-400, 0)], tells=True, newest_first=False)
    history = ProfileHistory(MeterId(7), cast(DLMSClient, meter))
    meter.zone = local(AUTUMN - HOUR).tzinfo
    assert len((await history.read(Interval(AUTUMN - 90 * HOUR, AUTUMN - 80 * HOUR))).readings) == 40
    assert meter.asked == 1


async def test_the_clock_is_compared_with_the_middle_of_the_exchange() -> None:
    # The second time it is half past two; told without deviation it might be the first.
    now = AUTUMN + 2 * QUARTER
    for tells in (True, False):
        meter = LocalMeter(now, [], tells=tells, newest_first=False)
        history = ProfileHistory(MeterId(7), cast(DLMSClient, meter), BERLIN)
        wall = iter([now / 1000 - 10, now / 1000 - 8])
        assert await history.drift(lambda times=wall: next(times)) == pytest.approx(9.0)  # type: ignore[misc]


def test_a_model_without_load_profile_has_no_history() -> None:
    meter = LocalMeter(AUTUMN, [], tells=True, newest_first=False)
    meter.model = parse_model("m", 'load_profile = ""')
    with pytest.raises(ConfigurationError, match="model m has no load profile"):
        ProfileHistory(MeterId(7), cast(DLMSClient, meter))


def test_local_times_of_the_night_that_has_an_hour_twice() -> None:
    instants = [AUTUMN + n * QUARTER for n in range(-6, 8)]
    told = [local(ms).replace(tzinfo=None) for ms in instants]
    assert unix_ms(told, BERLIN) == instants
    assert unix_ms(told[::-1], BERLIN) == instants[::-1]
