"""xDLMS service APDUs with logical name referencing: GET and what may come in its place (Green Book, xDLMS APDUs)."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from meterbridge.dlms.axdr import Data, decode_at, decode_length, encode, encode_length
from meterbridge.dlms.obis import LogicalName
from meterbridge.errors import DataAccessError, RemoteProtocolError

GET_REQUEST, SET_REQUEST, ACTION_REQUEST = 0xC0, 0xC1, 0xC3
GET_RESPONSE, SET_RESPONSE, ACTION_RESPONSE = 0xC4, 0xC5, 0xC7
READ_REQUEST, WRITE_REQUEST, READ_RESPONSE, WRITE_RESPONSE, UNCONFIRMED_WRITE_REQUEST = 0x05, 0x06, 0x0C, 0x0D, 0x16
EXCEPTION_RESPONSE = 0xD8
INVOKE_ID_MASK = 0x0F
CONFIRMED_HIGH_PRIORITY = 0xC0
"""Upper bits of invoke-id-and-priority: confirmed service, high priority."""


class GetType(enum.IntEnum):
    """CHOICE of Get-Request; the response uses the same numbers (2 is `with-datablock` there)."""

    NORMAL = 1
    NEXT = 2
    WITH_LIST = 3


class SetType(enum.IntEnum):
    """CHOICE of Set-Response."""

    NORMAL = 1
    BLOCK = 2
    LAST_BLOCK = 3
    LAST_BLOCK_WITH_LIST = 4
    WITH_LIST = 5


class ActionType(enum.IntEnum):
    """CHOICE of Action-Response."""

    NORMAL = 1
    WITH_BLOCK = 2
    WITH_LIST = 3
    NEXT_BLOCK = 4


class DataAccessResult(enum.IntEnum):
    """Why an attribute was not accessed."""

    SUCCESS = 0
    HARDWARE_FAULT = 1
    TEMPORARY_FAILURE = 2
    READ_WRITE_DENIED = 3
    OBJECT_UNDEFINED = 4
    OBJECT_CLASS_INCONSISTENT = 9
    OBJECT_UNAVAILABLE = 11
    TYPE_UNMATCHED = 12
    SCOPE_OF_ACCESS_VIOLATED = 13
    DATA_BLOCK_UNAVAILABLE = 14
    LONG_GET_ABORTED = 15
    NO_LONG_GET_IN_PROGRESS = 16
    LONG_SET_ABORTED = 17
    NO_LONG_SET_IN_PROGRESS = 18
    DATA_BLOCK_NUMBER_INVALID = 19
    OTHER_REASON = 250


def data_access_error(result: int) -> DataAccessError:
    """Make the error that says why an attribute was not accessed."""
    try:
        name = DataAccessResult(result).name.lower().replace("_", "-")
    except ValueError:
        name = f"data-access-result {result}"
    return DataAccessError(name, result)


_ACTION_RESULTS = {
    1: "hardware-fault",
    2: "temporary-failure",
    3: "read-write-denied",
    4: "object-undefined",
    9: "object-class-inconsistent",
    11: "object-unavailable",
    12: "type-unmatched",
    13: "scope-of-access-violated",
    14: "data-block-unavailable",
    15: "long-action-aborted",
    16: "no-long-action-in-progress",
    250: "other-reason",
}


def action_error(result: int) -> DataAccessError:
    """Make the error that says why a method was not executed."""
    return DataAccessError(_ACTION_RESULTS.get(result, f"action-result {result}"), result)


@dataclass(frozen=True, slots=True)
class SelectiveAccess:
    """Access selection of an attribute.

    Args:
        selector: 1 by range, 2 by entry for a Profile Generic buffer.
        parameters: as the class defines them for that selector.
    """

    selector: int
    parameters: Data


@dataclass(frozen=True, slots=True)
class AttributeDescriptor:
    """One attribute of one object, with a selection of it where wanted.

    Args:
        class_id: COSEM interface class.
        logical_name: which object.
        attribute: index, 1..127; 0 is all of them where the server allows.
        selection: part of the attribute.
    """

    class_id: int
    logical_name: LogicalName
    attribute: int
    selection: SelectiveAccess | None = None

    def encode(self) -> bytes:
        """Return cosem-attribute-descriptor and access-selection."""
        head = self.class_id.to_bytes(2, "big") + self.logical_name + bytes((self.attribute & 0xFF,))
        if self.selection is None:
            return head + b"\x00"
        return head + bytes((1, self.selection.selector)) + encode(self.selection.parameters)

    @classmethod
    def decode_at(cls, octets: bytes, position: int) -> tuple[AttributeDescriptor, int]:
        """Read one at `position`; return it and the position behind it.

        Raises:
            RemoteProtocolError: cut short.
        """
        end = position + 10
        if end > len(octets):
            raise RemoteProtocolError("attribute descriptor cut short")
        class_id = int.from_bytes(octets[position : position + 2], "big")
        name = LogicalName(bytes(octets[position + 2 : position + 8]))
        attribute = octets[position + 8]
        if not octets[position + 9]:
            return cls(class_id, name, attribute), end
        if end >= len(octets):
            raise RemoteProtocolError("access selection cut short")
        selector = octets[end]
        parameters, end = decode_at(octets, end + 1)
        return cls(class_id, name, attribute, SelectiveAccess(selector, parameters)), end

    def __str__(self) -> str:
        return f"{self.class_id}:{self.logical_name.obis}:{self.attribute}"


@dataclass(frozen=True, slots=True)
class MethodDescriptor:
    """One method of one object.

    Args:
        class_id: COSEM interface class.
        logical_name: which object.
        method: index, 1..127.
    """

    class_id: int
    logical_name: LogicalName
    method: int

    def encode(self) -> bytes:
        """Return cosem-method-descriptor."""
        return self.class_id.to_bytes(2, "big") + self.logical_name + bytes((self.method & 0xFF,))

    def __str__(self) -> str:
        return f"{self.class_id}:{self.logical_name.obis}:{self.method}"


def variable_access(name: int, selection: SelectiveAccess | None) -> bytes:
    """Encode a Variable-Access-Specification: variable-name, or parameterised-access where something is selected."""
    octets = (name & 0xFFFF).to_bytes(2, "big")
    if selection is None:
        return b"\x02" + octets
    return b"\x04" + octets + bytes((selection.selector,)) + encode(selection.parameters)


# ---------------------------------------------------------------------------------------------------------------------
# requests


@dataclass(frozen=True, slots=True)
class GetRequest:
    """Get-Request-Normal for one attribute, Get-Request-With-List for several, Get-Request-Next for a block.

    Args:
        invoke_id: 0..15.
        attributes: what to read; empty for the next block.
        block_number: of the block received last, None but for a next block.
        with_list: the form with a list even for one attribute.
    """

    invoke_id: int
    attributes: tuple[AttributeDescriptor, ...] = ()
    block_number: int | None = None
    with_list: bool = False

    def encode(self) -> bytes:
        """Return the APDU."""
        priority = self.invoke_id | CONFIRMED_HIGH_PRIORITY
        if self.block_number is not None:
            return bytes((GET_REQUEST, GetType.NEXT, priority)) + self.block_number.to_bytes(4, "big")
        if len(self.attributes) == 1 and not self.with_list:
            return bytes((GET_REQUEST, GetType.NORMAL, priority)) + self.attributes[0].encode()
        head = bytes((GET_REQUEST, GetType.WITH_LIST, priority)) + encode_length(len(self.attributes))
        return head + b"".join(attribute.encode() for attribute in self.attributes)

    @classmethod
    def decode(cls, apdu: bytes) -> GetRequest:
        """Read the APDU.

        Raises:
            RemoteProtocolError: malformed.
        """
        if len(apdu) < 7 or apdu[0] != GET_REQUEST:
            raise RemoteProtocolError("Get-Request cut short")
        kind, invoke_id = apdu[1], apdu[2] & INVOKE_ID_MASK
        if kind == GetType.NEXT:
            return cls(invoke_id, (), int.from_bytes(apdu[3:7], "big"))
        if kind == GetType.NORMAL:
            attribute, position = AttributeDescriptor.decode_at(apdu, 3)
            attributes = [attribute]
        elif kind == GetType.WITH_LIST:
            count, position = decode_length(apdu, 3)
            attributes = []
            for _ in range(count):
                attribute, position = AttributeDescriptor.decode_at(apdu, position)
                attributes.append(attribute)
        else:
            raise RemoteProtocolError(f"Get-Request of type {kind} does not exist")
        if position != len(apdu):
            raise RemoteProtocolError("octets behind a Get-Request")
        return cls(invoke_id, tuple(attributes), with_list=kind == GetType.WITH_LIST)


# ---------------------------------------------------------------------------------------------------------------------
# responses


@dataclass(frozen=True, slots=True)
class GetResponse:
    """Get-Response-Normal or Get-Response-With-List.

    Args:
        invoke_id: 0..15, of the request.
        results: for each attribute its encoded data, or why there is none.
        with_list: the form with a list.
    """

    invoke_id: int
    results: tuple[bytes | DataAccessError, ...]
    with_list: bool = False

    def encode(self) -> bytes:
        """Return the APDU."""
        kind = GetType.WITH_LIST if self.with_list else GetType.NORMAL
        head = bytes((GET_RESPONSE, kind, self.invoke_id | CONFIRMED_HIGH_PRIORITY))
        return head + (encode_results(self.results) if self.with_list else _encode_result(self.results[0]))


@dataclass(frozen=True, slots=True)
class GetResponseBlock:
    """Get-Response-With-Datablock.

    Args:
        invoke_id: 0..15, of the request.
        last: whether it is the last block.
        number: block number, from 1.
        data: raw data, or why the transfer ends.
    """

    invoke_id: int
    last: bool
    number: int
    data: bytes | DataAccessError

    def encode(self) -> bytes:
        """Return the APDU."""
        head = bytes((GET_RESPONSE, GetType.NEXT, self.invoke_id | CONFIRMED_HIGH_PRIORITY, self.last))
        head += self.number.to_bytes(4, "big")
        if isinstance(self.data, DataAccessError):
            return head + bytes((1, self.data.result))
        return head + b"\x00" + encode_length(len(self.data)) + self.data


def _encode_result(result: bytes | DataAccessError) -> bytes:
    return bytes((1, result.result)) if isinstance(result, DataAccessError) else b"\x00" + result


def encode_results(results: tuple[bytes | DataAccessError, ...]) -> bytes:
    """Encode a list of results as it stands in a response with list, or in its blocks."""
    return encode_length(len(results)) + b"".join(map(_encode_result, results))


ValueDecoder = Callable[[bytes, int], tuple[Any, int]]
"""`axdr.decode_value_at` for plain values, `axdr.decode_at` where types are wanted."""


def decode_result_at(octets: bytes, position: int, decode_data: ValueDecoder) -> tuple[Any, int]:
    """Read one Get-Data-Result: a value, or a DataAccessError in its place.

    Raises:
        RemoteProtocolError: malformed.
    """
    if position + 1 >= len(octets):
        raise RemoteProtocolError("result cut short")
    choice = octets[position]
    if choice == 0:
        return decode_data(octets, position + 1)
    if choice == 1:
        return data_access_error(octets[position + 1]), position + 2
    raise RemoteProtocolError(f"Get-Data-Result with choice {choice}")


def decode_results(octets: bytes, position: int, expected: int, decode_data: ValueDecoder) -> list[Any]:
    """Read a list of results that fills the rest of `octets`.

    Raises:
        RemoteProtocolError: malformed, or not as many as were asked for.
    """
    count, position = decode_length(octets, position)
    if count != expected:
        raise RemoteProtocolError(f"{count} results for {expected} attributes")
    results = []
    for _ in range(count):
        result, position = decode_result_at(octets, position, decode_data)
        results.append(result)
    if position != len(octets):
        raise RemoteProtocolError("octets behind the results")
    return results


@dataclass(frozen=True, slots=True)
class ExceptionResponse:
    """An exception-response APDU.

    Args:
        state: state-error: 1 service-not-allowed, 2 service-unknown.
        service: service-error: 1 operation-not-possible, 2 service-not-supported, 3 other-reason, 4 PDU-too-long,
            5 deciphering-error, 6 invocation-counter-error.
        invocation_counter: what the server expects at least, with an invocation-counter-error.
    """

    state: int
    service: int
    invocation_counter: int | None = None

    @property
    def reason(self) -> str:
        """What it says, in words."""
        states = {1: "service not allowed", 2: "service unknown"}
        services = {
            1: "operation not possible",
            2: "service not supported",
            3: "other reason",
            4: "PDU too long",
            5: "deciphering error",
            6: "invocation counter error",
        }
        state = states.get(self.state, f"state error {self.state}")
        return f"{state}, {services.get(self.service, f'service error {self.service}')}"

    def encode(self) -> bytes:
        """Return the APDU."""
        counter = b"" if self.invocation_counter is None else self.invocation_counter.to_bytes(4, "big")
        return bytes((EXCEPTION_RESPONSE, self.state, self.service)) + counter

    @classmethod
    def decode(cls, apdu: bytes) -> ExceptionResponse:
        """Read the APDU.

        Raises:
            RemoteProtocolError: cut short.
        """
        if len(apdu) < 3 or apdu[0] != EXCEPTION_RESPONSE:
            raise RemoteProtocolError("exception-response cut short")
        counter = int.from_bytes(apdu[3:7], "big") if len(apdu) >= 7 else None
        return cls(apdu[1], apdu[2], counter)
