"""`meterbridge clock`: what time a meter believes it is, and telling it better."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import time
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from meterbridge.cli.meter_command import associated, meter_command
from meterbridge.cli.meter_options import JsonOption
from meterbridge.cli.typed_value import moment
from meterbridge.dlms import AttributeDescriptor, Data, DataType, DateTime, LogicalName
from meterbridge.dlms.cosem import present
from meterbridge.dlms.cosem_time import STATUS_DST
from meterbridge.errors import ConfigurationError, DataAccessError, MeterError, RemoteProtocolError
from meterbridge.meter import DLMSClient

_CLASS, _TIME, _STATUS, _ENABLED = 8, 2, 4, 8
_DEFAULT = "0-0:1.0.0"


@dataclass(frozen=True, slots=True)
class _Shown:
    """A meter's clock, and when by ours it was read (Unix time)."""

    time: DateTime
    status: Any
    dst_enabled: Any
    read_at: float

    @property
    def drift(self) -> float | None:
        """Seconds it is ahead of our clock; None where its time is no single instant."""
        instant = self.time.to_datetime()
        # A clock without a deviation shows local time, and no other is known than this machine's.
        return None if instant is None else round(instant.timestamp() - self.read_at, 2)


@meter_command
def clock(
    meter: DLMSClient,
    to: Annotated[
        str | None, typer.Option("--set", metavar="now|T", help="Set the clock: to ours, or to an ISO 8601 time.")
    ] = None,
    logical_name: Annotated[str, typer.Option("--object", metavar="LN", help="The clock object.")] = _DEFAULT,
    as_json: JsonOption = False,
) -> None:
    """Show a meter's clock: time, deviation, daylight saving, and how far it is from ours; or set it.

    Exit codes are those of `read`.
    """
    try:
        name = LogicalName.parse(logical_name)
    except ValueError as error:
        raise ConfigurationError(str(error)) from None
    when = None if to in (None, "now") else moment(str(to))
    shown = asyncio.run(_clock(meter, name, to is not None, when))
    if as_json:
        typer.echo(json.dumps(_as_json(shown), ensure_ascii=False))
    else:
        _print(shown)


async def _clock(meter: DLMSClient, name: LogicalName, change: bool, when: dt.datetime | None) -> _Shown:
    async with associated(meter):
        shown = await _show(meter, name)
        if not change:
            return shown
        value = _new_time(shown.time, when)
        try:
            await meter.set(AttributeDescriptor(_CLASS, name, _TIME), Data(DataType.OCTET_STRING, value.octets))
        except DataAccessError as error:
            raise DataAccessError(f"the clock cannot be set: {error}", error.result) from None
        return await _show(meter, name)


async def _show(meter: DLMSClient, name: LogicalName) -> _Shown:
    before = time.time()
    [value] = await meter.get([AttributeDescriptor(_CLASS, name, _TIME)])
    # The meter looked at its clock somewhere between question and answer.
    read_at = (before + time.time()) / 2
    if isinstance(value, MeterError):
        raise value
    if isinstance(value, bytes) and len(value) == 12:
        value = DateTime(value)
    if not isinstance(value, DateTime):
        raise RemoteProtocolError(f"the clock shows {value!r}, which is no date-time")
    status, enabled = await meter.get(AttributeDescriptor(_CLASS, name, index) for index in (_STATUS, _ENABLED))
    return _Shown(
        value,
        None if isinstance(status, MeterError) else present(_CLASS, _STATUS, status),
        None if isinstance(enabled, MeterError) else enabled,
        read_at,
    )


def _new_time(held: DateTime, when: dt.datetime | None) -> DateTime:
    """Put a time in the terms the meter keeps its own: the same deviation, the same daylight saving."""
    zone = None if held.deviation is None else dt.timezone(dt.timedelta(minutes=-held.deviation))
    if when is None:
        when = dt.datetime.now(dt.UTC)
    if when.tzinfo is not None:
        # Without a deviation the meter keeps local time, and no other is known than this machine's.
        when = when.astimezone(zone) if zone is not None else when.astimezone().replace(tzinfo=None)
    elif zone is not None:
        when = when.replace(tzinfo=zone)
    return DateTime.from_datetime(when, STATUS_DST if held.daylight_saving else 0)


def _as_json(shown: _Shown) -> dict[str, Any]:
    return {
        "time": present(_CLASS, _TIME, shown.time),
        "deviation": shown.time.deviation,
        "daylight_saving": shown.time.daylight_saving,
        "daylight_savings_enabled": shown.dst_enabled,
        "status": shown.status,
        "drift": shown.drift,
    }


def _print(shown: _Shown) -> None:
    deviation = shown.time.deviation
    enabled = {True: ", changes by itself", False: ", does not change by itself"}.get(shown.dst_enabled, "")
    typer.echo(f"time:            {present(_CLASS, _TIME, shown.time)}")
    typer.echo(f"deviation:       {'not specified' if deviation is None else f'{deviation} min to UTC'}")
    typer.echo(f"daylight saving: {'active' if shown.time.daylight_saving else 'not active'}{enabled}")
    typer.echo(f"status:          {', '.join(shown.status) if shown.status else 'nothing unusual'}")
    drift = shown.drift
    typer.echo(
        "drift:           "
        + ("not known" if drift is None else f"{abs(drift):g} s {'ahead' if drift >= 0 else 'behind'}")
    )
