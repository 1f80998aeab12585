"""Meters brought to ThingsBoard one by one: device, a reading sent, the reading seen there, the meter's row changed.

In this order a failure leaves nothing half-done: the row changes last, so doing it again takes up where it broke off.
Only where the service is connected under the token in question must the row come first, for a second connection under
one token throws the first out; the service then sends the reading.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal, Protocol

from meterbridge.delivery import Kind, Route, Row, publish_once
from meterbridge.errors import ConfigurationError, MeterbridgeError, MeterError, ThingsBoardUnreachable
from meterbridge.meter import load_model
from meterbridge.model import Meter, Reading
from meterbridge.thingsboard.bridge_alarms import alarm_attributes
from meterbridge.thingsboard.entities import Entities
from meterbridge.thingsboard.payload import attributes, telemetry
from meterbridge.thingsboard.provisioning import Foundation, MeterDevice, Provisioner
from meterbridge.thingsboard.quantities import polled
from meterbridge.thingsboard.sending import Publish, SharedSending

RouteKind = Literal["device", "gateway", "broker"]
ROUTE_KINDS: tuple[RouteKind, ...] = ("device", "gateway", "broker")
_BROKER = ("127.0.0.1", 1884)
_LOOK_S = 0.5
_ROW = ("tb_enabled", "tb_host", "tb_port", "tb_token", "tb_device_name")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one meter.

    Args:
        meter: which.
        device: its device's name.
        state: `seen` in ThingsBoard, `unseen` so far, `planned` in a dry run, `failed`.
        reason: why not seen, or failed; empty otherwise.
    """

    meter: Meter
    device: str
    state: Literal["seen", "unseen", "planned", "failed"]
    reason: str = ""


class Here(Protocol):
    """Our side of it: the service where it runs, else the database."""

    @property
    def runs(self) -> bool:
        """Whether the service runs."""

    async def reading(self, meter: Meter) -> Reading:
        """Return a reading of a meter, the newest or a new one; MeterError where it gives none."""

    async def store(self, meter: Meter) -> None:
        """Change a meter's row; a running service takes it over."""

    async def open_alarms(self, meter: Meter) -> Mapping[str, tuple[str, str]]:
        """Return severity and message of a meter's open alarms by type."""

    def uses(self, token: str) -> bool:
        """Whether a running service is connected under a token."""


@dataclass(frozen=True, slots=True)
class Mqtt:
    """Where readings go.

    Args:
        host: ThingsBoard, for the routes device and gateway.
        port: its TCP port.
        route_of: the route of a meter as its row will be, given the gateway's token for the route gateway.
        seen_timeout_s: longest wait for a reading to appear.
        publish: sends rows on a connection of its own and waits for their acknowledgement.
    """

    host: str
    port: int
    route_of: Callable[[Meter, str | None], Route]
    seen_timeout_s: float
    publish: Publish = publish_once


@dataclass(frozen=True, slots=True)
class _Target:
    """One meter on its way: its row as it is and as it has to be, its device and the keys to look for."""

    meter: Meter
    wanted: Meter
    device: str
    keys: list[str]


