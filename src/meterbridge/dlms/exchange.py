"""One request by logical name and its whole answer: GET, SET and ACTION with their blocks.

Apart from link, ciphering and state.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from meterbridge.dlms import xdlms
from meterbridge.dlms.axdr import Data, decode_at, decode_length, decode_value_at, encode, encode_length
from meterbridge.dlms.data_blocks import IncomingBlocks, OutgoingBlocks, interrupted, raw_block
from meterbridge.dlms.exchange_steps import Answered, Ask, Done, Ignored, MayGoOn, Step, check_size
from meterbridge.dlms.xdlms import AttributeDescriptor, MethodDescriptor
from meterbridge.errors import RemoteProtocolError

_BLOCK_HEAD = 32
"""Octets of an APDU that a data block's own fields may take."""


def _one(octets: bytes, position: int, result: Any) -> Done:
    if position != len(octets):
        raise RemoteProtocolError(f"{len(octets) - position} octets behind the data")
    return Done((result,))


class _Confirmed(Answered):
    """What the three services share: which answers are meant for this request."""

    _tag: int
    _name: str

    def __init__(self) -> None:
        self._invoke_id = 0

    @property
    def _priority(self) -> int:
        return self._invoke_id | xdlms.CONFIRMED_HIGH_PRIORITY

    def receive(self, apdu: bytes) -> Step:
        """See Exchange."""
        if apdu[0] != self._tag:
            return Ignored(f"APDU 0x{apdu[0]:02X} in place of an answer")
        if len(apdu) < 4:
            raise RemoteProtocolError(f"{self._name} cut short")
        if apdu[2] & xdlms.INVOKE_ID_MASK != self._invoke_id:
            return Ignored("answer to an earlier request")
        try:
            return self._answer(apdu)
        except IndexError:
            raise RemoteProtocolError(f"{self._name} cut short") from None

    def _answer(self, apdu: bytes) -> Step:
        raise NotImplementedError

    def _unexpected(self, apdu: bytes) -> RemoteProtocolError:
        return RemoteProtocolError(f"{self._name} of type {apdu[1]} does not answer the request")


class GetExchange(_Confirmed):
    """GET of one attribute or of a list; each result is a value, or a DataAccessError in its place.

    Args:
        attributes: what to read.
        typed: results as `Data` instead of plain values.
        decode: decoder of the caller's own for each result's data, in place of both.
        may_go_on: where it says no, each result is an Interrupted.
    """

    _tag = xdlms.GET_RESPONSE
    _name = "Get-Response"

    def __init__(
        self,
        attributes: tuple[AttributeDescriptor, ...],
        typed: bool = False,
        decode: xdlms.ValueDecoder | None = None,
        may_go_on: MayGoOn | None = None,
    ) -> None:
        super().__init__()
        self._attributes = attributes
        self._may_go_on = may_go_on
        self._decode: xdlms.ValueDecoder = decode or (decode_at if typed else decode_value_at)
        self._blocks = IncomingBlocks()

    def start(self, invoke_id: int, max_pdu: int) -> bytes:
        """See Exchange."""
        self._invoke_id = invoke_id
        apdu = xdlms.GetRequest(invoke_id, self._attributes).encode()
        check_size(apdu, max_pdu, "a GET of fewer attributes")
        return apdu

    def _answer(self, apdu: bytes) -> Step:
        kind, several = apdu[1], len(self._attributes)
        if kind == xdlms.GetType.NEXT:
            return self._block(apdu)
        if kind == xdlms.GetType.WITH_LIST:
            return Done(tuple(xdlms.decode_results(apdu, 3, several, self._decode)))
        if kind == xdlms.GetType.NORMAL and several == 1:
            result, position = xdlms.decode_result_at(apdu, 3, self._decode)
            return _one(apdu, position, result)
        if kind == xdlms.GetType.NORMAL and apdu[3]:
            # A list refused as a whole, by a meter that says so as for one attribute.
            return Done((xdlms.data_access_error(apdu[4]),) * several)
        raise self._unexpected(apdu)

    def _block(self, apdu: bytes) -> Step:
        last, number = apdu[3] != 0, int.from_bytes(apdu[4:8], "big")
        if apdu[8]:
            return Done((xdlms.data_access_error(apdu[9]),) * len(self._attributes))
        octets = self._blocks.take(number, last, raw_block(apdu, 9))
        if isinstance(octets, Ignored):
            return octets
        if octets is None:
            if self._may_go_on is not None and not self._may_go_on():
                return interrupted(number, len(self._attributes))
            return Ask(xdlms.GetRequest(self._invoke_id, (), number).encode())
        if len(self._attributes) > 1:
            return Done(tuple(xdlms.decode_results(octets, 0, len(self._attributes), self._decode)))
        result, position = self._decode(octets, 0)
        return _one(octets, position, result)


