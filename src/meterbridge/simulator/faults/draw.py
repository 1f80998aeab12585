"""Chance, the same for the same seed."""

from __future__ import annotations

from meterbridge.simulator.noise import hashed


class Draw:
    """A sequence of random numbers.

    Args:
        seed: of the whole script.
        stream: which sequence of it.
    """

    __slots__ = ("_count", "_seed", "_stream")

    def __init__(self, seed: int, stream: int) -> None:
        self._seed = seed
        self._stream = stream
        self._count = 0

    def bits(self) -> int:
        """Return 64 random bits."""
        self._count += 1
        return hashed(self._seed, self._stream, self._count)

    def unit(self) -> float:
        """Return a number from 0 up to, not including, 1."""
        return (self.bits() >> 11) / (1 << 53)

    def below(self, limit: int) -> int:
        """Return a whole number from 0 up to, not including, `limit`."""
        return self.bits() % limit

    def octets(self, size: int) -> bytes:
        """Return so many octets."""
        return b"".join(self.bits().to_bytes(8, "big") for _ in range((size + 7) // 8))[:size]
