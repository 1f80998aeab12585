"""Read, Write and UnconfirmedWrite with short names: an APDU in, an APDU out. No socket, no clock."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from meterbridge.dlms import AttributeDescriptor, Conformance, Data, DataAccessResult, DataType, SelectiveAccess
from meterbridge.dlms.acse import ConfirmedServiceError
from meterbridge.dlms.axdr import decode_at, decode_length, encode, encode_length
from meterbridge.dlms.xdlms import (
    READ_REQUEST,
    READ_RESPONSE,
    UNCONFIRMED_WRITE_REQUEST,
    WRITE_REQUEST,
    WRITE_RESPONSE,
    MethodDescriptor,
    data_access_error,
)
from meterbridge.errors import DataAccessError, RemoteProtocolError
from meterbridge.simulator.behaviour import Behaviour
from meterbridge.simulator.meter import SimulatedMeter
from meterbridge.simulator.objects import Value
from meterbridge.simulator.outgoing import Outgoing

# CHOICE of Variable-Access-Specification.
_NAME, _PARAMETERISED, _BLOCK, _READ_BLOCK, _WRITE_BLOCK = 2, 4, 5, 6, 7
_BLOCK_RESULT: Final = 2
_READ_GOES_ON, _WRITE_GOES_ON = 3, 2
_LONGEST_REQUEST: Final = 1 << 18
_BLOCK_HEADER: Final = 10
_LONGEST_LIST: Final = 1024

# ServiceError [3] service: PDU size, unsupported; [4] definition: object undefined.
_UNSUPPORTED_READ = ConfirmedServiceError(5, 3, 2).encode()
_UNSUPPORTED_WRITE = ConfirmedServiceError(6, 3, 2).encode()
_TOO_LONG = ConfirmedServiceError(5, 3, 1).encode()
_MALFORMED_READ = ConfirmedServiceError(5, 0, 0).encode()
_MALFORMED_WRITE = ConfirmedServiceError(6, 0, 0).encode()

_A_READ_BLOCK, _A_WRITE_BLOCK = bytes((1, _READ_BLOCK)), bytes((1, _WRITE_BLOCK))
_ANSWERS: Final = {READ_REQUEST: READ_RESPONSE, WRITE_REQUEST: WRITE_RESPONSE}

_Variable = tuple[int, SelectiveAccess | None]


@dataclass(slots=True)
class _Incoming:
    """A request that comes in blocks."""

    tag: int
    number: int = 0
    octets: bytearray = field(default_factory=bytearray)


class ShortNameServices:
    """What an association with short name referencing answers.

    Args:
        meter: what is read, written and called.
        client: SAP of the client.
        behaviour: asked before anything is given or refused.
        conformance: services agreed on.
    """

    __slots__ = ("_behaviour", "_client", "_conformance", "_incoming", "_limit", "_meter", "_outgoing")

    def __init__(self, meter: SimulatedMeter, client: int, behaviour: Behaviour, conformance: Conformance) -> None:
        self._meter = meter
        self._client = client
        self._behaviour = behaviour
        self._conformance = conformance
        self._limit = 0
        self._outgoing: Outgoing | None = None
        self._incoming: _Incoming | None = None

    def answer(self, apdu: bytes, now: float, limit: int) -> bytes:
        """Answer one APDU; empty where nothing is answered.

        Args:
            apdu: as it was sent, deciphered.
            now: Unix time in seconds.
            limit: largest answer, octets.
        """
        self._limit = limit
        try:
            if apdu[0] in (READ_REQUEST, WRITE_REQUEST) and apdu[1:3] in (_A_READ_BLOCK, _A_WRITE_BLOCK):
                whole = self._take_block(apdu)
                if isinstance(whole, int):
                    return bytes((_ANSWERS[apdu[0]], 1, 1, whole))
                if whole is None:
                    goes_on = _READ_GOES_ON if apdu[0] == READ_REQUEST else _WRITE_GOES_ON
                    return bytes((_ANSWERS[apdu[0]], 1, goes_on)) + apdu[4:6]
                apdu = apdu[:1] + whole
            self._incoming = None
            if apdu[0] == READ_REQUEST:
                return self._read(apdu, now)
            if apdu[0] == WRITE_REQUEST:
                return self._write(apdu, now) if self._conformance & Conformance.WRITE else _UNSUPPORTED_WRITE
            if apdu[0] == UNCONFIRMED_WRITE_REQUEST:
                if self._conformance & Conformance.UNCONFIRMED_WRITE:
                    self._write(apdu, now)
                return b""
        except (RemoteProtocolError, IndexError):
            if apdu[0] == UNCONFIRMED_WRITE_REQUEST:
                return b""
            return _MALFORMED_READ if apdu[0] == READ_REQUEST else _MALFORMED_WRITE
        return _UNSUPPORTED_READ

    def _take_block(self, apdu: bytes) -> bytes | int | None:
        """Take a block of a request: what was cut, None where more is to come, or why it is not taken."""
        last, number, position = apdu[3], int.from_bytes(apdu[4:6], "big"), 6
        if apdu[0] == WRITE_REQUEST:
            if apdu[6:8] != bytes((1, DataType.OCTET_STRING)):
                return DataAccessResult.DATA_BLOCK_UNAVAILABLE
            position = 8
        size, position = decode_length(apdu, position)
        if position + size != len(apdu):
            return DataAccessResult.DATA_BLOCK_UNAVAILABLE
        incoming, self._incoming = self._incoming, None
        if number == 1:
            agreed = Conformance.BLOCK_TRANSFER_WITH_SET_OR_WRITE
            if apdu[0] == READ_REQUEST:
                agreed = Conformance.BLOCK_TRANSFER_WITH_GET_OR_READ
            if not self._conformance & agreed:
                return DataAccessResult.READ_WRITE_DENIED
            incoming = _Incoming(apdu[0])
        elif incoming is None or incoming.tag != apdu[0]:
            return DataAccessResult.NO_LONG_SET_IN_PROGRESS
        if number != incoming.number + 1:
            return DataAccessResult.DATA_BLOCK_NUMBER_INVALID
        if len(incoming.octets) + size > _LONGEST_REQUEST:
            return DataAccessResult.LONG_SET_ABORTED
        incoming.octets += apdu[position:]
        incoming.number = number
        if last:
            return bytes(incoming.octets)
        self._incoming = incoming
        return None

    # ---- Read

    def _read(self, apdu: bytes, now: float) -> bytes:
        count, position = decode_length(apdu, 1)
        if count == 1 and apdu[position] == _BLOCK:
            return self._next_block(int.from_bytes(apdu[position + 1 : position + 3], "big"))
        self._outgoing = None
        variables, position = _variables(apdu, 1)
        if position != len(apdu):
            raise RemoteProtocolError("octets behind a Read-Request")
        if len(variables) > 1 and not self._conformance & Conformance.MULTIPLE_REFERENCES:
            return _UNSUPPORTED_READ
        results = [self._result(variable, now) for variable in variables]
        outgoing = Outgoing(itertools.chain((encode_length(len(results)),), *map(_tagged, results)))
        content, last = outgoing.take(self._limit - 1)
        if last:
            return bytes((READ_RESPONSE,)) + content
        if not self._conformance & Conformance.BLOCK_TRANSFER_WITH_GET_OR_READ:
            return _TOO_LONG
        outgoing.give_back(content)
        self._outgoing = outgoing
        return self._block(outgoing)

    def _result(self, variable: _Variable, now: float) -> Value | DataAccessError:
        name, selection = variable
        try:
            target = self._meter.resolve(name, self._client)
            if isinstance(target, MethodDescriptor):
                return self._call(target, selection, now)
            if selection is not None and not self._conformance & Conformance.PARAMETERIZED_ACCESS:
                raise data_access_error(DataAccessResult.SCOPE_OF_ACCESS_VIOLATED)
            attribute = AttributeDescriptor(target.class_id, target.logical_name, target.attribute, selection)
            refused = self._behaviour.refuses_attribute(attribute, now)
            if refused is not None:
                raise data_access_error(refused)
            return self._meter.read(attribute, self._client, now)
        except DataAccessError as error:
            return error

    def _call(self, method: MethodDescriptor, selection: SelectiveAccess | None, now: float) -> Value:
        parameters = Data(DataType.NULL_DATA) if selection is None else selection.parameters
        returned = self._meter.call(method, parameters, self._client, now)
        return b"\x00" if returned is None else encode(returned)

    def _block(self, outgoing: Outgoing) -> bytes:
        data, last = outgoing.take(self._limit - _BLOCK_HEADER)
        outgoing.number += 1
        if last:
            self._outgoing = None
        head = bytes((READ_RESPONSE, 1, _BLOCK_RESULT, last)) + outgoing.number.to_bytes(2, "big")
        return head + encode_length(len(data)) + data

    def _next_block(self, number: int) -> bytes:
        outgoing = self._outgoing
        if outgoing is not None and number == outgoing.number:
            return self._block(outgoing)
        self._outgoing = None
        none = DataAccessResult.NO_LONG_GET_IN_PROGRESS
        reason = none if outgoing is None else DataAccessResult.DATA_BLOCK_NUMBER_INVALID
        return bytes((READ_RESPONSE, 1, 1, reason))

    # ---- Write

    def _write(self, apdu: bytes, now: float) -> bytes:
        self._outgoing = None
        variables, position = _variables(apdu, 1)
        count, position = decode_length(apdu, position)
        if count != len(variables):
            raise RemoteProtocolError(f"{count} values for {len(variables)} names")
        values = []
        for _ in range(count):
            value, position = decode_at(apdu, position)
            values.append(value)
        if position != len(apdu):
            raise RemoteProtocolError("octets behind a Write-Request")
        results = b""
        for variable, value in zip(variables, values, strict=True):
            reason = self._write_one(variable, value, now)
            results += bytes((1, reason)) if reason else b"\x00"
        return bytes((WRITE_RESPONSE,)) + encode_length(count) + results

    def _write_one(self, variable: _Variable, value: Data, now: float) -> int:
        name, selection = variable
        try:
            target = self._meter.resolve(name, self._client)
            if isinstance(target, MethodDescriptor):
                self._meter.call(target, value, self._client, now)
                return DataAccessResult.SUCCESS
            attribute = AttributeDescriptor(target.class_id, target.logical_name, target.attribute, selection)
            refused = self._behaviour.refuses_attribute(attribute, now)
            if refused is not None:
                return refused
            self._meter.write(attribute, value, self._client, now)
        except DataAccessError as error:
            return error.result
        return DataAccessResult.SUCCESS


def _variables(apdu: bytes, position: int) -> tuple[list[_Variable], int]:
    count, position = decode_length(apdu, position)
    if not 1 <= count <= _LONGEST_LIST:
        raise RemoteProtocolError(f"a list of {count} names")
    found: list[_Variable] = []
    for _ in range(count):
        choice, name = apdu[position], int.from_bytes(apdu[position + 1 : position + 3], "big")
        position += 3
        if choice == _NAME:
            found.append((name, None))
        elif choice == _PARAMETERISED:
            selector = apdu[position]
            parameters, position = decode_at(apdu, position + 1)
            found.append((name, SelectiveAccess(selector, parameters)))
        else:
            raise RemoteProtocolError(f"variable access specification {choice}")
    return found, position


def _tagged(result: Value | DataAccessError) -> Iterator[bytes]:
    if isinstance(result, DataAccessError):
        return iter((bytes((1, result.result)),))
    if isinstance(result, bytes):
        return iter((b"\x00", result))
    return itertools.chain((b"\x00",), result)
