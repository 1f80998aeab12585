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
from meterbridge.dlms import AttributeDescriptor, DateTime, LogicalName
from meterbridge.dlms.cosem import present
from meterbridge.errors import ConfigurationError, MeterError
from meterbridge.meter import ClockTime, DLMSClient, read_clock, set_clock, time_for

_CLASS, _TIME, _STATUS, _ENABLED = 8, 2, 4, 8
_DEFAULT = "0-0:1.0.0"


@dataclass(frozen=True, slots=True)
class _Shown:
    """A meter's clock, and what else it says of it."""

    clock: ClockTime
    status: Any
    dst_enabled: Any

    @property
    def time(self) -> DateTime:
        """What it shows."""
        return self.clock.time


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
        await set_clock(meter, time_for(shown.time, when or dt.datetime.now(dt.UTC)), name)
        return await _show(meter, name)


async def _show(meter: DLMSClient, name: LogicalName) -> _Shown:
    shown = await read_clock(meter, time.time, name)
    status, enabled = await meter.get(AttributeDescriptor(_CLASS, name, index) for index in (_STATUS, _ENABLED))
    return _Shown(
        shown,
        None if isinstance(status, MeterError) else present(_CLASS, _STATUS, status),
        None if isinstance(enabled, MeterError) else enabled,
    )


def _as_json(shown: _Shown) -> dict[str, Any]:
    return {
        "time": present(_CLASS, _TIME, shown.time),
        "deviation": shown.time.deviation,
        "daylight_saving": shown.time.daylight_saving,
        "daylight_savings_enabled": shown.dst_enabled,
        "status": shown.status,
        "drift": shown.clock.drift(),
    }


def _print(shown: _Shown) -> None:
    deviation = shown.time.deviation
    enabled = {True: ", changes by itself", False: ", does not change by itself"}.get(shown.dst_enabled, "")
    typer.echo(f"time:            {present(_CLASS, _TIME, shown.time)}")
    typer.echo(f"deviation:       {'not specified' if deviation is None else f'{deviation} min to UTC'}")
    typer.echo(f"daylight saving: {'active' if shown.time.daylight_saving else 'not active'}{enabled}")
    typer.echo(f"status:          {', '.join(shown.status) if shown.status else 'nothing unusual'}")
    drift = shown.clock.drift()
    typer.echo(
        "drift:           "
        + ("not known" if drift is None else f"{abs(drift):.12g} s {'ahead' if drift >= 0 else 'behind'}")
    )
