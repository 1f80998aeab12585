"""What goes both ways beside the rows: what a server sends, and what is said to it. It is lost with the connection."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from meterbridge.model import MeterId

MOST_OCTETS = 65_536
"""Of a message heard; ThingsBoard's own limit."""
_MOST_WAITING = 1_000
_MOST_OCTETS_WAITING = 4_194_304
# Handed on at once: a flood must not hold up what else the loop has to do.
_AT_ONCE = 32
# Connections in a row that ended before the server had taken a subscription.
_MOST_UNANSWERED = 3


@dataclass(frozen=True, slots=True)
class Heard:
    """A message that a server sent.

    Args:
        route: over which it came.
        meter: whose that is, None for one that many share.
        topic: as sent.
        payload: as sent, at most MOST_OCTETS.
        retained: whether the server had kept it, for however long.
    """

    route: str
    meter: MeterId | None
    topic: str
    payload: bytes
    retained: bool


@dataclass(frozen=True, slots=True)
class Saying:
    """A message for a server that lies in no outbox.

    Args:
        topic: where to.
        payload: octets.
        device: announced before it, on a route that announces devices; None for none.
    """

    topic: str
    payload: bytes
    device: str | None = None


class Ear:
    """Hands what is heard from the driving thread to the event loop, many at a time and bounded.

    Args:
        listener: receives them, on the loop.
        on_loop: has something called on the loop.
    """

    def __init__(
        self, listener: Callable[[Sequence[Heard]], None], on_loop: Callable[[Callable[[], None]], None]
    ) -> None:
        self.dropped = 0
        self._listener = listener
        self._on_loop = on_loop
        self._lock = threading.Lock()
        self._waiting: deque[Heard] = deque()
        self._octets = 0

    def hear(self, heard: Heard) -> None:
        """Take a message; one that is too large, or too many for the loop to keep up with, is dropped and counted."""
        with self._lock:
            size = len(heard.payload)
            full = len(self._waiting) >= _MOST_WAITING or self._octets + size > _MOST_OCTETS_WAITING
            if full or size > MOST_OCTETS:
                self.dropped += 1
                return
            first = not self._waiting
            self._waiting.append(heard)
            self._octets += size
        if first:
            self._on_loop(self._hand_on)

    def _hand_on(self) -> None:
        with self._lock:
            some = [self._waiting.popleft() for _ in range(min(_AT_ONCE, len(self._waiting)))]
            self._octets -= sum(len(heard.payload) for heard in some)
            more = bool(self._waiting)
        if more:
            self._on_loop(self._hand_on)
        self._listener(some)


class Mouth:
    """What one line has still to say, and whether it asks its server to send anything.

    A server that closes the connection over a subscription would otherwise stop the readings too.
    """

    def __init__(self) -> None:
        self.unsaid = 0
        self._waiting: deque[Saying] = deque()
        self._asked: int | None = None
        self._unanswered = 0

    @property
    def may_subscribe(self) -> bool:
        """Whether the server can be asked, as far as is known."""
        return self._unanswered < _MOST_UNANSWERED

    def __len__(self) -> int:
        return len(self._waiting)

    def say(self, saying: Saying) -> None:
        """Take something to say; beyond a bound it is left unsaid, and counted."""
        if len(self._waiting) < _MOST_WAITING:
            self._waiting.append(saying)
        else:
            self.unsaid += 1

    def next(self) -> Saying:
        """What is to be said next; `said` takes it off."""
        return self._waiting[0]

    def said(self) -> None:
        """State that the next is on its way."""
        self._waiting.popleft()

    def asked(self, mid: int | None) -> None:
        """A subscription is on its way under this message id."""
        self._asked = mid

    def answered(self, mid: int) -> bool:
        """Whether it is the answer to our subscription."""
        if mid != self._asked:
            return False
        self._asked, self._unanswered = None, 0
        return True

    def down(self) -> None:
        """The connection ended: nothing of it is said on the next."""
        self.unsaid += len(self._waiting)
        self._waiting.clear()
        if self._asked is not None:
            self._asked = None
            self._unanswered += 1
