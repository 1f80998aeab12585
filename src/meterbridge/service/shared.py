"""SharedSettings: ThingsBoard's shared attributes hold in place of the configuration, without a reconnect."""

from __future__ import annotations

import asyncio

import structlog

from meterbridge.errors import ConfigurationError, StoreError
from meterbridge.fleet import MeterWorker
from meterbridge.meter import load_model
from meterbridge.model import MeterId
from meterbridge.service.making import WorkerMaker
from meterbridge.service.outgoing import Outgoing
from meterbridge.store import OverrideRepository, Overrides
from meterbridge.thingsboard import shared

_log = structlog.get_logger(__name__)


class SharedSettings:
    """Applies, keeps and tells back what is shared of each meter.

    Args:
        overrides: those in force, by meter; changed here, and read by the maker of workers.
        maker: knows what is configured.
        outgoing: takes what is told back.
        store: keeps them over a restart.
        shortest: interval between polls, seconds.
        longest: another, seconds; what is configured may be longer.
    """

    def __init__(
        self,
        overrides: dict[MeterId, Overrides],
        maker: WorkerMaker,
        outgoing: Outgoing,
        store: OverrideRepository,
        shortest: float,
        longest: float,
    ) -> None:
        self._overrides = overrides
        self._maker = maker
        self._outgoing = outgoing
        self._store = store
        self._shortest = shortest
        self._longest = longest
        self._refusals: dict[MeterId, dict[str, str]] = {}
        self._told: dict[MeterId, bytes] = {}
        self._unsaved: set[MeterId] = set()
        self._due = asyncio.Event()

    def apply(self, worker: MeterWorker, values: dict[str, object]) -> None:
        """Take over shared attributes of a meter; what cannot be stays as it was, and why is told back."""
        meter = worker.meter
        old = self._overrides.get(meter.id, Overrides())
        refusals = self._refusals.setdefault(meter.id, {})
        period, names = old.period, old.measurements
        configured = self._maker.polling_of(meter).period_s
        if "pollInterval" in values:
            longest = max(self._longest, configured)
            try:
                period = shared.poll_interval(values["pollInterval"], min(self._shortest, configured), longest)
                refusals.pop("pollInterval", None)
            except ConfigurationError as error:
                refusals["pollInterval"] = str(error)
        if "measurements" in values:
            try:
                names = shared.measurements(values["measurements"], worker.poller.client.model.find)
                refusals.pop("measurements", None)
            except ConfigurationError as error:
                refusals["measurements"] = str(error)
        new = Overrides(period, names)
        if new != old:
            self._overrides[meter.id] = new
            self._unsaved.add(meter.id)
            self._due.set()
            worker.reschedule(period or configured)
            worker.poller.read_only(names)
            _log.info("shared_attributes", meter=meter.id, name=meter.name, period_s=period, measurements=names)
        for key, reason in refusals.items():
            _log.warning("shared_attribute_refused", meter=meter.id, name=meter.name, key=key, reason=reason)
        polled = names or load_model(meter.model).poll
        told = shared.reported(period or configured, polled, refusals)
        if told != self._told.get(meter.id):
            self._told[meter.id] = told
            self._outgoing.client_attributes(meter, told)

    def forget(self, meter: MeterId) -> None:
        """A meter is no longer polled; what it was told stays in the database."""
        self._told.pop(meter, None)
        self._refusals.pop(meter, None)

    async def run(self) -> None:
        """Save for ever what has changed."""
        while True:
            await self._due.wait()
            self._due.clear()
            await self.save()

    async def save(self) -> None:
        """Save what has changed; what the database refuses is logged, and due again with the next change."""
        due, self._unsaved = self._unsaved, set()
        for meter in due:
            try:
                await self._store.save(meter, self._overrides.get(meter, Overrides()))
            except StoreError as error:
                self._unsaved.add(meter)
                _log.error("overrides_not_stored", meter=meter, reason=str(error))
