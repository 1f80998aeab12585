"""Load profiles: what a Profile Generic captured, as a table of Python values with units and datetimes."""

from __future__ import annotations

import datetime as dt
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from meterbridge.dlms import AttributeDescriptor, Data, DataType, DateTime, LogicalName, SelectiveAccess
from meterbridge.dlms import scaled as apply_scaler
from meterbridge.dlms.cosem import attribute_name
from meterbridge.dlms.profile_rows import BufferDecoder, Columns
from meterbridge.dlms.units import unit_symbol
from meterbridge.errors import ConfigurationError, Interrupted, MeterError, RemoteProtocolError

if TYPE_CHECKING:
    from meterbridge.meter.client import DLMSClient

PROFILE_GENERIC = 7
_CLOCK, _TIME = 8, 2
_BUFFER, _CAPTURE_OBJECTS, _CAPTURE_PERIOD, _SORT_METHOD = 2, 3, 4, 5
_BY_RANGE, _BY_ENTRY = 1, 2
_FIFO, _LIFO = 1, 2
_SCALER_OF = {(3, 2): 3, (4, 2): 3, (5, 2): 4, (5, 3): 4}
"""By class and attribute of a scaled value: the attribute with its scaler and unit."""
_FIRST, _LAST = dt.datetime(2000, 1, 1), dt.datetime(2099, 12, 31, 23, 59, 59)
_ROWS_A_CHUNK = 1000
_WITHOUT_PERIOD = dt.timedelta(days=1)


@dataclass(frozen=True, slots=True)
class ProfileColumn:
    """What one column of a profile captures.

    Args:
        name: the measurement's where the meter's model has one, otherwise its OBIS code, with `:attribute` where that
            is not 2 and `[index]` where only an element of it is captured.
        class_id: COSEM interface class.
        logical_name: of the captured object.
        attribute: index of the captured attribute, 0 for all of them.
        data_index: which element of the attribute, 0 for the whole.
        unit: of the values; None where there is none, or the meter would not tell.
        scaler: applied to the values already; None where the meter would not tell, and the values are raw.
    """

    name: str
    class_id: int
    logical_name: LogicalName
    attribute: int
    data_index: int = 0
    unit: str | None = None
    scaler: int | None = 0

    @property
    def attribute_name(self) -> str:
        """What the class calls the attribute."""
        return attribute_name(self.class_id, self.attribute) if self.attribute else "all"

    @property
    def is_clock(self) -> bool:
        """Whether it holds the time of each row."""
        return self.class_id == _CLOCK and self.attribute == _TIME

    def capture_object(self) -> Data:
        """The capture object definition, as a meter takes it."""
        return Data(
            DataType.STRUCTURE,
            (
                Data(DataType.LONG_UNSIGNED, self.class_id),
                Data(DataType.OCTET_STRING, bytes(self.logical_name)),
                Data(DataType.INTEGER, self.attribute),
                Data(DataType.LONG_UNSIGNED, self.data_index),
            ),
        )


@dataclass(frozen=True, slots=True)
class ProfileTable:
    """Rows of a profile, in the order the meter keeps them.

    Values are scaled; times are datetimes, aware where the meter gives a deviation, and a `DateTime` where they have
    wildcards.

    Args:
        logical_name: of the profile.
        columns: what the rows hold.
        rows: one tuple for each row, as long as there are columns.
        period: capture period in seconds, 0 where captures are triggered otherwise.
        start: earliest time asked for, None where the selection was another.
        end: latest time asked for; not included in a chunk that is not the last.
    """

    logical_name: LogicalName
    columns: tuple[ProfileColumn, ...]
    rows: list[tuple[Any, ...]] = field(repr=False)
    period: int
    start: dt.datetime | None = None
    end: dt.datetime | None = None

    @property
    def clock(self) -> int | None:
        """Index of the column with the time of each row, None where the profile has none."""
        return next((index for index, column in enumerate(self.columns) if column.is_clock), None)

    def records(self) -> Iterator[dict[str, Any]]:
        """Give the rows as dictionaries by column name."""
        names = [column.name for column in self.columns]
        for row in self.rows:
            yield dict(zip(names, row, strict=True))


