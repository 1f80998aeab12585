"""What is due to a database that is away."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from meterbridge.errors import StoreError
from meterbridge.fleet import AlarmDesk
from meterbridge.model import MeterId
from meterbridge.service.recorder import DATABASE_FAILING, Recorder
from meterbridge.service.roster import Roster
from meterbridge.store import AlarmChange, AlarmRepository, MeterRepository, Raise

ONE, OTHER = MeterId(1), MeterId(2)


class Database:
    """Meters and alarms, away or not."""

    def __init__(self) -> None:
        self.away = False
        self.seen: set[MeterId] = set()
        self.errors: dict[MeterId, str] = {}
        self.changes: list[AlarmChange] = []

    def _look(self) -> None:
        if self.away:
            raise StoreError("database x: gone")

    async def record_seen(self, ids: set[MeterId], ts: int) -> None:
        self._look()
        self.seen |= ids

    async def record_errors(self, errors: Mapping[MeterId, str]) -> None:
        self._look()
        self.errors.update(errors)

    async def apply(self, changes: list[AlarmChange]) -> None:
        self._look()
        self.changes += changes


async def test_what_is_due_waits_for_the_database_and_one_alarm_says_so() -> None:
    database, desk = Database(), AlarmDesk(lambda: 7.0)
    recorder = Recorder(desk, Roster())
    meters, alarms = cast("MeterRepository", database), cast("AlarmRepository", database)
    database.away = True
    recorder.seen(ONE)
    recorder.failed(OTHER, "first")
    for _ in range(3):
        await recorder.record(meters, alarms)
        recorder.failed(OTHER, "newest")
    assert desk.open[None, DATABASE_FAILING].message == "database x: gone"
    assert desk.counters.opened == 1
    database.away = False
    await recorder.record(meters, alarms)
    await recorder.record(meters, alarms)
    assert (database.seen, database.errors) == ({ONE}, {OTHER: "newest"})
    assert [(change.type, isinstance(change, Raise)) for change in database.changes] == [
        (DATABASE_FAILING, True),
        (DATABASE_FAILING, False),
    ]
    assert desk.open == {}
