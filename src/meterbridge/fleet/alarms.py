"""AlarmDesk: which alarms are open; each change goes to the database once, in batches."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Protocol

from meterbridge.model import MeterId
from meterbridge.store import Alarm, AlarmChange, Raise, Resolve, Severity

# Changes kept while the database is away; what exceeds it is given up oldest first.
_MOST_CHANGES = 100_000


class AlarmStore(Protocol):
    """Where alarms are kept: the store's AlarmRepository."""

    async def apply(self, changes: list[AlarmChange]) -> object:
        """Make changes in their order, in one transaction."""


@dataclass(frozen=True, slots=True)
class OpenAlarm:
    """An alarm that is open.

    Args:
        severity: how bad.
        message: the newest.
        since: Unix milliseconds.
        repeated: how often its condition was told again.
    """

    severity: str
    message: str
    since: int
    repeated: int = 0


@dataclass(slots=True)
class AlarmCounters:
    """Changes since the desk was made."""

    opened: int = 0
    repeated: int = 0
    resolved: int = 0


class AlarmDesk:
    """Opens an alarm once however often its condition is told, and resolves it once.

    What is told of one that is open reaches the database with the next `flush`, the newest sentence only.

    Args:
        wall: Unix time, seconds.
        listener: told of what opens and what is resolved; must return at once.
        repeated: told of what is told again while it is open; likewise.
    """

    def __init__(
        self,
        wall: Callable[[], float],
        listener: Callable[[AlarmChange], None] = lambda change: None,
        repeated: Callable[[Raise], None] = lambda change: None,
    ) -> None:
        self._wall = wall
        self._listener = listener
        self._repeated = repeated
        self._due: deque[AlarmChange] = deque(maxlen=_MOST_CHANGES)
        self._retold: set[tuple[MeterId | None, str]] = set()
        self.open: dict[tuple[MeterId | None, str], OpenAlarm] = {}
        self.counters = AlarmCounters()

    def adopt(self, alarms: Iterable[Alarm]) -> None:
        """Take over what an earlier run left open, so that it is resolved when its condition is over."""
        for alarm in alarms:
            self.open[alarm.meter, alarm.type] = OpenAlarm(alarm.severity, alarm.message, alarm.created_at or 0)

    def raise_alarm(self, meter: MeterId | None, type_: str, severity: Severity, message: str) -> None:
        """State that a condition holds.

        Args:
            meter: whose; None for the installation as a whole.
            type_: of the alarm.
            severity: how bad.
            message: one sentence, without secrets.
        """
        known = self.open.get((meter, type_))
        if known is not None:
            self.counters.repeated += 1
            self.open[meter, type_] = replace(known, severity=severity, message=message, repeated=known.repeated + 1)
            if (known.message, known.severity) != (message, severity):
                self._retold.add((meter, type_))
            self._repeated(Raise(meter, type_, severity, message, known.since))
            return
        at = self._now()
        self.counters.opened += 1
        self.open[meter, type_] = OpenAlarm(severity, message, at)
        self._change(Raise(meter, type_, severity, message, at))

    def resolve(self, meter: MeterId | None, type_: str) -> None:
        """State that a condition is over; one that was not open is none."""
        if self.open.pop((meter, type_), None) is not None:
            self.counters.resolved += 1
            self._change(Resolve(meter, type_, self._now()))

    def resolve_all(self, meter: MeterId) -> None:
        """Resolve what is open of a meter that is no longer watched."""
        for owner, type_ in [key for key in self.open if key[0] == meter]:
            self.resolve(owner, type_)

    async def flush(self, store: AlarmStore) -> None:
        """Write what is due.

        Raises:
            StoreError: it could not be written; it stays due.
        """
        changes, self._due = self._due, deque(maxlen=_MOST_CHANGES)
        retold, self._retold = self._retold, set()
        newest = [
            Raise(*key, Severity(alarm.severity), alarm.message, alarm.since)
            for key in retold
            if (alarm := self.open.get(key)) is not None
        ]
        try:
            await store.apply([*changes, *newest])
        except BaseException:
            self._due.extendleft(reversed(changes))
            self._retold |= retold
            raise

    def _change(self, change: AlarmChange) -> None:
        self._due.append(change)
        self._listener(change)

    def _now(self) -> int:
        return round(self._wall() * 1000)
