"""Composition root: settings in, running objects out. The only file that knows everybody."""

from __future__ import annotations

import asyncio
import os
import random
import resource
import time
from collections.abc import Callable, Coroutine, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import structlog
from sqlalchemy.ext.asyncio import AsyncEngine

from meterbridge.delivery import (
    DeliveryAlarms,
    Event,
    Kind,
    Limits,
    LineLimits,
    Outbox,
    OutboxStats,
    Publisher,
    PublisherStats,
    RouteBook,
    RouteSettings,
    Row,
    Ticket,
    Tls,
    rehome,
)
from meterbridge.errors import ConfigurationError, MeterNotFound, StoreError
from meterbridge.fleet import (
    AlarmDesk,
    ConnectionGate,
    DeliveryTally,
    FleetMonitor,
    Histogram,
    HistoryKeeper,
    HistoryLimits,
    MeterHistory,
    MeterWorker,
    MonitorLimits,
    MultiMeterBridge,
    NetworkLimits,
    NetworkMonitor,
    ProcessUse,
    ReloadResult,
    Schedule,
    StatusReport,
    WorkerStatus,
    choose_pinger,
    phase_of,
    render,
    same_meter,
)
from meterbridge.meter import (
    Backoff,
    BackoffSettings,
    BreakerSettings,
    DLMSClient,
    DLMSProductionPoller,
    Failed,
    MeterAddress,
    Polled,
    PollerSettings,
    ProfileHistory,
    Recovered,
    Timeouts,
    Tripped,
    Trouble,
    load_model,
)
from meterbridge.model import Meter, MeterId, Reading
from meterbridge.settings import (
    DatabaseSettings,
    DeliverySettings,
    HistorySettings,
    MqttSettings,
    OutboxSettings,
    PollingSettings,
    Settings,
)
from meterbridge.store import (
    AlarmChange,
    AlarmRepository,
    IntervalRepository,
    MeterRepository,
    MetricsRepository,
    Raise,
    Severity,
    Vault,
    key_source,
    open_database,
)
from meterbridge.thingsboard import attributes, telemetry

_log = structlog.get_logger(__name__)
_Part = TypeVar("_Part")
Listener = Callable[[str, dict[str, object]], None]
"""Told what happened, `reading`, `failure`, `alarm_opened` or `alarm_resolved`, and the particulars."""
_RECORD_INTERVAL = 5.0
# A crash makes a hole of as much; what is shorter than the gap of [history] is none.
_INTERVALS_INTERVAL = 60.0
_STATUS_FILE = "status.txt"
_SEVERITIES = {
    Trouble.CONNECTION_LOSS: Severity.CRITICAL,
    Trouble.CIRCUIT_BREAKER: Severity.WARNING,
    Trouble.SILENCE: Severity.CRITICAL,
    Trouble.HDLC_ERROR: Severity.WARNING,
    Trouble.ASSOCIATION_STUCK: Severity.WARNING,
    Trouble.OBJECT_FAILING: Severity.INFO,
}


def open_vault(database: DatabaseSettings) -> Vault:
    """What encrypts and decrypts the database's secrets."""
    return Vault(key_source(database.key_file, os.environ))


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


def route_settings(mqtt: MqttSettings, delivery: DeliverySettings) -> RouteSettings:
    """Whom the routes connect to, and as whom."""
    token = delivery.gateway_token if delivery.route == "gateway" else None
    return RouteSettings(
        token.get_secret_value() if token is not None else None,
        delivery.device_type,
        mqtt.client_id_prefix,
        mqtt.username,
        mqtt.password.get_secret_value() if mqtt.password else None,
        5 if mqtt.protocol == "5" else 4,
        Tls(mqtt.tls_ca, mqtt.tls_cert, mqtt.tls_key) if mqtt.tls_ca is not None else None,
        mqtt.keepalive_s,
    )


def line_limits(mqtt: MqttSettings, delivery: DeliverySettings) -> LineLimits:
    """Bounds and delays of each MQTT connection."""
    return LineLimits(
        mqtt.max_inflight,
        delivery.ack_timeout_s,
        backoff_first_s=mqtt.backoff_initial_s,
        backoff_max_s=mqtt.backoff_max_s,
        refusals=delivery.refusals,
        backlog_rows_per_s=delivery.backlog_rows_per_s,
    )


def poller_settings(polling: PollingSettings) -> PollerSettings:
    """Thresholds of one meter's poller."""
    return PollerSettings(
        BreakerSettings(polling.breaker_reconnections, polling.breaker_window_s, polling.breaker_pause_s),
        polling.silence_s,
        polling.hdlc_errors,
        polling.response_timeout_floor_s,
        polling.response_timeout_ceiling_s,
        polling.inactivity_timeout_s,
        2 * polling.period_s,
        max(2 * polling.period_s, polling.object_retry_max_s),
        polling.alarm_after,
    )


