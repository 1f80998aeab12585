"""Buffers of a Profile Generic, decoded to Python values: quickly where rows look alike, as they mostly do.

Rows whose types and lengths agree take the same number of octets. The octets that say so are compared column by
column, all rows at once, and what lies between them is unpacked by one `struct` for all rows. A row that differs begins
a run of its own; one that holds what no `struct` can say goes through the general decoder.
"""

from __future__ import annotations

import datetime as dt
import functools
from collections.abc import Iterable, Sequence
from itertools import repeat
from struct import Struct
from typing import Any

from meterbridge.dlms.axdr import FIXED_SIZE_CODES, DataType, decode_length, decode_value_at
from meterbridge.dlms.cosem_time import DEVIATION_NOT_SPECIFIED, NOT_SPECIFIED, DateTime
from meterbridge.errors import RemoteProtocolError

Columns = list[list[Any]]
"""The values of a buffer column by column, each as long as there are rows."""

_AT_ONCE = 16
_GROWTH = 8
_SHORT_RUN = 4
_MOST_BY_ONE = 63

_SIZES: dict[int, int] = {tag: size for tag, (_, size) in FIXED_SIZE_CODES.items()} | {
    DataType.NULL_DATA: 0,
    DataType.BOOLEAN: 1,
    DataType.BCD: 1,
    DataType.DATE_TIME: 12,
    DataType.DATE: 5,
    DataType.TIME: 4,
}
_COUNTED = (DataType.OCTET_STRING, DataType.VISIBLE_STRING, DataType.UTF8_STRING)
_CODES: dict[int, str] = {tag: code for tag, (code, _) in FIXED_SIZE_CODES.items()} | {
    DataType.BOOLEAN: "?",
    DataType.BCD: "B",
}
_DATE_TIME_FIELDS = "HBBxBBBBhx"
_DATE_TIME_FIELD_COUNT = 8

_Signature = tuple[tuple[int, int], ...]
"""Tag and number of content octets of each value in a row."""


def _signature(octets: bytes, position: int) -> _Signature | None:
    """Return what the row at `position` looks like, None where it is nothing to unpack by `struct`."""
    try:
        if octets[position] != DataType.STRUCTURE or octets[position + 1] >= 0x80:
            return None
        cells = []
        count, position = octets[position + 1], position + 2
        for _ in range(count):
            tag = octets[position]
            size = _SIZES.get(tag, -1)
            position += 1
            if size < 0:
                if tag not in _COUNTED or octets[position] >= 0x80:
                    return None
                size = octets[position]
                position += 1
            cells.append((tag, size))
            position += size
    except IndexError:
        return None
    return tuple(cells) if position <= len(octets) else None


class _Cell:
    """Where one value of a row is found.

    Args:
        offset: of its tag in the row.
        fields: those of the unpacked row that are its own; empty where it is decoded by the general decoder.
        null: whether it is null-data.
        moment: whether it is a date-time.
    """

    __slots__ = ("fields", "moment", "null", "offset")

    def __init__(self, offset: int, fields: slice, null: bool, moment: bool) -> None:
        self.offset = offset
        self.fields = fields
        self.null = null
        self.moment = moment


