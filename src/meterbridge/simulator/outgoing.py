"""Encoded data on its way out in blocks, made piece by piece."""

from __future__ import annotations

from collections.abc import Iterator


class Outgoing:
    """What is left of an answer that does not fit one APDU.

    Args:
        pieces: its encoded data.
    """

    __slots__ = ("_held", "_pieces", "number")

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._held = bytearray()
        self.number = 0
        """Of the block taken last."""

    def take(self, size: int) -> tuple[bytes, bool]:
        """Return up to `size` octets and whether they are the last."""
        held = self._held
        while len(held) <= size:
            piece = next(self._pieces, None)
            if piece is None:
                break
            held += piece
        last = len(held) <= size
        part = bytes(held[:size])
        del held[:size]
        return part, last

    def give_back(self, part: bytes) -> None:
        """Put the part taken last in front again."""
        self._held[:0] = part
