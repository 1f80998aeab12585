"""Destinations: on which route each meter's rows leave."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

import structlog

from meterbridge.delivery import Homes, Outbox, Publisher, RouteBook, RouteSettings, rehome
from meterbridge.errors import ConfigurationError
from meterbridge.model import INSTALLATION, Meter, MeterId
from meterbridge.store import MeterRepository

_log = structlog.get_logger(__name__)
# Meters looked at before the loop may go on: a few milliseconds' worth.
_AT_ONCE = 100


class Destinations:
    """Routes of the meters that deliver; the publisher has those that are in use.

    `listener` is told of each meter that begins to deliver.
    """

    def __init__(self) -> None:
        self._settings = RouteSettings()
        self._present: set[MeterId] = set()
        self._known: dict[MeterId, Meter] = {}
        self._book = RouteBook(self._settings, self._present.__contains__)
        # By route and device name, and back.
        self._owners: dict[tuple[str, str], MeterId] = {}
        self._addresses: dict[MeterId, tuple[str, str]] = {}
        # How many meters are on each route that they share.
        self._sharing: Counter[str] = Counter()
        self.publisher: Publisher | None = None
        self.listener: Callable[[MeterId], None] = lambda meter: None

    def use(self, settings: RouteSettings) -> None:
        """Take over whom to connect to; each meter follows when it is added anew, see `identity`."""
        self._settings = settings
        self._book.use(settings)

    def identity(self, meter: Meter) -> object:
        """What a meter's route is made from, besides the meter."""
        return self._book.gateway_token_for(meter) if meter.tb_token is None else None

    def delivering(self, meter: MeterId) -> Meter | None:
        """A meter that delivers, None for another."""
        known = self._known.get(meter)
        return known if known is not None and known.tb_enabled and meter in self._present else None

    def name_of(self, meter: MeterId) -> str:
        """Name of a meter's route."""
        return self._book.name_of(meter)

    @property
    def common(self) -> str | None:
        """Route of what belongs to no meter: one that meters share, the gateway's first; None where there is none."""
        return _common(self._sharing)

    def owner(self, route: str, device: str) -> MeterId | None:
        """The meter that is known on a route under a device name, None where there is none."""
        return self._owners.get((route, device))

    def address(self, meter: MeterId) -> tuple[str, str] | None:
        """Route and device name of a meter, None where it does not deliver."""
        return self._addresses.get(meter)

    def on(self, route: str) -> list[MeterId]:
        """Meters that deliver over a route."""
        return [meter for meter, (name, _) in self._addresses.items() if name == route]

    def add(self, meter: Meter) -> None:
        """Have the publisher serve a meter's route, if it delivers at all."""
        self._known[meter.id] = meter
        if meter.tb_enabled and self.publisher is not None:
            route = self._book.route_for(meter)
            self.publisher.add(route)
            self._present.add(meter.id)
            self._forget(meter.id)
            self._addresses[meter.id] = route.name, meter.device_name
            self._owners[route.name, meter.device_name] = meter.id
            if route.meter is None:
                self._sharing[route.name] += 1
            self.listener(meter.id)

    def _forget(self, meter: MeterId) -> None:
        address = self._addresses.pop(meter, None)
        if address is None:
            return
        if self._owners.get(address) == meter:
            del self._owners[address]
        if address[0] in self._sharing:
            self._sharing -= Counter((address[0],))

    def leave(self, meter: MeterId, told_device: str | None) -> None:
        """Free the route of a meter that is no longer polled; its rows stay in the outbox.

        Args:
            meter: which.
            told_device: the device name ThingsBoard knows it by, None where nothing was told.
        """
        self._known.pop(meter, None)
        if meter not in self._present or self.publisher is None:
            return
        self._present.discard(meter)
        self._forget(meter)
        shared = self._book.name_of(meter)
        own = self._book.forget(meter)
        if own is not None:
            self.publisher.remove(own)
        elif told_device is not None:
            self.publisher.dismiss(shared, told_device)

    async def rehome(self, repository: MeterRepository, outbox: Path) -> None:
        """Let rows of an earlier run follow their meters to the routes these have now."""
        left = await asyncio.to_thread(rehome, outbox, await self._homes(repository))
        for route, rows in left.items():
            _log.warning("outbox_rows_without_meter", route=route, rows=rows)

    async def settle(self, repository: MeterRepository, outbox: Outbox) -> None:
        """Let rows of this run follow their meters to the routes these have now."""
        homes = await self._homes(repository)
        # Also those of meters that go on as they were, because what they became cannot be used.
        outbox.rehome(Homes(homes.wanted, homes.served | {route for route, _ in self._addresses.values()}))

    async def prepare(self, repository: MeterRepository, outbox: Outbox) -> None:
        """Let rows go ahead to where their meters are about to deliver, so that none is overtaken by a younger one."""
        outbox.rehome(await self._homes(repository))

    async def _homes(self, repository: MeterRepository) -> Homes:
        loaded = await repository.load_meters()
        known = (self._addresses.get(problem.meter) for problem in loaded.problems)
        served = {address[0] for address in known if address is not None}
        book = RouteBook(self._settings, lambda _: True)
        wanted: dict[MeterId, str] = {}
        for number, meter in enumerate(loaded.meters, 1):
            if number % _AT_ONCE == 0:
                await asyncio.sleep(0)
            with suppress(ConfigurationError):
                wanted[meter.id] = book.route_for(meter).name
                if meter.tb_enabled and meter.status != "inactive":
                    served.add(wanted[meter.id])
        common = _common(route for route in served if not route.startswith("device:"))
        if common is not None:
            wanted[INSTALLATION] = common
        return Homes(wanted, served)


def _common(shared: Iterable[str]) -> str | None:
    return max(shared, default=None)
