"""What is known of an installation at one moment: the ground that checks and plans stand on. Frozen values only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from meterbridge.model import MeterId
from meterbridge.store import Alarm, MeterSummary, NetworkSummary


@dataclass(frozen=True, slots=True)
class MeterFact:
    """One configured meter.

    Args:
        id: primary key.
        name: for people.
        host: address or host name.
        port: TCP port.
        status: `active`, `inactive` or `error`.
        last_seen: time of its newest reading, Unix milliseconds, or None.
        last_error: its newest error, perhaps one of long ago, or None.
        server: where its readings go, `host:port`; None where they are not delivered.
        run_state: what the service does with it, None where none runs.
    """

    id: MeterId
    name: str
    host: str
    port: int
    status: str
    last_seen: int | None = None
    last_error: str | None = None
    server: str | None = None
    run_state: str | None = None


@dataclass(frozen=True, slots=True)
class UnusableFact:
    """A row of `meters` that cannot be used, and why."""

    id: MeterId
    name: str
    problem: str


@dataclass(frozen=True, slots=True)
class RouteFact:
    """One way of delivery.

    Args:
        route: its name.
        meter: whose, None for one that many share.
        connected: whether the server answers; None where no service runs to say so.
        reason: why not, empty where it does.
        oldest_at: when the oldest row that waits was put, Unix milliseconds, or None.
        reconnects: connections after the first.
        contested: how often in a row another client seems to have taken its connection away.
    """

    route: str
    meter: MeterId | None
    connected: bool | None
    reason: str = ""
    oldest_at: int | None = None
    reconnects: int = 0
    contested: int = 0


@dataclass(frozen=True, slots=True)
class OutboxFact:
    """What waits to be delivered: rows, octets of their payload, rows put aside, whether the disk refuses them."""

    rows: int
    octets: int
    quarantined: int
    failing: bool = False


@dataclass(frozen=True, slots=True)
class DiskFact:
    """A file system that something of ours lies on.

    Args:
        what: database, outbox, log.
        path: where.
        free: octets.
        total: octets.
    """

    what: str
    path: str
    free: int
    total: int

    @property
    def free_percent(self) -> float:
        """Free space, percent of all."""
        return 100.0 * self.free / self.total if self.total else 0.0


@dataclass(frozen=True, slots=True)
class ProbeFact:
    """Whether a server of the delivery side answered just now.

    Args:
        role: `broker`, `gateway` or `ThingsBoard`.
        where: its address.
        ok: None where it cannot be told.
        told: what was found, in a few words.
    """

    role: str
    where: str
    ok: bool | None
    told: str


@dataclass(frozen=True, slots=True)
class Facts:
    """All of it.

    Args:
        now: Unix milliseconds.
        since: beginning of the window that metrics, events and log lines are of.
        running: whether the service runs.
        started: since when it does, Unix milliseconds; None where it does not, or it is not known.
        meters: every usable one.
        unusable: the others.
        alarms: open ones.
        metrics: of the window, by meter; `network` likewise.
        events: how often what happened between us and each meter.
        reachable: by meter, None where it is not known.
        routes: of delivery.
        outbox: None where there is none yet.
        disks: where data and log lie.
        lines: of the structured log, oldest first: warnings and worse.
        probes: what was asked just now.
    """

    now: int
    since: int
    running: bool
    started: int | None = None
    meters: tuple[MeterFact, ...] = ()
    unusable: tuple[UnusableFact, ...] = ()
    alarms: tuple[Alarm, ...] = ()
    metrics: tuple[MeterSummary, ...] = ()
    network: tuple[NetworkSummary, ...] = ()
    events: Mapping[MeterId, Mapping[str, int]] = field(default_factory=dict)
    reachable: Mapping[MeterId, bool | None] = field(default_factory=dict)
    routes: tuple[RouteFact, ...] = ()
    outbox: OutboxFact | None = None
    disks: tuple[DiskFact, ...] = ()
    lines: tuple[Mapping[str, Any], ...] = ()
    probes: tuple[ProbeFact, ...] = ()

    @property
    def active(self) -> list[MeterFact]:
        """Meters that are to be polled."""
        return [meter for meter in self.meters if meter.status != "inactive"]


@dataclass(frozen=True, slots=True)
class Live:
    """What only a running service knows; as in `Facts`."""

    started: int
    run_states: Mapping[MeterId, str]
    reachable: Mapping[MeterId, bool | None]
    routes: tuple[RouteFact, ...]
    outbox: OutboxFact


@dataclass(frozen=True, slots=True)
class Places:
    """Where an installation's files lie: the database's URL, the outbox, the log. The URL is shown by no repr."""

    database: str = field(repr=False)
    outbox: Path
    log: Path
