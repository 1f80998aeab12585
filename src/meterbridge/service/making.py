"""WorkerMaker: one meter's client, poller, schedule and history, as the settings say."""

from __future__ import annotations

import random
import time

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
from meterbridge.meter import Backoff, DLMSClient, DLMSProductionPoller, ProfileHistory, Timeouts, load_model
from meterbridge.model import Meter
from meterbridge.service.destinations import Destinations
from meterbridge.service.limits import backoff_settings, meter_address, poller_settings
from meterbridge.settings import PollingSettings, Settings


class WorkerMaker:
    """Makes what polls a meter.

    Args:
        settings: those in force; see `reload`.
        destinations: is told of each meter that will deliver.
        history: of all meters.
        lateness: of all polls.
    """

    def __init__(
        self, settings: Settings, destinations: Destinations, history: HistoryKeeper, lateness: Histogram
    ) -> None:
        polling = settings.polling
        self._polling = polling
        self._zone = settings.history.zone
        self._destinations = destinations
        self._history = history
        self._lateness = lateness
        self._gate = ConnectionGate(polling.connections_per_s, polling.max_connections, time.monotonic)
        self._own: dict[str, PollingSettings] = {}

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
        return same_meter(meter), self.polling_of(meter).model_copy(update={"meters": {}})

    def backoff(self) -> Backoff:
        """Delays before a crashed worker is made anew."""
        return Backoff(backoff_settings(self._polling), random.Random())

    def worker(self, meter: Meter, sink: Sink) -> MeterWorker:
        """Make a meter's worker.

        Raises:
            ConfigurationError: its model or its route is none.
        """
        polling = self.polling_of(meter)
        model = load_model(meter.model)
        self._destinations.add(meter)
        client = DLMSClient(
            meter_address(meter),
            model,
            Timeouts(
                polling.connect_timeout_s,
                polling.response_timeout_floor_s,
                keep_alive=polling.inactivity_timeout_s / 3,
            ),
            lambda event: poller.discarded(event),  # noqa: PLW0108  (the poller is made of the client)
        )
        backoff = Backoff(backoff_settings(polling), random.Random())
        poller = DLMSProductionPoller(
            meter.id, client, backoff, time.monotonic, time.time, poller_settings(polling), self._gate
        )
        schedule = Schedule(polling.period_s, phase_of(meter.id, polling.period_s))
        chore = self._history_of(meter, client)
        return MeterWorker(meter, poller, schedule, sink, time.monotonic, lateness=self._lateness, chore=chore)

    def _history_of(self, meter: Meter, client: DLMSClient) -> MeterHistory | None:
        if client.model.load_profile is None:
            return None
        source = ProfileHistory(meter.id, client, self._zone)
        return MeterHistory(meter, source, lambda: client.connected, self._history, meter.tb_enabled)
