"""GET, SET and ACTION of one association, with lists and blocks: an APDU in, an APDU out. No socket, no clock."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from meterbridge.dlms import AttributeDescriptor, Conformance, Data, DataAccessResult, LogicalName
from meterbridge.dlms.axdr import decode_at, decode_length, encode, encode_length
from meterbridge.dlms.xdlms import (
    ACTION_REQUEST,
    ACTION_RESPONSE,
    GET_REQUEST,
    GET_RESPONSE,
    SET_REQUEST,
    SET_RESPONSE,
    ActionType,
    GetRequest,
    GetType,
    MethodDescriptor,
    SetType,
    data_access_error,
)
from meterbridge.errors import DataAccessError, RemoteProtocolError
from meterbridge.simulator.behaviour import Behaviour
from meterbridge.simulator.exceptions import MALFORMED, NOT_SUPPORTED, TOO_LONG, UNKNOWN
from meterbridge.simulator.meter import SimulatedMeter
from meterbridge.simulator.objects import Value
from meterbridge.simulator.outgoing import Outgoing

_BLOCK_HEADER: Final = 12
"""Octets of a response with a data block before its data, at most."""
_LONGEST_REQUEST: Final = 1 << 18
"""Octets put together from the blocks of a request."""
_LONGEST_LIST: Final = 1024

# CHOICE of Set-Request and of Action-Request.
_SET_NORMAL, _SET_FIRST, _SET_BLOCK, _SET_LIST, _SET_LIST_FIRST = 1, 2, 3, 4, 5
_CALL, _CALL_NEXT, _CALL_LIST, _CALL_FIRST, _CALL_LIST_FIRST, _CALL_BLOCK = 1, 2, 3, 4, 5, 6

_LONG_ACTION_ABORTED, _NO_LONG_ACTION = 15, 16


@functools.lru_cache(maxsize=4096)
def _attributes(kind: int, body: bytes) -> tuple[AttributeDescriptor, ...]:
    # Thousands of meters are asked the same thing every second: it is parsed once, whatever its invoke id.
    return GetRequest.decode(bytes((GET_REQUEST, kind, 0)) + body).attributes


@dataclass(slots=True)
class _Incoming:
    """A request that comes in blocks."""

    tag: int
    targets: tuple[Any, ...]
    with_list: bool
    number: int = 0
    octets: bytearray = field(default_factory=bytearray)


class LogicalNameServices:
    """What an association with logical name referencing answers.

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
        """Answer one APDU.

        Args:
            apdu: as it was sent, deciphered.
            now: Unix time in seconds.
            limit: largest answer, octets.

        Raises:
            RemoteProtocolError: malformed.
        """
        self._limit = limit
        tag = apdu[0]
        if len(apdu) < 4:
            return MALFORMED
        if tag == GET_REQUEST:
            return self._get(apdu, now)
        if tag == SET_REQUEST:
            return self._allowed(Conformance.SET) or self._set(apdu, now)
        if tag == ACTION_REQUEST:
            return self._allowed(Conformance.ACTION) or self._action(apdu, now)
        return UNKNOWN

    def _allowed(self, service: Conformance) -> bytes:
        return b"" if self._conformance & service else NOT_SUPPORTED

    # ---- GET

    def _get(self, apdu: bytes, now: float) -> bytes:
        if len(apdu) < 7:
            return MALFORMED
        kind, priority = apdu[1], apdu[2]
        if kind == GetType.NEXT:
            return self._next_block(GetRequest.decode(apdu).block_number or 0, priority)
        self._outgoing = self._incoming = None
        attributes = _attributes(kind, apdu[3:])
        if kind == GetType.WITH_LIST:
            if refused := self._allowed(Conformance.MULTIPLE_REFERENCES):
                return refused
            results = [self._result(attribute, now) for attribute in attributes]
            pieces = itertools.chain((encode_length(len(results)),), *map(_tagged, results))
            return self._get_answer(bytes((GET_RESPONSE, kind, priority)), pieces)
        result = self._result(attributes[0], now)
        if isinstance(result, DataAccessError):
            return bytes((GET_RESPONSE, kind, priority, 1, result.result))
        return self._get_answer(bytes((GET_RESPONSE, kind, priority, 0)), _pieces(result))

    def _result(self, attribute: AttributeDescriptor, now: float) -> Value | DataAccessError:
        if attribute.selection is not None and not self._conformance & Conformance.SELECTIVE_ACCESS:
            return data_access_error(DataAccessResult.SCOPE_OF_ACCESS_VIOLATED)
        refused = self._behaviour.refuses_attribute(attribute, now)
        if refused is not None:
            return data_access_error(refused)
        try:
            return self._meter.read(attribute, self._client, now)
        except DataAccessError as error:
            return error

    def _get_answer(self, head: bytes, pieces: Iterator[bytes]) -> bytes:
        outgoing = Outgoing(pieces)
        content, last = outgoing.take(self._limit - len(head))
        if last:
            return head + content
        if not self._conformance & Conformance.BLOCK_TRANSFER_WITH_GET_OR_READ:
            return TOO_LONG
        outgoing.give_back(content)
        self._outgoing = outgoing
        return self._block(outgoing, head[2])

    def _block(self, outgoing: Outgoing, priority: int) -> bytes:
        return bytes((GET_RESPONSE, GetType.NEXT, priority)) + self._take_block(outgoing, b"\x00")

    def _take_block(self, outgoing: Outgoing, choice: bytes) -> bytes:
        data, last = outgoing.take(self._limit - _BLOCK_HEADER)
        outgoing.number += 1
        if last:
            self._outgoing = None
        return bytes((last,)) + outgoing.number.to_bytes(4, "big") + choice + encode_length(len(data)) + data

    def _next_block(self, number: int, priority: int) -> bytes:
        outgoing = self._outgoing
        if outgoing is not None and number == outgoing.number:
            return self._block(outgoing, priority)
        reason = DataAccessResult.DATA_BLOCK_NUMBER_INVALID
        if outgoing is None:
            reason = DataAccessResult.NO_LONG_GET_IN_PROGRESS
        self._outgoing = None
        return bytes((GET_RESPONSE, GetType.NEXT, priority, 1)) + number.to_bytes(4, "big") + bytes((1, reason))

    # ---- SET

    def _set(self, apdu: bytes, now: float) -> bytes:
        kind, priority = apdu[1], apdu[2]
        self._outgoing = None
        if kind == _SET_BLOCK:
            return self._set_block(apdu, 3, priority, now)
        self._incoming = None
        if kind in (_SET_NORMAL, _SET_FIRST):
            attribute, position = AttributeDescriptor.decode_at(apdu, 3)
            attributes: tuple[AttributeDescriptor, ...] = (attribute,)
        elif kind in (_SET_LIST, _SET_LIST_FIRST):
            if refused := self._allowed(Conformance.MULTIPLE_REFERENCES):
                return refused
            attributes, position = _several(apdu, 3, AttributeDescriptor.decode_at)
        else:
            return UNKNOWN
        if kind in (_SET_FIRST, _SET_LIST_FIRST):
            if refused := self._allowed(Conformance.BLOCK_TRANSFER_WITH_SET_OR_WRITE):
                return refused
            self._incoming = _Incoming(SET_REQUEST, attributes, kind == _SET_LIST_FIRST)
            return self._set_block(apdu, position, priority, now)
        results = self._write_all(attributes, apdu[position:], kind == _SET_LIST, now)
        if kind == _SET_NORMAL:
            return bytes((SET_RESPONSE, SetType.NORMAL, priority)) + results
        return bytes((SET_RESPONSE, SetType.WITH_LIST, priority)) + encode_length(len(results)) + results

    def _set_block(self, apdu: bytes, position: int, priority: int, now: float) -> bytes:
        incoming, last, number, reason = self._take_request_block(apdu, position, SET_REQUEST)
        block = number.to_bytes(4, "big")
        if incoming is None:
            return bytes((SET_RESPONSE, SetType.LAST_BLOCK, priority, reason)) + block
        if not last:
            return bytes((SET_RESPONSE, SetType.BLOCK, priority)) + block
        self._incoming = None
        results = self._write_all(incoming.targets, bytes(incoming.octets), incoming.with_list, now)
        if not incoming.with_list:
            return bytes((SET_RESPONSE, SetType.LAST_BLOCK, priority)) + results + block
        head = bytes((SET_RESPONSE, SetType.LAST_BLOCK_WITH_LIST, priority))
        return head + encode_length(len(results)) + results + block

    def _write_all(
        self, attributes: tuple[AttributeDescriptor, ...], octets: bytes, with_list: bool, now: float
    ) -> bytes:
        values = _data_list(octets, len(attributes), with_list)
        return bytes(self._write(*pair, now) for pair in zip(attributes, values, strict=True))

    def _write(self, attribute: AttributeDescriptor, value: Data, now: float) -> int:
        refused = self._behaviour.refuses_attribute(attribute, now)
        if refused is not None:
            return refused
        try:
            self._meter.write(attribute, value, self._client, now)
        except DataAccessError as error:
            return error.result
        return DataAccessResult.SUCCESS

    # ---- ACTION

    def _action(self, apdu: bytes, now: float) -> bytes:
        kind, priority = apdu[1], apdu[2]
        if kind == _CALL_NEXT:
            return self._next_result_block(int.from_bytes(apdu[3:7], "big"), priority)
        self._outgoing = None
        if kind == _CALL_BLOCK:
            return self._call_block(apdu, 3, priority, now)
        self._incoming = None
        if kind in (_CALL, _CALL_FIRST):
            method, position = _method_at(apdu, 3)
            methods: tuple[MethodDescriptor, ...] = (method,)
        elif kind in (_CALL_LIST, _CALL_LIST_FIRST):
            if refused := self._allowed(Conformance.MULTIPLE_REFERENCES):
                return refused
            methods, position = _several(apdu, 3, _method_at)
        else:
            return UNKNOWN
        if kind in (_CALL_FIRST, _CALL_LIST_FIRST):
            if refused := self._allowed(Conformance.BLOCK_TRANSFER_WITH_ACTION):
                return refused
            self._incoming = _Incoming(ACTION_REQUEST, methods, kind == _CALL_LIST_FIRST)
            return self._call_block(apdu, position, priority, now)
        octets = apdu[position:]
        if kind == _CALL:
            # Parameters are optional here, and only here.
            octets = octets[1:] if octets[:1] == b"\x01" else b"\x00"
        return self._call_all(methods, octets, kind == _CALL_LIST, priority, now)

    def _call_block(self, apdu: bytes, position: int, priority: int, now: float) -> bytes:
        incoming, last, number, reason = self._take_request_block(apdu, position, ACTION_REQUEST)
        if incoming is None:
            return bytes((ACTION_RESPONSE, ActionType.NORMAL, priority, reason, 0))
        if not last:
            return bytes((ACTION_RESPONSE, ActionType.NEXT_BLOCK, priority)) + number.to_bytes(4, "big")
        self._incoming = None
        # A method without parameters has no octets.
        octets = bytes(incoming.octets) or b"\x00"
        return self._call_all(incoming.targets, octets, incoming.with_list, priority, now)

    def _call_all(
        self, methods: tuple[MethodDescriptor, ...], octets: bytes, with_list: bool, priority: int, now: float
    ) -> bytes:
        parameters = _data_list(octets, len(methods), with_list)
        answers = [self._call(*pair, now) for pair in zip(methods, parameters, strict=True)]
        kind = ActionType.WITH_LIST if with_list else ActionType.NORMAL
        content = (encode_length(len(answers)) if with_list else b"") + b"".join(answers)
        if len(content) + 3 <= self._limit:
            return bytes((ACTION_RESPONSE, kind, priority)) + content
        if not self._conformance & Conformance.BLOCK_TRANSFER_WITH_ACTION:
            return TOO_LONG
        self._outgoing = Outgoing(iter((content,)))
        return self._result_block(self._outgoing, priority)

    def _call(self, method: MethodDescriptor, parameters: Data, now: float) -> bytes:
        try:
            returned = self._meter.call(method, parameters, self._client, now)
        except DataAccessError as error:
            return bytes((error.result, 0))
        return b"\x00\x00" if returned is None else b"\x00\x01\x00" + encode(returned)

    def _result_block(self, outgoing: Outgoing, priority: int) -> bytes:
        return bytes((ACTION_RESPONSE, ActionType.WITH_BLOCK, priority)) + self._take_block(outgoing, b"")

    def _next_result_block(self, number: int, priority: int) -> bytes:
        outgoing, self._outgoing = self._outgoing, None
        if outgoing is None or number != outgoing.number:
            reason = _NO_LONG_ACTION if outgoing is None else DataAccessResult.DATA_BLOCK_NUMBER_INVALID
            return bytes((ACTION_RESPONSE, ActionType.NORMAL, priority, reason, 0))
        self._outgoing = outgoing
        return self._result_block(outgoing, priority)

    # ---- requests in blocks

    def _take_request_block(self, apdu: bytes, position: int, tag: int) -> tuple[_Incoming | None, bool, int, int]:
        """Take a block of a request: what is under way or None with the reason, whether it is whole, the number."""
        if position + 6 > len(apdu):
            raise RemoteProtocolError("data block cut short")
        last, number = bool(apdu[position]), int.from_bytes(apdu[position + 1 : position + 5], "big")
        size, start = decode_length(apdu, position + 5)
        octets = apdu[start : start + size]
        if len(octets) != size or start + size != len(apdu):
            raise RemoteProtocolError("data block whose length is wrong")
        incoming, self._incoming = self._incoming, None
        if incoming is None or incoming.tag != tag:
            none = DataAccessResult.NO_LONG_SET_IN_PROGRESS if tag == SET_REQUEST else _NO_LONG_ACTION
            return None, last, number, none
        if number != incoming.number + 1:
            return None, last, number, DataAccessResult.DATA_BLOCK_NUMBER_INVALID
        if len(incoming.octets) + size > _LONGEST_REQUEST:
            aborted = DataAccessResult.LONG_SET_ABORTED if tag == SET_REQUEST else _LONG_ACTION_ABORTED
            return None, last, number, aborted
        incoming.octets += octets
        incoming.number = number
        self._incoming = incoming
        return incoming, last, number, 0


