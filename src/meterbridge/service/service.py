"""Service: starts, reloads and stops the whole, in the order that loses nothing."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Coroutine, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import structlog
from sqlalchemy.ext.asyncio import AsyncEngine

from meterbridge.delivery import (
    Connected,
    DeliveryAlarms,
    Event,
    Heard,
    Outbox,
    OutboxStats,
    Publisher,
    PublisherStats,
    StorageRecovered,
    Stranded,
    damaged_files,
)
from meterbridge.errors import ConfigurationError, MeterNotFound, StoreError
from meterbridge.fleet import (
    AlarmDesk,
    CommandLimits,
    EnergyWatch,
    FleetMonitor,
    Histogram,
    HistoryKeeper,
    MonitorLimits,
    MultiMeterBridge,
    NetworkLimits,
    NetworkMonitor,
    ReloadResult,
    StatusReport,
    WorkerStatus,
    choose_pinger,
    render,
)
from meterbridge.meter import CounterKeeper
from meterbridge.model import Meter, MeterId, Reading
from meterbridge.service.commands import MeterCommands
from meterbridge.service.counters import ServiceCounters
from meterbridge.service.destinations import Destinations
from meterbridge.service.hearing import Hearing
from meterbridge.service.limits import history_limits, line_limits, open_vault, outbox_limits, route_settings
from meterbridge.service.machine import Hold, allow_files, make_folder, process_use, room_for_meters
from meterbridge.service.making import WorkerMaker
from meterbridge.service.mirror import AlarmMirror
from meterbridge.service.outgoing import Outgoing
from meterbridge.service.recorder import Recorder
from meterbridge.service.reports import Announcements, FleetReports, Listener
from meterbridge.service.roster import Roster
from meterbridge.service.shared import SharedSettings
from meterbridge.settings import Settings
from meterbridge.store import (
    AccountRepository,
    AlarmChange,
    AlarmRepository,
    AuditRepository,
    CounterRepository,
    IntervalRepository,
    MeterRepository,
    MetricsRepository,
    OverrideRepository,
    Overrides,
    Severity,
    open_database,
)
from meterbridge.store.engine import database_url, sqlite_file

_log = structlog.get_logger(__name__)
_Part = TypeVar("_Part")
_RECORD_INTERVAL = 5.0
# A crash makes a hole of as much; what is shorter than the gap of [history] is none.
_INTERVALS_INTERVAL = 60.0
# Seconds that the database is given when the service stops.
_LAST_WRITES = 2.0
_STATUS_FILE = "status.txt"
TOO_FEW_FILES = "too_few_files"
"""Alarm of the installation: the system does not allow the open files that its meters' connections take."""
# Seconds that the thread of the loop waits at most for the interpreter: with the usual 5 ms, while the publisher works
# through a window, every poll that falls due begins so much later.
_SWITCH_INTERVAL = 0.001


