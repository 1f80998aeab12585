"""AlarmMirror: each meter's alarms go to ThingsBoard too, as attributes of its device."""

from __future__ import annotations

from collections.abc import Iterable

from meterbridge.fleet import OpenAlarm
from meterbridge.model import MeterId
from meterbridge.service.outgoing import Outgoing
from meterbridge.store import AlarmChange, Raise


class AlarmMirror:
    """Knows the open alarms of each meter, and has them sent when they change.

    Args:
        outgoing: sends them.
    """

    def __init__(self, outgoing: Outgoing) -> None:
        self._outgoing = outgoing

    def adopt(self, opened: Iterable[tuple[tuple[MeterId | None, str], OpenAlarm]]) -> None:
        """Take over what an earlier run left open; it is told with each meter's description."""
        for (meter, type_), alarm in opened:
            if meter is not None:
                self._outgoing.open_alarms.setdefault(meter, {})[type_] = (alarm.severity, alarm.message)

    def changed(self, change: AlarmChange) -> None:
        """An alarm opened or is over."""
        if change.meter is None:
            return
        known = self._outgoing.open_alarms.setdefault(change.meter, {})
        if isinstance(change, Raise):
            known[str(change.type)] = (str(change.severity), change.message)
        else:
            known.pop(str(change.type), None)
            if not known:
                del self._outgoing.open_alarms[change.meter]
        self._outgoing.alarms(change.meter, change.at)
