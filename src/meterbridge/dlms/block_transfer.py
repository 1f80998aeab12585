"""General block transfer: any APDU in numbered blocks, several of them under way at once (Green Book, GBT).

Both ends of it, sans-IO: APDUs in, APDUs out.
"""

from __future__ import annotations

from dataclasses import dataclass

from meterbridge.dlms.axdr import decode_length, encode_length
from meterbridge.errors import LocalProtocolError, RemoteProtocolError

GENERAL_BLOCK_TRANSFER = 0xE0
MAX_APDU = 4 << 20
"""Most octets put together from blocks."""
HEAD = 9
"""Most octets of a block beside its data: tag, control, two numbers, length."""
MAX_WINDOW = 0x3F
"""Most blocks at once that can be said."""
_MOST_USELESS = 2 * MAX_WINDOW
"""Blocks without progress after which a peer is given up: a window said again, and one more."""
_LAST, _STREAMING, _WINDOW = 0x80, 0x40, MAX_WINDOW


@dataclass(frozen=True, slots=True)
class Block:
    """One general-block-transfer APDU.

    Args:
        number: of this block, from 1; 0 where it carries none.
        acknowledged: number of the last block received without a gap.
        data: part of the APDU.
        last: whether no block follows it.
        streaming: whether the sender goes on without waiting.
        window: blocks the sender of this one can take at once, 0..63.
    """

    number: int
    acknowledged: int
    data: bytes
    last: bool
    streaming: bool
    window: int

    def encode(self) -> bytes:
        """Return the APDU."""
        control = (_LAST if self.last else 0) | (_STREAMING if self.streaming else 0) | self.window & _WINDOW
        head = bytes((GENERAL_BLOCK_TRANSFER, control))
        head += self.number.to_bytes(2, "big") + self.acknowledged.to_bytes(2, "big")
        return head + encode_length(len(self.data)) + self.data

    @classmethod
    def decode(cls, apdu: bytes) -> Block:
        """Read the APDU.

        Raises:
            RemoteProtocolError: malformed.
        """
        if len(apdu) < 7 or apdu[0] != GENERAL_BLOCK_TRANSFER:
            raise RemoteProtocolError("general-block-transfer cut short")
        control = apdu[1]
        size, position = decode_length(apdu, 6)
        if position + size != len(apdu):
            raise RemoteProtocolError("general-block-transfer whose length is wrong")
        return cls(
            int.from_bytes(apdu[2:4], "big"),
            int.from_bytes(apdu[4:6], "big"),
            apdu[position:],
            bool(control & _LAST),
            bool(control & _STREAMING),
            control & _WINDOW,
        )


class BlockTransfer:
    """One APDU out in blocks, or one APDU in; whichever side begins.

    Args:
        window: blocks we take at once, 1..63.
        max_pdu: largest APDU the peer takes, octets; 0 is no limit.
        at_once: most blocks we send before the peer answers, whatever it takes.
    """

    def __init__(self, window: int = 1, max_pdu: int = 0, at_once: int = MAX_WINDOW) -> None:
        self._window = window
        self._max_pdu = max_pdu
        self._at_once = at_once
        self._blocks: list[bytes] = []
        self._acknowledged = 0
        self._heard = 0  # most blocks the peer has ever acknowledged of this APDU
        self._number = 0  # of the block we sent last
        self._peer_window = 1
        self._received = bytearray()
        self._expected = 1
        self._useless = 0
        self.streaming = False
        """Whether the peer goes on by itself, without waiting to be answered."""

    def send(self, apdu: bytes) -> list[bytes]:
        """Begin to send an APDU; return the APDUs due now. The rest follows the peer's acknowledgements.

        Raises:
            LocalProtocolError: the peer's largest APDU is too small for any block.
        """
        size = self._max_pdu - HEAD if self._max_pdu else 0xFFFF
        if size < 1:
            raise LocalProtocolError("the meter's largest APDU is too small for a block")
        self._blocks = [apdu[start : start + size] for start in range(0, len(apdu), size)]
        self._acknowledged = self._heard = 0
        # Before the peer has told its window, one block at a time.
        return self._send_window()

    def _send_window(self) -> list[bytes]:
        begin = self._acknowledged
        end = min(begin + max(1, min(self._peer_window, self._at_once)), len(self._blocks))
        self._number = end
        return [
            Block(
                index + 1 & 0xFFFF,
                self._expected - 1 & 0xFFFF,
                self._blocks[index],
                last=index + 1 == len(self._blocks),
                streaming=index + 1 < end,
                window=self._window,
            ).encode()
            for index in range(begin, end)
        ]

    def receive(self, apdu: bytes) -> tuple[list[bytes], bytes | None]:
        """Take a block of the peer; return the APDUs due to it, and the whole APDU once it is complete.

        Raises:
            RemoteProtocolError: malformed, blocks that cannot be, or nothing but blocks that bring nothing new.
        """
        block = Block.decode(apdu)
        self.streaming = block.streaming and not block.last
        if block.window:
            self._peer_window = block.window
        # Numbers that go on without data, or back and forth, are no progress.
        before = self._heard, len(self._received)
        due, whole = self._take(block)
        self._heard = max(self._heard, self._acknowledged)
        self._useless = self._useless + 1 if before == (self._heard, len(self._received)) else 0
        if self._useless > _MOST_USELESS:
            raise RemoteProtocolError(f"more than {_MOST_USELESS} blocks that bring nothing new")
        return due, whole

    def _take(self, block: Block) -> tuple[list[bytes], bytes | None]:
        if self._blocks:
            if block.acknowledged > len(self._blocks):
                raise RemoteProtocolError(f"block {block.acknowledged} acknowledged, {len(self._blocks)} were sent")
            # What the peer has not got is sent again: it acknowledges the last without a gap.
            self._acknowledged = block.acknowledged
            if block.acknowledged < len(self._blocks):
                return self._send_window(), None
            self._blocks = []
        if not block.data and not self._received:
            # An acknowledgement, which some count as a block and others do not.
            self._expected = block.number + 1 if block.number == self._expected else self._expected
            return [], None
        if not self._received and block.number == 1:
            self._expected = 1
        if block.number == self._expected & 0xFFFF:
            self._received += block.data
            self._expected += 1
            if len(self._received) > MAX_APDU:
                raise RemoteProtocolError(f"blocks of more than {MAX_APDU} octets")
            if block.last:
                whole = bytes(self._received)
                self._received.clear()
                return [], whole
        if block.streaming:
            return [], None
        self._number += 1
        acknowledgement = Block(self._number & 0xFFFF, self._expected - 1 & 0xFFFF, b"", True, False, self._window)
        return [acknowledgement.encode()], None