class SetExchange(_Confirmed):
    """SET of one attribute or of a list; each result is None, or a DataAccessError.

    Args:
        writes: attributes with the values they shall have.
    """

    _tag = xdlms.SET_RESPONSE
    _name = "Set-Response"

    def __init__(self, writes: Sequence[tuple[AttributeDescriptor, Data]]) -> None:
        super().__init__()
        self._writes = tuple(writes)
        self._outgoing: OutgoingBlocks | None = None

    def start(self, invoke_id: int, max_pdu: int) -> bytes:
        """See Exchange."""
        self._invoke_id = invoke_id
        writes = self._writes
        if len(writes) == 1:
            (descriptor, value), kinds = writes[0], (1, 2)
            targets, values = descriptor.encode(), encode(value)
        else:
            kinds = (4, 5)
            targets = encode_length(len(writes)) + b"".join(target.encode() for target, _ in writes)
            values = encode_length(len(writes)) + b"".join(encode(value) for _, value in writes)
        whole = bytes((xdlms.SET_REQUEST, kinds[0], self._priority)) + targets + values
        if not max_pdu or len(whole) <= max_pdu:
            return whole
        self._outgoing = OutgoingBlocks(values, max_pdu - len(targets) - _BLOCK_HEAD, max_pdu - _BLOCK_HEAD)
        return bytes((xdlms.SET_REQUEST, kinds[1], self._priority)) + targets + self._outgoing.block()

    def _answer(self, apdu: bytes) -> Step:
        kind, several = apdu[1], len(self._writes)
        if kind == xdlms.SetType.NORMAL:
            return Done((_set_result(apdu[3]),) * several)
        if kind == xdlms.SetType.BLOCK:
            return self._next(int.from_bytes(apdu[3:7], "big"))
        if kind == xdlms.SetType.LAST_BLOCK:
            return Done((_set_result(apdu[3]),) * several)
        if kind in (xdlms.SetType.LAST_BLOCK_WITH_LIST, xdlms.SetType.WITH_LIST):
            count, position = decode_length(apdu, 3)
            if count != several or position + count > len(apdu):
                raise RemoteProtocolError(f"{count} results for {several} attributes")
            return Done(tuple(_set_result(result) for result in apdu[position : position + count]))
        raise self._unexpected(apdu)

    def _next(self, number: int) -> Step:
        outgoing = self._outgoing
        if outgoing is None or outgoing.last:
            raise RemoteProtocolError("data block acknowledged that was not sent")
        if number < outgoing.number:
            return Ignored("repeated acknowledgement of a data block")
        if number > outgoing.number:
            raise RemoteProtocolError(f"data block {number} acknowledged, {outgoing.number} was sent")
        return Ask(bytes((xdlms.SET_REQUEST, 3, self._priority)) + outgoing.block())


def _set_result(result: int) -> Any:
    return xdlms.data_access_error(result) if result else None


