"""FleetReports: what the workers report goes to the outbox, the alarms, the database, the log and who listens."""

from __future__ import annotations

from collections.abc import Callable

import structlog

from meterbridge.fleet import AlarmDesk, EnergyWatch, HistoryKeeper
from meterbridge.meter import Failed, Polled, Recovered, Tripped, Trouble
from meterbridge.model import Meter, MeterId, Reading
from meterbridge.service.counters import ServiceCounters
from meterbridge.service.outgoing import Outgoing
from meterbridge.service.recorder import Recorder
from meterbridge.store import AlarmChange, Raise, Severity

_log = structlog.get_logger(__name__)
Listener = Callable[[str, dict[str, object]], None]
"""Told what happened, `reading`, `failure`, `alarm_opened`, `_repeated` or `_resolved`, and the particulars."""
_SEVERITIES = {
    Trouble.CONNECTION_LOSS: Severity.CRITICAL,
    Trouble.CIRCUIT_BREAKER: Severity.WARNING,
    Trouble.SILENCE: Severity.CRITICAL,
    Trouble.HDLC_ERROR: Severity.WARNING,
    Trouble.ASSOCIATION_STUCK: Severity.WARNING,
    Trouble.AUTHENTICATION_FAILURE: Severity.CRITICAL,
    Trouble.OBJECT_FAILING: Severity.INFO,
}


class Announcements:
    """Who wants to be told what happens."""

    def __init__(self) -> None:
        self._listeners: list[Listener] = []

    def __bool__(self) -> bool:
        return bool(self._listeners)

    def add(self, listener: Listener) -> None:
        """Have a listener told; it must return at once."""
        self._listeners.append(listener)

    def tell(self, kind: str, body: dict[str, object]) -> None:
        """Tell all of them."""
        for listener in self._listeners:
            listener(kind, body)

    def alarm_changed(self, change: AlarmChange) -> None:
        """Log an alarm that opened or closed, and tell it."""
        told: dict[str, object] = {"meter": change.meter, "type": str(change.type), "at": change.at}
        if isinstance(change, Raise):
            severity = str(change.severity)
            _log.warning("alarm_opened", meter=change.meter, type=change.type, severity=severity, reason=change.message)
            self.tell("alarm_opened", {**told, "severity": severity, "message": change.message})
        else:
            _log.info("alarm_resolved", meter=change.meter, type=change.type)
            self.tell("alarm_resolved", told)

    def alarm_repeated(self, change: Raise) -> None:
        """Tell that an open alarm's condition was told again; not logged, it may be so every few seconds."""
        told = {"meter": change.meter, "type": str(change.type), "at": change.at, "severity": str(change.severity)}
        self.tell("alarm_repeated", {**told, "message": change.message})


class FleetReports:
    """The workers' sink.

    Args:
        outgoing: takes readings.
        history: is told which times are complete.
        desk: takes troubles.
        recorder: takes who was seen and who failed.
        announcements: whom to tell.
        counters: of the service.
        energy: watches counters.
    """

    def __init__(
        self,
        outgoing: Outgoing,
        history: HistoryKeeper,
        desk: AlarmDesk,
        recorder: Recorder,
        announcements: Announcements,
        counters: ServiceCounters,
        energy: EnergyWatch,
    ) -> None:
        self._outgoing = outgoing
        self._history = history
        self._desk = desk
        self._recorder = recorder
        self._announcements = announcements
        self._counters = counters
        self._energy = energy
        self.latest: dict[MeterId, Reading] = {}
        # Meters that answer and give nothing.
        self._empty: set[MeterId] = set()

    def polled(self, meter: Meter, outcome: Polled, firmware_version: str | None) -> None:
        """A meter answered."""
        self._counters.polls += 1
        reading = outcome.reading
        if why := reading.why_empty:
            self._gave_nothing(meter, why)
        else:
            self._gave(meter.id, reading)
        for name, reason in reading.errors.items():
            _log.debug("measurement_failed", meter=meter.id, name=meter.name, measurement=name, reason=reason)
        if outcome.connected:
            _log.info("meter_connected", meter=meter.id, name=meter.name, firmware_version=firmware_version)
        if self._outgoing.reading(meter, outcome, firmware_version):
            self._history.read(meter.id, reading.ts)

    def _gave(self, meter: MeterId, reading: Reading) -> None:
        self._counters.readings += 1
        self._empty.discard(meter)
        self._recorder.seen(meter)
        self.latest[meter] = reading
        self._energy.read(reading)
        if self._announcements:
            values = {name: quantity.value for name, quantity in reading.values.items()}
            self._announcements.tell("reading", {"meter": meter, "ts": reading.ts, "values": values})

    def _gave_nothing(self, meter: Meter, why: str) -> None:
        self._recorder.failed(meter.id, why)
        self._announcements.tell("failure", {"meter": meter.id, "reason": why})
        if meter.id not in self._empty:
            # Once, and not with each poll: it answers in time, so nothing slows the polls down.
            self._empty.add(meter.id)
            _log.warning("meter_failed", meter=meter.id, name=meter.name, kind="NoValue", reason=why)

    def failed(self, meter: Meter, outcome: Failed) -> None:
        """A meter could not be read."""
        self._counters.polls += 1
        reason = str(outcome.error)
        self._recorder.failed(meter.id, reason)
        self._announcements.tell("failure", {"meter": meter.id, "reason": reason})
        _log.warning("meter_failed", meter=meter.id, name=meter.name, kind=type(outcome.error).__name__, reason=reason)

    def troubled(self, meter: Meter, event: Tripped | Recovered) -> None:
        """A policy stepped in, or its trouble is over: its alarm opens or closes."""
        if isinstance(event, Recovered):
            self._desk.resolve(meter.id, event.trouble)
        else:
            self._desk.raise_alarm(meter.id, event.trouble, _SEVERITIES[event.trouble], event.reason)

    def leave(self, meter: MeterId) -> None:
        """A meter is no longer polled; its rows stay in the outbox."""
        self.latest.pop(meter, None)
        self._empty.discard(meter)
        self._energy.forget(meter)
        self._outgoing.leave(meter)
