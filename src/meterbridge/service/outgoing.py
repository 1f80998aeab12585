"""Outgoing: readings become rows of the outbox, each on its meter's route."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress

from meterbridge.delivery import Kind, Outbox, Row, Ticket
from meterbridge.errors import DeliveryError, StoreError
from meterbridge.fleet import DeliveryTally
from meterbridge.meter import Polled
from meterbridge.model import INSTALLATION, Meter, MeterId, Reading
from meterbridge.service.counters import ServiceCounters
from meterbridge.service.destinations import Destinations
from meterbridge.thingsboard import alarm_attributes, attributes, service_attributes, telemetry


class Outgoing:
    """What is put into the outbox, and what of it was acknowledged.

    Args:
        destinations: on which route a meter's rows leave.
        counters: takes what was published and acknowledged.
        service_name: device that shows what belongs to no meter; none where empty.
    """

    def __init__(self, destinations: Destinations, counters: ServiceCounters, service_name: str) -> None:
        self._destinations = destinations
        self._counters = counters
        self._service_name = service_name
        # What was last told of each meter as attributes.
        self._described: dict[MeterId, tuple[Meter, str | None]] = {}
        # Severity and message of each open alarm by type.
        self.open_alarms: dict[MeterId, dict[str, tuple[str, str]]] = {}
        self.tally = DeliveryTally()
        self.outbox: Outbox | None = None

    def reading(self, meter: Meter, outcome: Polled, firmware_version: str | None) -> bool:
        """Put a reading into the outbox, and the attributes where they are new; return whether it held a value."""
        if self.outbox is None or not meter.tb_enabled:
            return False
        reading = outcome.reading
        route, device = self._destinations.name_of(meter.id), meter.device_name
        known = self._described.get(meter.id) == (meter, firmware_version)
        if outcome.connected or not known:
            self._described[meter.id] = (meter, firmware_version)
            described = attributes(meter, firmware_version or None, reading.ts)
            self.outbox.put(meter.id, route, device, reading.ts, described, Kind.ATTRIBUTES)
            if not known:
                self.alarms(meter.id, reading.ts)
        payload = telemetry(reading)
        if payload is None:
            return False
        self.outbox.put(meter.id, route, device, reading.ts, payload)
        self._counters.published += 1
        self.tally.queued[meter.id] += 1
        return True

    def client_attributes(self, meter: Meter, payload: bytes) -> None:
        """Put attributes that tell how a meter is polled into the outbox."""
        if self.outbox is None or not meter.tb_enabled:
            return
        route, now = self._destinations.name_of(meter.id), round(time.time() * 1000)
        self.outbox.put(meter.id, route, meter.device_name, now, payload, Kind.ATTRIBUTES)

    def alarms(self, meter: MeterId, at: int) -> None:
        """Put a meter's open alarms into the outbox, as attributes of its device; nothing where it does not deliver.

        Those of INSTALLATION leave on a route that meters share.
        """
        if meter == INSTALLATION:
            self._installation(at)
            return
        known = self._destinations.delivering(meter)
        if self.outbox is None or known is None:
            return
        told = alarm_attributes(self.open_alarms.get(meter, {}))
        # An alarm of the outbox itself may come while it closes: then there is nobody left to tell.
        with suppress(DeliveryError):
            self.outbox.put(meter, self._destinations.name_of(meter), known.device_name, at, told, Kind.ATTRIBUTES)

    def _installation(self, at: int) -> None:
        route, told = self._destinations.common, service_attributes(self.open_alarms.get(INSTALLATION, {}))
        if self.outbox is None or route is None or not self._service_name:
            return
        with suppress(DeliveryError):
            self.outbox.put(INSTALLATION, route, self._service_name, at, told, Kind.ATTRIBUTES)

    def history(self, meter: Meter, readings: Sequence[Reading]) -> list[Ticket]:
        """Put what a meter kept into the outbox; return the tickets of the commits it is part of."""
        if self.outbox is None:
            raise StoreError("the service has not started")
        route, device = self._destinations.name_of(meter.id), meter.device_name
        tickets: dict[int, Ticket] = {}
        for reading in readings:
            if (payload := telemetry(reading)) is not None:
                ticket = self.outbox.put(meter.id, route, device, reading.ts, payload)
                tickets[id(ticket)] = ticket
                self.tally.queued[meter.id] += 1
        return list(tickets.values())

    def acknowledged(self, rows: Sequence[Row]) -> None:
        """Count rows whose PUBACK came."""
        self._counters.acknowledged += len(rows)
        self.tally.acknowledged.update([row.meter for row in rows if row.kind == Kind.TELEMETRY])

    def leave(self, meter: MeterId) -> None:
        """Forget a meter that is no longer polled, and free its route."""
        told = self._described.pop(meter, None)
        self._destinations.leave(meter, told[0].device_name if told is not None else None)
