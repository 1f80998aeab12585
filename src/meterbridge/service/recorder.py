"""Recorder: who was seen, who failed and which alarms changed, into the database now and then, all meters together."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import structlog

from meterbridge.errors import StoreError
from meterbridge.fleet import AlarmDesk
from meterbridge.model import MeterId
from meterbridge.service.roster import Roster
from meterbridge.store import AlarmRepository, MeterRepository, Severity

_log = structlog.get_logger(__name__)
DATABASE_FAILING = "database_failing"
"""Alarm of the installation: nothing can be written to the database."""


@dataclass(slots=True)
class _Due:
    seen: set[MeterId] = field(default_factory=set)
    errors: dict[MeterId, str] = field(default_factory=dict)


class Recorder:
    """Keeps what is due to the database until the next record.

    Args:
        desk: whose alarms.
        roster: told what was written.
    """

    def __init__(self, desk: AlarmDesk, roster: Roster) -> None:
        self._desk = desk
        self._roster = roster
        self._due = _Due()

    def seen(self, meter: MeterId) -> None:
        """A meter gave a reading."""
        self._due.seen.add(meter)

    def failed(self, meter: MeterId, reason: str) -> None:
        """A meter gave none."""
        self._due.errors[meter] = reason

    async def record(self, meters: MeterRepository, alarms: AlarmRepository) -> None:
        """Write what is due; while the database refuses it, it stays due and an alarm is open.

        Polling and delivery do without the database: that it is away must not make holes.
        """
        due, self._due = self._due, _Due()
        try:
            if due.seen:
                now = round(time.time() * 1000)
                await meters.record_seen(due.seen, now)
                self._roster.seen(due.seen, now)
            if due.errors:
                await meters.record_errors(due.errors)
                self._roster.failed(due.errors)
            await self._desk.flush(alarms)
        except StoreError as error:
            self._due = _Due(due.seen | self._due.seen, {**due.errors, **self._due.errors})
            if (None, DATABASE_FAILING) not in self._desk.open:
                _log.error("record_failed", reason=str(error))
            self._desk.raise_alarm(None, DATABASE_FAILING, Severity.CRITICAL, str(error))
        else:
            self._desk.resolve(None, DATABASE_FAILING)
