"""One request and its whole answer: GET, SET and ACTION with their blocks, apart from link, ciphering and state.

An exchange gives the APDUs to send and takes those that answer, until it is done.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from meterbridge.dlms import xdlms
from meterbridge.dlms.axdr import Data, decode_at, decode_length, decode_value_at, encode, encode_length
from meterbridge.dlms.xdlms import AttributeDescriptor, MethodDescriptor
from meterbridge.errors import Interrupted, LocalProtocolError, RemoteProtocolError

MAX_BLOCKED_DATA = 16 << 20
"""Most octets put together from data blocks."""
_BLOCK_HEAD = 32
"""Octets of an APDU that a data block's own fields may take."""


@dataclass(frozen=True, slots=True)
class Ask:
    """The exchange goes on with this APDU."""

    apdu: bytes


@dataclass(frozen=True, slots=True)
class Done:
    """The exchange is over."""

    results: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Ignored:
    """The APDU answers something else."""

    reason: str


Step = Ask | Done | Ignored
MayGoOn = Callable[[], bool]
"""Asked before each further data block: whether it may be asked for now."""


class Exchange(Protocol):
    """One request and its answer."""

    @property
    def unanswered(self) -> Done | None:
        """What it ends with once it is sent, None where an answer is due."""

    def start(self, invoke_id: int, max_pdu: int) -> bytes:
        """Return the first APDU.

        Args:
            invoke_id: 0..15.
            max_pdu: largest APDU the peer takes, octets.

        Raises:
            LocalProtocolError: it cannot be said in that many octets.
        """

    def receive(self, apdu: bytes) -> Step:
        """Take an APDU of the peer.

        Raises:
            RemoteProtocolError: it is no answer to what was asked.
        """


class _Blocks:
    """Data blocks as they come in."""

    def __init__(self) -> None:
        self.number = 0
        self._octets = bytearray()

    def take(self, number: int, last: bool, octets: bytes) -> bytes | Ignored | None:
        """Take a block; the whole when it is the last, None when more are to come."""
        if number == self.number and number:
            return Ignored("repeated data block")
        if number != self.number + 1:
            raise RemoteProtocolError(f"data block {number} where {self.number + 1} is due")
        if not octets and not last:
            raise RemoteProtocolError(f"data block {number} is empty and not the last")
        self.number = number
        self._octets += octets
        if len(self._octets) > MAX_BLOCKED_DATA:
            raise RemoteProtocolError(f"data blocks of more than {MAX_BLOCKED_DATA} octets")
        return bytes(self._octets) if last else None


def _interrupted(number: int, count: int) -> Done:
    """End without the blocks that are still to come: nothing is due that was asked for."""
    return Done((Interrupted(f"not asked for more than {number} data blocks: no time was left"),) * count)


def _raw_block(apdu: bytes, position: int) -> bytes:
    """Read the octet string that ends an APDU with a data block."""
    size, position = decode_length(apdu, position)
    if position + size != len(apdu):
        raise RemoteProtocolError("data block whose length is wrong")
    return apdu[position:]


def _one(octets: bytes, position: int, result: Any) -> Done:
    if position != len(octets):
        raise RemoteProtocolError(f"{len(octets) - position} octets behind the data")
    return Done((result,))


class _Answered:
    """What every service has but the unconfirmed one."""

    @property
    def unanswered(self) -> Done | None:
        """See Exchange."""
        return None


class _Confirmed(_Answered):
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
        self._blocks = _Blocks()

    def start(self, invoke_id: int, max_pdu: int) -> bytes:
        """See Exchange."""
        self._invoke_id = invoke_id
        apdu = xdlms.GetRequest(invoke_id, self._attributes).encode()
        _fits(apdu, max_pdu, "a GET of fewer attributes")
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
        octets = self._blocks.take(number, last, _raw_block(apdu, 9))
        if isinstance(octets, Ignored):
            return octets
        if octets is None:
            if self._may_go_on is not None and not self._may_go_on():
                return _interrupted(number, len(self._attributes))
            return Ask(xdlms.GetRequest(self._invoke_id, (), number).encode())
        if len(self._attributes) > 1:
            return Done(tuple(xdlms.decode_results(octets, 0, len(self._attributes), self._decode)))
        result, position = self._decode(octets, 0)
        return _one(octets, position, result)


def _fits(apdu: bytes, max_pdu: int, remedy: str) -> None:
    if max_pdu and len(apdu) > max_pdu:
        raise LocalProtocolError(f"a request of {len(apdu)} octets where the meter takes {max_pdu}: try {remedy}")


