"""`meterbridge pause|resume|restart|test`: what can be done about one meter now."""

from __future__ import annotations

import asyncio
import json
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text
from sqlalchemy.ext.asyncio import AsyncEngine

from meterbridge.cli.backend import (
    ConfigOption,
    JsonOption,
    MeterArgument,
    Refused,
    in_database,
    running_service,
    say_no_service,
)
from meterbridge.cli.console import console
from meterbridge.cli.exits import UNREACHABLE
from meterbridge.errors import MeterError
from meterbridge.meter import CounterKeeper, Timeouts, client_of
from meterbridge.model import Meter
from meterbridge.settings import Settings, load_settings
from meterbridge.store import CounterRepository, MeterRepository


def pause(meter: MeterArgument, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Stop polling a meter until it is resumed or the service restarts; its association is released."""
    _tell("pause", meter, load_settings(config), as_json)


def resume(meter: MeterArgument, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Poll a paused meter again."""
    _tell("resume", meter, load_settings(config), as_json)


def restart(meter: MeterArgument, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """End a meter's worker and start a new one."""
    _tell("restart", meter, load_settings(config), as_json)


def test(
    meter: MeterArgument,
    timeout: Annotated[float, typer.Option(min=1, max=300, help="Seconds to wait for the whole test.")] = 60.0,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Read a meter now: over the service's association, or over one of its own where no service runs.

    Exit code 0 when it gave at least one value, 3 when not.
    """
    settings = load_settings(config)
    service = running_service(settings)
    if service is not None:
        result = service.ask("POST", f"/api/meters/{service.id_of(meter)}/test", timeout=timeout)
    else:
        say_no_service("the meter is asked directly")

        async def ask(repository: MeterRepository, engine: AsyncEngine) -> dict[str, Any]:
            found = await repository.get(meter)
            async with CounterKeeper(CounterRepository(engine)).running() as counters:
                return await _ask(found, timeout, counters)

        result = in_database(settings.database, ask)
    if as_json:
        typer.echo(json.dumps(result, ensure_ascii=False))
    else:
        _print(result)
    if not result["ok"]:
        raise typer.Exit(UNREACHABLE)


def _tell(what: str, meter: str, settings: Settings, as_json: bool) -> None:
    service = running_service(settings)
    if service is None:
        raise Refused(f"no service runs here, so there is nothing to {what}; meterbridge edit --status keeps it off")
    shape = service.ask("POST", f"/api/meters/{service.id_of(meter)}/{what}")
    typer.echo(json.dumps(shape, ensure_ascii=False) if as_json else f"{shape['name']}: {shape['run_state']}")


async def _ask(meter: Meter, timeout: float, counters: CounterKeeper) -> dict[str, Any]:
    result: dict[str, Any] = {
        "meter": meter.id,
        "ok": False,
        "connected": True,
        "latency_ms": None,
        "firmware_version": None,
        "values": {},
        "errors": {},
        "error": None,
    }
    client = client_of(meter, Timeouts(min(5.0, timeout), timeout), counters)
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(timeout):
            await client.connect()
            begun = loop.time()
            readout = await client.read_measurements(list(client.model.poll))
            result["latency_ms"] = round((loop.time() - begun) * 1000, 1)
    except MeterError as error:
        result["error"] = str(error)
    except TimeoutError:
        result["error"] = f"no result within {timeout:g} s"
    else:
        result["ok"] = bool(readout.values)
        result["values"] = {
            name: {"value": quantity.value, "unit": quantity.unit} for name, quantity in readout.values.items()
        }
        result["errors"] = {name: str(error) for name, error in readout.errors.items()}
    finally:
        await client.disconnect()
    return result


def _print(result: dict[str, Any]) -> None:
    if result["error"]:
        typer.echo(f"failed: {result['error']}")
        return
    table = Table("measurement", "value", "unit")
    for name, quantity in result["values"].items():
        table.add_row(Text(name), Text(str(quantity["value"])), quantity["unit"] or "")
    for name, reason in result["errors"].items():
        table.add_row(Text(name), Text(str(reason), "red"), "")
    console().print(table)
    typer.echo(f"answered in {result['latency_ms']} ms")
