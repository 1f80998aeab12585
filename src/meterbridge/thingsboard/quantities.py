"""What a measurement is, told from its OBIS code: unit, phase, counter or moment. For axes, columns and limits."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from meterbridge.meter import MeterModel
from meterbridge.model import Measurement

_REGISTERS = (3, 4, 5)
"""Register, Extended Register, Demand Register."""
_MOMENT, _COUNTED = 7, 8
"""Value group D: instantaneous value, time integral 1."""
_POWER = {**dict.fromkeys((1, 2, 15, 16), "W"), **dict.fromkeys((3, 4, 5, 6, 7, 8), "var"), 9: "VA", 10: "VA"}
_OTHER = {11: "A", 12: "V", 13: "", 14: "Hz"}
_DECIMALS = {"V": 1, "A": 2, "Hz": 2, "": 3}


@dataclass(frozen=True, slots=True)
class Shown:
    """A measurement as people are shown it.

    Args:
        key: its name, the telemetry key.
        label: for people, e.g. `Voltage L1`.
        unit: `V`, `A`, `W`, `var`, `VA`, `Hz`, `Wh`, `varh`, `VAh`, or empty for a ratio.
        counter: whether it only ever grows.
        decimals: places worth showing.
    """

    key: str
    label: str
    unit: str
    counter: bool
    decimals: int


def shown(measurement: Measurement) -> Shown | None:
    """Tell what an electrical measurement is; None for anything else, such as a clock or a serial number."""
    groups = [int(group) for group in measurement.logical_name.split(".")]
    if measurement.class_id not in _REGISTERS or measurement.attribute != 2 or groups[0] != 1:
        return None
    # Value group C counts in twenties: all phases together, then L1, L2, L3.
    quantity = (groups[2] - 1) % 20 + 1 if groups[2] <= 80 else groups[2]
    counter = groups[3] == _COUNTED
    unit = _POWER.get(quantity) if counter or groups[3] == _MOMENT else None
    if counter and unit is not None:
        unit += "h"
    elif groups[3] == _MOMENT and unit is None:
        unit = _OTHER.get(quantity)
    if unit is None:
        return None
    words = measurement.name.replace("_", " ").split()
    label = " ".join(word.upper() if word[:1] == "l" and word[1:].isdigit() else word for word in words)
    return Shown(measurement.name, label[:1].upper() + label[1:], unit, counter, _DECIMALS.get(unit, 0))


def polled(models: Iterable[MeterModel]) -> list[Shown]:
    """Return what is read of these models at each poll, each key once, in the order of the first model that has it."""
    found: dict[str, Shown] = {}
    for model in models:
        for name in model.poll:
            what = shown(model.measurements[name])
            if what is not None:
                found.setdefault(name, what)
    return list(found.values())


def of_unit(quantities: Iterable[Shown], *units: str) -> list[Shown]:
    """Return those that are measured in one of some units."""
    return [quantity for quantity in quantities if quantity.unit in units]
