"""EnergyWatch: a counter of energy that goes backwards is an alarm. Pure: time comes with the readings."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from meterbridge.fleet.alarms import AlarmDesk
from meterbridge.model import MeterId, Quantity, Reading
from meterbridge.store import Severity

ENERGY_BACKWARDS = "energy_backwards"
_COUNTERS = frozenset({"Wh", "varh", "VAh"})


@dataclass(slots=True)
class _Fall:
    """A counter below where it was: its former value, None where an earlier run saw it, and since when."""

    former: float | None
    since: int


class EnergyWatch:
    """Opens an alarm when a counter falls; it is over when the counter is back, or its new value has proved lasting.

    A meter that was exchanged, or one that rolled over, never comes back to where it was.

    Args:
        desk: where the alarm goes.
        settle_s: time after which a new value is taken as right.
    """

    def __init__(self, desk: AlarmDesk, settle_s: float) -> None:
        self._desk = desk
        self._settle = round(settle_s * 1000)
        self._newest: dict[MeterId, dict[str, float]] = {}
        self._fallen: dict[MeterId, dict[str, _Fall]] = {}

    def adopt(self, opened: Iterable[tuple[MeterId | None, str]], now: int) -> None:
        """Take over what an earlier run left open; `now` in Unix milliseconds."""
        for meter, type_ in opened:
            if meter is not None and type_ == ENERGY_BACKWARDS:
                self._fallen[meter] = {"": _Fall(None, now)}

    def read(self, reading: Reading) -> None:
        """Take note of a live reading."""
        known = self._newest.get(reading.meter)
        if known is None:
            known = self._newest[reading.meter] = {}
        for name, quantity in reading.values.items():
            if quantity.unit in _COUNTERS:
                self._counter(reading, name, quantity, known)
        if reading.meter in self._fallen:
            self._settled(reading)

    def forget(self, meter: MeterId) -> None:
        """A meter is no longer polled."""
        self._newest.pop(meter, None)
        self._fallen.pop(meter, None)

    def _counter(self, reading: Reading, name: str, quantity: Quantity, known: dict[str, float]) -> None:
        value = quantity.value
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return
        before = known.get(name)
        known[name] = value
        if before is not None and value < before:
            fallen = self._fallen.setdefault(reading.meter, {})
            former = max(before, fallen[name].former or before) if name in fallen else before
            fallen[name] = _Fall(former, reading.ts)
            message = f"{name} went backwards, from {before:g} to {value:g} {quantity.unit}."
            self._desk.raise_alarm(reading.meter, ENERGY_BACKWARDS, Severity.CRITICAL, message)

    def _settled(self, reading: Reading) -> None:
        fallen, known = self._fallen[reading.meter], self._newest[reading.meter]
        for name, fall in list(fallen.items()):
            back = fall.former is not None and known.get(name, -1.0) >= fall.former
            if back or reading.ts - fall.since >= self._settle:
                del fallen[name]
        if not fallen:
            del self._fallen[reading.meter]
            self._desk.resolve(reading.meter, ENERGY_BACKWARDS)
