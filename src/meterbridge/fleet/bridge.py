"""MultiMeterBridge: one worker per active meter, each its own world."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Protocol

import structlog

from meterbridge.errors import ConfigurationError
from meterbridge.fleet.worker import MeterWorker
from meterbridge.meter import Backoff
from meterbridge.model import Meter, MeterId
from meterbridge.store import LoadedMeters

_log = structlog.get_logger(__name__)


class MeterSource(Protocol):
    """Where meters come from: the store's MeterRepository."""

    async def load_meters(self, active_only: bool = False) -> LoadedMeters:
        """Return the meters, and what is wrong with the others."""


class MultiMeterBridge:
    """Runs a worker per active meter; a fault in one never reaches another.

    Args:
        source: where meters come from.
        make_worker: makes a meter's worker.
        make_backoff: makes the delays between restarts of a worker that crashed.
    """

    def __init__(
        self,
        source: MeterSource,
        make_worker: Callable[[Meter], MeterWorker],
        make_backoff: Callable[[], Backoff],
    ) -> None:
        self._source = source
        self._make_worker = make_worker
        self._make_backoff = make_backoff
        self._tasks: dict[MeterId, asyncio.Task[None]] = {}
        self.workers: dict[MeterId, MeterWorker] = {}

    async def load_meters_from_db(self) -> tuple[Meter, ...]:
        """Return the active meters; a row that cannot be used is reported and left out."""
        loaded = await self._source.load_meters(active_only=True)
        for problem in loaded.problems:
            _log.error("meter_unusable", meter=problem.meter, name=problem.name, reason=problem.text)
        return loaded.meters

    async def start(self) -> None:
        """Start a worker for each active meter.

        Raises:
            StoreError: the database cannot be read.
        """
        self._start(await self.load_meters_from_db())

    def _start(self, meters: Iterable[Meter]) -> None:
        for meter in meters:
            try:
                worker = self._make_worker(meter)
            except ConfigurationError as error:
                _log.error("meter_unusable", meter=meter.id, name=meter.name, reason=str(error))
                continue
            self.workers[meter.id] = worker
            self._tasks[meter.id] = asyncio.create_task(self._guard(worker), name=f"meter {meter.id}")

    async def stop(self, deadline: float = 5.0) -> None:
        """Stop all workers, their associations released, within `deadline` seconds."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=deadline)
            for task in late:
                # The first cancellation let it say goodbye to its meter; the meter did not answer.
                task.cancel()
        self._tasks.clear()

    async def _guard(self, worker: MeterWorker) -> None:
        backoff = self._make_backoff()
        while True:
            try:
                await worker.run()
            except Exception:  # noqa: BLE001  (the one guard: a bug met by one meter must not stop the others)
                _log.exception("worker_crashed", meter=worker.meter.id, name=worker.meter.name)
            await asyncio.sleep(backoff.failed())
