"""AlarmMirror: alarms go to ThingsBoard too, as attributes of the meter's device, or of the installation's own."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from meterbridge.fleet import OpenAlarm
from meterbridge.model import INSTALLATION, MeterId
from meterbridge.service.outgoing import Outgoing
from meterbridge.store import AlarmChange, Raise


class AlarmMirror:
    """Knows the open alarms of each meter and of the installation, and has them sent when they change.

    Args:
        outgoing: sends them.
        common: the route of what belongs to no meter.
        clock_ms: Unix milliseconds.
    """

    def __init__(self, outgoing: Outgoing, common: Callable[[], str | None], clock_ms: Callable[[], int]) -> None:
        self._outgoing = outgoing
        self._common = common
        self._clock_ms = clock_ms
        self._told_on: str | None = None

    def adopt(self, opened: Iterable[tuple[tuple[MeterId | None, str], OpenAlarm]]) -> None:
        """Take over what an earlier run left open; it is told with each meter's description."""
        for (meter, type_), alarm in opened:
            known = self._outgoing.open_alarms.setdefault(INSTALLATION if meter is None else meter, {})
            known[type_] = (alarm.severity, alarm.message)

    def changed(self, change: AlarmChange) -> None:
        """An alarm opened or is over."""
        owner = INSTALLATION if change.meter is None else change.meter
        known = self._outgoing.open_alarms.setdefault(owner, {})
        if isinstance(change, Raise):
            known[str(change.type)] = (str(change.severity), change.message)
        else:
            known.pop(str(change.type), None)
            if not known:
                del self._outgoing.open_alarms[owner]
        self._outgoing.alarms(owner, change.at)

    def delivering(self) -> None:
        """A meter has begun to deliver: where that opens a way, tell what an earlier run may have left there."""
        common = self._common()
        if common != self._told_on:
            self._told_on = common
            self._outgoing.alarms(INSTALLATION, self._clock_ms())
