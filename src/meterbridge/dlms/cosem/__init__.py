"""COSEM objects as named values: interface classes, their attributes and methods, and how their values are shown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from meterbridge.dlms.axdr import Data
from meterbridge.dlms.cosem.classes import capture_object, cosem_class
from meterbridge.dlms.cosem.interface_class import Attribute, InterfaceClass
from meterbridge.dlms.cosem.names import class_name
from meterbridge.dlms.cosem.shapes import displayed

__all__ = [
    "Attribute",
    "InterfaceClass",
    "attribute_name",
    "capture_object",
    "class_name",
    "cosem_class",
    "displayed",
    "method_name",
    "present",
    "present_object",
]


def attribute_name(class_id: int, attribute: int, version: int | None = None) -> str:
    """Return the standard's name of an attribute: `scaler_unit`; `attribute N` where there is none."""
    known = cosem_class(class_id, version)
    return known.attribute(attribute).name if known else Attribute(f"attribute {attribute}").name


def method_name(class_id: int, method: int, version: int | None = None) -> str:
    """Return the standard's name of a method: `remote_disconnect`; `method N` where there is none."""
    known = cosem_class(class_id, version)
    return known.method(method) if known else f"method {method}"


def present(class_id: int, attribute: int, value: Any, version: int | None = None) -> Any:
    """Return an attribute's value with everything in it named, as JSON can hold it.

    Enums become names, date-times ISO 8601 (text with `*` where they have wildcards), logical names dotted groups,
    structures objects, scaler and unit `{"scaler": -1, "unit": "V"}`. Never fails: a value of another form than the
    class prescribes is shown as it is.

    Args:
        class_id: COSEM interface class.
        attribute: index.
        value: as decoded, plain or `Data`.
        version: of the class, where known.
    """
    plain = value.plain() if isinstance(value, Data) else value
    known = cosem_class(class_id, version)
    return known.attribute(attribute).shape(plain) if known else displayed(plain)


def present_object(class_id: int, values: Mapping[int, Any], version: int | None = None) -> dict[str, Any]:
    """Return an object's attributes by name, each as `present` shows it.

    Args:
        class_id: COSEM interface class.
        values: as decoded, by attribute index.
        version: of the class, where known.
    """
    return {
        attribute_name(class_id, index, version): present(class_id, index, value, version)
        for index, value in values.items()
    }
