from __future__ import annotations

import pytest

from meterbridge.errors import StoreError
from meterbridge.fleet import AlarmDesk
from meterbridge.model import MeterId
from meterbridge.store import Alarm, AlarmChange, Raise, Resolve, Severity

M = MeterId(1)


class Store:
    def __init__(self) -> None:
        self.changes: list[AlarmChange] = []
        self.away = False

    async def apply(self, changes: list[AlarmChange]) -> None:
        if self.away:
            raise StoreError("database is locked")
        self.changes += changes


async def test_an_alarm_opens_once_repeats_and_is_resolved_once() -> None:
    told: list[AlarmChange] = []
    desk, store = AlarmDesk(lambda: 1.5, told.append), Store()
    for _ in range(1000):
        desk.raise_alarm(M, "x", Severity.WARNING, "again")
    assert desk.open[M, "x"].repeated == 999
    desk.resolve(M, "x")
    desk.resolve(M, "x")
    desk.resolve(None, "x")
    await desk.flush(store)
    assert store.changes == told == [Raise(M, "x", Severity.WARNING, "again", 1500), Resolve(M, "x", 1500)]
    assert (desk.counters.opened, desk.counters.repeated, desk.counters.resolved) == (1, 999, 1)


async def test_a_database_that_was_away_gets_everything_in_order() -> None:
    desk, store = AlarmDesk(lambda: 0.0), Store()
    store.away = True
    desk.raise_alarm(M, "x", Severity.INFO, "1")
    with pytest.raises(StoreError):
        await desk.flush(store)
    desk.resolve(M, "x")
    store.away = False
    await desk.flush(store)
    await desk.flush(store)
    assert [type(change) for change in store.changes] == [Raise, Resolve]


def test_what_an_earlier_run_left_open_is_resolved_when_it_is_over() -> None:
    told: list[AlarmChange] = []
    desk = AlarmDesk(lambda: 2.0, told.append)
    desk.adopt([Alarm(7, M, "connection_loss", "critical", "gone", 1000, None)])
    desk.raise_alarm(M, "connection_loss", Severity.CRITICAL, "still gone")
    assert told == []
    desk.resolve_all(M)
    assert told == [Resolve(M, "connection_loss", 2000)]


async def test_the_newest_sentence_of_an_open_alarm_reaches_the_database_once() -> None:
    desk, store = AlarmDesk(lambda: 1.0), Store()
    desk.raise_alarm(M, "x", Severity.WARNING, "1 lost")
    await desk.flush(store)
    store.away = True
    for lost in range(2, 50):
        desk.raise_alarm(M, "x", Severity.CRITICAL, f"{lost} lost")
    with pytest.raises(StoreError):
        await desk.flush(store)
    store.away = False
    await desk.flush(store)
    await desk.flush(store)
    assert store.changes[1:] == [Raise(M, "x", Severity.CRITICAL, "49 lost", 1000)]
    desk.raise_alarm(M, "x", Severity.CRITICAL, "50 lost")
    desk.resolve(M, "x")
    await desk.flush(store)
    assert store.changes[2:] == [Resolve(M, "x", 1000)]
