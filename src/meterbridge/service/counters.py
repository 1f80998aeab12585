"""ServiceCounters: what the service did since its start."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class ServiceCounters:
    """What the service did since its start.

    Args:
        polls: attempts to read a meter.
        readings: attempts that gave one.
        published: readings put into the outbox.
        acknowledged: rows whose PUBACK came, attributes among them.
    """

    polls: int = 0
    readings: int = 0
    published: int = 0
    acknowledged: int = 0