@dataclass(frozen=True, slots=True)
class _Layout:
    """What a profile says of itself."""

    columns: tuple[ProfileColumn, ...]
    period: int
    sort_method: int

    @property
    def step(self) -> dt.timedelta | None:
        """From the time of one row to the next, None where that cannot be known."""
        if not self.period or self.sort_method not in (_FIFO, _LIFO):
            return None
        return dt.timedelta(seconds=self.period if self.sort_method == _FIFO else -self.period)


class ProfileReader:
    """Reads one Profile Generic; its capture objects and their scalers are read once.

    Args:
        client: connected to the meter.
        logical_name: of the profile.
    """

    def __init__(self, client: DLMSClient, logical_name: LogicalName) -> None:
        self._client = client
        self._name = logical_name
        self._layout: _Layout | None = None
        # Answers on the way to a layout, for the next time where this one is interrupted.
        self._answers: dict[AttributeDescriptor, Any] = {}
        self._zone: dt.tzinfo | None = None

    async def read(
        self,
        start: dt.datetime | None = None,
        end: dt.datetime | None = None,
        entries: tuple[int, int] | None = None,
        fill_nulls: bool = True,
        may_go_on: Callable[[], bool] | None = None,
    ) -> ProfileTable:
        """See `DLMSClient.read_profile`."""
        _check_range(start, end)
        described = self._layout is not None
        layout = await self._described(may_go_on)
        if not described and may_go_on is not None and not may_go_on():
            raise Interrupted(f"{self._name.obis} is described and not read yet: no time was left")
        selection = None
        if entries is not None:
            if start is not None or end is not None:
                raise ConfigurationError("a profile is read by time or by entry, not by both")
            selection = _by_entry(*entries)
        elif start is not None or end is not None:
            selection = self._by_range(layout, start or _FIRST, end or _LAST)
        clocks = [index for index, column in enumerate(layout.columns) if column.is_clock]
        decoder = BufferDecoder(clocks, len(layout.columns))
        descriptor = AttributeDescriptor(PROFILE_GENERIC, self._name, _BUFFER, selection)
        try:
            columns: Columns = await self._client.get_decoded(descriptor, decoder.columns_at, may_go_on)
        except RemoteProtocolError:
            # Rows that do not fit may mean that the meter was set up anew.
            self._layout = None
            raise
        if fill_nulls:
            _fill(layout, columns)
        for index, column in enumerate(layout.columns):
            if column.scaler:
                columns[index] = _scaled(columns[index], column.scaler)
        rows = list(zip(*columns, strict=True))
        if clocks:
            self._learn_zone(columns[clocks[0]])
            if start is not None or end is not None:
                rows = _within(rows, clocks[0], start, end)
        return ProfileTable(self._name, layout.columns, rows, layout.period, start, end)

    async def chunks(
        self, start: dt.datetime, end: dt.datetime, step: dt.timedelta | None = None, fill_nulls: bool = True
    ) -> AsyncIterator[ProfileTable]:
        """See `DLMSClient.profile_chunks`."""
        _check_range(start, end)
        layout = await self._described()
        if step is None:
            step = dt.timedelta(seconds=layout.period) * _ROWS_A_CHUNK if layout.period else _WITHOUT_PERIOD
        if step <= dt.timedelta(0):
            raise ConfigurationError("a chunk has to span some time")
        while start <= end:
            stop = min(start + step, end)
            table = await self.read(start, stop, fill_nulls=fill_nulls)
            clock = table.clock
            if stop < end and clock is not None:
                # Ranges include both ends: the row at the end comes with the next chunk.
                rows = [row for row in table.rows if _compare(row[clock], stop) != 0]
                table = ProfileTable(table.logical_name, table.columns, rows, table.period, start, stop)
            yield table
            if stop == end:
                return
            start = stop

    # ---- the profile itself

    async def _described(self, may_go_on: Callable[[], bool] | None = None) -> _Layout:
        if self._layout is None:
            try:
                self._layout = await self._describe(may_go_on)
            except Interrupted:
                raise
            except MeterError:
                self._answers.clear()
                raise
            self._answers.clear()
        return self._layout

    async def _get(self, wanted: Iterable[AttributeDescriptor], may_go_on: Callable[[], bool] | None) -> list[Any]:
        """Read what is not known yet; what was answered is kept where it is interrupted."""
        asked = tuple(wanted)
        missing = [attribute for attribute in asked if attribute not in self._answers]
        if missing and self._answers and may_go_on is not None and not may_go_on():
            raise Interrupted(f"{self._name.obis} is not described in full: no time was left")
        results = await self._client.get(missing, may_go_on=may_go_on) if missing else []
        for attribute, result in zip(missing, results, strict=True):
            if not isinstance(result, Interrupted):
                self._answers[attribute] = result
        for result in results:
            if isinstance(result, Interrupted):
                raise result
        return [self._answers[attribute] for attribute in asked]

    async def _describe(self, may_go_on: Callable[[], bool] | None) -> _Layout:
        objects, period, sort_method = await self._get(
            (
                AttributeDescriptor(PROFILE_GENERIC, self._name, attribute)
                for attribute in (_CAPTURE_OBJECTS, _CAPTURE_PERIOD, _SORT_METHOD)
            ),
            may_go_on,
        )
        if isinstance(objects, MeterError):
            raise objects
        try:
            captured = [
                (int(class_id), LogicalName(name), int(attribute), int(data_index))
                for class_id, name, attribute, data_index in objects
            ]
        except (TypeError, ValueError):
            raise RemoteProtocolError(f"{self._name.obis}: the capture objects have a form of their own") from None
        return _Layout(
            tuple(await self._columns(captured, may_go_on)),
            period if isinstance(period, int) else 0,
            sort_method if isinstance(sort_method, int) else _FIFO,
        )

    async def _columns(
        self, captured: list[tuple[int, LogicalName, int, int]], may_go_on: Callable[[], bool] | None
    ) -> list[ProfileColumn]:
        """Read scalers, units and the clock's deviation, and put the columns together."""
        wanted: dict[tuple[int, LogicalName], AttributeDescriptor] = {}
        for class_id, name, attribute, data_index in captured:
            scaler_attribute = None if data_index else _SCALER_OF.get((class_id, attribute))
            if class_id == _CLOCK and attribute == _TIME:
                scaler_attribute = _TIME
            if scaler_attribute is not None:
                wanted[class_id, name] = AttributeDescriptor(class_id, name, scaler_attribute)
        answers = dict(zip(wanted, await self._get(wanted.values(), may_go_on), strict=True))
        columns = []
        for class_id, name, attribute, data_index in captured:
            scaler: int | None = 0
            unit = None
            if (class_id, attribute) in _SCALER_OF and not data_index:
                scaler, unit = _scaler_unit(answers[class_id, name])
            elif class_id == _CLOCK and attribute == _TIME:
                self._learn_zone([_as_datetime(answers[class_id, name])])
            label = self._label(class_id, name, attribute, data_index)
            columns.append(ProfileColumn(label, class_id, name, attribute, data_index, unit, scaler))
        return columns

    def _label(self, class_id: int, name: LogicalName, attribute: int, data_index: int) -> str:
        if data_index == 0:
            for measurement in self._client.model.measurements.values():
                if (measurement.class_id, measurement.logical_name, measurement.attribute) == (
                    class_id,
                    str(name),
                    attribute,
                ):
                    return measurement.name
        index = f"[{data_index}]" if data_index else ""
        return name.obis + (f":{attribute}" if attribute != _TIME else "") + index

    # ---- time

    def _by_range(self, layout: _Layout, start: dt.datetime, end: dt.datetime) -> SelectiveAccess:
        clock = next((column for column in layout.columns if column.is_clock), None)
        if clock is None:
            raise ConfigurationError(f"profile {self._name.obis} captures no time: it can be read by entry only")
        return SelectiveAccess(
            _BY_RANGE,
            Data(
                DataType.STRUCTURE,
                (clock.capture_object(), self._moment(start), self._moment(end), Data(DataType.ARRAY, ())),
            ),
        )

    def _moment(self, when: dt.datetime) -> Data:
        # Some meters compare local times and never look at the deviation: they are asked in their own.
        if when.tzinfo is not None and self._zone is not None:
            when = when.astimezone(self._zone)
        return Data(DataType.OCTET_STRING, DateTime.from_datetime(when).octets)

    def _learn_zone(self, times: list[Any]) -> None:
        if times and isinstance(times[-1], dt.datetime) and times[-1].tzinfo is not None:
            self._zone = times[-1].tzinfo


