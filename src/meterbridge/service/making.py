"""WorkerMaker: one meter's client, poller, schedule and history, as the settings say."""

from __future__ import annotations

import random
import time
from collections.abc import Mapping
from contextlib import suppress

from meterbridge.errors import ConfigurationError
from meterbridge.fleet import (
    ConnectionGate,
    Histogram,
    HistoryKeeper,
    MeterHistory,
    MeterWorker,
    Schedule,
    Sink,
    phase_of,
    same_meter,
)
from meterbridge.meter import (
    Backoff,
    CounterKeeper,
    DLMSClient,
    DLMSProductionPoller,
    MeterModel,
    ProfileHistory,
    Timeouts,
    client_of,
)
from meterbridge.model import Meter, MeterId
from meterbridge.service.destinations import Destinations
from meterbridge.service.limits import backoff_settings, poller_settings
from meterbridge.settings import PollingSettings, Settings
from meterbridge.store import Overrides


class WorkerMaker:
    """Makes what polls a meter.

    Args:
        settings: those in force; see `reload`.
        destinations: is told of each meter that will deliver.
        history: of all meters.
        lateness: of all polls.
        overrides: what ThingsBoard says of a meter in place of the settings.
        counters: keeps invocation counters.
        max_connections: open at most, all meters together.
    """

    def __init__(
        self,
        settings: Settings,
        destinations: Destinations,
        history: HistoryKeeper,
        lateness: Histogram,
        overrides: Mapping[MeterId, Overrides],
        counters: CounterKeeper,
        max_connections: int,
    ) -> None:
        polling = settings.polling
        self._polling = polling
        self._zone = settings.history.zone
        self._destinations = destinations
        self._history = history
        self._lateness = lateness
        self._overrides = overrides
        self._counters = counters
        self._gate = ConnectionGate(polling.connections_per_s, max_connections, time.monotonic)
        self._own: dict[str, PollingSettings] = {}
        # One for all: each has 2.5 kB of state, and thousands of seeds take a start longer than the meters' rows.
        self._chance = random.Random()

    def reload(self, polling: PollingSettings) -> None:
        """Take over new polling settings; the limits of all meters together stay."""
        self._polling = polling
        self._own.clear()

    def polling_of(self, meter: Meter) -> PollingSettings:
        """Settings of one meter, its own over those of all."""
        own = self._own.get(meter.name)
        if own is None:
            own = self._own[meter.name] = self._polling.for_meter(meter.name)
        return own

    def identity(self, meter: Meter) -> object:
        """What a worker is made from: one whose identity stays the same is not made anew."""
        polling = self.polling_of(meter).model_copy(update={"meters": {}})
        return same_meter(meter), polling, self._destinations.identity(meter)

    def backoff(self) -> Backoff:
        """Delays before a crashed worker is made anew."""
        return Backoff(backoff_settings(self._polling), self._chance)

    def worker(self, meter: Meter, sink: Sink) -> MeterWorker:
        """Make a meter's worker.

        Raises:
            ConfigurationError: its model or its route is none.
        """
        polling = self.polling_of(meter)
        client = client_of(
            meter,
            Timeouts(
                polling.connect_timeout_s,
                polling.response_timeout_floor_s,
                keep_alive=polling.inactivity_timeout_s / 3,
            ),
            self._counters,
            lambda event: poller.discarded(event),  # noqa: PLW0108  (the poller is made of the client)
        )
        self._destinations.add(meter)
        backoff = Backoff(backoff_settings(polling), self._chance)
        poller = DLMSProductionPoller(
            meter.id, client, backoff, time.monotonic, time.time, poller_settings(polling), self._gate
        )
        overrides = self._overrides.get(meter.id, Overrides())
        poller.read_only(_readable(client.model, overrides.measurements))
        period = overrides.period or polling.period_s
        schedule = Schedule(period, phase_of(meter.id, period))
        chore = self._history_of(meter, client)
        return MeterWorker(meter, poller, schedule, sink, time.monotonic, lateness=self._lateness, chore=chore)

    def _history_of(self, meter: Meter, client: DLMSClient) -> MeterHistory | None:
        if client.model.load_profile is None:
            return None
        source = ProfileHistory(meter.id, client, self._zone)
        return MeterHistory(meter, source, lambda: client.connected, self._history, meter.tb_enabled)


def _readable(model: MeterModel, names: tuple[str, ...] | None) -> tuple[str, ...] | None:
    """What of these names the model has: it may be another one than when they were taken."""
    known = []
    for name in names or ():
        with suppress(ConfigurationError):
            model.find(name)
            known.append(name)
    return tuple(known) or None