def _method_at(octets: bytes, position: int) -> tuple[MethodDescriptor, int]:
    end = position + 9
    if end > len(octets):
        raise RemoteProtocolError("method descriptor cut short")
    class_id = int.from_bytes(octets[position : position + 2], "big")
    return MethodDescriptor(class_id, LogicalName(octets[position + 2 : position + 8]), octets[position + 8]), end


def _several(
    octets: bytes, position: int, read: Callable[[bytes, int], tuple[Any, int]]
) -> tuple[tuple[Any, ...], int]:
    count, position = decode_length(octets, position)
    if not 1 <= count <= _LONGEST_LIST:
        raise RemoteProtocolError(f"a list of {count}")
    found = []
    for _ in range(count):
        item, position = read(octets, position)
        found.append(item)
    return tuple(found), position


def _data_list(octets: bytes, expected: int, with_list: bool) -> tuple[Data, ...]:
    if with_list:
        values, position = _several(octets, 0, decode_at)
    else:
        value, position = decode_at(octets, 0)
        values = (value,)
    if len(values) != expected or position != len(octets):
        raise RemoteProtocolError(f"{len(values)} values for {expected}")
    return values


def _pieces(value: Value) -> Iterator[bytes]:
    return iter((value,)) if isinstance(value, bytes) else value


def _tagged(result: Value | DataAccessError) -> Iterator[bytes]:
    if isinstance(result, DataAccessError):
        return iter((bytes((1, result.result)),))
    return itertools.chain((b"\x00",), _pieces(result))
