"""Our side of provisioning: meters read and changed through the service where it runs, else directly."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any

from sqlalchemy.ext.asyncio import AsyncEngine

from meterbridge.cli.backend import RunningService
from meterbridge.errors import MeterError, MeterNotFound, ResponseTimeout, TransportError
from meterbridge.meter import CounterKeeper, Timeouts, client_of
from meterbridge.model import Meter, Quantity, Reading
from meterbridge.settings import PollingSettings
from meterbridge.store import AlarmRepository, CounterRepository, MeterRepository

_TEST_S = 60.0
_ATTEMPTS, _BUSY_S = 3, 1.0


class Directly:
    """No service runs: the meter is asked, its row written.

    Args:
        meters: the table.
        engine: of the database.
        polling: time-outs.
    """

    runs = False

    def __init__(self, meters: MeterRepository, engine: AsyncEngine, polling: PollingSettings) -> None:
        self._meters = meters
        self._engine = engine
        self._polling = polling

    async def reading(self, meter: Meter) -> Reading:
        """Read a meter over an association of its own; a busy one is tried a few times.

        Raises:
            MeterError: it cannot be read.
        """
        for _ in range(_ATTEMPTS - 1):
            try:
                return await self._read(meter)
            except MeterError as error:
                if not error.retryable:
                    raise
            await asyncio.sleep(_BUSY_S)
        return await self._read(meter)

    async def _read(self, meter: Meter) -> Reading:
        polling = self._polling.for_meter(meter.name)
        timeouts = Timeouts(polling.connect_timeout_s, polling.response_timeout_floor_s)
        async with CounterKeeper(CounterRepository(self._engine)).running() as counters:
            client = client_of(meter, timeouts, counters)
            try:
                async with asyncio.timeout(_TEST_S):
                    await client.connect()
                    readout = await client.read_measurements(list(client.model.poll))
            except TimeoutError:
                raise ResponseTimeout(f"no result within {_TEST_S:g} s") from None
            finally:
                await client.disconnect()
        return Reading(meter.id, round(time.time() * 1000), readout.values)

    async def store(self, meter: Meter) -> None:
        """Write a meter's row."""
        await self._meters.update(meter)

    async def open_alarms(self, meter: Meter) -> Mapping[str, tuple[str, str]]:
        """Return severity and message of a meter's open alarms by type."""
        return {
            alarm.type: (alarm.severity, alarm.message)
            for alarm in await AlarmRepository(self._engine).open_alarms(meter.id)
        }

    def uses(self, token: str) -> bool:
        """Nothing is connected."""
        return False


class ThroughService(Directly):
    """The service runs: it has the readings, and takes over changes at once.

    Args:
        service: its API.
        tokens: under which it is connected.
        meters: the table.
        engine: of the database.
        polling: time-outs.
    """

    runs = True

    def __init__(
        self,
        service: RunningService,
        tokens: set[str],
        meters: MeterRepository,
        engine: AsyncEngine,
        polling: PollingSettings,
    ) -> None:
        super().__init__(meters, engine, polling)
        self._service = service
        self._tokens = tokens

    async def reading(self, meter: Meter) -> Reading:
        """Return the newest reading the service has, else have it read the meter now.

        Raises:
            TransportError: the meter gives none.
        """
        try:
            found = await asyncio.to_thread(self._service.ask, "GET", f"/api/meters/{meter.id}/readings")
        except MeterNotFound:
            path = f"/api/meters/{meter.id}/test"
            found = await asyncio.to_thread(lambda: self._service.ask("POST", path, timeout=_TEST_S))
            if not found["ok"]:
                raise TransportError(str(found["error"] or "no value")) from None
        return _reading(meter, found)

    async def store(self, meter: Meter) -> None:
        """Have the service change a meter's row; its worker goes on with it."""
        change = {
            "tb_enabled": meter.tb_enabled,
            "tb_host": meter.tb_host,
            "tb_port": meter.tb_port,
            "tb_token": meter.tb_token,
            "tb_device_name": meter.tb_device_name,
        }
        await asyncio.to_thread(self._service.ask, "PATCH", f"/api/meters/{meter.id}", change)

    def uses(self, token: str) -> bool:
        """Whether the service is connected under a token."""
        return token in self._tokens


def _reading(meter: Meter, shape: dict[str, Any]) -> Reading:
    values = {name: Quantity(item["value"], item["unit"], "") for name, item in shape["values"].items()}
    return Reading(meter.id, shape.get("ts") or round(time.time() * 1000), values)