class _Outgoing:
    """Data that is sent in blocks."""

    def __init__(self, octets: bytes, first: int, size: int) -> None:
        if first < 1 or size < 1:
            raise LocalProtocolError("the meter's largest APDU is too small for a data block")
        self._octets = octets
        self._position = 0
        self._sizes = (first, size)
        self.number = 0
        self.last = False

    def block(self) -> bytes:
        """Return the next block: last-block, block-number, raw-data."""
        size = self._sizes[0] if self.number == 0 else self._sizes[1]
        part = self._octets[self._position : self._position + size]
        self._position += len(part)
        self.number += 1
        self.last = self._position >= len(self._octets)
        return bytes((self.last,)) + self.number.to_bytes(4, "big") + encode_length(len(part)) + part


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
        self._outgoing: _Outgoing | None = None

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
        self._outgoing = _Outgoing(values, max_pdu - len(targets) - _BLOCK_HEAD, max_pdu - _BLOCK_HEAD)
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
        self._outgoing: _Outgoing | None = None
        self._blocks = _Blocks()

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
        self._outgoing = _Outgoing(values, max_pdu - len(targets) - _BLOCK_HEAD, max_pdu - _BLOCK_HEAD)
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
            octets = self._blocks.take(number, apdu[3] != 0, _raw_block(apdu, 8))
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


class ReadExchange(_Answered):
    """Read by short name; each result is a value, or a DataAccessError in its place.

    Args:
        names: variable names, with a selection of each where wanted.
        typed: results as `Data` instead of plain values.
        decode: decoder of the caller's own for each result's data, in place of both.
        may_go_on: where it says no, each result is an Interrupted.
    """

    def __init__(
        self,
        names: Sequence[tuple[int, xdlms.SelectiveAccess | None]],
        typed: bool = False,
        decode: xdlms.ValueDecoder | None = None,
        may_go_on: MayGoOn | None = None,
    ) -> None:
        self._names = tuple(names)
        self._may_go_on = may_go_on
        self._decode: xdlms.ValueDecoder = decode or (decode_at if typed else decode_value_at)
        self._blocks = _Blocks()

    def start(self, invoke_id: int, max_pdu: int) -> bytes:
        """See Exchange; short name services have no invoke id."""
        apdu = bytes((xdlms.READ_REQUEST,)) + encode_length(len(self._names))
        apdu += b"".join(xdlms.variable_access(name, selection) for name, selection in self._names)
        _fits(apdu, max_pdu, "a Read of fewer names")
        return apdu

    def receive(self, apdu: bytes) -> Step:
        """See Exchange."""
        if apdu[0] != xdlms.READ_RESPONSE:
            return Ignored(f"APDU 0x{apdu[0]:02X} in place of an answer")
        try:
            return self._answer(apdu)
        except IndexError:
            raise RemoteProtocolError("Read-Response cut short") from None

    def _answer(self, apdu: bytes) -> Step:
        count, position = decode_length(apdu, 1)
        if count == 1 and apdu[position] == 2:
            last, number = apdu[position + 1] != 0, int.from_bytes(apdu[position + 2 : position + 4], "big")
            octets = self._blocks.take(number, last, _raw_block(apdu, position + 4))
            if isinstance(octets, Ignored):
                return octets
            if octets is None:
                if self._may_go_on is not None and not self._may_go_on():
                    return _interrupted(number, len(self._names))
                return Ask(bytes((xdlms.READ_REQUEST, 1, 5)) + number.to_bytes(2, "big"))
            return self._results(octets, 0)
        return self._results(apdu, 1)

    def _results(self, octets: bytes, position: int) -> Done:
        return Done(tuple(xdlms.decode_results(octets, position, len(self._names), self._decode)))


class WriteExchange:
    """Write by short name; each result is None, or a DataAccessError.

    Args:
        writes: variable names with the values they shall have, and a selection where wanted.
        confirmed: Write; False makes it UnconfirmedWrite, which nothing answers: what became of it nobody says.
    """

    def __init__(
        self, writes: Sequence[tuple[int, xdlms.SelectiveAccess | None, Data]], confirmed: bool = True
    ) -> None:
        self._writes = tuple(writes)
        self._confirmed = confirmed

    @property
    def unanswered(self) -> Done | None:
        """See Exchange."""
        return None if self._confirmed else Done((None,) * len(self._writes))

    def start(self, invoke_id: int, max_pdu: int) -> bytes:
        """See Exchange; short name services have no invoke id."""
        count = encode_length(len(self._writes))
        apdu = bytes((xdlms.WRITE_REQUEST if self._confirmed else xdlms.UNCONFIRMED_WRITE_REQUEST,)) + count
        apdu += b"".join(xdlms.variable_access(name, selection) for name, selection, _ in self._writes)
        apdu += count + b"".join(encode(value) for _, _, value in self._writes)
        _fits(apdu, max_pdu, "a Write of less")
        return apdu

    def receive(self, apdu: bytes) -> Step:
        """See Exchange."""
        if apdu[0] != xdlms.WRITE_RESPONSE:
            return Ignored(f"APDU 0x{apdu[0]:02X} in place of an answer")
        count, position = decode_length(apdu, 1)
        if count != len(self._writes):
            raise RemoteProtocolError(f"{count} results for {len(self._writes)} names")
        results: list[Any] = []
        for _ in range(count):
            if position >= len(apdu) or (apdu[position] and position + 1 >= len(apdu)):
                raise RemoteProtocolError("Write-Response cut short")
            results.append(xdlms.data_access_error(apdu[position + 1]) if apdu[position] else None)
            position += 2 if apdu[position] else 1
        return Done(tuple(results))