def outbox_limits(settings: OutboxSettings) -> Limits:
    """Bounds of the outbox."""
    return Limits(settings.max_rows, settings.max_octets, settings.max_age_days * 86_400)


def history_limits(history: HistorySettings) -> HistoryLimits:
    """What is read back after an outage, and how gently."""
    return HistoryLimits(
        history.enabled,
        history.gap_s,
        history.max_age_days * 86_400,
        history.chunk_s,
        history.settle_s,
        history.pieces_per_s,
        history.clock_check_s,
        history.clock_drift_s,
    )


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
        polling = settings.polling
        self._settings = settings
        self._engine: AsyncEngine | None = None
        self._repository: MeterRepository | None = None
        self._alarms: AlarmRepository | None = None
        self._outbox: Outbox | None = None
        self._publisher: Publisher | None = None
        self._routes = RouteBook(route_settings(settings.mqtt, settings.delivery), lambda meter: meter in self._present)
        self._present: set[MeterId] = set()
        # What was last told of each meter as attributes.
        self._described: dict[MeterId, tuple[Meter, str | None]] = {}
        self._recorded = _Recorded()
        self._tasks: list[asyncio.Task[None]] = []
        self._gate = ConnectionGate(polling.connections_per_s, polling.max_connections, time.monotonic)
        self._lateness = Histogram()
        self._tally = DeliveryTally()
        self._polling: dict[str, PollingSettings] = {}
        self.bridge: MultiMeterBridge | None = None
        self.desk = AlarmDesk(time.time, self._alarm_changed)
        self._delivery_alarms = DeliveryAlarms(
            self.desk, settings.delivery.route_down_after_s, settings.delivery.backlog_alarm_s
        )
        self.history = HistoryKeeper(
            history_limits(settings.history), self.desk, self._deliver_history, time.time, time.monotonic
        )
        self.monitor: FleetMonitor | None = None
        self.network: NetworkMonitor | None = None
        self.broken = asyncio.Event()
        self.counters = ServiceCounters()
        self.latest: dict[MeterId, Reading] = {}
        self._listeners: list[Listener] = []

    # ---- what the rooms above look at, once it is started

    @property
    def database(self) -> AsyncEngine:
        """The engine; stays the service's."""
        return _started(self._engine)

    @property
    def repository(self) -> MeterRepository:
        """The configured meters."""
        return _started(self._repository)

    @property
    def alarms(self) -> AlarmRepository:
        """The stored alarms."""
        return _started(self._alarms)

    @property
    def metrics(self) -> MetricsRepository:
        """The stored metrics."""
        return MetricsRepository(self.database)

    @property
    def fleet(self) -> MultiMeterBridge:
        """The workers."""
        return _started(self.bridge)

    def statuses(self) -> list[WorkerStatus]:
        """Status of every active meter."""
        return self.fleet.statuses()

    def status_of(self, meter: MeterId) -> WorkerStatus | None:
        """Status of one meter, None for an inactive one."""
        try:
            return self.fleet.status(meter)
        except MeterNotFound:
            return None

    def outbox_stats(self) -> OutboxStats:
        """A moment of the outbox."""
        return _started(self._outbox).stats()

    def route_stats(self) -> list[PublisherStats]:
        """A moment of each route."""
        return list(_started(self._publisher).stats())

    def listen(self, listener: Listener) -> None:
        """Have a listener told of readings, failures and alarms; it must return at once."""
        self._listeners.append(listener)

    async def reload_meters(self) -> None:
        """Take over the meters as they are in the database now; the untouched are not disturbed.

        Raises:
            StoreError: they cannot be read; they go on as they were.
        """
        await self.reload(self._settings)

    async def start(self) -> None:
        """Open database and outbox, connect publishers and start polling.

        `broken` is set when something that should run for ever has ended: stop, and start anew.

        Raises:
            ConfigurationError, StoreError, DeliveryError: infrastructure is not there; one clear line says which.
        """
        settings = self._settings
        _make_folder(settings.outbox.path.parent)
        _allow_files(settings.polling.max_connections + 256)
        self._engine = await open_database(settings.database.url)
        self._repository = MeterRepository(self._engine, open_vault(settings.database))
        await _seal(self._repository)
        self._alarms = AlarmRepository(self._engine)
        self.desk.adopt(await self._alarms.open_alarms())
        self._delivery_alarms.adopt(list(self.desk.open), time.time())
        await self._rehome(self._repository)
        self._outbox = await Outbox.open(
            settings.outbox.path,
            outbox_limits(settings.outbox),
            self._delivery_event,
            interval_s=settings.outbox.commit_interval_ms / 2000,
        )
        self._publisher = Publisher(
            self._outbox, line_limits(settings.mqtt, settings.delivery), self._delivery_event, self._acknowledged
        )
        self._publisher.start()
        intervals = IntervalRepository(self._engine)
        self.history.adopt(await intervals.load())
        self.bridge = MultiMeterBridge(
            self._repository, self._worker, self._backoff, self.desk, time.monotonic, self._identity
        )
        await self.bridge.start()
        self.network = NetworkMonitor(
            self._watched,
            self._reading,
            self.desk,
            NetworkLimits(
                settings.network.ping_interval_s, settings.network.ping_timeout_s, settings.network.outage_after
            ),
            await choose_pinger(),
        )
        self.monitor = FleetMonitor(
            self.bridge,
            self.desk,
            MetricsRepository(self._engine),
            self.network,
            self._lateness,
            self._tally,
            _process_use,
            MonitorLimits(
                settings.monitor.interval_s,
                settings.monitor.retention_days * 86_400,
                lambda meter: self._polling_of(meter).hang_s,
            ),
            time.time,
            time.monotonic,
            self._report,
            lambda error: _log.error("metrics_not_stored", reason=str(error)),
        )
        self._run("record", self._record(self._repository, self._alarms))
        self._run(
            "history",
            self.history.run(
                intervals,
                self._outbox.flush,
                _INTERVALS_INTERVAL,
                lambda error: _log.error("intervals_not_stored", reason=str(error)),
            ),
        )
        self._run("network", self.network.run())
        self._run("monitor", self.monitor.run())
        _log.info("service_started", meters=len(self.bridge.workers))

    def _run(self, name: str, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work, name=name)
        task.add_done_callback(self._ended)
        self._tasks.append(task)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled():
            _log.critical("task_ended", task=task.get_name(), exc_info=task.exception())
            self.broken.set()

    async def reload(self, settings: Settings) -> ReloadResult | None:
        """Take over new polling settings and the meters as they are now; the untouched are not disturbed.

        Other sections, and the limits of all meters together, take a restart; what differs there is logged.

        Raises:
            StoreError: the meters cannot be read; they go on as they were.
        """
        if self.bridge is None:
            return None
        old = self._settings
        for name in Settings.model_fields:
            if name != "polling" and getattr(old, name) != getattr(settings, name):
                _log.warning("restart_needed", section=name)
        for key in ("connections_per_s", "max_connections"):
            if getattr(old.polling, key) != getattr(settings.polling, key):
                _log.warning("restart_needed", section="polling", key=key)
        self._settings = old.model_copy(update={"polling": settings.polling})
        self._polling.clear()
        result = await self.bridge.reload()
        for meter in result.removed:
            self._leave(meter)
        return result

    async def stop(self) -> None:
        """Stop polling, release the associations, publish what is left where somebody listens, close: within 10 s."""
        for task in self._tasks:
            task.cancel()
        if self.bridge is not None:
            await self.bridge.stop(4.0)
        if self._tasks:
            await asyncio.wait(self._tasks)
        if self._outbox is not None:
            with suppress(TimeoutError):
                # On a full disk it would wait without end.
                await asyncio.wait_for(self._outbox.flush(), 1.0)
                await self._save_history(self._outbox)
            if self._publisher is not None:
                await self._publisher.stop(3.0)
            await self._outbox.close()
        if self._engine is not None:
            if self._repository is not None and self._alarms is not None:
                await self._record_now(self._repository, self._alarms)
            await self._engine.dispose()
        _log.info("service_stopped", **{name: getattr(self.counters, name) for name in ServiceCounters.__slots__})

    # ---- making one meter's objects

    def _backoff(self) -> Backoff:
        polling = self._settings.polling
        return Backoff(BackoffSettings(polling.backoff_initial_s, polling.backoff_max_s), random.Random())

    def _polling_of(self, meter: Meter) -> PollingSettings:
        own = self._polling.get(meter.name)
        if own is None:
            own = self._polling[meter.name] = self._settings.polling.for_meter(meter.name)
        return own

    def _identity(self, meter: Meter) -> object:
        return same_meter(meter), self._polling_of(meter).model_copy(update={"meters": {}})

    def _worker(self, meter: Meter) -> MeterWorker:
        polling = self._polling_of(meter)
        model = load_model(meter.model)
        if meter.tb_enabled and self._publisher is not None:
            self._publisher.add(self._routes.route_for(meter))
            self._present.add(meter.id)
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
        backoff = Backoff(BackoffSettings(polling.backoff_initial_s, polling.backoff_max_s), random.Random())
        poller = DLMSProductionPoller(
            meter.id, client, backoff, time.monotonic, time.time, poller_settings(polling), self._gate
        )
        schedule = Schedule(polling.period_s, phase_of(meter.id, polling.period_s))
        chore = self._history_of(meter, client)
        return MeterWorker(meter, poller, schedule, self, time.monotonic, lateness=self._lateness, chore=chore)

    def _history_of(self, meter: Meter, client: DLMSClient) -> MeterHistory | None:
        if client.model.load_profile is None:
            return None
        source = ProfileHistory(meter.id, client, self._settings.history.zone)
        return MeterHistory(meter, source, lambda: client.connected, self.history, meter.tb_enabled)

    def _leave(self, meter: MeterId) -> None:
        """Free the route of a meter that is no longer polled; its rows stay in the outbox."""
        self.latest.pop(meter, None)
        told = self._described.pop(meter, None)
        if meter not in self._present or self._publisher is None:
            return
        self._present.discard(meter)
        shared = self._routes.name_of(meter)
        own = self._routes.forget(meter)
        if own is not None:
            self._publisher.remove(own)
        elif told is not None:
            self._publisher.dismiss(shared, told[0].device_name)

    async def _rehome(self, repository: MeterRepository) -> None:
        """Let rows of an earlier run follow their meters to the routes these have now."""
        loaded = await repository.load_meters()
        book = RouteBook(route_settings(self._settings.mqtt, self._settings.delivery), lambda _: True)
        wanted: dict[MeterId, str] = {}
        for meter in loaded.meters:
            with suppress(ConfigurationError):
                wanted[meter.id] = book.route_for(meter).name
        left = await asyncio.to_thread(rehome, self._settings.outbox.path, wanted)
        for route, rows in left.items():
            _log.warning("outbox_rows_without_meter", route=route, rows=rows)

    # ---- what the fleet and the publishers report

    def polled(self, meter: Meter, outcome: Polled, firmware_version: str | None) -> None:
        """Hand a reading to the outbox (called by the worker)."""
        self.counters.polls += 1
        self.counters.readings += 1
        self._recorded.seen.add(meter.id)
        reading = outcome.reading
        self.latest[meter.id] = reading
        if self._listeners:
            values = {name: quantity.value for name, quantity in reading.values.items()}
            self._tell("reading", {"meter": meter.id, "ts": reading.ts, "values": values})
        for name, reason in reading.errors.items():
            _log.debug("measurement_failed", meter=meter.id, name=meter.name, measurement=name, reason=reason)
        if self._outbox is None or not meter.tb_enabled:
            return
        route, device = self._routes.name_of(meter.id), meter.device_name
        if outcome.connected:
            _log.info("meter_connected", meter=meter.id, name=meter.name, firmware_version=firmware_version)
        if outcome.connected or self._described.get(meter.id) != (meter, firmware_version):
            self._described[meter.id] = (meter, firmware_version)
            described = attributes(meter, firmware_version or None, reading.ts)
            self._outbox.put(meter.id, route, device, reading.ts, described, Kind.ATTRIBUTES)
        payload = telemetry(reading)
        if payload is not None:
            self._outbox.put(meter.id, route, device, reading.ts, payload)
            self.counters.published += 1
            self._tally.queued[meter.id] += 1
            self.history.read(meter.id, reading.ts)

    def _deliver_history(self, meter: Meter, readings: Sequence[Reading]) -> list[Ticket]:
        """Put what a meter kept into the outbox; return the tickets of the commits it is part of."""
        if self._outbox is None:
            raise StoreError("the service has not started")
        route, device = self._routes.name_of(meter.id), meter.device_name
        tickets: dict[int, Ticket] = {}
        for reading in readings:
            if (payload := telemetry(reading)) is not None:
                ticket = self._outbox.put(meter.id, route, device, reading.ts, payload)
                tickets[id(ticket)] = ticket
                self._tally.queued[meter.id] += 1
        return list(tickets.values())

    async def _save_history(self, outbox: Outbox) -> None:
        try:
            await self.history.save(IntervalRepository(self.database), outbox.flush, everything=True)
        except StoreError as error:
            _log.error("intervals_not_stored", reason=str(error))

    def failed(self, meter: Meter, outcome: Failed) -> None:
        """Note that a meter could not be read (called by the worker)."""
        self.counters.polls += 1
        self._recorded.errors[meter.id] = str(outcome.error)
        self._tell("failure", {"meter": meter.id, "reason": str(outcome.error)})
        _log.warning(
            "meter_failed",
            meter=meter.id,
            name=meter.name,
            kind=type(outcome.error).__name__,
            reason=str(outcome.error),
        )

    def troubled(self, meter: Meter, event: Tripped | Recovered) -> None:
        """Open or resolve the alarm of a trouble (called by the worker)."""
        if isinstance(event, Recovered):
            self.desk.resolve(meter.id, event.trouble)
        else:
            self.desk.raise_alarm(meter.id, event.trouble, _SEVERITIES[event.trouble], event.reason)

    def _acknowledged(self, rows: Sequence[Row]) -> None:
        self.counters.acknowledged += len(rows)
        self._tally.acknowledged.update([row.meter for row in rows if row.kind == Kind.TELEMETRY])

    def _delivery_event(self, event: Event) -> None:
        _log.info("delivery", what=type(event).__name__, detail=str(event))
        self._delivery_alarms.happened(event, time.time())

    def _alarm_changed(self, change: AlarmChange) -> None:
        _log_alarm(change)
        told: dict[str, object] = {"meter": change.meter, "type": str(change.type), "at": change.at}
        if isinstance(change, Raise):
            self._tell("alarm_opened", {**told, "severity": str(change.severity), "message": change.message})
        else:
            self._tell("alarm_resolved", told)

    def _tell(self, kind: str, body: dict[str, object]) -> None:
        for listener in self._listeners:
            listener(kind, body)

    def _report(self, report: StatusReport) -> None:
        """Log the report and put its table where people find it."""
        shown = {name: getattr(report, name) for name in report.__dataclass_fields__ if name != "worst"}
        _log.info("SYSTEM STATUS REPORT", **shown, worst=[line.name for line in report.worst])
        # A table inside a JSON line is no table.
        file = self._settings.log.file.with_name(_STATUS_FILE)
        with suppress(OSError):
            file.write_text(render(report), encoding="utf-8")

    # ---- what the network monitor asks

    def _watched(self) -> Iterable[Meter]:
        bridge = self.bridge
        return [worker.meter for worker in bridge.workers.values()] if bridge is not None else []

    def _reading(self) -> set[MeterId]:
        """Meters whose newest poll gave a reading, no longer ago than a few of their periods."""
        bridge = self.bridge
        now = time.monotonic()
        workers = bridge.workers if bridge is not None else {}
        return {id_ for id_, worker in workers.items() if worker.is_reading(now)}

    # ---- the database

    async def _record(self, repository: MeterRepository, alarms: AlarmRepository) -> None:
        """Write who was seen, who failed and which alarms changed, now and then, all meters together."""
        while True:
            await asyncio.sleep(_RECORD_INTERVAL)
            if self._outbox is not None and self._publisher is not None:
                self._delivery_alarms.look(self._outbox.stats(), self._publisher.stats(), time.time())
            await self._record_now(repository, alarms)

    async def _record_now(self, repository: MeterRepository, alarms: AlarmRepository) -> None:
        due, self._recorded = self._recorded, _Recorded()
        try:
            if due.seen:
                await repository.record_seen(due.seen, round(time.time() * 1000))
            if due.errors:
                await repository.record_errors(due.errors)
            await self.desk.flush(alarms)
        except StoreError as error:
            _log.error("record_failed", reason=str(error))


def _started(part: _Part | None) -> _Part:
    if part is None:
        raise StoreError("the service has not started")
    return part


async def _seal(repository: MeterRepository) -> None:
    """Encrypt what was typed in by hand or adopted; where there is no key, meters whose secrets are readable go on."""
    try:
        sealed = await repository.seal()
    except ConfigurationError as error:
        _log.error("secrets_not_encrypted", reason=str(error))
    else:
        if sealed:
            _log.info("secrets_encrypted", secrets=sealed)


def _log_alarm(change: AlarmChange) -> None:
    if isinstance(change, Raise):
        _log.warning(
            "alarm_opened", meter=change.meter, type=change.type, severity=str(change.severity), reason=change.message
        )
    else:
        _log.info("alarm_resolved", meter=change.meter, type=change.type)


def _process_use() -> ProcessUse:
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        memory = pages * resource.getpagesize()
    except (OSError, IndexError, ValueError):
        # Not Linux: the peak has to do.
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return ProcessUse(time.process_time(), memory)


def _allow_files(wanted: int) -> None:
    # A connection for each meter soon passes the usual soft limit of 1024.
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(f"folder {folder} cannot be made: {error.strerror}") from None