def _check_range(start: dt.datetime | None, end: dt.datetime | None) -> None:
    if start is None or end is None:
        return
    if (start.tzinfo is None) != (end.tzinfo is None):
        raise ConfigurationError("of the two ends of a range one has a time zone and the other none")
    if start > end:
        raise ConfigurationError(f"a range that ends at {end} before it begins at {start}")


def _by_entry(first: int, last: int) -> SelectiveAccess:
    if not 1 <= first <= 0xFFFFFFFF or not 0 <= last <= 0xFFFFFFFF or 0 < last < first:
        raise ConfigurationError(f"entries {first} to {last} are none: they count from 1, and 0 stands for the last")
    selection = (
        Data(DataType.DOUBLE_LONG_UNSIGNED, first),
        Data(DataType.DOUBLE_LONG_UNSIGNED, last),
        Data(DataType.LONG_UNSIGNED, 1),
        Data(DataType.LONG_UNSIGNED, 0),
    )
    return SelectiveAccess(_BY_ENTRY, Data(DataType.STRUCTURE, selection))


def _scaler_unit(value: Any) -> tuple[int | None, str | None]:
    match value:
        case (int(scaler), int(unit)) if -128 <= scaler <= 127:
            return scaler, unit_symbol(unit)
    return None, None


def _as_datetime(value: Any) -> dt.datetime | None:
    if isinstance(value, bytes) and len(value) == 12:
        value = DateTime(value)
    return value.to_datetime() if isinstance(value, DateTime) else None


