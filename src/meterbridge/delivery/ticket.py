"""What a group commit consists of, and what tells its rows' owners of its outcome."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from dataclasses import dataclass, field

from meterbridge.delivery.row import Row


class Ticket:
    """Shared by the rows of one group commit. Await it for True (on disk) or False (given up)."""

    __slots__ = ("_future",)

    def __init__(self, future: asyncio.Future[bool]) -> None:
        self._future = future

    def done(self) -> bool:
        """Whether the outcome is known."""
        return self._future.done()

    def __await__(self) -> Generator[None, None, bool]:
        # Shielded: one worker that is cancelled must not cancel the ticket of all others.
        return asyncio.shield(self._future).__await__()

    def add_done_callback(self, callback: Callable[[bool], None]) -> None:
        """Call back on the event loop with the outcome, without a task that waits for it."""
        self._future.add_done_callback(lambda future: callback(future.result()))

    def resolve(self, committed: bool) -> None:
        """State the outcome; on the event loop only."""
        if not self._future.done():
            self._future.set_result(committed)


@dataclass(slots=True)
class Batch:
    """Rows of one group commit."""

    ticket: Ticket
    puts: list[Row] = field(default_factory=list)


def resolve(batches: list[Batch], committed: bool) -> None:
    """State the outcome to all; on the event loop only."""
    for batch in batches:
        batch.ticket.resolve(committed)
