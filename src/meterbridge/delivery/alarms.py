"""Which alarms what happened in delivery opens, and when they are over. Pure: time is an argument."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from meterbridge.delivery.events import (
    Connected,
    Disconnected,
    Dropped,
    Event,
    Quarantined,
    SetAside,
    StorageFailed,
    StorageRecovered,
    Stranded,
)
from meterbridge.delivery.outbox import OutboxStats
from meterbridge.delivery.outbox_file import Loss
from meterbridge.delivery.publisher import PublisherStats
from meterbridge.model import INSTALLATION, MeterId
from meterbridge.store import Severity

OUTBOX_BOUND = "outbox_bound"
OUTBOX_DISK = "outbox_disk"
OUTBOX_CORRUPT = "outbox_corrupt"
QUARANTINED = "delivery_quarantined"
ROUTE_DOWN = "route_down"
BACKLOG = "delivery_backlog"
CONTESTED = "route_contested"
STRANDED = "outbox_stranded"

_CALM_S = 300.0


class Desk(Protocol):
    """Where alarms are opened and resolved."""

    def raise_alarm(self, meter: MeterId | None, type_: str, severity: Severity, message: str) -> None:
        """Open an alarm, or tell an open one anew."""

    def resolve(self, meter: MeterId | None, type_: str) -> None:
        """Close it, if it is open."""


class DeliveryAlarms:
    """Keeps what must be remembered between an alarm's beginning and its end.

    Args:
        desk: where they go.
        down_after_s: how long a route must be down.
        backlog_s: how old the oldest row of a route may become.
    """

    def __init__(self, desk: Desk, down_after_s: float, backlog_s: float) -> None:
        self._desk = desk
        self._down_after = down_after_s
        self._backlog = backlog_s
        self._losses: dict[MeterId, tuple[int, int, float]] = {}
        self._down: dict[str, tuple[float, str, MeterId | None]] = {}
        self._raised: dict[tuple[MeterId | None, str], tuple[Severity, str] | None] = {}
        self._quarantined: dict[MeterId, int] = {}
        self._aside: set[Path] = set()

    def adopt(
        self,
        opened: Iterable[tuple[MeterId | None, str]],
        now: float,
        losses: Mapping[MeterId, Loss] | None = None,
        aside: Iterable[Path] = (),
    ) -> None:
        """Take over what an earlier run left open: it ends as if this run had opened it.

        Args:
            opened: owner and type of each.
            now: Unix seconds.
            losses: what the outbox says was given up, by meter.
            aside: damaged files that are still there.
        """
        self._aside.update(aside)
        for owner, type_ in opened:
            meter = INSTALLATION if owner is None and type_ in (OUTBOX_BOUND, QUARANTINED) else owner
            if type_ == OUTBOX_BOUND and meter is not None:
                loss = (losses or {}).get(meter)
                self._losses[meter] = (0, round(now * 1000), now) if loss is None else (loss.rows, loss.since, now)
            elif type_ == OUTBOX_CORRUPT and not self._aside:
                self._resolve(meter, type_)
            elif type_ == QUARANTINED and meter is not None:
                self._quarantined[meter] = 0
            elif type_ in (OUTBOX_DISK, ROUTE_DOWN, BACKLOG, CONTESTED):
                self._raised[meter, type_] = None

    def happened(self, event: Event, now: float) -> None:
        """Take note of an event; `now` in Unix seconds."""
        match event:
            case Dropped(meter, rows, since, reason):
                known, first, _ = self._losses.get(meter, (0, since, now))
                self._losses[meter] = (known + rows, min(first, since), now)
                self._raise(
                    meter,
                    OUTBOX_BOUND,
                    Severity.CRITICAL,
                    f"{known + rows} readings since {_date(min(first, since))} were given up before their delivery:"
                    f" {_BOUNDS[reason]}.",
                )
            case StorageFailed(reason):
                self._raise(
                    None,
                    OUTBOX_DISK,
                    Severity.CRITICAL,
                    f"The outbox cannot be written ({reason}): readings are kept in memory, and published from there.",
                )
            case StorageRecovered():
                self._resolve(None, OUTBOX_DISK)
            case SetAside(path, reason):
                self._aside.add(Path(path))
                self._raise(
                    None,
                    OUTBOX_CORRUPT,
                    Severity.CRITICAL,
                    f"The outbox was damaged ({reason}); what was set aside is {path}.",
                )
            case Quarantined(meter, device, rows, reason):
                count = self._quarantined[meter] = self._quarantined.get(meter, 0) + rows
                self._raise(
                    meter,
                    QUARANTINED,
                    Severity.WARNING,
                    f"{count} messages of device {device!r} are not taken and lie in quarantine: {reason}.",
                )
            case Stranded(0, _):
                self._resolve(None, STRANDED)
            case Stranded(rows, routes):
                self._raise(
                    None,
                    STRANDED,
                    Severity.WARNING,
                    f"{rows} messages wait for {', '.join(routes[:3])}{' and others' if len(routes) > 3 else ''},"
                    " which no meter delivers to any more.",
                )
            case Disconnected(route, reason, _, meter):
                down_since = self._down.get(route, (now, "", None))[0]
                self._down[route] = (down_since, reason, meter)
            case Connected(route, meter):
                self._down.pop(route, None)

    def look(self, outbox: OutboxStats, routes: Iterable[PublisherStats], now: float) -> None:
        """Open and resolve what depends on time; now and then, `now` in Unix seconds."""
        routes = list(routes)
        served = {route.route for route in routes}
        # One that nobody serves any more is not down.
        self._down = {route: known for route, known in self._down.items() if route in served}
        for (meter, type_), told in self._raised.items():
            # A meter that is paused or changed has all its alarms resolved: these go on.
            if told is not None:
                self._desk.raise_alarm(meter, type_, *told)
        for meter, (_, _, last) in list(self._losses.items()):
            if now - last >= _CALM_S:
                del self._losses[meter]
                self._resolve(meter, OUTBOX_BOUND)
        if self._aside:
            self._aside = {path for path in self._aside if path.exists()}
            if not self._aside:
                self._resolve(None, OUTBOX_CORRUPT)
        if not outbox.failing and self._raised.get((None, OUTBOX_DISK), ()) is None:
            # Of an earlier run: this one writes.
            self._resolve(None, OUTBOX_DISK)
        if outbox.quarantined == 0:
            for meter in self._quarantined:
                self._resolve(meter, QUARANTINED)
            self._quarantined.clear()
        self._by_meter(
            ROUTE_DOWN,
            Severity.CRITICAL,
            [
                (meter, f"{route} is down since {_date(since * 1000)}: {reason}.")
                for route, (since, reason, meter) in sorted(self._down.items())
                if now - since >= self._down_after
            ],
        )
        self._by_meter(
            BACKLOG,
            Severity.WARNING,
            [
                (route.meter, f"The oldest reading for {route.route} has waited since {_date(route.oldest_at)}.")
                for route in routes
                if route.oldest_at is not None and now - route.oldest_at / 1000 >= self._backlog
            ],
        )

        self._by_meter(
            CONTESTED,
            Severity.CRITICAL,
            [
                (
                    route.meter,
                    f"{route.route} was closed {route.contested} times in a row soon after connecting: another client"
                    " seems to use the same token or client identifier; tried less and less often.",
                )
                for route in routes
                if route.contested
            ],
        )

    def _by_meter(self, type_: str, severity: Severity, troubles: list[tuple[MeterId | None, str]]) -> None:
        messages: dict[MeterId | None, list[str]] = {}
        for meter, message in troubles:
            messages.setdefault(meter, []).append(message)
        for meter, lines in messages.items():
            self._raise(meter, type_, severity, " ".join(lines))
        for meter, raised in list(self._raised):
            if raised == type_ and meter not in messages:
                self._resolve(meter, type_)

    def _raise(self, meter: MeterId | None, type_: str, severity: Severity, message: str) -> None:
        meter = None if meter == INSTALLATION else meter
        self._raised[meter, type_] = (severity, message)
        self._desk.raise_alarm(meter, type_, severity, message)

    def _resolve(self, meter: MeterId | None, type_: str) -> None:
        meter = None if meter == INSTALLATION else meter
        self._raised.pop((meter, type_), None)
        self._desk.resolve(meter, type_)


_BOUNDS = {
    "rows": "the outbox is at its bound of rows",
    "octets": "the outbox is at its bound of octets",
    "age": "they were older than the outbox keeps",
    "storage": "the disk refused them and memory was full",
}


def _date(ms: float) -> str:
    moment = datetime.fromtimestamp(ms / 1000, UTC)
    return moment.strftime("%Y-%m-%d %H:%M:%S UTC")