def _fill(layout: _Layout, columns: Columns) -> None:
    """Put in place of null-data what it stands for: the next time of a clock, the value before of anything else."""
    for index, (column, values) in enumerate(zip(layout.columns, columns, strict=True)):
        if None not in values:
            continue
        step = layout.step if column.is_clock else None
        previous: Any = None
        filled = []
        for value in values:
            if value is not None:
                previous = value
            elif not column.is_clock:
                pass
            elif step is not None and isinstance(previous, dt.datetime):
                previous += step
            else:
                previous = None
            filled.append(previous)
        columns[index] = filled


def _scaled(values: list[Any], scaler: int) -> list[Any]:
    try:
        if scaler < 0:
            divisor = 10**-scaler
            return [value / divisor for value in values]
        factor = 10**scaler
        return [value * factor if type(value) is int else _one_scaled(value, scaler) for value in values]
    except TypeError:
        return [_one_scaled(value, scaler) for value in values]


def _one_scaled(value: Any, scaler: int) -> Any:
    return apply_scaler(value, scaler) if type(value) in (int, float) else value


def _compare(time: Any, bound: dt.datetime) -> int | None:
    """Return -1, 0 or 1 for a time before, at or after a bound, None for one that cannot be compared."""
    if not isinstance(time, dt.datetime):
        return None
    if bound.tzinfo is None:
        # A naive bound is meant in the meter's local time.
        time = time.replace(tzinfo=None)
    elif time.tzinfo is None:
        return None
    return int(time > bound) - int(time < bound)


def _within(
    rows: list[tuple[Any, ...]], clock: int, start: dt.datetime | None, end: dt.datetime | None
) -> list[tuple[Any, ...]]:
    """Leave out what a meter gave beyond the range; a row whose time cannot be compared stays."""
    return [
        row
        for row in rows
        if (start is None or _compare(row[clock], start) != -1) and (end is None or _compare(row[clock], end) != 1)
    ]