class Rollout:
    """Takes meters to ThingsBoard.

    Args:
        provisioner: of the server.
        entities: told of changes to rows.
        here: our side.
        mqtt: where readings go.
        wall: Unix time, seconds.
        sleep: waits, seconds.
    """

    def __init__(
        self,
        provisioner: Provisioner,
        entities: Entities,
        here: Here,
        mqtt: Mqtt,
        wall: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._provisioner = provisioner
        self._entities = entities
        self._here = here
        self._mqtt = mqtt
        self._wall = wall
        self._sleep = sleep
        self._shared = SharedSending(mqtt.publish)
        self._hand_over = asyncio.Lock()
        self._taken_over: set[str] = set()

    async def meter(self, meter: Meter, kind: RouteKind, foundation: Foundation) -> Outcome:
        """Bring one meter to ThingsBoard.

        Raises:
            ThingsBoardUnreachable: the server is away: there is no sense in going on with other meters.
        """
        name = meter.device_name
        try:
            device = await self._provisioner.device(name, meter.tb_token if kind == "device" else None, foundation)
            return await self._bring(meter, kind, foundation, device)
        except ThingsBoardUnreachable:
            raise
        except MeterbridgeError as error:
            return Outcome(meter, name, "failed", str(error))

    async def _bring(self, meter: Meter, kind: RouteKind, foundation: Foundation, device: MeterDevice) -> Outcome:
        name = meter.device_name
        wanted = self._row(meter, kind, device.token)
        if self._entities.dry_run or device.id is None:
            self._tell_row(meter, wanted, device.id is None and kind == "device")
            return Outcome(meter, name, "planned")
        model = load_model(meter.model)
        keys = [what.key for what in polled([model])] or list(model.poll)
        if wanted == meter and not device.changed and await self._provisioner.newest(device.id, keys) is not None:
            self._tell_row(meter, wanted, False)
            return Outcome(meter, name, "seen")
        token = device.token if kind == "device" else foundation.gateway_token if kind == "gateway" else None
        target = _Target(meter, wanted, device.id, keys)
        if token is not None and kind == "gateway" and self._here.runs and not self._in_use(token):
            # The service takes the gateway's token over with the first meter.
            async with self._hand_over:
                if not self._in_use(token):
                    outcome = await self._by_ourselves(target, kind, foundation)
                    self._taken_over.add(token)
                    return outcome
        if token is not None and self._in_use(token):
            return await self._by_service(target)
        return await self._by_ourselves(target, kind, foundation)

    def _in_use(self, token: str) -> bool:
        return token in self._taken_over or self._here.uses(token)

    async def _by_service(self, target: _Target) -> Outcome:
        meter, name = target.wanted, target.wanted.device_name
        since = round(self._wall() * 1000)
        await self._store(target.meter, meter)

        async def newer() -> bool:
            newest = await self._provisioner.newest(target.device, target.keys)
            return newest is not None and newest >= since

        if await self._appears(newer):
            return Outcome(meter, name, "seen")
        return Outcome(meter, name, "unseen", "the service has sent no reading of it; its log says why")

    async def _by_ourselves(self, target: _Target, kind: RouteKind, foundation: Foundation) -> Outcome:
        meter, name = target.wanted, target.wanted.device_name
        sent, reason = await self._send(meter, kind, foundation)
        if sent is not None:
            keys, ts = list(sent.values), sent.ts
            if not await self._appears(lambda: self._provisioner.has_reading(target.device, keys, ts)):
                waited = f"{self._mqtt.seen_timeout_s:g} s"
                return Outcome(target.meter, name, "failed", f"a reading was sent; ThingsBoard has none after {waited}")
        await self._store(target.meter, meter)
        return Outcome(meter, name, "seen" if sent is not None else "unseen", reason)

    def _row(self, meter: Meter, kind: RouteKind, token: str | None) -> Meter:
        """The meter's row as it has to be."""
        row = replace(meter, tb_enabled=True, tb_device_name=meter.device_name)
        if kind == "broker":
            host, port = (row.tb_host, row.tb_port)
            if meter.tb_token is not None or (host, port) == (self._mqtt.host, self._mqtt.port):
                # It was connected to ThingsBoard itself.
                host, port = _BROKER
            return replace(row, tb_token=None, tb_host=host, tb_port=port)
        row = replace(row, tb_host=self._mqtt.host, tb_port=self._mqtt.port)
        return replace(row, tb_token=token if kind == "device" else None)

    async def _store(self, meter: Meter, wanted: Meter) -> None:
        if wanted != meter:
            await self._here.store(wanted)
        self._tell_row(meter, wanted, False)

    def _tell_row(self, meter: Meter, wanted: Meter, new_token: bool) -> None:
        columns = [name for name in _ROW if getattr(meter, name) != getattr(wanted, name)]
        if new_token and "tb_token" not in columns:
            columns.append("tb_token")
        self._entities.note("meter", meter.name, "update" if columns else "keep", ", ".join(columns))

    async def _send(self, meter: Meter, kind: RouteKind, foundation: Foundation) -> tuple[Reading | None, str]:
        """Send what describes a meter and a reading of it; the reading, or why there is none."""
        route = self._mqtt.route_of(meter, foundation.gateway_token if kind == "gateway" else None)
        now = round(self._wall() * 1000)
        reading: Reading | None = None
        reason = ""
        try:
            reading = await self._here.reading(meter)
        except MeterError as error:
            reason = f"the meter gives no reading: {error}"
        payload = telemetry(reading) if reading is not None else None
        if payload is None:
            reading, reason = None, reason or "the meter gives no value"
        described = [attributes(meter, None, reading.ts if reading is not None else None)]
        described.append(alarm_attributes(await self._here.open_alarms(meter)))
        rows = [
            Row(index, meter.id, route.name, Kind.ATTRIBUTES, meter.device_name, now, content, now)
            for index, content in enumerate(described)
        ]
        if reading is not None and payload is not None:
            rows.append(Row(2, meter.id, route.name, Kind.TELEMETRY, meter.device_name, reading.ts, payload, now))
        send = self._mqtt.publish if kind == "device" else self._shared
        await send(route, rows, self._mqtt.seen_timeout_s)
        return reading, reason

    async def _appears(self, look: Callable[[], Awaitable[bool]]) -> bool:
        until = self._wall() + self._mqtt.seen_timeout_s
        while not await look():
            if self._wall() >= until:
                return False
            await self._sleep(_LOOK_S)
        return True


def unprovisioned(meter: Meter) -> Meter:
    """Return a meter's row without ThingsBoard: nothing of it is delivered any more, for that would make its device."""
    return replace(meter, tb_enabled=False, tb_token=None, tb_device_name=None)


def check_names(meters: Iterable[Meter]) -> None:
    """Check that no two meters have the same device.

    Raises:
        ConfigurationError: the first two that have.
    """
    known: dict[str, Meter] = {}
    for meter in meters:
        other = known.setdefault(meter.device_name, meter)
        if other is not meter:
            raise ConfigurationError(
                f"name conflict: meters {other.name!r} and {meter.name!r} would both be device {meter.device_name!r}"
            )
