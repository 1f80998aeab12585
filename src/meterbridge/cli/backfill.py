"""`meterbridge backfill`: what a meter kept of a time, read back and delivered, asked for by hand."""

from __future__ import annotations

import datetime as dt
import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)
from sqlalchemy.ext.asyncio import AsyncEngine

from meterbridge.cli.backend import (
    ConfigOption,
    JsonOption,
    MeterArgument,
    RunningService,
    in_database,
    running_service,
    say_no_service,
)
from meterbridge.cli.meter_command import associated
from meterbridge.cli.typed_value import moment
from meterbridge.delivery import Outbox, RouteBook, RouteSettings
from meterbridge.errors import ConfigurationError, DeliveryError
from meterbridge.meter import CounterKeeper, Coverage, DLMSClient, Interval, ProfileHistory, Timeouts, client_of
from meterbridge.model import Meter
from meterbridge.service import open_vault, outbox_limits, route_settings
from meterbridge.settings import Settings, load_settings
from meterbridge.store import AccountRepository, CounterRepository, IntervalRepository, MeterRepository
from meterbridge.thingsboard import telemetry

_LOOK_S = 1.0


@dataclass(slots=True)
class _Done:
    """What was done.

    Args:
        meter: id.
        name: of the meter.
        start: earliest time asked for, ISO 8601.
        end: time up to which was asked, ISO 8601.
        pieces: requests made.
        rows: put into the outbox.
        undated: rows without a time, given up.
    """

    meter: int
    name: str
    start: str
    end: str
    pieces: int = 0
    rows: int = 0
    undated: int = 0


def backfill(
    meter: MeterArgument,
    start: Annotated[str, typer.Option("--from", metavar="T", help="Earliest time, ISO 8601; local without a zone.")],
    end: Annotated[str, typer.Option("--to", metavar="T", help="Time up to which, not included, or now.")] = "now",
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Read back what a meter's load profile holds of a time, and deliver it.

    A service that runs does so between its polls; broken off here, it goes on. Where none runs, the meter is asked
    directly, and what it gives waits in the outbox. Exit codes are those of `read`.
    """
    settings = load_settings(config)
    asked = Interval(_unix_ms(start, settings), _unix_ms(end, settings))
    if asked.start >= asked.end:
        raise ConfigurationError(f"a range that ends at {end} before it begins at {start}")
    service = running_service(settings)
    if service is not None:
        answer = _through(service, service.id_of(meter), asked, shown=not as_json)
        if as_json:
            typer.echo(json.dumps(answer))
        else:
            typer.echo(f"{meter}: read back from {_text(answer['from'])} to {_text(answer['to'])}")
        return
    say_no_service("the meter is asked directly; what it gives waits in the outbox")

    async def work(repository: MeterRepository, engine: AsyncEngine) -> _Done:
        account = await AccountRepository(engine, open_vault(settings.database)).load()
        routes = route_settings(settings.mqtt, settings.delivery, account)
        found = await repository.get(meter)
        polling = settings.polling.for_meter(found.name)
        timeouts = Timeouts(polling.connect_timeout_s, polling.response_timeout_floor_s)
        async with CounterKeeper(CounterRepository(engine)).running() as counters:
            client = client_of(found, timeouts, counters)
            return await _backfill(found, client, IntervalRepository(engine), asked, settings, routes, not as_json)

    done = in_database(settings.database, work)
    if as_json:
        shape = asdict(done)
        typer.echo(json.dumps({"from": shape.pop("start"), "to": shape.pop("end"), **shape}))
    else:
        typer.echo(f"{done.name}: {done.rows} rows from {done.start} to {done.end} are in the outbox")
        if done.undated:
            typer.echo(f"{done.undated} rows without a time were left out", err=True)


def _through(service: RunningService, meter: int, asked: Interval, *, shown: bool) -> dict[str, Any]:
    """Have the service read it back, and wait until it has."""
    path = f"/api/meters/{meter}/backfill"
    answer: dict[str, Any] = service.ask("POST", path, **{"from": asked.start, "to": asked.end})
    span = {"from": answer["from"], "to": answer["to"]}
    columns = (TextColumn("reading back"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), disable=not shown) as progress:
        task = progress.add_task("", total=span["to"] - span["from"])
        while answer["missing_ms"]:
            progress.update(task, completed=span["to"] - span["from"] - answer["missing_ms"])
            time.sleep(_LOOK_S)
            answer = service.ask("GET", path, **span)
        progress.update(task, completed=span["to"] - span["from"])
    return answer


async def _backfill(
    meter: Meter,
    client: DLMSClient,
    intervals: IntervalRepository,
    asked: Interval,
    settings: Settings,
    routes: RouteSettings,
    shown: bool,
) -> _Done:
    if not meter.tb_enabled:
        raise ConfigurationError(f"readings of {meter.name} are not delivered: tb_enabled is off")
    route = RouteBook(routes, lambda _: True).route_for(meter).name
    history = ProfileHistory(meter.id, client, settings.history.zone)
    known = Coverage((await intervals.load()).get(meter.id, []))
    done = _Done(meter.id, meter.name, _text(asked.start), _text(asked.end))
    pieces = list(_pieces(asked, int(settings.history.chunk_s * 1000)))
    settings.outbox.path.parent.mkdir(parents=True, exist_ok=True)
    columns = (TextColumn(meter.name, markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    outbox = await Outbox.open(settings.outbox.path, outbox_limits(settings.outbox), interval_s=0.01)
    try:
        async with associated(client):
            with Progress(*columns, console=Console(stderr=True), disable=not shown) as progress:
                for piece in progress.track(pieces):
                    found = await history.read(piece)
                    ticket = None
                    for reading in found.readings:
                        payload = telemetry(reading)
                        if payload is not None:
                            ticket = outbox.put(meter.id, route, meter.device_name, reading.ts, payload)
                            done.rows += 1
                    if ticket is not None and not await ticket:
                        raise DeliveryError("the outbox could not be written")
                    done.pieces += 1
                    done.undated += found.undated
                    await _note(meter, intervals, known, piece)
    finally:
        await outbox.close()
    return done


async def _note(meter: Meter, intervals: IntervalRepository, known: Coverage, piece: Interval) -> None:
    """Record a piece as complete; what lies before the meter's first reading was never missed, and stays unknown."""
    before = frozenset(known)
    if not before:
        return
    known.add(max(piece.start, min(before).start), piece.end)
    after = frozenset(known)
    await intervals.save({meter.id: (before - after, after - before)})


def _pieces(asked: Interval, span: int) -> Iterator[Interval]:
    for start in range(asked.start, asked.end, span):
        yield Interval(start, min(start + span, asked.end))


def _unix_ms(text: str, settings: Settings) -> int:
    when = dt.datetime.now(dt.UTC) if text == "now" else moment(text)
    zone = settings.history.zone
    if when.tzinfo is None and zone is not None:
        when = when.replace(tzinfo=zone)
    # A naive time's timestamp is by this machine's zone.
    return round(when.timestamp() * 1000)


def _text(ms: int) -> str:
    return dt.datetime.fromtimestamp(ms / 1000, dt.UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
