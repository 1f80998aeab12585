"""Composition root: settings in, running objects out. The only file that knows everybody."""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass, field
from pathlib import Path

import structlog
from sqlalchemy.ext.asyncio import AsyncEngine

from meterbridge.delivery import (
    BrokerRoute,
    Endpoint,
    Event,
    Kind,
    Limits,
    LineLimits,
    Outbox,
    Publisher,
    Tls,
    broker_route_name,
    check_device_name,
)
from meterbridge.errors import ConfigurationError, StoreError
from meterbridge.fleet import MeterWorker, MultiMeterBridge, Schedule, phase_of
from meterbridge.meter import (
    Backoff,
    BackoffSettings,
    DLMSClient,
    DLMSProductionPoller,
    Failed,
    MeterAddress,
    Polled,
    Timeouts,
    load_model,
)
from meterbridge.model import Meter, MeterId
from meterbridge.settings import MqttSettings, OutboxSettings, Settings
from meterbridge.store import MeterRepository, open_database
from meterbridge.thingsboard import attributes, telemetry

_log = structlog.get_logger(__name__)
_RECORD_INTERVAL = 5.0


def meter_address(meter: Meter) -> MeterAddress:
    """How a configured meter is reached."""
    return MeterAddress(
        meter.ip_address,
        meter.port,
        meter.framing,
        meter.client_id,
        meter.server_id,
        meter.physical,
        meter.password.encode() or None,
    )


def broker_endpoint(settings: MqttSettings, host: str, port: int) -> Endpoint:
    """Whom the broker route connects to, and as whom."""
    tls = None
    if settings.tls_ca is not None:
        tls = Tls(settings.tls_ca, settings.tls_cert, settings.tls_key)
    return Endpoint(
        host,
        port,
        f"{settings.client_id_prefix}-{host}-{port}",
        settings.username,
        settings.password.get_secret_value() if settings.password else None,
        5 if settings.protocol == "5" else 4,
        tls,
        settings.keepalive_s,
    )


def outbox_limits(settings: OutboxSettings) -> Limits:
    """Bounds of the outbox."""
    return Limits(settings.max_rows, settings.max_octets, settings.max_age_days * 86_400)


@dataclass(slots=True)
class ServiceCounters:
    """What the service did since its start.

    Args:
        polls: attempts to read a meter.
        readings: attempts that gave one.
        published: readings put into the outbox.
        acknowledged: rows whose PUBACK came, attributes among them.
    """

    polls: int = 0
    readings: int = 0
    published: int = 0
    acknowledged: int = 0


@dataclass(slots=True)
class _Recorded:
    """What is due to the database with the next record."""

    seen: set[MeterId] = field(default_factory=set)
    errors: dict[MeterId, str] = field(default_factory=dict)


