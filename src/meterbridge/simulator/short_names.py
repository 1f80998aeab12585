"""Short names of a simulated meter's objects (Green Book and Blue Book, short name referencing)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from meterbridge.dlms import AttributeDescriptor, DataAccessResult
from meterbridge.dlms.xdlms import MethodDescriptor, data_access_error
from meterbridge.simulator.associations import association_sn
from meterbridge.simulator.objects import CosemObject

ASSOCIATION_BASE_NAME: Final = 0xFA00
_STEP: Final = 8
"""Short names from one attribute to the next, and from one method to the next."""
_FIRST: Final = 0x0100
_ROOM: Final = 0xA0
"""Short names an object has: no class used here needs more."""
# Base names the standard gives, by class and logical name.
_RESERVED: Final = {(1, "0.0.42.0.0.255"): 0xFD00, (17, "0.0.41.0.0.255"): 0xFC00}


@dataclass(frozen=True, slots=True)
class ShortNames:
    """Which object has which base name.

    Args:
        by_base: objects by their base name.
        association: the Association SN, which is at 0xFA00.
    """

    by_base: Mapping[int, CosemObject]
    association: CosemObject

    def resolve(self, name: int) -> AttributeDescriptor | MethodDescriptor:
        """Say which attribute or method a short name means.

        Raises:
            DataAccessError: none.
        """
        base = name if name in self.by_base else max((known for known in self.by_base if known <= name), default=0)
        item = self.by_base.get(base)
        offset = name - base
        if item is None or offset >= _ROOM or offset % _STEP:
            raise data_access_error(DataAccessResult.OBJECT_UNDEFINED)
        if item.methods and offset >= item.first_method:
            method = (offset - item.first_method) // _STEP + 1
            return MethodDescriptor(item.class_id, item.logical_name, method)
        return AttributeDescriptor(item.class_id, item.logical_name, offset // _STEP + 1)


def short_names(objects: Iterable[CosemObject]) -> ShortNames:
    """Give base names to all objects but the association, in order, and make the association."""
    by_base: dict[int, CosemObject] = {}
    free = _FIRST
    for item in objects:
        base = _RESERVED.get((item.class_id, str(item.logical_name)))
        if base is None:
            base, free = free, free + _ROOM
        by_base[base] = item
    association = association_sn(by_base, ASSOCIATION_BASE_NAME)
    return ShortNames({**by_base, ASSOCIATION_BASE_NAME: association}, association)
