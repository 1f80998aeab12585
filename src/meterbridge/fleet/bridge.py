"""MultiMeterBridge: one worker per active meter, each its own world."""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Protocol

import structlog

from meterbridge.errors import CommandRefused, ConfigurationError, MeterNotFound
from meterbridge.fleet.alarms import AlarmDesk
from meterbridge.fleet.worker import MeterWorker, WorkerCounters
from meterbridge.meter import Backoff, Failed, Polled, PollerState, PollOutcome, Trouble
from meterbridge.model import Meter, MeterId, Quantity
from meterbridge.store import LoadedMeters, Severity

_log = structlog.get_logger(__name__)

WORKER_CRASH = "worker_crash"
WORKER_HANG = "worker_hang"
# A restarted worker that lasts as long is taken to be healthy again.
_HEALTHY_AFTER = 60.0
# How long a worker may take to end its poll and say goodbye to its meter.
_FAREWELL = 5.0
# Part of such a time before a poll is broken off.
_PATIENT_PART = 0.8
# Meters compared, or workers made, before the loop may go on: a few milliseconds' worth.
_AT_ONCE = 25


class MeterSource(Protocol):
    """Where meters come from: the store's MeterRepository."""

    async def load_meters(self, active_only: bool = False) -> LoadedMeters:
        """Return the meters, and what is wrong with the others."""


class RunState(enum.StrEnum):
    """What the bridge does with a meter."""

    RUNNING = "running"
    PAUSED = "paused"
    RESTARTING = "restarting"
    """Its worker crashed and is started again after a delay."""


@dataclass(frozen=True, slots=True)
class WorkerStatus:
    """A moment of one meter.

    Args:
        meter: as configured.
        state: what the bridge does with it.
        link: where its poller stands, in words; empty when none runs.
        troubles: types of what is the matter with it, sorted.
        crashes: how often its worker crashed or hung since the bridge started.
        counters: what was done since then; live, do not change.
    """

    meter: Meter
    state: RunState
    link: str
    troubles: tuple[str, ...]
    crashes: int
    counters: WorkerCounters


@dataclass(frozen=True, slots=True)
class MeterTest:
    """Outcome of a connectivity check.

    Args:
        meter: whose.
        ok: whether it gave at least one value.
        connected: whether the association was opened for it, rather than in use already.
        latency: from the request to the whole answer, seconds; None without an answer.
        firmware_version: as the meter says, or None.
        values: quantities by name.
        errors: why, by name, for what could not be read.
        error: why nothing could be read, or None.
    """

    meter: MeterId
    ok: bool
    connected: bool
    latency: float | None
    firmware_version: str | None
    values: dict[str, Quantity]
    errors: dict[str, str]
    error: str | None


@dataclass(frozen=True, slots=True)
class ReloadResult:
    """What a reload did, by meter; `untouched` is a number."""

    added: tuple[MeterId, ...]
    removed: tuple[MeterId, ...]
    changed: tuple[MeterId, ...]
    untouched: int


class _Slot:
    """One meter of the bridge."""

    def __init__(self, meter: Meter, identity: object, worker: MeterWorker) -> None:
        self.meter = meter
        self.identity = identity
        self.worker = worker
        self.task: asyncio.Task[None] | None = None
        self.state = RunState.PAUSED
        self.crashes = 0
        self.started = 0.0
        # Start, stop and a test without a worker take turns: a meter takes one client.
        self.turn = asyncio.Lock()

    def is_running(self) -> bool:
        """Whether its worker has the meter's association, or is about to."""
        return self.state is RunState.RUNNING


def same_meter(meter: Meter) -> object:
    """What of a meter matters to its worker: all but what the service itself writes into the row."""
    return replace(meter, status="active")


