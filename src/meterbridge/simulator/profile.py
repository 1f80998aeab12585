"""The load profile of a simulated meter: a row every capture period, computed when it is asked for."""

from __future__ import annotations

import math
from collections.abc import Iterator
from struct import Struct
from typing import TYPE_CHECKING, Any, Final

from meterbridge.dlms import Data, DataAccessResult, DataType, LogicalName, SelectiveAccess
from meterbridge.dlms.axdr import encode, encode_length
from meterbridge.dlms.xdlms import data_access_error
from meterbridge.simulator.clock import CLOCK, moment
from meterbridge.simulator.objects import CosemObject, array, structure, unmatched

if TYPE_CHECKING:
    from meterbridge.simulator.meter import SimulatedMeter

LOAD_PROFILE: Final = LogicalName.parse("1-0:99.1.0")
CAPTURE_PERIOD: Final = 900
"""Seconds between rows; captures fall on whole quarters of an hour."""

_COLUMNS: Final = (
    (8, CLOCK),
    (3, LogicalName.parse("1-0:1.8.0")),
    (3, LogicalName.parse("1-0:2.8.0")),
    (3, LogicalName.parse("1-0:3.8.0")),
)
_ALL: Final = tuple(range(len(_COLUMNS)))
_ENERGY: Final = Struct(">BI")
_BY_RANGE, _BY_ENTRY = 1, 2


def _capture_object(column: tuple[int, LogicalName]) -> Data:
    class_id, name = column
    return structure(
        Data(DataType.LONG_UNSIGNED, class_id),
        Data(DataType.OCTET_STRING, name),
        Data(DataType.INTEGER, 2),
        Data(DataType.LONG_UNSIGNED, 0),
    )


def _captures(meter: SimulatedMeter, t: int) -> range:
    """Capture times that are in the buffer at `t`, oldest first."""
    newest = t // CAPTURE_PERIOD
    first = max(meter.load.options.installed, meter.profile_reset) // CAPTURE_PERIOD + 1
    oldest = max(first, newest - meter.identity.profile_entries + 1)
    return range(oldest * CAPTURE_PERIOD, (newest + 1) * CAPTURE_PERIOD, CAPTURE_PERIOD)


def _by_range(meter: SimulatedMeter, captures: range, parameters: Any) -> tuple[range, tuple[int, ...]]:
    match parameters:
        case (restricting, start, stop, list(selected)):
            pass
        case _:
            raise unmatched()
    if restricting != (8, CLOCK, 2, 0):
        raise data_access_error(DataAccessResult.SCOPE_OF_ACCESS_VIOLATED)
    first, last = meter.clock.unix(moment(start)), meter.clock.unix(moment(stop))
    first, last = -math.inf if first is None else first, math.inf if last is None else last
    if not captures or first > captures[-1] or last < captures[0]:
        return range(0), _ALL
    oldest = captures[0]
    low = max(0, math.ceil((max(first, oldest) - oldest) / CAPTURE_PERIOD))
    high = math.floor((min(last, captures[-1]) - oldest) / CAPTURE_PERIOD)
    objects = [(class_id, name, 2, 0) for class_id, name in _COLUMNS]
    try:
        columns = tuple(objects.index(wanted) for wanted in selected) or _ALL
    except ValueError:
        raise data_access_error(DataAccessResult.OBJECT_UNDEFINED) from None
    return captures[low : high + 1], columns


def _by_entry(captures: range, parameters: Any) -> tuple[range, tuple[int, ...]]:
    match parameters:
        case (int(first), int(last), int(first_column), int(last_column)) if first >= 1 and first_column >= 1:
            return captures[first - 1 : last or None], _ALL[first_column - 1 : last_column or None]
        case _:
            raise unmatched()


def _row(meter: SimulatedMeter, t: int, columns: tuple[int, ...]) -> bytes:
    energies = meter.load.energies(t)
    cells = [bytes((DataType.STRUCTURE, len(columns)))]
    for column in columns:
        if column == 0:
            cells.append(b"\x09\x0c" + meter.clock.octets(t))
        else:
            cells.append(_ENERGY.pack(DataType.DOUBLE_LONG_UNSIGNED, energies[column - 1] & 0xFFFFFFFF))
    return b"".join(cells)


def _rows(meter: SimulatedMeter, captures: range, columns: tuple[int, ...]) -> Iterator[bytes]:
    yield bytes((DataType.ARRAY,)) + encode_length(len(captures))
    for t in captures:
        yield _row(meter, t, columns)


def _buffer(meter: SimulatedMeter, t: int, selection: SelectiveAccess | None) -> Iterator[bytes]:
    captures, columns = _captures(meter, t), _ALL
    if selection is not None:
        parameters = selection.parameters.plain()
        if selection.selector == _BY_RANGE:
            captures, columns = _by_range(meter, captures, parameters)
        elif selection.selector == _BY_ENTRY:
            captures, columns = _by_entry(captures, parameters)
        else:
            raise data_access_error(DataAccessResult.SCOPE_OF_ACCESS_VIOLATED)
    return _rows(meter, captures, columns)


def _count(value: int) -> bytes:
    return encode(Data(DataType.DOUBLE_LONG_UNSIGNED, value))


def _reset(meter: SimulatedMeter, t: int, parameters: Data) -> None:
    meter.profile_reset = t


def _capture(meter: SimulatedMeter, t: int, parameters: Data) -> None:
    # Its rows are those of whole quarters of an hour.
    raise data_access_error(DataAccessResult.OTHER_REASON)


def load_profile() -> CosemObject:
    """Make the Profile Generic with clock and energies; its buffer takes selection by range and by entry."""
    return CosemObject(
        7,
        1,
        LOAD_PROFILE,
        {
            3: encode(array(map(_capture_object, _COLUMNS))),
            4: _count(CAPTURE_PERIOD),
            5: encode(Data(DataType.ENUM, 1)),
            6: encode(_capture_object(_COLUMNS[0])),
            7: lambda meter, t: _count(len(_captures(meter, t))),
            8: lambda meter, t: _count(meter.identity.profile_entries),
        },
        selective={2: (_buffer, (_BY_RANGE, _BY_ENTRY))},
        methods={1: _reset, 2: _capture},
        first_method=0x58,
    )
