"""Short name referencing: which variable name an attribute or a method of a meter's object has."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from meterbridge.dlms import AttributeDescriptor, DataAccessResult, LogicalName, MethodDescriptor
from meterbridge.dlms.cosem import cosem_class
from meterbridge.dlms.xdlms import data_access_error
from meterbridge.errors import RemoteProtocolError

OBJECT_LIST = 0xFA00 + 8
"""Variable name of attribute 2 of the current Association SN, whose base name is reserved: 0xFA00."""


class NamedObject(NamedTuple):
    """One object of a meter with short names.

    Args:
        base_name: of its attribute 1.
        class_id: COSEM interface class.
        version: of the class.
        logical_name: which object.
    """

    base_name: int
    class_id: int
    version: int
    logical_name: LogicalName


class ShortNames:
    """The objects of a meter by class and logical name, with the variable names of what they hold.

    Args:
        rows: object list of an Association SN, as read.

    Raises:
        RemoteProtocolError: it is no such list.
    """

    def __init__(self, rows: Iterable[Any]) -> None:
        try:
            # The base name is a long, which is signed, of a name that is not.
            self.objects = tuple(
                NamedObject(base_name & 0xFFFF, class_id, version, LogicalName(name))
                for base_name, class_id, version, name in rows
            )
        except (TypeError, ValueError):
            raise RemoteProtocolError("the object list has a form of its own") from None
        self._by_name = {(item.class_id, bytes(item.logical_name)): item for item in self.objects}

    def attribute(self, descriptor: AttributeDescriptor) -> int:
        """Return the variable name of an attribute: eight from one to the next.

        Raises:
            DataAccessError: the meter has no such object.
        """
        item = self._object(descriptor.class_id, descriptor.logical_name)
        return item.base_name + 8 * (descriptor.attribute - 1) & 0xFFFF

    def method(self, descriptor: MethodDescriptor) -> int:
        """Return the variable name of a method: eight from one to the next, from where its class says.

        Raises:
            DataAccessError: the meter has no such object, or its class no such method by short name.
        """
        item = self._object(descriptor.class_id, descriptor.logical_name)
        known = cosem_class(item.class_id, item.version)
        if known is None or known.first_method is None:
            raise data_access_error(DataAccessResult.OBJECT_UNAVAILABLE)
        return item.base_name + known.first_method + 8 * (descriptor.method - 1) & 0xFFFF

    def _object(self, class_id: int, name: LogicalName) -> NamedObject:
        item = self._by_name.get((class_id, bytes(name)))
        if item is None:
            raise data_access_error(DataAccessResult.OBJECT_UNDEFINED)
        return item
