"""Connects lines on threads that may wait, so that one unreachable server holds up nobody else."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable

from meterbridge.delivery.buffered_client import BufferedClient
from meterbridge.delivery.line import Line


class Openers:
    """A few threads; daemons, because a name server that does not answer must not hold up the end of the process.

    Args:
        done: receives each line and what its `open` gave, on one of the threads.
        threads: how many at most.
    """

    def __init__(self, done: Callable[[Line, BufferedClient | str], None], threads: int = 8) -> None:
        self._done = done
        self._most = threads
        self._threads: list[threading.Thread] = []
        self._due: queue.SimpleQueue[Line | None] = queue.SimpleQueue()

    def submit(self, line: Line) -> None:
        """Have a line connected."""
        self._due.put(line)
        if len(self._threads) < self._most:
            thread = threading.Thread(target=self._run, name="mqtt connect", daemon=True)
            self._threads.append(thread)
            thread.start()

    def close(self) -> None:
        """Let the threads end; those that wait for a server end when it answers or their time is up."""
        for _ in self._threads:
            self._due.put(None)

    def _run(self) -> None:
        while (line := self._due.get()) is not None:
            self._done(line, line.open())