class MultiMeterBridge:
    """Runs a worker per active meter; a fault in one never reaches another.

    Args:
        source: where meters come from.
        make_worker: makes a meter's worker.
        make_backoff: makes the delays between restarts of a worker that crashed.
        desk: takes the alarms of workers that crash or hang.
        monotonic: seconds.
        identity: what tells whether a meter's worker must be made anew on reload: compared for equality.
    """

    def __init__(
        self,
        source: MeterSource,
        make_worker: Callable[[Meter], MeterWorker],
        make_backoff: Callable[[], Backoff],
        desk: AlarmDesk,
        monotonic: Callable[[], float],
        identity: Callable[[Meter], object] = same_meter,
    ) -> None:
        self._source = source
        self._make_worker = make_worker
        self._make_backoff = make_backoff
        self._desk = desk
        self._monotonic = monotonic
        self._identity = identity
        self._slots: dict[MeterId, _Slot] = {}
        self._reloading = asyncio.Lock()
        self._stopping = False

    # ---- looking

    @property
    def workers(self) -> dict[MeterId, MeterWorker]:
        """Worker of each meter, the paused ones included."""
        return {meter: slot.worker for meter, slot in self._slots.items()}

    def statuses(self) -> list[WorkerStatus]:
        """Status of every meter, in the order of their ids."""
        troubles: dict[MeterId | None, list[str]] = {}
        for owner, type_ in self._desk.open:
            troubles.setdefault(owner, []).append(type_)
        return [self._status(self._slots[meter], troubles.get(meter, ())) for meter in sorted(self._slots)]

    def status(self, meter: MeterId) -> WorkerStatus:
        """Status of one meter.

        Raises:
            MeterNotFound: the bridge does not have it.
        """
        return self._status(self._slot(meter), [type_ for owner, type_ in self._desk.open if owner == meter])

    def _status(self, slot: _Slot, troubles: Iterable[str]) -> WorkerStatus:
        link = slot.worker.poller.state.value if slot.state is RunState.RUNNING else ""
        return WorkerStatus(slot.meter, slot.state, link, tuple(sorted(troubles)), slot.crashes, slot.worker.counters)

    def _slot(self, meter: MeterId) -> _Slot:
        slot = self._slots.get(meter)
        if slot is None:
            raise MeterNotFound(f"there is no active meter {meter}")
        return slot

    # ---- the whole fleet

    async def load_meters_from_db(self) -> tuple[Meter, ...]:
        """Return the active meters; a row that cannot be used is reported and left out."""
        return self._usable(await self._source.load_meters(active_only=True))

    def _usable(self, loaded: LoadedMeters) -> tuple[Meter, ...]:
        for problem in loaded.problems:
            _log.error("meter_unusable", meter=problem.meter, name=problem.name, reason=problem.text)
        return loaded.meters

    async def start(self) -> None:
        """Start a worker for each active meter.

        Raises:
            StoreError: the database cannot be read.
        """
        meters = await self.load_meters_from_db()
        polled = {meter.id for meter in meters}
        for resting in {owner for owner, _ in self._desk.open if owner is not None and owner not in polled}:
            # Set inactive since the run that told of it.
            self._desk.resolve_all(resting)
        await self._add(meters)

    async def stop(self, deadline: float = 5.0) -> None:
        """Stop all workers, their associations released, within `deadline` seconds."""
        # A restart or reload under way must not start what is being stopped.
        self._stopping = True
        await _end(self._slots.values(), deadline)
        self._slots.clear()

    async def reload(self) -> ReloadResult:
        """Read the meters again: start the added, stop the removed, restart the changed, leave the others alone.

        A meter whose row has become unusable goes on as it was. A paused one stays paused.

        Raises:
            StoreError: the database cannot be read; nothing has changed.
        """
        async with self._reloading:
            loaded = await self._source.load_meters(active_only=True)
            meters = {meter.id: meter for meter in self._usable(loaded)}
            broken = {problem.meter for problem in loaded.problems}
            gone = [meter for meter in self._slots if meter not in meters and meter not in broken]
            new = [meter for id_, meter in meters.items() if id_ not in self._slots]
            changed = []
            for number, meter in enumerate(meters.values(), 1):
                if number % _AT_ONCE == 0:
                    await asyncio.sleep(0)
                slot = self._slots.get(meter.id)
                if slot is not None and self._identity(meter) != slot.identity:
                    changed.append(meter)
            untouched = len(self._slots) - len(gone) - len(changed)
            await asyncio.gather(*(self._remove(meter) for meter in gone), *(self._replace(meter) for meter in changed))
            await self._add(new)
        result = ReloadResult(
            tuple(meter.id for meter in new), tuple(gone), tuple(meter.id for meter in changed), untouched
        )
        _log.info(
            "meters_reloaded", added=len(new), removed=len(gone), changed=len(changed), untouched=result.untouched
        )
        return result

    async def _add(self, meters: Iterable[Meter]) -> None:
        for number, meter in enumerate(meters, 1):
            if number % _AT_ONCE == 0:
                await asyncio.sleep(0)
            if self._stopping:
                return
            worker = self._try_make(meter)
            if worker is not None:
                slot = self._slots[meter.id] = _Slot(meter, self._identity(meter), worker)
                self._run(slot)

    async def _remove(self, meter: MeterId) -> None:
        slot = self._slots[meter]
        async with slot.turn:
            await self._halt(slot)
            del self._slots[meter]
        self._desk.resolve_all(meter)

    async def _replace(self, meter: Meter) -> None:
        slot = self._slots[meter.id]
        async with slot.turn:
            paused = slot.state is RunState.PAUSED
            worker = self._try_make(meter)
            if worker is None:
                return
            await self._halt(slot)
            worker.counters = slot.worker.counters
            slot.meter, slot.identity, slot.worker = meter, self._identity(meter), worker
            self._desk.resolve_all(meter.id)
            if not paused:
                self._run(slot)

    def _make(self, meter: Meter) -> MeterWorker:
        """Make a worker that closes the alarms it finds open, once it sees that they are over."""
        worker = self._make_worker(meter)
        worker.poller.inherited.update(trouble for trouble in Trouble if (meter.id, trouble) in self._desk.open)
        return worker

    def _try_make(self, meter: Meter) -> MeterWorker | None:
        try:
            return self._make(meter)
        except ConfigurationError as error:
            _log.error("meter_unusable", meter=meter.id, name=meter.name, reason=str(error))
            return None

    # ---- one meter

    async def pause(self, meter: MeterId) -> None:
        """Stop polling a meter until `resume`; its association is released first. Lasts until the process ends.

        Raises:
            MeterNotFound: the bridge does not have it.
        """
        slot = self._slot(meter)
        async with slot.turn:
            await self._halt(slot)
            self._desk.resolve_all(meter)

    async def resume(self, meter: MeterId) -> None:
        """Poll a paused meter again; one that is not paused is not disturbed.

        Raises:
            MeterNotFound: the bridge does not have it.
        """
        slot = self._slot(meter)
        async with slot.turn:
            if slot.state is RunState.PAUSED:
                self._renew(slot)

    async def restart(self, meter: MeterId) -> None:
        """End a meter's worker, paused or not, and start a new one that knows nothing of earlier trouble.

        Raises:
            MeterNotFound: the bridge does not have it.
        """
        slot = self._slot(meter)
        async with slot.turn:
            await self._halt(slot)
            self._desk.resolve_all(meter)
            self._renew(slot)

    def running(self, meter: MeterId) -> MeterWorker:
        """Return the worker of a meter that is polled at present.

        Raises:
            MeterNotFound: the bridge does not have it.
            CommandRefused: it is paused, or its worker is being restarted.
        """
        slot = self._slot(meter)
        if slot.state is not RunState.RUNNING:
            why = "is paused" if slot.state is RunState.PAUSED else "is not polled: its worker is being restarted"
            raise CommandRefused(f"the meter {why}")
        return slot.worker

    async def test(self, meter: MeterId, timeout: float = 60.0) -> MeterTest:
        """Read a meter now: over its worker's own association, or over one for the purpose while it is paused.

        Args:
            meter: which.
            timeout: seconds after which it is given up.

        Raises:
            MeterNotFound: the bridge does not have it.
        """
        slot = self._slot(meter)
        try:
            async with asyncio.timeout(timeout):
                while not slot.is_running():
                    async with slot.turn:
                        if self._slots.get(meter) is not slot:
                            raise MeterNotFound(f"there is no active meter {meter}")
                        if slot.is_running():
                            # It was resumed while we waited: there is an association, and a meter takes one.
                            continue
                        worker = self._make_worker(slot.meter)
                        try:
                            return _test_result(slot.meter.id, await worker.poller.poll_once(force=True), worker)
                        finally:
                            await worker.poller.close()
                return _test_result(slot.meter.id, await slot.worker.test(), slot.worker)
        except TimeoutError:
            why = f"no result within {timeout:g} s"
        except ConfigurationError as error:
            why = str(error)
        return MeterTest(meter, False, False, None, None, {}, {}, why)

    # ---- guarding

    def supervise(self, hang_after: Callable[[Meter], float]) -> list[asyncio.Task[None]]:
        """Break off polls that do not end, and resolve alarms of workers that run again; asked now and then.

        Args:
            hang_after: seconds a poll of a meter may take.

        Returns:
            The restarts it began; they end by themselves.
        """
        now = self._monotonic()
        begun: list[asyncio.Task[None]] = []
        for slot in self._slots.values():
            since = slot.worker.busy_since
            # Who waits for a connection does not hang: it is not its turn.
            if slot.state is not RunState.RUNNING or slot.worker.poller.at_gate:
                continue
            if since is not None and now - since > hang_after(slot.meter) and not slot.turn.locked():
                begun.append(asyncio.create_task(self._break_off(slot, now - since)))
            elif (now if since is None else since) - slot.started >= _HEALTHY_AFTER:
                self._desk.resolve(slot.meter.id, WORKER_CRASH)
                self._desk.resolve(slot.meter.id, WORKER_HANG)
        return begun

    async def _break_off(self, slot: _Slot, hung: float) -> None:
        async with slot.turn:
            if slot.state is not RunState.RUNNING:
                return
            _log.error("worker_hangs", meter=slot.meter.id, name=slot.meter.name, seconds=round(hung))
            self._desk.raise_alarm(
                slot.meter.id, WORKER_HANG, Severity.CRITICAL, f"a poll did not end for {hung:.0f} s; worker restarted"
            )
            slot.crashes += 1
            await self._halt(slot, hung=True)
            self._renew(slot)

    def _run(self, slot: _Slot) -> None:
        if self._stopping:
            return
        slot.state = RunState.RUNNING
        slot.started = self._monotonic()
        slot.task = asyncio.create_task(self._guard(slot), name=f"meter {slot.meter.id}")

    def _renew(self, slot: _Slot) -> None:
        """Run a fresh worker: the old one's state is what went wrong, or of another time."""
        fresh = self._make(slot.meter)
        fresh.counters = slot.worker.counters
        slot.worker = fresh
        self._run(slot)

    async def _halt(self, slot: _Slot, *, hung: bool = False) -> None:
        if slot.task is not None:
            await _end([slot], _FAREWELL, hung=hung)
            slot.task = None
            # One that was stopped before its first step has told nobody.
            slot.worker.abandon_tests()
        slot.state = RunState.PAUSED

    async def _guard(self, slot: _Slot) -> None:
        backoff = self._make_backoff()
        while True:
            slot.state = RunState.RUNNING
            slot.started = self._monotonic()
            try:
                await slot.worker.run()
            except Exception as error:  # noqa: BLE001  (the one guard: a bug met by one meter must not stop the others)
                _log.exception("worker_crashed", meter=slot.meter.id, name=slot.meter.name)
                why = f"{type(error).__name__}: {error}"
            else:
                if slot.worker.finishing:
                    return
                why = "it ended"
            slot.crashes += 1
            slot.state = RunState.RESTARTING
            slot.worker.counters.note(WORKER_CRASH, why)
            self._desk.raise_alarm(
                slot.meter.id, WORKER_CRASH, Severity.CRITICAL, f"the worker crashed and is restarted: {why}"
            )
            if self._monotonic() - slot.started >= _HEALTHY_AFTER:
                backoff.succeeded()
            await asyncio.sleep(backoff.failed())
            # A test of this meter may be under way, over an association of its own.
            async with slot.turn:
                fresh = self._try_make(slot.meter)
                if fresh is not None:
                    fresh.counters = slot.worker.counters
                    slot.worker = fresh
                slot.state = RunState.RUNNING