class Service:
    """The whole of it: database, outbox, publishers, fleet.

    Args:
        settings: validated.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._engine: AsyncEngine | None = None
        self._repository: MeterRepository | None = None
        self._outbox: Outbox | None = None
        self._publishers: dict[str, Publisher] = {}
        self._recorded = _Recorded()
        self._recorder: asyncio.Task[None] | None = None
        self.bridge: MultiMeterBridge | None = None
        self.counters = ServiceCounters()

    async def start(self) -> None:
        """Open database and outbox, connect publishers and start polling.

        Raises:
            ConfigurationError, StoreError, DeliveryError: infrastructure is not there; one clear line says which.
        """
        settings = self._settings
        _make_folder(settings.outbox.path.parent)
        self._engine = await open_database(settings.database.url)
        self._repository = MeterRepository(self._engine)
        self._outbox = await Outbox.open(
            settings.outbox.path,
            outbox_limits(settings.outbox),
            self._delivery_event,
            interval_s=settings.outbox.commit_interval_ms / 2000,
        )
        self.bridge = MultiMeterBridge(self._repository, self._worker, self._backoff)
        await self.bridge.start()
        self._recorder = asyncio.create_task(self._record(self._repository), name="record")
        _log.info("service_started", meters=len(self.bridge.workers))

    async def stop(self) -> None:
        """Stop polling, release the associations, publish what is left where somebody listens, close."""
        if self.bridge is not None:
            await self.bridge.stop()
        if self._recorder is not None:
            self._recorder.cancel()
            await asyncio.wait([self._recorder])
        if self._outbox is not None:
            await self._outbox.flush()
        await asyncio.gather(*(publisher.stop(3.0) for publisher in self._publishers.values()))
        if self._outbox is not None:
            await self._outbox.close()
        if self._engine is not None:
            await self._engine.dispose()
        _log.info("service_stopped", **{name: getattr(self.counters, name) for name in ServiceCounters.__slots__})

    # ---- making one meter's objects

    def _backoff(self) -> Backoff:
        polling = self._settings.polling
        return Backoff(BackoffSettings(polling.backoff_initial_s, polling.backoff_max_s), random.Random())

    def _worker(self, meter: Meter) -> MeterWorker:
        polling = self._settings.polling
        model = load_model(meter.model)
        if meter.tb_enabled:
            check_device_name(meter.device_name)
            self._publisher_for(meter)
        client = DLMSClient(
            meter_address(meter), model, Timeouts(polling.connect_timeout_s, polling.response_timeout_floor_s)
        )
        poller = DLMSProductionPoller(meter.id, client, self._backoff(), time.monotonic, time.time)
        schedule = Schedule(polling.period_s, phase_of(meter.id, polling.period_s))
        return MeterWorker(meter, poller, schedule, self, time.monotonic)

    def _publisher_for(self, meter: Meter) -> None:
        name = broker_route_name(meter.tb_host, meter.tb_port)
        if name in self._publishers or self._outbox is None:
            return
        mqtt = self._settings.mqtt
        route = BrokerRoute(broker_endpoint(mqtt, meter.tb_host, meter.tb_port))
        limits = LineLimits(mqtt.max_inflight, backoff_first_s=mqtt.backoff_initial_s, backoff_max_s=mqtt.backoff_max_s)
        publisher = Publisher(self._outbox, route, limits, self._delivery_event, self._acknowledged)
        publisher.start()
        self._publishers[name] = publisher

    # ---- what the fleet and the publishers report

    def polled(self, meter: Meter, outcome: Polled, firmware_version: str | None) -> None:
        """Hand a reading to the outbox (called by the worker)."""
        self.counters.polls += 1
        self.counters.readings += 1
        self._recorded.seen.add(meter.id)
        reading = outcome.reading
        for name, reason in reading.errors.items():
            _log.debug("measurement_failed", meter=meter.id, name=meter.name, measurement=name, reason=reason)
        if self._outbox is None or not meter.tb_enabled:
            return
        route, device = broker_route_name(meter.tb_host, meter.tb_port), meter.device_name
        if outcome.connected:
            _log.info("meter_connected", meter=meter.id, name=meter.name, firmware_version=firmware_version)
            described = attributes(meter, firmware_version or None, reading.ts)
            self._outbox.put(meter.id, route, device, reading.ts, described, Kind.ATTRIBUTES)
        payload = telemetry(reading)
        if payload is not None:
            self._outbox.put(meter.id, route, device, reading.ts, payload)
            self.counters.published += 1

    def failed(self, meter: Meter, outcome: Failed) -> None:
        """Note that a meter could not be read (called by the worker)."""
        self.counters.polls += 1
        self._recorded.errors[meter.id] = str(outcome.error)
        _log.warning(
            "meter_failed",
            meter=meter.id,
            name=meter.name,
            kind=type(outcome.error).__name__,
            reason=str(outcome.error),
        )

    def _acknowledged(self, rows: object) -> None:
        self.counters.acknowledged += len(rows)  # type: ignore[arg-type]

    def _delivery_event(self, event: Event) -> None:
        _log.info("delivery", what=type(event).__name__, detail=str(event))

    async def _record(self, repository: MeterRepository) -> None:
        """Write who was seen and who failed, now and then, all meters in one transaction."""
        while True:
            await asyncio.sleep(_RECORD_INTERVAL)
            due, self._recorded = self._recorded, _Recorded()
            try:
                if due.seen:
                    await repository.record_seen(due.seen, round(time.time() * 1000))
                if due.errors:
                    await repository.record_errors(due.errors)
            except StoreError as error:
                _log.error("record_failed", reason=str(error))


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(f"folder {folder} cannot be made: {error.strerror}") from None
