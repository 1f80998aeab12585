"""MeterCommands: what ThingsBoard asks for, done on the meter's own association, or refused with a reason."""

from __future__ import annotations

import datetime as dt
import json
import time
from collections.abc import Awaitable, Callable
from functools import partial

import structlog

from meterbridge.dlms import LogicalName
from meterbridge.errors import CommandRefused, MeterbridgeError, StoreError
from meterbridge.fleet import Body, HistoryKeeper, MultiMeterBridge
from meterbridge.meter import (
    DLMSClient,
    Failed,
    Interval,
    Polled,
    RelayState,
    load_model,
    read_clock,
    set_clock,
    set_relay,
    time_for,
)
from meterbridge.model import Meter
from meterbridge.store import AuditEntry, AuditRepository
from meterbridge.thingsboard import rpc

_log = structlog.get_logger(__name__)
# Association LN: its secret is nobody's business on the other side.
_SECRETS = {(15, 7)}
# As much as the audit keeps: what could not be understood may be long.
_MOST_LOGGED = 500


class MeterCommands:
    """Does commands.

    Args:
        bridge: has the workers.
        history: reads times back.
        audit: keeps who changed what.
        relay: whether any relay may be switched.
        zone: of meters whose clocks tell no deviation; None is this machine's.
    """

    def __init__(
        self,
        bridge: MultiMeterBridge,
        history: HistoryKeeper,
        audit: AuditRepository,
        relay: bool,
        zone: dt.tzinfo | None,
    ) -> None:
        self._bridge = bridge
        self._history = history
        self._audit = audit
        self._relay = relay
        self._zone = zone

    async def do(self, meter: Meter, command: rpc.Command, origin: str, by: float) -> Body:
        """Do a command; what changes something is written into the audit first.

        Args:
            meter: as configured.
            command: what is wanted.
            origin: who wants it, for the audit.
            by: until when it must have begun, monotonic seconds.

        Raises:
            CommandRefused, ConfigurationError: it is not done.
            MeterError: the meter, or the way to it, failed.
            StoreError: it cannot be written into the audit, so it is not done.
        """
        if isinstance(command, rpc.ReadNow):
            return await self._read_now(meter, by)
        if isinstance(command, rpc.GetValue):
            return await self._get_value(meter, command.what, by)
        name, parameters = rpc.described(command)
        return await self._audited(meter, name, parameters, origin, partial(self._change, meter, command, by))

    async def refuse(self, meter: Meter, call: rpc.Call, refusal: MeterbridgeError, origin: str) -> Body:
        """Refuse what would change something and cannot be understood; it is written into the audit like the rest.

        Args:
            meter: as configured.
            call: as it came.
            refusal: why not.
            origin: who wants it, for the audit.

        Raises:
            MeterbridgeError: always, the refusal.
            StoreError: it cannot be written into the audit.
        """

        async def refused() -> Body:
            raise refusal

        return await self._audited(meter, call.method, call.params, origin, refused)

    async def _audited(
        self, meter: Meter, name: str, parameters: object, origin: str, work: Callable[[], Awaitable[Body]]
    ) -> Body:
        content = json.dumps(parameters)
        entry = AuditEntry(round(time.time() * 1000), meter.id, meter.name, origin, name, content)
        number = await self._audit.add(entry)
        outcome = "broken off"
        try:
            body = await work()
            outcome = "done"
            return body
        except MeterbridgeError as error:
            outcome = f"not done: {error}"
            raise
        finally:
            _log.warning(
                "command", meter=meter.id, name=meter.name, action=name, parameters=content[:_MOST_LOGGED],
                origin=origin, outcome=outcome,
            )  # fmt: skip
            try:
                await self._audit.finish(number, outcome)
            except StoreError as error:
                # What was done is done: the log has it.
                _log.error("audit_not_finished", entry=number, reason=str(error))

    async def _change(self, meter: Meter, command: rpc.Command, by: float) -> Body:
        match command:
            case rpc.SetRelay(on):
                return await self._set_relay(meter, on, by)
            case rpc.SyncClock():
                return await self._bridge.running(meter.id).attend(self._sync_clock, 3, by)
            case rpc.Pause():
                await self._bridge.pause(meter.id)
            case rpc.Resume():
                await self._bridge.resume(meter.id)
            case rpc.Backfill(start, end):
                wanted = self._history.request(meter, Interval(start, end))
                missing = self._history.missing(meter.id, wanted)
                return {"accepted": True, "from": wanted.start, "to": wanted.end, "missing_ms": missing}
        return {"state": str(self._bridge.status(meter.id).state)}

    async def _read_now(self, meter: Meter, by: float) -> Body:
        outcome = await self._bridge.running(meter.id).read_now(by)
        if isinstance(outcome, Polled):
            reading = outcome.reading
            values = {name: rpc.plain(quantity.value) for name, quantity in reading.values.items()}
            return {"ts": reading.ts, "values": values, **({"errors": dict(reading.errors)} if reading.errors else {})}
        if isinstance(outcome, Failed):
            raise CommandRefused(f"the meter cannot be read: {outcome.error}")
        left = max(0.0, outcome.retry_at - time.monotonic())
        raise CommandRefused(f"the meter does not answer; the next try is in {left:.0f} s")

    async def _get_value(self, meter: Meter, what: str, by: float) -> Body:
        measurement = load_model(meter.model).find(what)
        if (measurement.class_id, measurement.attribute) in _SECRETS:
            raise CommandRefused("secrets of a meter are not told")
        quantity = await self._bridge.running(meter.id).attend(lambda client: client.read_measurement(what), 1, by)
        body: Body = {
            "obis": LogicalName.parse(measurement.logical_name).obis,
            "value": rpc.plain(quantity.value),
        }
        return {**body, "unit": quantity.unit} if quantity.unit is not None else body

    async def _set_relay(self, meter: Meter, on: bool, by: float) -> Body:
        if not self._relay:
            raise CommandRefused("setRelay is not allowed: [rpc] allow_relay is off")
        if not meter.relay_allowed:
            raise CommandRefused(f"setRelay is not allowed for {meter.name}: its relay_allowed is off")

        async def switch(client: DLMSClient) -> RelayState:
            return await set_relay(client, on)

        state = await self._bridge.running(meter.id).attend(switch, 3, by)
        if state.on is not None and state.on is not on:
            raise CommandRefused(f"the meter took the command and its relay is still {'off' if on else 'on'}")
        return {"on": on if state.on is None else state.on, "changed": state.was_on is not on}

    async def _sync_clock(self, client: DLMSClient) -> Body:
        before = await read_clock(client, time.time)
        await set_clock(client, time_for(before.time, dt.datetime.now(dt.UTC), self._zone))
        after = await read_clock(client, time.time)
        return {"drift_before_s": before.drift(self._zone), "drift_after_s": after.drift(self._zone)}