class Service:
    """The whole of it: database, outbox, publishers, fleet.

    Args:
        settings: validated.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._holds: list[Hold] = []
        self._engine: AsyncEngine | None = None
        self._repository: MeterRepository | None = None
        self._alarms: AlarmRepository | None = None
        self._outbox: Outbox | None = None
        self._publisher: Publisher | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._lateness = Histogram()
        self._announcements = Announcements()
        self.desk = AlarmDesk(time.time, self._alarm_changed, self._announcements.alarm_repeated)
        self._delivery_alarms = DeliveryAlarms(
            self.desk, settings.delivery.route_down_after_s, settings.delivery.backlog_alarm_s
        )
        self.counters = ServiceCounters()
        self._destinations = Destinations()
        self._outgoing = Outgoing(self._destinations, self.counters, settings.thingsboard.service_name)
        self._mirror = AlarmMirror(self._outgoing, lambda: self._destinations.common, lambda: round(time.time() * 1000))
        self._energy = EnergyWatch(self.desk, settings.thingsboard.energy_settle_s)
        self.history = HistoryKeeper(
            history_limits(settings.history), self.desk, self._outgoing.history, time.time, time.monotonic
        )
        self.roster = Roster()
        self._recorder = Recorder(self.desk, self.roster)
        self._reports = FleetReports(
            self._outgoing, self.history, self.desk, self._recorder, self._announcements, self.counters, self._energy
        )
        self._overrides: dict[MeterId, Overrides] = {}
        self._maker: WorkerMaker | None = None
        self._shared: SharedSettings | None = None
        self._hearing: Hearing | None = None
        self.bridge: MultiMeterBridge | None = None
        self.monitor: FleetMonitor | None = None
        self.network: NetworkMonitor | None = None
        self.broken = asyncio.Event()
        self.started_at = 0
        self._room = settings.polling.max_connections

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

    @property
    def not_heard(self) -> int:
        """Messages of servers that were too large, or came too fast to be looked at."""
        return self._publisher.dropped if self._publisher is not None else 0

    @property
    def latest(self) -> dict[MeterId, Reading]:
        """Newest reading of each meter that gave one."""
        return self._reports.latest

    def listen(self, listener: Listener) -> None:
        """Have a listener told of readings, failures and alarms; it must return at once."""
        self._announcements.add(listener)

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
        self.started_at = round(time.time() * 1000)
        sys.setswitchinterval(_SWITCH_INTERVAL)
        make_folder(settings.outbox.path.parent)
        self._hold_file(settings.outbox.path)
        files = allow_files(settings.polling.max_connections)
        self._room = room_for_meters(files, settings.polling.max_connections)
        self._engine = await open_database(settings.database.url)
        if (file := sqlite_file(database_url(settings.database.url))) is not None and str(file) != ":memory:":
            self._hold_file(file)
        self._repository = MeterRepository(self._engine, open_vault(settings.database))
        await _seal(self._repository, AccountRepository(self._engine, open_vault(settings.database)))
        await self._choose_routes()
        self._alarms = AlarmRepository(self._engine)
        self.desk.adopt(await self._alarms.open_alarms())
        earlier = list(self.desk.open)
        self._mirror.adopt(self.desk.open.items())
        self._energy.adopt(self.desk.open, round(time.time() * 1000))
        await self._destinations.rehome(self._repository, settings.outbox.path)
        self._outbox = await Outbox.open(
            settings.outbox.path,
            outbox_limits(settings.outbox),
            self._delivery_event,
            interval_s=settings.outbox.commit_interval_ms / 2000,
        )
        self._delivery_alarms.adopt(
            earlier, time.time(), self._outbox.stats().losses, damaged_files(settings.outbox.path)
        )
        self._publisher = Publisher(
            self._outbox,
            line_limits(settings.mqtt, settings.delivery),
            self._delivery_event,
            self._outgoing.acknowledged,
            on_heard=self._heard,
        )
        self._publisher.start()
        self._outgoing.outbox, self._destinations.publisher = self._outbox, self._publisher
        await self._destinations.settle(self._repository, self._outbox)
        intervals = IntervalRepository(self._engine)
        self.history.adopt(await intervals.load())
        counters = CounterKeeper(
            CounterRepository(self._engine), lambda error: _log.error("counters_not_kept", reason=str(error))
        )
        self._run("counters", counters.run())
        maker = self._maker = WorkerMaker(
            settings, self._destinations, self.history, self._lateness, self._overrides, counters, self._room
        )
        self.bridge = MultiMeterBridge(
            self._repository,
            lambda meter: maker.worker(meter, self._reports),
            maker.backoff,
            self.desk,
            time.monotonic,
            maker.identity,
        )
        await self._begin_to_hear(self.bridge, maker, self._engine)
        await self.bridge.start()
        self._look_at_room()
        await self.roster.load(self._repository)
        self.network = NetworkMonitor(
            self._watched,
            self._reading,
            self.desk,
            NetworkLimits(
                settings.network.ping_interval_s,
                settings.network.ping_timeout_s,
                settings.network.outage_after,
                max(1, min(200, files // 8)),
            ),
            await choose_pinger(),
        )
        self.monitor = FleetMonitor(
            self.bridge,
            self.desk,
            MetricsRepository(self._engine),
            self._alarms,
            self.network,
            self._lateness,
            self._outgoing.tally,
            process_use,
            MonitorLimits(
                settings.monitor.interval_s,
                settings.monitor.retention_days * 86_400,
                lambda meter: maker.polling_of(meter).hang_s,
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

    def _look_at_room(self) -> None:
        """Tell of it when the system lets less meters be connected than there are."""
        meters = len(self.fleet.workers)
        if self._room < min(meters, self._settings.polling.max_connections):
            text = (
                f"the limit of open files leaves {self._room} connections at once for {meters} meters: each is given up"
                " after its poll. Raise LimitNOFILE (ulimit -n)."
            )
            self.desk.raise_alarm(None, TOO_FEW_FILES, Severity.WARNING, text)
        else:
            self.desk.resolve(None, TOO_FEW_FILES)

    def _hold_file(self, file: Path) -> None:
        """Keep other services off: two would poll each meter twice, and empty one outbox over two connections."""
        hold = Hold(file.with_name(f"{file.name}.lock"))
        hold.take()
        self._holds.append(hold)

    async def _begin_to_hear(self, bridge: MultiMeterBridge, maker: WorkerMaker, engine: AsyncEngine) -> None:
        """Make what takes commands and shared attributes, before a route brings any."""
        settings, store = self._settings, OverrideRepository(engine)
        self._overrides.update(await store.load())
        longest = min(settings.polling.silence_s, settings.history.gap_s)
        shared = SharedSettings(
            self._overrides, maker, self._outgoing, store, settings.rpc.poll_interval_min_s, longest
        )
        zone = settings.history.zone
        commands = MeterCommands(bridge, self.history, AuditRepository(engine), settings.rpc.allow_relay, zone)
        limits = CommandLimits(settings.rpc.timeout_s, settings.rpc.waiting)
        hearing = Hearing(lambda: self._publisher, self._destinations, bridge, commands, shared, limits, zone)

        def delivers(meter: MeterId) -> None:
            hearing.added(meter)
            self._mirror.delivering()

        self._destinations.listener = delivers
        self._shared, self._hearing = shared, hearing
        self._run("shared attributes", shared.run())
        self._run("attribute requests", hearing.run())

    def _heard(self, messages: Sequence[Heard]) -> None:
        if self._hearing is not None:
            self._hearing.heard(messages)

    async def _choose_routes(self) -> None:
        """Take over what the settings and, where they leave it open, provisioning say."""
        account = None
        try:
            account = await AccountRepository(self.database, open_vault(self._settings.database)).load()
        except ConfigurationError as error:
            _log.error("thingsboard_account_unreadable", reason=str(error))
        settings = self._settings
        self._destinations.use(
            route_settings(settings.mqtt, settings.delivery, account, settings.rpc, settings.thingsboard.service_name)
        )

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
        if self.bridge is None or self._maker is None:
            return None
        old = self._settings
        for name in Settings.model_fields:
            if name != "polling" and getattr(old, name) != getattr(settings, name):
                _log.warning("restart_needed", section=name)
        for key in ("connections_per_s", "max_connections"):
            if getattr(old.polling, key) != getattr(settings.polling, key):
                _log.warning("restart_needed", section="polling", key=key)
        self._settings = old.model_copy(update={"polling": settings.polling})
        self._maker.reload(settings.polling)
        await self._choose_routes()
        if self._outbox is not None:
            await self._destinations.prepare(self.repository, self._outbox)
        result = await self.bridge.reload()
        self._look_at_room()
        for meter in result.removed:
            self._reports.leave(meter)
            if self._shared is not None:
                self._shared.forget(meter)
        if self._outbox is not None:
            await self._destinations.settle(self.repository, self._outbox)
        await self.roster.load(self.repository)
        return result

    async def stop(self) -> None:
        """Stop polling, release the associations, publish what is left where somebody listens, close: within 10 s."""
        for task in self._tasks:
            task.cancel()
        hearing, self._hearing = self._hearing, None
        if hearing is not None:
            await hearing.stop()
        if self.bridge is not None:
            await self.bridge.stop(4.0)
        if self._tasks:
            await asyncio.wait(self._tasks)
        if self._outbox is not None:
            with suppress(TimeoutError):
                # On a full disk it would wait without end.
                await asyncio.wait_for(self._outbox.flush(), 1.0)
                # Nor does a database behind a dead network hold up what comes after.
                await asyncio.wait_for(self._save_history(self._outbox), _LAST_WRITES)
            if self._publisher is not None:
                await self._publisher.stop(3.0)
            await self._outbox.close()
        if self._engine is not None:
            try:
                async with asyncio.timeout(_LAST_WRITES):
                    if self._shared is not None:
                        await self._shared.save()
                    if self._repository is not None and self._alarms is not None:
                        await self._recorder.record(self._repository, self._alarms)
            except TimeoutError:
                _log.error("record_failed", reason="the database does not answer")
            await self._engine.dispose()
        for hold in self._holds:
            hold.let_go()
        self._holds.clear()
        _log.info("service_stopped", **{name: getattr(self.counters, name) for name in ServiceCounters.__slots__})

    def _alarm_changed(self, change: AlarmChange) -> None:
        self._announcements.alarm_changed(change)
        self._mirror.changed(change)

    def _report(self, report: StatusReport) -> None:
        """Log the report and put its table where people find it."""
        shown = {name: getattr(report, name) for name in report.__dataclass_fields__ if name != "worst"}
        _log.info("SYSTEM STATUS REPORT", **shown, worst=[line.name for line in report.worst])
        # A table inside a JSON line is no table.
        file = self._settings.log.file.with_name(_STATUS_FILE)
        with suppress(OSError):
            file.write_text(render(report), encoding="utf-8")

    def _delivery_event(self, event: Event) -> None:
        what = type(event).__name__
        told = {name: getattr(event, name) for name in event.__dataclass_fields__}
        told = {name: round(value, 1) if isinstance(value, float) else value for name, value in told.items()}
        if event != Stranded(0, ()):
            good = isinstance(event, (Connected, StorageRecovered))
            (_log.info if good else _log.warning)("delivery", what=what, **told)
        self._delivery_alarms.happened(event, time.time())
        if self._hearing is not None and self._settings.rpc.enabled:
            self._hearing.happened(event)

    async def _save_history(self, outbox: Outbox) -> None:
        try:
            await self.history.save(IntervalRepository(self.database), outbox.flush, everything=True)
        except StoreError as error:
            _log.error("intervals_not_stored", reason=str(error))

    async def _record(self, repository: MeterRepository, alarms: AlarmRepository) -> None:
        """Have the recorder write now and then."""
        unheard = 0
        while True:
            await asyncio.sleep(_RECORD_INTERVAL)
            if self.not_heard > unheard:
                _log.warning("messages_not_heard", messages=self.not_heard - unheard)
                unheard = self.not_heard
            if self._outbox is not None and self._publisher is not None:
                self._delivery_alarms.look(self._outbox.stats(), self._publisher.stats(), time.time())
            await self._recorder.record(repository, alarms)

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


def _started(part: _Part | None) -> _Part:
    if part is None:
        raise StoreError("the service has not started")
    return part


async def _seal(*repositories: MeterRepository | AccountRepository) -> None:
    """Encrypt what was typed in by hand or adopted; where there is no key, meters whose secrets are readable go on."""
    try:
        sealed = sum([await repository.seal() for repository in repositories])
    except ConfigurationError as error:
        _log.error("secrets_not_encrypted", reason=str(error))
    else:
        if sealed:
            _log.info("secrets_encrypted", secrets=sealed)
