"""Server-sent events: readings, alarms and state changes, bounded for each client."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator

from meterbridge.errors import StoreError

_MOST_CLIENTS = 50
_MOST_WAITING = 1_000
_HEARTBEAT = 15.0


class _Client:
    def __init__(self) -> None:
        self.waiting: deque[str] = deque(maxlen=_MOST_WAITING)
        self.lost = 0
        self.woken = asyncio.Event()


class EventHub:
    """Hands what happens to every client; a slow one loses the oldest and is told how many."""

    def __init__(self) -> None:
        self._clients: set[_Client] = set()
        self._closed = False

    def publish(self, kind: str, body: dict[str, object]) -> None:
        """Tell the clients; returns at once, and costs nothing where there are none."""
        if not self._clients:
            return
        text = f"event: {kind}\ndata: {json.dumps(body, ensure_ascii=False, default=str)}\n\n"
        for client in self._clients:
            client.lost += len(client.waiting) == _MOST_WAITING
            client.waiting.append(text)
            client.woken.set()

    @property
    def followed(self) -> bool:
        """Whether there is any client."""
        return bool(self._clients)

    def close(self) -> None:
        """End all streams."""
        self._closed = True
        for client in self._clients:
            client.woken.set()

    def subscribe(self) -> AsyncIterator[str]:
        """Return a new client's stream of events.

        Raises:
            StoreError: there are too many clients.
        """
        if len(self._clients) >= _MOST_CLIENTS:
            raise StoreError(f"{_MOST_CLIENTS} clients follow events already")
        return self._stream()

    async def _stream(self) -> AsyncIterator[str]:
        # Registered when it is first read: a stream nobody reads is never closed either.
        client = _Client()
        self._clients.add(client)
        try:
            yield ": welcome\n\n"
            while not self._closed:
                try:
                    await asyncio.wait_for(client.woken.wait(), _HEARTBEAT)
                except TimeoutError:
                    yield ": still here\n\n"
                    continue
                client.woken.clear()
                if client.lost:
                    lost, client.lost = client.lost, 0
                    yield f'event: lost\ndata: {{"events": {lost}}}\n\n'
                while client.waiting:
                    yield client.waiting.popleft()
        finally:
            self._clients.discard(client)
