"""Demand of a simulated meter: mean power of the running and of the last quarter of an hour, and the day's maximum."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from meterbridge.dlms import Data, DataType, LogicalName
from meterbridge.dlms.axdr import encode
from meterbridge.simulator.objects import CosemObject, octets, scaler_unit, unsigned32

if TYPE_CHECKING:
    from meterbridge.simulator.meter import SimulatedMeter

DEMAND: Final = LogicalName.parse("1-0:1.4.0")
MAXIMUM_DEMAND: Final = LogicalName.parse("1-0:1.6.0")
PERIOD: Final = 900
"""Seconds over which power is averaged."""

_DAY: Final = 86_400
_SCALER, _WATT = -1, 27
_STATUS_OK: Final = encode(Data(DataType.UNSIGNED, 0))


def _mean(meter: SimulatedMeter, start: int, stop: int, over: int = PERIOD) -> float:
    """Mean power in tenths of a watt."""
    energy = meter.load.energies(stop).active_import - meter.load.energies(start).active_import
    return energy * 3600 / over * 10


def _start(meter: SimulatedMeter, t: int) -> int:
    return max(t // PERIOD * PERIOD, meter.period_started)


def _maximum(meter: SimulatedMeter, t: int) -> tuple[float, int]:
    """Highest mean of a whole period since midnight or the last reset, in tenths of a watt, and when it ended."""
    first = max(t // _DAY * _DAY, -(-meter.demand_reset // PERIOD) * PERIOD)
    ends = range(first + PERIOD, t + 1, PERIOD)
    return max(((_mean(meter, end - PERIOD, end), end) for end in ends), default=(0.0, first))


def _reset(meter: SimulatedMeter, t: int, parameters: Data) -> None:
    meter.demand_reset = t


def _next_period(meter: SimulatedMeter, t: int, parameters: Data) -> None:
    meter.period_started = t


def demand_register() -> CosemObject:
    """Make the Demand Register of active power."""

    def last(meter: SimulatedMeter, t: int) -> bytes:
        stop = t // PERIOD * PERIOD
        return unsigned32(_mean(meter, stop - PERIOD, stop))

    return CosemObject(
        5,
        0,
        DEMAND,
        {
            2: lambda meter, t: unsigned32(_mean(meter, _start(meter, t), t)),
            3: last,
            4: scaler_unit(_SCALER, _WATT),
            5: _STATUS_OK,
            6: lambda meter, t: octets(meter.clock.octets(t // PERIOD * PERIOD)),
            7: lambda meter, t: octets(meter.clock.octets(_start(meter, t))),
            8: encode(Data(DataType.DOUBLE_LONG_UNSIGNED, PERIOD)),
            9: encode(Data(DataType.LONG_UNSIGNED, 1)),
        },
        methods={1: _next_period, 2: _next_period},
        first_method=0x48,
    )


def maximum_demand() -> CosemObject:
    """Make the Extended Register of the day's maximum demand."""
    return CosemObject(
        4,
        0,
        MAXIMUM_DEMAND,
        {
            2: lambda meter, t: unsigned32(_maximum(meter, t)[0]),
            3: scaler_unit(_SCALER, _WATT),
            4: _STATUS_OK,
            5: lambda meter, t: octets(meter.clock.octets(_maximum(meter, t)[1])),
        },
        methods={1: _reset},
        first_method=0x38,
    )
