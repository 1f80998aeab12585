"""Recorder: who was seen, who failed and which alarms changed, into the database now and then, all meters together."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import structlog

from meterbridge.errors import StoreError
from meterbridge.fleet import AlarmDesk
from meterbridge.model import MeterId
from meterbridge.store import AlarmRepository, MeterRepository

_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Due:
    seen: set[MeterId] = field(default_factory=set)
    errors: dict[MeterId, str] = field(default_factory=dict)


class Recorder:
    """Keeps what is due to the database until the next record.

    Args:
        desk: whose alarms.
    """

    def __init__(self, desk: AlarmDesk) -> None:
        self._desk = desk
        self._due = _Due()

    def seen(self, meter: MeterId) -> None:
        """A meter gave a reading."""
        self._due.seen.add(meter)

    def failed(self, meter: MeterId, reason: str) -> None:
        """A meter gave none."""
        self._due.errors[meter] = reason

    async def record(self, meters: MeterRepository, alarms: AlarmRepository) -> None:
        """Write what is due; what the database refuses is logged."""
        due, self._due = self._due, _Due()
        try:
            if due.seen:
                await meters.record_seen(due.seen, round(time.time() * 1000))
            if due.errors:
                await meters.record_errors(due.errors)
            await self._desk.flush(alarms)
        except StoreError as error:
            _log.error("record_failed", reason=str(error))
