"""How objects refer to each other: by class, by attribute, by script."""

from __future__ import annotations

from typing import Any

from meterbridge.dlms.cosem.interface_class import Attribute
from meterbridge.dlms.cosem.names import class_name
from meterbridge.dlms.cosem.registry import cosem_class
from meterbridge.dlms.cosem.shapes import (
    displayed,
    obis,
    structure,
)


def class_reference(value: Any) -> Any:
    """A class by number and name."""
    return f"{value} {class_name(value)}" if isinstance(value, int) else displayed(value)


def capture_object(value: Any) -> Any:
    """A reference to an attribute, as in capture objects, push lists and monitored values, with what it names."""
    match value:
        case (int(class_id), bytes(name), int(attribute), *rest) if len(rest) <= 1:
            known = cosem_class(class_id)
            if attribute == 0:
                resolved = "all"
            else:
                resolved = (known.attribute(attribute) if known else Attribute(f"attribute {attribute}")).name
            shown: dict[str, Any] = {
                "class_id": class_id,
                "class": class_name(class_id),
                "logical_name": obis(name),
                "attribute": attribute,
                "attribute_name": resolved,
            }
            return {**shown, "data_index": displayed(rest[0])} if rest else shown
    return displayed(value)


SCRIPT = structure(script_logical_name=obis, script_selector=displayed)
"""A script of a Script Table, as others name it."""
