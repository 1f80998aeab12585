"""Ctrl-C while modules are being loaded: kept until they are, since what an import runs may swallow it."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def interrupt_afterwards() -> Iterator[None]:
    """Hold a SIGINT back until the end of the block, then raise KeyboardInterrupt."""
    came: list[int] = []
    before = signal.getsignal(signal.SIGINT)
    if before is not signal.default_int_handler:
        # Ignored, or somebody else's: theirs to decide.
        yield
        return
    signal.signal(signal.SIGINT, lambda number, _: came.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if came:
        raise KeyboardInterrupt
