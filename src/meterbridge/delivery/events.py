"""Facts that delivery states; alarms and log lines are made of them elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from meterbridge.model import MeterId


@dataclass(frozen=True, slots=True)
class Dropped:
    """Rows of one meter were given up before their delivery.

    Args:
        meter: whose rows.
        rows: how many.
        since: `ts` of the oldest of them, Unix milliseconds.
        reason: `rows`, `octets`, `age` (a bound of the outbox) or `storage` (memory full while the disk refused).
    """

    meter: MeterId
    rows: int
    since: int
    reason: str


@dataclass(frozen=True, slots=True)
class StorageFailed:
    """The outbox cannot write: what is put meanwhile is in memory only."""

    reason: str


@dataclass(frozen=True, slots=True)
class StorageRecovered:
    """The outbox writes again; all that memory held is on disk."""


@dataclass(frozen=True, slots=True)
class SetAside:
    """The outbox file was corrupt: it lies under `path` now and a new one is in use."""

    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class Quarantined:
    """The far side will not take a row, or it cannot be sent; it was put aside."""

    meter: MeterId
    device: str
    rows: int
    reason: str


@dataclass(frozen=True, slots=True)
class Stranded:
    """Rows lie on routes that nobody serves and have nowhere to go; none do any more where `rows` is 0."""

    rows: int
    routes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Connected:
    """The route is up; `meter` is whose it is, None for one that many share."""

    route: str
    meter: MeterId | None = None


@dataclass(frozen=True, slots=True)
class Disconnected:
    """The route is down, or could not be brought up; `delay` seconds until the next try."""

    route: str
    reason: str
    delay: float
    meter: MeterId | None = None


@dataclass(frozen=True, slots=True)
class SubscriptionRefused:
    """The server will not send what it was asked for: nothing comes back over the route."""

    route: str
    reason: str


Event = (
    Dropped
    | StorageFailed
    | StorageRecovered
    | SetAside
    | Quarantined
    | Stranded
    | Connected
    | Disconnected
    | SubscriptionRefused
)
Listener = Callable[[Event], None]