class ActionExchange(_Confirmed):
    """ACTION of one method or of a list; each result is what the method returned (None for nothing), or an error.

    Args:
        calls: methods with their parameters; None for a method that takes none.
        typed: results as `Data` instead of plain values.
    """

    _tag = xdlms.ACTION_RESPONSE
    _name = "Action-Response"

    def __init__(self, calls: Sequence[tuple[MethodDescriptor, Data | None]], typed: bool = False) -> None:
        super().__init__()
        self._calls = tuple(calls)
        self._decode: xdlms.ValueDecoder = decode_at if typed else decode_value_at
        self._outgoing: OutgoingBlocks | None = None
        self._blocks = IncomingBlocks()

    def start(self, invoke_id: int, max_pdu: int) -> bytes:
        """See Exchange."""
        self._invoke_id = invoke_id
        calls = self._calls
        if len(calls) == 1:
            method, parameters = calls[0]
            targets = method.encode()
            values = b"" if parameters is None else encode(parameters)
            whole = bytes((xdlms.ACTION_REQUEST, 1, self._priority)) + targets
            whole += b"\x00" if parameters is None else b"\x01" + values
            kind = 4
        else:
            targets = encode_length(len(calls)) + b"".join(method.encode() for method, _ in calls)
            values = encode_length(len(calls))
            values += b"".join(b"\x00" if parameters is None else encode(parameters) for _, parameters in calls)
            whole = bytes((xdlms.ACTION_REQUEST, 3, self._priority)) + targets + values
            kind = 5
        if not max_pdu or len(whole) <= max_pdu:
            return whole
        self._outgoing = OutgoingBlocks(values, max_pdu - len(targets) - _BLOCK_HEAD, max_pdu - _BLOCK_HEAD)
        return bytes((xdlms.ACTION_REQUEST, kind, self._priority)) + targets + self._outgoing.block()

    def _answer(self, apdu: bytes) -> Step:
        kind = apdu[1]
        if kind == xdlms.ActionType.NORMAL and len(self._calls) == 1:
            result, position = self._result(apdu, 3)
            return _one(apdu, position, result)
        if kind == xdlms.ActionType.NORMAL and apdu[3]:
            return Done((xdlms.action_error(apdu[3]),) * len(self._calls))
        if kind == xdlms.ActionType.WITH_LIST:
            return self._results(apdu, 3)
        if kind == xdlms.ActionType.NEXT_BLOCK:
            return self._next(int.from_bytes(apdu[3:7], "big"))
        if kind == xdlms.ActionType.WITH_BLOCK:
            number = int.from_bytes(apdu[4:8], "big")
            octets = self._blocks.take(number, apdu[3] != 0, raw_block(apdu, 8))
            if isinstance(octets, Ignored):
                return octets
            if octets is None:
                head = bytes((xdlms.ACTION_REQUEST, 2, self._priority))
                return Ask(head + number.to_bytes(4, "big"))
            if len(self._calls) > 1:
                return self._results(octets, 0)
            result, position = self._result(octets, 0)
            return _one(octets, position, result)
        raise self._unexpected(apdu)

    def _next(self, number: int) -> Step:
        outgoing = self._outgoing
        if outgoing is None or outgoing.last:
            raise RemoteProtocolError("parameter block asked for that does not exist")
        if number < outgoing.number:
            return Ignored("repeated acknowledgement of a parameter block")
        if number > outgoing.number:
            raise RemoteProtocolError(f"parameter block {number} acknowledged, {outgoing.number} was sent")
        return Ask(bytes((xdlms.ACTION_REQUEST, 6, self._priority)) + outgoing.block())

    def _results(self, octets: bytes, position: int) -> Done:
        count, position = decode_length(octets, position)
        if count != len(self._calls):
            raise RemoteProtocolError(f"{count} results for {len(self._calls)} methods")
        results = []
        for _ in range(count):
            result, position = self._result(octets, position)
            results.append(result)
        if position != len(octets):
            raise RemoteProtocolError("octets behind the results")
        return Done(tuple(results))

    def _result(self, octets: bytes, position: int) -> tuple[Any, int]:
        outcome, returns = octets[position], octets[position + 1]
        position += 2
        value = None
        if returns:
            value, position = xdlms.decode_result_at(octets, position, self._decode)
        return (xdlms.action_error(outcome) if outcome else value), position
