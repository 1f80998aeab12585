"""What decoders of framed octet streams have in common: one bounded buffer, noise that is counted, events that wait."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import ClassVar, Generic, TypeVar

_Frame = TypeVar("_Frame")


@dataclass(frozen=True, slots=True)
class Discarded:
    """Octets that were no use: noise, a bad check sequence, a frame out of turn.

    Args:
        reason: why, for people and counters.
        octets: how many; 0 where a whole, valid frame was set aside.
        damaged: whether the line damaged something: these count as link errors, a repeated frame does not.
    """

    reason: str
    octets: int
    damaged: bool = True


class StreamDecoder(Generic[_Frame]):
    """Takes frames out of an octet stream, however it is cut; a framing is what `_parse` makes of the buffer."""

    _noise_reason: ClassVar[str] = "noise outside of a frame"

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._noise = 0
        self._events: deque[_Frame | Discarded] = deque()
        self._due = 0

    @property
    def due(self) -> int:
        """Octets that are still missing of the frame it holds; 0 where that is not known, or it holds none."""
        return self._due

    def receive_data(self, data: bytes) -> None:
        """Take octets in; what they complete is read with `next_event`."""
        self._buffer += data
        self._due = 0
        self._parse()

    def next_event(self) -> _Frame | Discarded | None:
        """Return the next frame or discard, or None when more octets are needed."""
        return self._events.popleft() if self._events else None

    @property
    def pending(self) -> int:
        """Octets held of a frame that is not complete."""
        return len(self._buffer)

    def clear(self) -> int:
        """Forget an incomplete frame; return how many octets that were."""
        dropped = len(self._buffer)
        self._buffer.clear()
        self._noise = self._due = 0
        return dropped

    def _parse(self) -> None:
        """Take what is whole out of the buffer, and leave in it what may become so."""
        raise NotImplementedError

    def _skip(self, count: int) -> None:
        self._noise += count
        del self._buffer[:count]

    def _report_noise(self) -> None:
        if self._noise:
            self._events.append(Discarded(self._noise_reason, self._noise))
            self._noise = 0
