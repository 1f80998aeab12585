"""What pushed data means: logical names, values, scalers and units out of the shapes meters push.

The shapes are told apart by their structure alone. What a message leaves out, such as the names in a list by position
or the units of bare values, comes from a `ListLayout`: data of a catalogue, no code.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from meterbridge.dlms.axdr import Data, DataType
from meterbridge.dlms.cosem_time import DateTime
from meterbridge.dlms.obis import LogicalName
from meterbridge.dlms.units import scaled, unit_symbol

LIST_ID = LogicalName.parse("1-1:0.2.129")
"""Under this name a list says which list it is."""
_LISTS = (DataType.ARRAY, DataType.STRUCTURE)
_NUMBERS = frozenset(
    (
        *(DataType.INTEGER, DataType.LONG, DataType.DOUBLE_LONG, DataType.LONG64),
        *(DataType.UNSIGNED, DataType.LONG_UNSIGNED, DataType.DOUBLE_LONG_UNSIGNED, DataType.LONG64_UNSIGNED),
        *(DataType.FLOAT32, DataType.FLOAT64),
    )
)
_TEXTS = (DataType.OCTET_STRING, DataType.VISIBLE_STRING, DataType.UTF8_STRING)
_CLOCK = (1, 0, 0)
_MOST_GROUP_A = 15
_YEARS = range(1990, 2150)
_VALUE_ATTRIBUTE = 2
_SCALER_CLASSES = {3: 3, 4: 3, 5: 4}
"""Attribute that holds scaler and unit, by interface class."""


@dataclass(frozen=True, slots=True)
class PushedValue:
    """One value of a push list.

    Args:
        key: reduced OBIS code, `1-0:1.7.0`, or the place in the list, `0` or `1.3`, of what has no name; a short name,
            `0x1008`, in an InformationReport.
        value: scaled where it has a scaler; text, octets, DateTime, or lists of such.
        unit: symbol of the DLMS unit table, None where neither message nor layout tells.
        logical_name: None for what has no name.
        attribute: index, where the message tells.
    """

    key: str
    value: Any
    unit: str | None = None
    logical_name: LogicalName | None = None
    attribute: int | None = None


@dataclass(frozen=True, slots=True)
class Positions:
    """Names of a list by position.

    Args:
        names: one for each element.
        list_id: text the list must hold where `names` has the list's own name; None for a list of numbers alone.
    """

    names: tuple[LogicalName, ...]
    list_id: str | None = None


@dataclass(frozen=True, slots=True)
class UnitRule:
    """Scaler and unit of some logical names, for messages that carry none.

    Args:
        groups: A to F; None is any.
        scaler: power of ten.
        unit: code of the DLMS unit table; 255 is none.
    """

    groups: tuple[int | None, ...]
    scaler: int
    unit: int

    def matches(self, name: LogicalName) -> bool:
        """Whether it speaks of this name."""
        return all(group is None or group == octet for group, octet in zip(self.groups, name, strict=True))


@dataclass(frozen=True, slots=True)
class ListLayout:
    """What is known of the lists of one make, beside what its messages say.

    Args:
        name: of the catalogue entry.
        list_id: text that must be the first element, None for any.
        system_title: octets the sender's system title must begin with.
        bare_descriptors: whether the message must have had bare attribute descriptors; None for either.
        positions: lists by position.
        units: for values without scaler and unit, the first that matches.
        list_id_name: logical name of a list identifier that comes without one.
    """

    name: str
    list_id: str | None = None
    system_title: bytes = b""
    bare_descriptors: bool | None = None
    positions: tuple[Positions, ...] = ()
    units: tuple[UnitRule, ...] = ()
    list_id_name: LogicalName | None = None

    @property
    def is_specific(self) -> bool:
        """Whether it asks for anything: otherwise only its lists by position are of use."""
        return bool(self.list_id or self.system_title or self.bare_descriptors is not None)


@dataclass(frozen=True, slots=True)
class PushList:
    """A push list with its meaning.

    Args:
        values: by key, in the order sent.
        time: the clock the list itself carries, None where it has none.
        layout: catalogue entry that helped, None where none did.
    """

    values: Mapping[str, PushedValue]
    time: DateTime | None = None
    layout: str | None = None


def interpret(
    body: Data, layouts: Sequence[ListLayout] = (), *, system_title: bytes = b"", bare_descriptors: bool = False
) -> PushList:
    """Find names, values and units in pushed data.

    Args:
        body: of the notification.
        layouts: what is known of makes; the first that fits is taken.
        system_title: of the sender where it ciphers, empty otherwise.
        bare_descriptors: as the notification says.

    Returns:
        All values; what cannot be named stands under its place in the list.
    """
    named = _by_position(body, layouts)
    layout = None if named is None else named[0]
    if layout is None:
        layout = next((each for each in layouts if _fits(each, body, system_title, bare_descriptors)), None)
    walk = _Walk(layout)
    if named is not None:
        for name, element in zip(named[1].names, body.value, strict=True):
            walk.add(name, element)
    elif (objects := _object_list(body)) is not None:
        walk.described(objects, body.value)
    else:
        walk.element(body, "")
    return PushList(walk.values, walk.time, None if layout is None else layout.name)


# ---- shapes


def _is_name(data: Data) -> bool:
    """Whether it can be a logical name: texts of six octets are not."""
    return (
        data.type is DataType.OCTET_STRING
        and len(data.value) == 6
        and data.value[0] <= _MOST_GROUP_A
        and any(data.value)
    )


def _members(data: Data) -> tuple[Data, ...]:
    return data.value if data.type in _LISTS else ()


def _is_shape(data: Data, *tests: Callable[[Data], bool]) -> bool:
    members = _members(data)
    return len(members) == len(tests) and all(test(member) for test, member in zip(tests, members, strict=True))


def _of(*types: DataType) -> Callable[[Data], bool]:
    return lambda data: data.type in types


_IS_ATTRIBUTE = _of(DataType.INTEGER, DataType.UNSIGNED)


def _is_scaler_unit(data: Data) -> bool:
    return _is_shape(data, _of(DataType.INTEGER), _of(DataType.ENUM))


def _is_descriptor(data: Data) -> bool:
    return _is_shape(data, _of(DataType.LONG_UNSIGNED), _is_name, _IS_ATTRIBUTE)


def _is_push_object(data: Data) -> bool:
    """Whether it can be an element of push_object_list, whatever the version of the class."""
    members = _members(data)
    return len(members) >= 4 and _is_descriptor(Data(DataType.STRUCTURE, members[:3]))


def _object_list(body: Data) -> tuple[Data, ...] | None:
    """The push_object_list that stands first in a body that describes itself."""
    members = _members(body)
    if len(members) < 2 or members[0].type is not DataType.ARRAY:
        return None
    objects = _members(members[0])
    described = bool(objects) and all(map(_is_push_object, objects))
    return objects if described and len(members) - len(objects) in (0, 1) else None


def _text(data: Data) -> str | None:
    if data.type not in _TEXTS:
        return None
    return data.value.decode("latin-1") if isinstance(data.value, bytes) else str(data.value)


def _by_position(body: Data, layouts: Sequence[ListLayout]) -> tuple[ListLayout, Positions] | None:
    members = _members(body)
    for layout in layouts:
        for positions in layout.positions:
            if len(positions.names) != len(members):
                continue
            if positions.list_id is None:
                if all(member.type in _NUMBERS for member in members):
                    return layout, positions
            elif _text(members[positions.names.index(LIST_ID)]) == positions.list_id:
                return layout, positions
    return None


def _fits(layout: ListLayout, body: Data, system_title: bytes, bare_descriptors: bool) -> bool:
    if not layout.is_specific or not system_title.startswith(layout.system_title):
        return False
    if layout.bare_descriptors is not None and layout.bare_descriptors is not bare_descriptors:
        return False
    members = _members(body)
    return layout.list_id is None or (bool(members) and _text(members[0]) == layout.list_id)


def _plain(data: Data, name: LogicalName | None) -> Any:
    if data.type is DataType.OCTET_STRING and len(data.value) == 12:
        time = DateTime(data.value)
        if name is not None and name[0] == 0 and tuple(name[2:5]) == _CLOCK:
            return time
        instant = time.to_datetime()
        return data.value if instant is None or instant.year not in _YEARS else time
    if data.type in _LISTS:
        return [_plain(member, None) for member in data.value]
    return data.plain()


@dataclass(slots=True)
class _Walk:
    """Collects values; `layout` fills in what the message leaves out."""

    layout: ListLayout | None
    values: dict[str, PushedValue] = field(default_factory=dict)
    time: DateTime | None = None
    met: dict[str, int] = field(default_factory=dict)

    def add(self, name: LogicalName, data: Data, scaler_unit: Data | None = None, attribute: int | None = None) -> None:
        """Take a value that has a name."""
        value, unit = _plain(data, name), None
        if data.type in _NUMBERS and attribute in (None, _VALUE_ATTRIBUTE):
            rule = self._rule(name) if scaler_unit is None else None
            if scaler_unit is not None:
                scaler, code = (member.value for member in scaler_unit.value)
                value, unit = scaled(value, scaler), unit_symbol(code)
            elif rule is not None:
                value, unit = scaled(value, rule.scaler), unit_symbol(rule.unit)
        if isinstance(value, DateTime) and name[0] == 0 and tuple(name[2:5]) == _CLOCK and self.time is None:
            self.time = value
        self._put(name.obis, PushedValue(name.obis, value, unit, name, attribute))

    def element(self, data: Data, place: str) -> None:
        """Take one element of a list at `place`, with all it holds."""
        members = _members(data)
        if len(members) == 2 and _is_descriptor(members[0]):
            _, name, attribute = (member.value for member in members[0].value)
            self.add(LogicalName(name), members[1], None, attribute)
        elif self._is_named(members):
            scaler_unit = members[2] if len(members) == 3 else None
            self.add(LogicalName(members[0].value), members[1], scaler_unit)
        elif members and any(_names_anything(member) for member in members):
            self._flat(members, place)
        elif data.type in _LISTS and not place:
            for index, member in enumerate(members):
                self.element(member, str(index))
        else:
            self._unnamed(data, place)

    def described(self, objects: tuple[Data, ...], elements: tuple[Data, ...]) -> None:
        """Take a list whose first element says what the elements are: itself among them, or not."""
        pairs = list(zip(objects, elements[len(elements) - len(objects) :], strict=True))
        parts = [tuple(member.value for member in each.value[:3]) for each, _ in pairs]
        scalers = {
            name: element
            for (class_id, name, attribute), (_, element) in zip(parts, pairs, strict=True)
            if _SCALER_CLASSES.get(class_id) == attribute and _is_scaler_unit(element)
        }
        for (_, name, attribute), (_, element) in zip(parts, pairs, strict=True):
            if element is elements[0] or (name in scalers and attribute != _VALUE_ATTRIBUTE):
                continue
            self.add(LogicalName(name), element, scalers.get(name), attribute)

    @staticmethod
    def _is_named(members: tuple[Data, ...]) -> bool:
        """Whether it is (name, value) or (name, value, (scaler, unit))."""
        if len(members) not in (2, 3) or not _is_name(members[0]) or _is_name(members[1]):
            return False
        return len(members) == 2 or _is_scaler_unit(members[2])

    def _flat(self, members: tuple[Data, ...], place: str) -> None:
        """Take names and values that stand beside each other, mixed with elements that are complete in themselves."""
        index = 0
        while index < len(members):
            member = members[index]
            here = f"{place}.{index}" if place else str(index)
            if _is_name(member) and index + 1 < len(members):
                scaler_unit = members[index + 2] if index + 2 < len(members) else None
                if scaler_unit is not None and not _is_scaler_unit(scaler_unit):
                    scaler_unit = None
                self.add(LogicalName(member.value), members[index + 1], scaler_unit)
                index += 2 if scaler_unit is None else 3
                continue
            self.element(member, here)
            index += 1

    def _unnamed(self, data: Data, place: str) -> None:
        layout = self.layout
        if layout is not None and layout.list_id_name is not None and _text(data) == layout.list_id:
            self.add(layout.list_id_name, data)
            return
        value = _plain(data, None)
        if isinstance(value, DateTime) and self.time is None:
            self.time = value
        self._put(place or "0", PushedValue(place or "0", value))

    def _rule(self, name: LogicalName) -> UnitRule | None:
        rules = () if self.layout is None else self.layout.units
        return next((rule for rule in rules if rule.matches(name)), None)

    def _put(self, key: str, value: PushedValue) -> None:
        count = self.met[key] = self.met.get(key, 0) + 1
        if count > 1:
            # The same name again: by its attribute, where there is one, or by its turn.
            other = key if value.attribute is None else f"{key}:{value.attribute}"
            key = other if other not in self.values else f"{key}#{count}"
            value = replace(value, key=key)
        self.values[key] = value


def _names_anything(data: Data) -> bool:
    """Whether a logical name stands in it, at any depth."""
    return _is_name(data) or any(map(_names_anything, _members(data)))
