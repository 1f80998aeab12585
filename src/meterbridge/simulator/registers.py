"""The registers of a simulated meter: what they measure, in which type, scaler and unit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Final

from meterbridge.dlms import LogicalName
from meterbridge.simulator.load import Instant
from meterbridge.simulator.objects import CosemObject, Reader, scaler_unit, signed32, unsigned16, unsigned32

if TYPE_CHECKING:
    from meterbridge.simulator.meter import SimulatedMeter

REGISTER: Final = 3
CHANNELS: Final = (0, 1)
"""Group B under which every register is found: the standard's 1-0 and the 1-1 of many meters."""

_WATT, _VOLT_AMPERE, _VAR, _WATT_HOUR, _VAR_HOUR, _AMPERE, _VOLT, _HERTZ, _NO_UNIT = 27, 28, 29, 30, 32, 33, 35, 44, 255

_Pick = Callable[[Instant], float]
_Encode = Callable[[float], bytes]


def _apparent(instant: Instant) -> float:
    return sum(voltage * current for voltage, current in zip(instant.voltage, instant.current, strict=True))


# Groups C.D.E, what it shows, type, scaler, unit.
_WHOLE: Final[tuple[tuple[tuple[int, int, int], _Pick, _Encode, int, int], ...]] = (
    ((1, 7, 0), lambda i: i.active_import, unsigned32, -1, _WATT),
    ((2, 7, 0), lambda i: i.active_export, unsigned32, -1, _WATT),
    ((3, 7, 0), lambda i: i.reactive_import, unsigned32, -1, _VAR),
    ((4, 7, 0), lambda i: 0.0, unsigned32, -1, _VAR),
    ((9, 7, 0), _apparent, unsigned32, -1, _VOLT_AMPERE),
    ((13, 7, 0), lambda i: i.power_factor, unsigned16, -3, _NO_UNIT),
    ((14, 7, 0), lambda i: i.frequency, unsigned16, -2, _HERTZ),
    ((16, 7, 0), lambda i: i.active_import - i.active_export, signed32, -1, _WATT),
    ((1, 8, 0), lambda i: i.energies.active_import, unsigned32, 0, _WATT_HOUR),
    ((2, 8, 0), lambda i: i.energies.active_export, unsigned32, 0, _WATT_HOUR),
    ((3, 8, 0), lambda i: i.energies.reactive_import, unsigned32, 0, _VAR_HOUR),
    ((4, 8, 0), lambda i: 0.0, unsigned32, 0, _VAR_HOUR),
)
# Group C of phase L1; L2 and L3 follow 20 and 40 higher.
_BY_PHASE: Final[tuple[tuple[int, Callable[[Instant, int], float], _Encode, int, int], ...]] = (
    (21, lambda i, phase: i.power[phase], unsigned32, -1, _WATT),
    (31, lambda i, phase: i.current[phase], unsigned16, -2, _AMPERE),
    (32, lambda i, phase: i.voltage[phase], unsigned16, -1, _VOLT),
)


def _reader(pick: _Pick, encode: _Encode, scaler: int) -> Reader:
    factor = 10**-scaler

    def read(meter: SimulatedMeter, t: int) -> bytes:
        return encode(pick(meter.load.at(t)) * factor)

    return read


def _of_phase(pick: Callable[[Instant, int], float], phase: int) -> _Pick:
    return partial(_picked, pick, phase)


def _picked(pick: Callable[[Instant, int], float], phase: int, instant: Instant) -> float:
    return pick(instant, phase)


def registers(phases: int) -> Iterator[CosemObject]:
    """Make the registers of a meter with 1 or 3 phases, each under every channel."""
    table = list(_WHOLE)
    for phase in range(phases):
        table += [
            ((c + 20 * phase, 7, 0), _of_phase(pick, phase), encode, scaler, unit)
            for c, pick, encode, scaler, unit in _BY_PHASE
        ]
    for groups, pick, encode, scaler, unit in table:
        attributes: dict[int, bytes | Reader] = {2: _reader(pick, encode, scaler), 3: scaler_unit(scaler, unit)}
        for channel in CHANNELS:
            yield CosemObject(REGISTER, 0, LogicalName(bytes((1, channel, *groups, 255))), attributes)
