"""Connections of the API: one that asks nothing in time is closed, and where there are too many an idle one gives way.

uvicorn waits for a request without end, and at its limit refuses everybody: whoever only opened connections would shut
out the supervisor too.
"""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.h11_impl import H11Protocol


def bounded_protocol(most: int, patience_s: float) -> type[H11Protocol]:
    """Make the protocol of one server's connections.

    Args:
        most: connections at a time.
        patience_s: for the head of a request, the first as the next, seconds.
    """
    waiting: dict[H11Protocol, asyncio.TimerHandle] = {}

    class Bounded(H11Protocol):
        """Waits for requests with patience, but not for ever."""

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            if len(self.connections) > most:
                # Whoever has waited longest for nothing; where all are at work, whoever came last.
                next(iter(waiting), self).transport.abort()
            self._look()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self._look()

        def on_response_complete(self) -> None:
            super().on_response_complete()
            self._look()

        def connection_lost(self, exc: Exception | None) -> None:
            self._forget()
            super().connection_lost(exc)

        def _look(self) -> None:
            if not getattr(self.cycle, "response_complete", True):
                self._forget()
            elif self not in waiting and not self.transport.is_closing():
                waiting[self] = self.loop.call_later(patience_s, self.transport.abort)

        def _forget(self) -> None:
            timer = waiting.pop(self, None)
            if timer is not None:
                timer.cancel()

    return Bounded
