"""What a meter kept while it could not be read: rows of its load profile as readings, with the meter's own times."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from meterbridge.dlms import DateTime, LogicalName
from meterbridge.errors import ConfigurationError, Interrupted
from meterbridge.meter.client import DLMSClient
from meterbridge.meter.clock import read_clock
from meterbridge.meter.coverage import Interval
from meterbridge.meter.profile import ProfileColumn, ProfileTable
from meterbridge.meter.values import displayed
from meterbridge.model import MeterId, Quantity, Reading

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_MILLISECOND = dt.timedelta(milliseconds=1)
# What daylight saving moves a clock by: no meter is known that moves it further.
_SEASON = dt.timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class HistoryPiece:
    """What a meter kept of an interval.

    Args:
        interval: the whole of it was asked for.
        readings: one for each row of it that holds a value, oldest first.
        undated: rows whose time is no instant: nobody can say whether they belong to it.
    """

    interval: Interval
    readings: tuple[Reading, ...]
    undated: int


class ProfileHistory:
    """Reads one meter's load profile back.

    Args:
        meter: whose readings they become.
        client: connected when it is used.
        zone: where a meter is whose clock tells no deviation; None is where this machine is.

    Raises:
        ConfigurationError: its model has no load profile.
    """

    def __init__(self, meter: MeterId, client: DLMSClient, zone: dt.tzinfo | None = None) -> None:
        if client.model.load_profile is None:
            raise ConfigurationError(f"meter model {client.model.name} has no load profile")
        self._meter = meter
        self._client = client
        self._profile = LogicalName.parse(client.model.load_profile)
        self._zone = zone
        # Whether it tells no deviation; None as long as that is not known.
        self._local: bool | None = None

    async def drift(self, wall: Callable[[], float]) -> float | None:
        """Read the meter's clock: seconds it is ahead of `wall` (Unix time), None where it shows no instant.

        Raises:
            DataAccessError: it has no clock that may be read.
            MeterError: as `DLMSClient.get`.
        """
        looked = await read_clock(self._client, wall)
        shown = self._note(looked.time)
        if shown is None:
            return None
        # In an autumn night a local time is two instants: the nearer one is meant.
        drifts = [_ms(shown, self._zone, fold) / 1000 - looked.read_at for fold in (0, 1)]
        return min(drifts, key=abs)

    async def read(self, interval: Interval, may_go_on: Callable[[], bool] | None = None) -> HistoryPiece:
        """Read the rows with a time in an interval.

        Args:
            interval: half-open.
            may_go_on: asked before each exchange but the first; None is always.

        Raises:
            ConfigurationError: the profile captures no time.
            Interrupted: `may_go_on` said no before all was there.
            MeterError: as `DLMSClient.read_profile`.
        """
        if self._local is None:
            # What its deviation is, not what time it shows.
            self._note((await read_clock(self._client, lambda: 0.0)).time)
            _check(may_go_on)
        table = await self._ask(interval, dt.timedelta(0), may_go_on)
        piece = self._piece(interval, table)
        if not self._local and len(piece.readings) < _expected(interval, table.period):
            # Some meters compare local times and never look at the deviation: where the season changed between what
            # was asked and what is there, they leave out what is an hour away. Or they had no power, or tell none here.
            self._local = _is_local(table)
            _check(may_go_on)
            piece = self._piece(interval, await self._ask(interval, _SEASON, may_go_on))
        return piece

    # ---- within

    def _note(self, shown: DateTime) -> dt.datetime | None:
        self._local = shown.deviation is None
        return shown.to_datetime()

    async def _ask(self, interval: Interval, wider: dt.timedelta, may_go_on: Callable[[], bool] | None) -> ProfileTable:
        start = _EPOCH + interval.start * _MILLISECOND
        # Meters count both ends in.
        end = _EPOCH + (interval.end - 1) * _MILLISECOND
        if self._local:
            # Always wider: which of the two hours of an autumn night a row is of, only its neighbours say.
            start, end, wider = start.astimezone(self._zone), end.astimezone(self._zone), _SEASON
            start, end = start.replace(tzinfo=None), end.replace(tzinfo=None)
        return await self._client.read_profile(self._profile, start - wider, end + wider, may_go_on=may_go_on)

    def _piece(self, interval: Interval, table: ProfileTable) -> HistoryPiece:
        clock = table.clock
        if clock is None:
            raise ConfigurationError(f"profile {self._profile.obis} captures no time")
        dated = [row for row in table.rows if isinstance(row[clock], dt.datetime)]
        readings = []
        for row, ts in zip(dated, unix_ms([row[clock] for row in dated], self._zone), strict=True):
            if interval.start <= ts < interval.end and (values := _values(table.columns, row)):
                readings.append(Reading(self._meter, ts, values))
        readings.sort(key=lambda reading: reading.ts)
        return HistoryPiece(interval, tuple(readings), len(table.rows) - len(dated))


def _check(may_go_on: Callable[[], bool] | None) -> None:
    if may_go_on is not None and not may_go_on():
        raise Interrupted("not asked for more: no time was left")


def _expected(interval: Interval, period: int) -> int:
    """How many rows an interval has where no power was away; at least one where the meter captures without period."""
    step = 1000 * period
    return 1 if step <= 0 else -(-interval.end // step) + (-interval.start // step)


def _is_local(table: ProfileTable) -> bool:
    clock = table.clock
    times = [] if clock is None else [row[clock] for row in table.rows]
    return any(isinstance(time, dt.datetime) and time.tzinfo is None for time in times)


def unix_ms(times: Sequence[dt.datetime], zone: dt.tzinfo | None) -> list[int]:
    """Say when rows were captured, Unix milliseconds.

    Args:
        times: in the order of the rows; naive ones are local. Where the clock goes back an hour in autumn, the rows
            that come again after later ones are those of the second hour.
        zone: of naive times; None is this machine's.
    """
    backwards = len(times) > 1 and times[0].replace(tzinfo=None) > times[-1].replace(tzinfo=None)
    found: list[int] = []
    for time in reversed(times) if backwards else times:
        ms = _ms(time, zone, 0)
        if time.tzinfo is None and found and ms <= found[-1]:
            ms = max(ms, _ms(time, zone, 1))
        found.append(ms)
    return found[::-1] if backwards else found


def _ms(time: dt.datetime, zone: dt.tzinfo | None, fold: int) -> int:
    if time.tzinfo is None:
        time = time.replace(fold=fold)
        # Without an argument, astimezone takes a naive time as this machine's.
        time = time.replace(tzinfo=zone) if zone is not None else time.astimezone(dt.UTC)
    return (time - _EPOCH) // _MILLISECOND


def _values(columns: Iterable[ProfileColumn], row: Sequence[Any]) -> dict[str, Quantity]:
    """Name what a row holds; a column whose scaler the meter would not tell is worse than none."""
    values = {}
    for column, value in zip(columns, row, strict=True):
        if column.is_clock or column.scaler is None or value is None:
            continue
        if column.unit is None or not isinstance(value, (int, float)):
            shown = displayed(value, column.class_id, column.attribute)
        else:
            # As a poll gives it: ThingsBoard tells whole numbers from others.
            shown = float(value)
        values[column.name] = Quantity(shown, column.unit, str(column.logical_name))
    return values
