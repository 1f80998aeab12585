"""Hearing: what comes back over the routes finds its meter, is done or applied, and answered."""

from __future__ import annotations

import asyncio
import datetime as dt
import itertools
import json
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

import structlog

from meterbridge.delivery import Connected, Disconnected, Event, Heard, Publisher, Saying
from meterbridge.errors import CommandRefused, MeterbridgeError
from meterbridge.fleet import Body, Command, CommandDesk, CommandLimits, MultiMeterBridge, TokenBucket
from meterbridge.model import Meter, MeterId
from meterbridge.service.commands import MeterCommands
from meterbridge.service.destinations import Destinations
from meterbridge.service.shared import SharedSettings
from meterbridge.thingsboard import rpc

_log = structlog.get_logger(__name__)
# A gateway with thousands of devices asks for their attributes one after the other.
_ASKED_PER_S = 50.0
_READS = (rpc.ReadNow, rpc.GetValue)


class Hearing:
    """Takes what servers send.

    Args:
        publisher: takes what is said to them.
        destinations: knows whose device a name is.
        bridge: has the workers.
        commands: does what is asked.
        shared: takes shared attributes.
        limits: bounds of the commands for one meter.
        zone: of times without one.
    """

    def __init__(
        self,
        publisher: Callable[[], Publisher | None],
        destinations: Destinations,
        bridge: MultiMeterBridge,
        commands: MeterCommands,
        shared: SharedSettings,
        limits: CommandLimits,
        zone: dt.tzinfo | None,
    ) -> None:
        self._publisher = publisher
        self._destinations = destinations
        self._bridge = bridge
        self._commands = commands
        self._shared = shared
        self._zone = zone
        self._desk = CommandDesk(limits, rpc.failure, time.monotonic)
        self._numbers = itertools.count(1)
        self._up: set[str] = set()
        self._to_ask: deque[MeterId] = deque()
        self._wake = asyncio.Event()
        # A flood of nonsense must not flood the log too.
        self._log_bucket = TokenBucket(1.0, 10.0, time.monotonic())

    def heard(self, messages: Sequence[Heard]) -> None:
        """Take messages, on the loop."""
        for message in messages:
            try:
                found = rpc.understood(message.topic, message.payload)
                if isinstance(found, rpc.Call):
                    self._called(message, found)
                elif found is not None:
                    self._shared_attributes(message, found)
            except MeterbridgeError as error:
                self._refused(message, str(error))

    def happened(self, event: Event) -> None:
        """A route came up or went down: what is shared is asked for again with each connection."""
        if isinstance(event, Connected):
            self._up.add(event.route)
            self._ask(self._destinations.on(event.route))
        elif isinstance(event, Disconnected):
            self._up.discard(event.route)

    def added(self, meter: MeterId) -> None:
        """A meter begins to deliver."""
        address = self._destinations.address(meter)
        if address is not None and address[0] in self._up:
            self._ask([meter])

    async def run(self) -> None:
        """Ask for shared attributes, for ever, at a bearable rate."""
        while True:
            await self._wake.wait()
            if not self._to_ask:
                self._wake.clear()
                continue
            self._ask_for_shared(self._to_ask.popleft())
            await asyncio.sleep(1 / _ASKED_PER_S)

    async def stop(self) -> None:
        """Take no more commands, and answer those that wait."""
        await self._desk.stop()

    # ---- within

    def _called(self, message: Heard, call: rpc.Call) -> None:
        if message.retained:
            # It was meant for another time: to do it at each connection is what nobody wants.
            raise CommandRefused("an RPC that the broker had kept")
        meter_id = message.meter
        if meter_id is None:
            meter_id = self._destinations.owner(message.route, call.device or "")
        if meter_id is None:
            if not call.wrapped:
                # Another installation on the same broker may know the device.
                raise CommandRefused(f"an RPC for the device {(call.device or '')[:100]!r}, which is none of ours")
            self._say(message.route, call, rpc.failure("there is no active meter of this device name"))
            return
        try:
            meter = self._bridge.status(meter_id).meter
        except MeterbridgeError as error:
            self._say(message.route, call, rpc.failure(str(error)))
            return
        origin = f"{message.route} rpc {call.id}"
        try:
            command = rpc.command(call, time.time(), self._zone)
        except MeterbridgeError as refusal:
            if call.method in rpc.CHANGING:
                # In its turn, so that a flood of them is bounded as any other.
                self._submit(message.route, call, meter, True, partial(self._refuse, meter, call, refusal, origin))
            else:
                self._say(message.route, call, rpc.failure(str(refusal)))
            return
        once = not isinstance(command, _READS)
        self._submit(message.route, call, meter, once, lambda by: self._commands.do(meter, command, origin, by))

    async def _refuse(self, meter: Meter, call: rpc.Call, refusal: MeterbridgeError, origin: str, _: float) -> Body:
        return await self._commands.refuse(meter, call, refusal, origin)

    def _submit(
        self, route: str, call: rpc.Call, meter: Meter, once: bool, work: Callable[[float], Awaitable[Body]]
    ) -> None:
        self._desk.submit(
            meter.id,
            Command(
                call.id,
                json.dumps([call.method, call.params], sort_keys=True),
                work,
                lambda body: self._say(route, call, body),
                once=once,
            ),
        )

    def _shared_attributes(self, message: Heard, found: rpc.SharedAttributes) -> None:
        meter = message.meter
        if meter is None:
            meter = self._destinations.owner(message.route, found.device or "")
        worker = None if meter is None else self._bridge.workers.get(meter)
        if worker is None:
            raise CommandRefused(f"attributes of the device {(found.device or '')[:100]!r}, which is none of ours")
        if found.values:
            self._shared.apply(worker, found.values)

    def _say(self, route: str, call: rpc.Call, body: dict[str, object]) -> None:
        publisher = self._publisher()
        if publisher is not None:
            topic, payload = rpc.answer(call, body)
            publisher.say(route, Saying(topic, payload))

    def _ask(self, meters: Sequence[MeterId]) -> None:
        waiting = set(self._to_ask)
        self._to_ask.extend(meter for meter in meters if meter not in waiting)
        self._wake.set()

    def _ask_for_shared(self, meter: MeterId) -> None:
        address, publisher = self._destinations.address(meter), self._publisher()
        if address is None or publisher is None:
            return
        route, device = address
        kind = route.partition(":")[0]
        if kind == "broker":
            # tb-gateway asks by itself, and the broker keeps what it wrote.
            return
        topic, payload = rpc.asks_for_shared(device if kind == "gateway" else None, next(self._numbers))
        publisher.say(route, Saying(topic, payload, device if kind == "gateway" else None))

    def _refused(self, message: Heard, reason: str) -> None:
        if self._log_bucket.take(time.monotonic()) == 0.0:
            _log.warning("not_understood", route=message.route, topic=message.topic[:200], reason=reason)