class _Layout:
    """How rows of one signature are unpacked.

    Args:
        signature: of the rows.
        clocks: columns whose twelve-octet values are date-times.
    """

    __slots__ = ("_cells", "_marks", "_struct", "size")

    def __init__(self, signature: _Signature, clocks: frozenset[int]) -> None:
        marks = [(0, int(DataType.STRUCTURE)), (1, len(signature))]
        cells = []
        offset, fields, code = 2, 0, ">2x"
        for column, (tag, size) in enumerate(signature):
            marks.append((offset, tag))
            head = 1
            if tag in _COUNTED:
                marks.append((offset + 1, size))
                head = 2
            moment = column in clocks and size == 12 and tag in (DataType.OCTET_STRING, DataType.DATE_TIME)
            own, count = _code(tag, size, moment)
            cells.append(_Cell(offset, slice(fields, fields + count), tag == DataType.NULL_DATA, moment))
            code += f"{head}x{own}"
            fields += count
            offset += head + size
        self._marks = marks
        self._cells = cells
        self._struct = Struct(code)
        self.size = offset

    def run(self, octets: bytes, position: int, most: int) -> int:
        """Return how many rows from `position` on have this layout, `most` at most."""
        size = self.size
        most = min(most, (len(octets) - position) // size)
        for offset, octet in self._marks:
            column = octets[position + offset : position + most * size : size]
            if column.count(octet) != most:
                most -= len(column.lstrip(bytes((octet,))))
        return most

    def extend(self, columns: Columns, octets: bytes, position: int, count: int) -> None:
        """Add the values of `count` rows from `position` on, all of this layout, to their columns."""
        size = self.size
        end = position + count * size
        fields = list(zip(*self._struct.iter_unpack(memoryview(octets)[position:end]), strict=True))
        for cell, column in zip(self._cells, columns, strict=True):
            own = fields[cell.fields]
            if cell.null:
                column.extend(repeat(None, count))
            elif cell.moment:
                try:
                    column.extend(_moments(own))
                except ValueError:
                    column.extend(_moment(decode_value_at(octets, at)[0]) for at in self._starts(cell, position, end))
            elif own:
                column.extend(own[0])
            else:
                column.extend(decode_value_at(octets, at)[0] for at in self._starts(cell, position, end))

    def _starts(self, cell: _Cell, position: int, end: int) -> range:
        return range(position + cell.offset, end, self.size)


def _code(tag: int, size: int, moment: bool) -> tuple[str, int]:
    """Return the `struct` code of a value's content, and how many fields it makes."""
    if moment:
        return _DATE_TIME_FIELDS, _DATE_TIME_FIELD_COUNT
    if tag in _CODES:
        return _CODES[tag], 1
    if tag == DataType.OCTET_STRING:
        return f"{size}s", 1
    return f"{size}x", 0


_layout = functools.lru_cache(maxsize=256)(_Layout)


@functools.lru_cache(maxsize=256)
def _zone(deviation: int) -> dt.timezone | None:
    return None if deviation == DEVIATION_NOT_SPECIFIED else dt.timezone(dt.timedelta(minutes=-deviation))


def _moments(fields: Sequence[Sequence[int]]) -> Iterable[dt.datetime]:
    """Make datetimes of the fields of many date-times.

    Raises:
        ValueError: one of them is no single instant.
    """
    years, months, days, hours, minutes, seconds, hundredths, deviations = fields
    zones: Iterable[dt.timezone | None] = map(_zone, deviations)
    if deviations.count(deviations[0]) == len(deviations):
        zones = repeat(_zone(deviations[0]))
    if NOT_SPECIFIED in seconds:
        seconds = [0 if second == NOT_SPECIFIED else second for second in seconds]
    microseconds: Iterable[int] = repeat(0)
    if not set(hundredths) <= {0, NOT_SPECIFIED}:
        microseconds = [0 if hundredth == NOT_SPECIFIED else hundredth * 10_000 for hundredth in hundredths]
    # A list, so that a failure leaves nothing half done.
    return list(map(dt.datetime, years, months, days, hours, minutes, seconds, microseconds, zones))


def _moment(value: Any) -> Any:
    """Return a date-time as a datetime where it is a single instant, as a DateTime where it has wildcards."""
    if isinstance(value, bytes) and len(value) == 12:
        value = DateTime(value)
    if isinstance(value, DateTime):
        return value.to_datetime() or value
    return value


class BufferDecoder:
    """Decodes buffers of one Profile Generic.

    Date-times become datetimes, aware where their deviation is specified; one with wildcards stays a `DateTime`.

    Args:
        clocks: columns whose twelve-octet values are date-times, from 0.
        width: values in a row; None takes what the first row has.
    """

    def __init__(self, clocks: Iterable[int] = (), width: int | None = None) -> None:
        self._clocks = frozenset(clocks)
        self._width = width

    def columns_at(self, octets: bytes, position: int) -> tuple[Columns, int]:
        """Decode the buffer at `position` to columns; return them and the position behind it.

        Raises:
            RemoteProtocolError: malformed, no array, or rows of different widths.
        """
        if position >= len(octets) or octets[position] != DataType.ARRAY:
            rows, position = decode_value_at(octets, position)
            if not isinstance(rows, list):
                raise RemoteProtocolError("a profile's buffer that is no array")
            columns = self._columns(len(rows[0]) if rows and isinstance(rows[0], (list, tuple)) else 0)
            for row in rows:
                self._append(columns, row)
            return columns, position
        count, position = decode_length(octets, position + 1)
        if count > len(octets) - position:
            raise RemoteProtocolError(f"{count} rows announced, {len(octets) - position} octets left")
        columns = self._columns(octets[position + 1] if count and position + 1 < len(octets) else 0)
        at_once, by_one, one_by_one = _AT_ONCE, 0, 0
        while count:
            signature = None if one_by_one else _signature(octets, position)
            if signature is None or len(signature) != len(columns):
                row, position = decode_value_at(octets, position)
                self._append(columns, row)
                count -= 1
                one_by_one = max(0, one_by_one - 1)
                continue
            layout = _layout(signature, self._clocks)
            tried = min(count, at_once)
            rows_alike = layout.run(octets, position, tried)
            layout.extend(columns, octets, position, rows_alike)
            position += rows_alike * layout.size
            count -= rows_alike
            # Looking far ahead for runs that are short would take time by the square of the rows, and where no two
            # rows look alike, looking at all costs more than it saves.
            at_once = at_once * _GROWTH if rows_alike == tried else _AT_ONCE
            by_one = 2 * by_one + 1 if rows_alike < _SHORT_RUN else 0
            one_by_one = by_one = min(by_one, _MOST_BY_ONE)
        return columns, position

    def rows(self, octets: bytes) -> list[tuple[Any, ...]]:
        """Decode octets that are one buffer and nothing else to rows.

        Raises:
            RemoteProtocolError: as `columns_at`, or octets left over.
        """
        columns, position = self.columns_at(octets, 0)
        if position != len(octets):
            raise RemoteProtocolError(f"{len(octets) - position} octets behind the data")
        return list(zip(*columns, strict=True))

    def _columns(self, first_row: int) -> Columns:
        return [[] for _ in range(first_row if self._width is None else self._width)]

    def _append(self, columns: Columns, row: Any) -> None:
        if not isinstance(row, (list, tuple)) or len(row) != len(columns):
            size = len(row) if isinstance(row, (list, tuple)) else 1
            raise RemoteProtocolError(f"a row of {size} values in a profile of {len(columns)} columns")
        for index, (column, value) in enumerate(zip(columns, row, strict=True)):
            column.append(_moment(value) if index in self._clocks else value)
