"""One request by short name and its whole answer: Read and Write, with blocks either way.

A request that does not fit one APDU goes in blocks: what is cut is the request without its tag.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from meterbridge.dlms import xdlms
from meterbridge.dlms.axdr import Data, DataType, decode_at, decode_length, decode_value_at, encode, encode_length
from meterbridge.dlms.data_blocks import IncomingBlocks, interrupted, raw_block
from meterbridge.dlms.exchange_steps import Answered, Ask, Done, Ignored, MayGoOn, Step, check_size
from meterbridge.errors import LocalProtocolError, RemoteProtocolError

_DATA_BLOCK, _BLOCK_NUMBER = 2, 3
_WRITE_BLOCK_NUMBER = 2
"""CHOICE of Read-Response and of Write-Response."""
_READ_BLOCK_ACCESS, _WRITE_BLOCK_ACCESS = 6, 7
_BLOCK_HEAD = 11
"""Octets of an APDU that a block's own fields take at most."""
_LAST_NUMBER = 0xFFFF


class _RequestBlocks:
    """A request that goes in blocks.

    Args:
        tag: of the request.
        octets: all of it behind its tag.
        max_pdu: largest APDU the peer takes, octets.

    Raises:
        LocalProtocolError: too many blocks, or no room for one.
    """

    def __init__(self, tag: int, octets: bytes, max_pdu: int) -> None:
        size = max_pdu - _BLOCK_HEAD
        if size < 1:
            raise LocalProtocolError("the meter's largest APDU is too small for a data block")
        if len(octets) > size * _LAST_NUMBER:
            raise LocalProtocolError(f"a request of {len(octets)} octets does not fit {_LAST_NUMBER} data blocks")
        self._tag, self._octets, self._size = tag, octets, size
        self._number = 0

    @property
    def ended(self) -> bool:
        """Whether the last block was sent: its answer is that of the request."""
        return self._number * self._size >= len(self._octets)

    def block(self) -> bytes:
        """Return the next block, an APDU."""
        part = self._octets[self._number * self._size :][: self._size]
        self._number += 1
        write = self._tag == xdlms.WRITE_REQUEST
        head = bytes((self._tag, 1, _WRITE_BLOCK_ACCESS if write else _READ_BLOCK_ACCESS, self.ended))
        head += self._number.to_bytes(2, "big")
        # Of Write the block is a value like any other: one of one, an octet string.
        return head + (bytes((1, DataType.OCTET_STRING)) if write else b"") + encode_length(len(part)) + part

    def acknowledged(self, apdu: bytes, position: int) -> Step:
        """Take the number of a block that the peer has.

        Raises:
            RemoteProtocolError: of one that was not sent, or that is no acknowledgement.
        """
        number = int.from_bytes(apdu[position : position + 2], "big")
        if position + 2 != len(apdu):
            raise RemoteProtocolError("acknowledgement of a data block of a wrong length")
        if number < self._number:
            return Ignored("repeated acknowledgement of a data block")
        if number > self._number or self.ended:
            raise RemoteProtocolError(f"data block {number} acknowledged, {self._number} was sent")
        return Ask(self.block())


class ReadExchange(Answered):
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
        self._blocks = IncomingBlocks()
        self._outgoing: _RequestBlocks | None = None

    def start(self, invoke_id: int, max_pdu: int) -> bytes:
        """See Exchange; short name services have no invoke id."""
        octets = encode_length(len(self._names))
        octets += b"".join(xdlms.variable_access(name, selection) for name, selection in self._names)
        if not max_pdu or 1 + len(octets) <= max_pdu:
            return bytes((xdlms.READ_REQUEST,)) + octets
        self._outgoing = _RequestBlocks(xdlms.READ_REQUEST, octets, max_pdu)
        return self._outgoing.block()

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
        outgoing = self._outgoing
        if outgoing is not None and count == 1:
            if apdu[position] == _BLOCK_NUMBER:
                return outgoing.acknowledged(apdu, position + 1)
            if apdu[position] == 1 and not outgoing.ended:
                # Refused in the middle: for all that was asked.
                return Done((xdlms.data_access_error(apdu[position + 1]),) * len(self._names))
        if outgoing is not None and not outgoing.ended:
            raise RemoteProtocolError("answered before the whole request was sent")
        if count == 1 and apdu[position] == _DATA_BLOCK:
            last, number = apdu[position + 1] != 0, int.from_bytes(apdu[position + 2 : position + 4], "big")
            octets = self._blocks.take(number, last, raw_block(apdu, position + 4))
            if isinstance(octets, Ignored):
                return octets
            if octets is None:
                if self._may_go_on is not None and not self._may_go_on():
                    return interrupted(number, len(self._names))
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
        blocks: whether the meter takes it in blocks where it does not fit one APDU.
    """

    def __init__(
        self,
        writes: Sequence[tuple[int, xdlms.SelectiveAccess | None, Data]],
        confirmed: bool = True,
        blocks: bool = True,
    ) -> None:
        self._writes = tuple(writes)
        self._confirmed = confirmed
        self._in_blocks = blocks and confirmed
        self._outgoing: _RequestBlocks | None = None

    @property
    def unanswered(self) -> Done | None:
        """See Exchange."""
        return None if self._confirmed else Done((None,) * len(self._writes))

    def start(self, invoke_id: int, max_pdu: int) -> bytes:
        """See Exchange; short name services have no invoke id."""
        count = encode_length(len(self._writes))
        octets = count + b"".join(xdlms.variable_access(name, selection) for name, selection, _ in self._writes)
        octets += count + b"".join(encode(value) for _, _, value in self._writes)
        apdu = bytes((xdlms.WRITE_REQUEST if self._confirmed else xdlms.UNCONFIRMED_WRITE_REQUEST,)) + octets
        if self._in_blocks and max_pdu and len(apdu) > max_pdu:
            self._outgoing = _RequestBlocks(xdlms.WRITE_REQUEST, octets, max_pdu)
            return self._outgoing.block()
        check_size(apdu, max_pdu, "a Write of less")
        return apdu

    def receive(self, apdu: bytes) -> Step:
        """See Exchange."""
        if apdu[0] != xdlms.WRITE_RESPONSE:
            return Ignored(f"APDU 0x{apdu[0]:02X} in place of an answer")
        try:
            return self._answer(apdu)
        except IndexError:
            raise RemoteProtocolError("Write-Response cut short") from None

    def _answer(self, apdu: bytes) -> Step:
        count, position = decode_length(apdu, 1)
        outgoing = self._outgoing
        if outgoing is not None and count == 1:
            if apdu[position] == _WRITE_BLOCK_NUMBER:
                return outgoing.acknowledged(apdu, position + 1)
            if apdu[position] == 1 and not outgoing.ended:
                # Refused in the middle: for all that was asked.
                return Done((xdlms.data_access_error(apdu[position + 1]),) * len(self._writes))
        if outgoing is not None and not outgoing.ended:
            raise RemoteProtocolError("answered before the whole request was sent")
        if count != len(self._writes):
            raise RemoteProtocolError(f"{count} results for {len(self._writes)} names")
        results: list[Any] = []
        for _ in range(count):
            if apdu[position] > 1:
                raise RemoteProtocolError(f"Write-Response with choice {apdu[position]}")
            results.append(xdlms.data_access_error(apdu[position + 1]) if apdu[position] else None)
            position += 2 if apdu[position] else 1
        return Done(tuple(results))
