"""What is known of an interface class: the names and shapes of its attributes, the names of its methods."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from meterbridge.dlms.cosem.names import class_name
from meterbridge.dlms.cosem.shapes import Shape, displayed, obis


@dataclass(frozen=True, slots=True)
class Attribute:
    """One attribute.

    Args:
        name: the standard's.
        shape: how its value is shown.
    """

    name: str
    shape: Shape = displayed


@dataclass(frozen=True, slots=True)
class InterfaceClass:
    """One version of an interface class.

    Args:
        class_id: its number.
        version: the version described; later ones are described like it until there is an entry of their own.
        name: the standard's.
        attributes: in order; the first is attribute 1, the logical name.
        methods: names in order; the first is method 1.
        first_method: offset of method 1 from the base name with short name referencing; None where there is none.
    """

    class_id: int
    version: int
    name: str
    attributes: tuple[Attribute, ...]
    methods: tuple[str, ...] = ()
    first_method: int | None = None

    def attribute(self, index: int) -> Attribute:
        """Return an attribute, `attribute N` for one the class does not have: manufacturers add their own."""
        if 1 <= index <= len(self.attributes):
            return self.attributes[index - 1]
        return Attribute(f"attribute {index}")

    def method(self, index: int) -> str:
        """Return the name of a method, `method N` for one the class does not have."""
        return self.methods[index - 1] if 1 <= index <= len(self.methods) else f"method {index}"


def interface_class(
    class_id: int,
    version: int,
    attributes: Sequence[tuple[str, Shape] | str],
    methods: Sequence[str] = (),
    first_method: int | None = None,
) -> InterfaceClass:
    """Describe a class: its attributes from the second on, the first being the logical name of them all."""
    described = [Attribute(item) if isinstance(item, str) else Attribute(*item) for item in attributes]
    return InterfaceClass(
        class_id,
        version,
        class_name(class_id),
        (Attribute("logical_name", obis), *described),
        tuple(methods),
        first_method,
    )
