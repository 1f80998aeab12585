"""Data that comes or goes in the blocks of a service, as GET, SET, ACTION, Read and Write have them."""

from __future__ import annotations

from meterbridge.dlms.axdr import decode_length, encode_length
from meterbridge.dlms.exchange_steps import Done, Ignored
from meterbridge.errors import Interrupted, LocalProtocolError, RemoteProtocolError

MAX_BLOCKED_DATA = 4 << 20
"""Most octets put together from data blocks: years of a load profile, and seconds of decoding at the very worst."""


class IncomingBlocks:
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


def interrupted(number: int, count: int) -> Done:
    """End without the blocks that are still to come: nothing is due that was asked for."""
    return Done((Interrupted(f"not asked for more than {number} data blocks: no time was left"),) * count)


def raw_block(apdu: bytes, position: int) -> bytes:
    """Read the octet string that ends an APDU with a data block."""
    size, position = decode_length(apdu, position)
    if position + size != len(apdu):
        raise RemoteProtocolError("data block whose length is wrong")
    return apdu[position:]


class OutgoingBlocks:
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