async def _end(slots: Iterable[_Slot], deadline: float, *, hung: bool = False) -> None:
    """Let polls under way end, unless they hang, and associations be released; what has not in time is cut off."""
    patient: list[asyncio.Task[None]] = []
    hasty: list[asyncio.Task[None]] = []
    for slot in slots:
        if slot.task is not None:
            slot.worker.finish()
            # An associated meter is about to answer; nobody waits for one that is being connected or restarted.
            answers = not hung and slot.is_running() and slot.worker.poller.state is PollerState.READY
            (patient if answers else hasty).append(slot.task)
    for task in hasty:
        task.cancel()
    if patient:
        _, late = await asyncio.wait(patient, timeout=deadline * _PATIENT_PART)
        hasty += late
    if not hasty:
        return
    for _ in range(2):
        for task in hasty:
            task.cancel()
        _, late = await asyncio.wait(hasty, timeout=deadline * (1 - _PATIENT_PART))
        hasty = list(late)
        if not hasty:
            return


def _test_result(meter: MeterId, outcome: PollOutcome, worker: MeterWorker) -> MeterTest:
    firmware = worker.poller.firmware_version or None
    if isinstance(outcome, Polled):
        reading = outcome.reading
        return MeterTest(
            meter,
            bool(reading.values),
            outcome.connected,
            outcome.latency,
            firmware,
            dict(reading.values),
            dict(reading.errors),
            None if reading.values else "the meter answered and gave no value",
        )
    why = str(outcome.error) if isinstance(outcome, Failed) else "the meter is being left alone"
    return MeterTest(meter, False, False, None, firmware, {}, {}, why)
