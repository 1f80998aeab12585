"""What a read asks for and what is made of the answer, planned once and used often."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from meterbridge.dlms import AttributeDescriptor, PreparedGet, scaled
from meterbridge.errors import MeterError
from meterbridge.meter.values import displayed
from meterbridge.model import Measurement, Quantity

# A named tuple made without its own constructor, which is a function of Python's.
_new = tuple.__new__

SCALED_CLASSES = {3: 3, 4: 3}
"""Register and Extended Register: the attribute that holds scaler and unit of attribute 2."""


class Readout(NamedTuple):
    """What a read of several measurements gave. A tuple, because thousands a second are made.

    Args:
        values: by name, for what could be read.
        errors: by name, for the rest.
    """

    values: dict[str, Quantity]
    errors: dict[str, MeterError]


class PlanItem:
    """One measurement: how its raw value becomes a quantity.

    Args:
        name: under which it travels.
        measurement: where it stands.
        scaler: power of ten; 0 where the class has none.
        unit: symbol, None where the class has none.
    """

    __slots__ = ("_attribute", "_class_id", "_scaled", "_scaler", "divisor", "logical_name", "name", "unit")

    def __init__(self, name: str, measurement: Measurement, scaler: int, unit: str | None) -> None:
        self.name = name
        self.logical_name = measurement.logical_name
        self._class_id = measurement.class_id
        self._attribute = measurement.attribute
        self._scaled = measurement.class_id in SCALED_CLASSES and measurement.attribute == 2
        self.unit = unit if self._scaled else None
        self._scaler = scaler
        self.divisor = 10**-scaler if self._scaled and scaler <= 0 else 0

    def quantity(self, value: Any) -> Quantity:
        """Make the quantity of a raw value."""
        if self.divisor and type(value) is int:
            return _new(Quantity, (value / self.divisor, self.unit, self.logical_name))
        if self._scaled and isinstance(value, (int, float)) and not isinstance(value, bool):
            return Quantity(float(scaled(value, self._scaler)), self.unit, self.logical_name)
        return Quantity(displayed(value, self._class_id, self._attribute), self.unit, self.logical_name)


class ReadPlan:
    """A prepared request and what its results are called.

    Args:
        prepared: the request.
        items: one for each of its attributes, in order.
    """

    __slots__ = ("_parts", "items", "prepared", "single")

    def __init__(self, prepared: PreparedGet, items: Iterable[PlanItem]) -> None:
        self.prepared = prepared
        self.items = tuple(items)
        self.single = len(self.items) == 1
        # Taken apart here and not for each value.
        self._parts = tuple((item.name, item.divisor, item.unit, item.logical_name, item) for item in self.items)

    def only(self, results: Sequence[Any]) -> Quantity:
        """Name the result of a single item.

        Raises:
            DataAccessError: the meter refused it.
        """
        [(_, divisor, unit, logical_name, item)] = self._parts
        [value] = results
        if type(value) is int and divisor:
            return _new(Quantity, (value / divisor, unit, logical_name))
        if isinstance(value, MeterError):
            raise value
        return item.quantity(value)

    def readout(self, results: Sequence[Any]) -> Readout:
        """Name the results, one for each item."""
        values: dict[str, Quantity] = {}
        errors: dict[str, MeterError] = {}
        for (name, divisor, unit, logical_name, item), value in zip(self._parts, results, strict=True):
            if type(value) is int and divisor:
                values[name] = _new(Quantity, (value / divisor, unit, logical_name))
            elif isinstance(value, MeterError):
                errors[name] = value
            else:
                values[name] = item.quantity(value)
        return _new(Readout, (values, errors))


@functools.lru_cache(maxsize=1024)
def prepared(attributes: tuple[AttributeDescriptor, ...]) -> PreparedGet:
    """Return the prepared request for these attributes, the same one for all meters."""
    return PreparedGet(attributes)
