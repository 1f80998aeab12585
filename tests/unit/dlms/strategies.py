"""Hypothesis strategies for everything the protocol encodes."""

from __future__ import annotations

import struct
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st

from meterbridge.dlms import (
    AttributeDescriptor,
    BitString,
    CompactArray,
    Data,
    DataType,
    Date,
    DateTime,
    HdlcParameters,
    LogicalName,
    SelectiveAccess,
    Time,
    TypeDescription,
)


def examples(share: float) -> settings:
    """A share of the examples the profile asks for, so that `make fuzz` has more of all."""
    return settings(max_examples=max(1, int(settings().max_examples * share)))


def _signed(bits: int) -> st.SearchStrategy[int]:
    return st.integers(-(1 << bits - 1), (1 << bits - 1) - 1)


def _unsigned(bits: int) -> st.SearchStrategy[int]:
    return st.integers(0, (1 << bits) - 1)


def _octets(size: int) -> st.SearchStrategy[bytes]:
    return st.binary(min_size=size, max_size=size)


# NaN is left out: it is not equal to itself.
SIMPLE: dict[DataType, st.SearchStrategy[Any]] = {
    DataType.NULL_DATA: st.none(),
    DataType.BOOLEAN: st.booleans(),
    DataType.BIT_STRING: st.text("01", max_size=40).map(BitString),
    DataType.DOUBLE_LONG: _signed(32),
    DataType.DOUBLE_LONG_UNSIGNED: _unsigned(32),
    DataType.OCTET_STRING: st.binary(max_size=300),
    DataType.VISIBLE_STRING: st.text(st.characters(max_codepoint=0xFF), max_size=200),
    DataType.UTF8_STRING: st.text(st.characters(codec="utf-8"), max_size=100),
    DataType.BCD: _unsigned(8),
    DataType.INTEGER: _signed(8),
    DataType.LONG: _signed(16),
    DataType.UNSIGNED: _unsigned(8),
    DataType.LONG_UNSIGNED: _unsigned(16),
    DataType.LONG64: _signed(64),
    DataType.LONG64_UNSIGNED: _unsigned(64),
    DataType.ENUM: _unsigned(8),
    DataType.FLOAT32: st.floats(width=32, allow_nan=False),
    DataType.FLOAT64: st.floats(allow_nan=False),
    DataType.DATE_TIME: _octets(12).map(DateTime),
    DataType.DATE: _octets(5).map(Date),
    DataType.TIME: _octets(4).map(Time),
    DataType.DONT_CARE: st.none(),
}


def _typed(kind: DataType) -> st.SearchStrategy[Data]:
    return SIMPLE[kind].map(lambda value: Data(kind, value))


simple_data: st.SearchStrategy[Data] = st.one_of([_typed(kind) for kind in SIMPLE])


@st.composite
def descriptions(draw: st.DrawFn, depth: int = 2) -> TypeDescription:
    """Descriptions whose elements take an octet at least, and not many values an octet."""
    if depth and draw(st.booleans()):
        if draw(st.booleans()):
            return TypeDescription(DataType.ARRAY, draw(st.integers(1, 3)), (draw(descriptions(depth - 1)),))
        members = draw(st.lists(descriptions(depth - 1), min_size=1, max_size=3))
        return TypeDescription(DataType.STRUCTURE, 0, tuple(members))
    kinds = [kind for kind in SIMPLE if kind not in (DataType.NULL_DATA, DataType.DONT_CARE)]
    return TypeDescription(draw(st.sampled_from(kinds)))


def described(description: TypeDescription) -> st.SearchStrategy[Data]:
    kind = description.type
    if kind is DataType.ARRAY:
        element = described(description.elements[0])
        return st.tuples(*[element] * description.count).map(lambda v: Data(kind, v))
    if kind is DataType.STRUCTURE:
        return st.tuples(*map(described, description.elements)).map(lambda v: Data(kind, v))
    return _typed(kind)


@st.composite
def compact_arrays(draw: st.DrawFn) -> Data:
    description = draw(descriptions())
    elements = draw(st.lists(described(description), max_size=4))
    return Data(DataType.COMPACT_ARRAY, CompactArray(description, tuple(elements)))


any_data: st.SearchStrategy[Data] = st.recursive(
    simple_data | compact_arrays(),
    lambda inner: st.tuples(
        st.sampled_from((DataType.ARRAY, DataType.STRUCTURE)), st.lists(inner, max_size=4).map(tuple)
    ).map(lambda pair: Data(*pair)),
    max_leaves=12,
)

logical_names: st.SearchStrategy[LogicalName] = _octets(6).map(LogicalName)

attribute_descriptors: st.SearchStrategy[AttributeDescriptor] = st.builds(
    AttributeDescriptor,
    _unsigned(16),
    logical_names,
    st.integers(0, 127),
    st.none() | st.builds(SelectiveAccess, _unsigned(8), any_data),
)

hdlc_parameters: st.SearchStrategy[HdlcParameters] = st.builds(
    HdlcParameters, st.integers(16, 2030), st.integers(16, 2030), st.integers(1, 7), st.integers(1, 7)
)

addresses: st.SearchStrategy[bytes] = st.one_of(
    st.integers(0, 127).map(lambda a: bytes((a << 1 | 1,))),
    st.tuples(st.integers(0, 127), st.integers(0, 127)).map(lambda p: bytes((p[0] << 1, p[1] << 1 | 1))),
    st.tuples(*[st.integers(0, 127)] * 4).map(lambda p: bytes((p[0] << 1, p[1] << 1, p[2] << 1, p[3] << 1 | 1))),
)


def nested(depth: int) -> bytes:
    """Structures within structures, a null at the bottom."""
    return b"\x02\x01" * depth + b"\x00"


def long_length(length: int) -> bytes:
    """A length field of four octets, whatever the length."""
    return b"\x84" + struct.pack(">I", length)
