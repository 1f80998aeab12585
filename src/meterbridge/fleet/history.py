"""HistoryKeeper: which stretches of each meter's time are complete, and which piece of the others comes next."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Protocol

from meterbridge.errors import ConfigurationError, StoreError
from meterbridge.fleet.alarms import AlarmDesk
from meterbridge.fleet.gate import TokenBucket
from meterbridge.meter import Coverage, Interval
from meterbridge.model import Meter, MeterId, Reading

_SAVE_SOON = 0.2
_FLUSH_TIMEOUT = 10.0


class Committed(Protocol):
    """Whether rows are on disk, known later: the outbox's ticket."""

    def add_done_callback(self, callback: Callable[[bool], None]) -> None:
        """Call back with True (on disk) or False (given up)."""


class IntervalStore(Protocol):
    """Where intervals are kept: the store's IntervalRepository."""

    async def save(self, changes: Mapping[MeterId, tuple[Collection[Interval], Collection[Interval]]]) -> None:
        """Delete and write intervals by meter, in one transaction."""


Deliver = Callable[[Meter, Sequence[Reading]], Sequence[Committed]]
"""Puts readings into the outbox; returns what tells when they are on disk."""


@dataclass(frozen=True, slots=True)
class HistoryLimits:
    """What is read back, and how gently.

    Args:
        enabled: whether holes are read back at all; the clocks are looked at in any case.
        gap: time without reading that makes a hole, seconds.
        max_age: of a hole that is still read back, seconds.
        chunk: time that one piece spans at most, seconds.
        settle: how long a hole rests before it is read, seconds: the meter's clock may be behind.
        pieces_per_s: read at most, all meters together.
        clock_check: time between two looks at a meter's clock, seconds.
        clock_drift: beyond which the alarm `clock_drift` opens, seconds.
    """

    enabled: bool = True
    gap: float = 300.0
    max_age: float = 30 * 86_400.0
    chunk: float = 14_400.0
    settle: float = 60.0
    pieces_per_s: float = 50.0
    clock_check: float = 3_600.0
    clock_drift: float = 60.0


@dataclass(slots=True)
class HistoryCounters:
    """What was read back since the keeper was made.

    Args:
        pieces: read, of all meters.
        rows: handed to the outbox.
        undated: rows without a time, given up.
        failures: pieces that could not be read.
        interrupted: pieces broken off because a poll was due.
    """

    pieces: int = 0
    rows: int = 0
    undated: int = 0
    failures: int = 0
    interrupted: int = 0


@dataclass(slots=True)
class _Track:
    """One meter's stretches.

    Args:
        coverage: what is complete.
        saved: what of that the database knows.
        under_way: the piece that was read and is not in the database yet.
        on_disk: whether its rows are in the outbox.
    """

    coverage: Coverage = field(default_factory=Coverage)
    saved: frozenset[Interval] = frozenset()
    under_way: Interval | None = None
    on_disk: bool = False


class HistoryKeeper:
    """Knows the holes of every meter. Belongs to one event loop.

    Args:
        limits: what is read back.
        desk: opens and resolves the alarms.
        deliver: hands readings to the outbox.
        wall: Unix time, seconds.
        monotonic: seconds.
    """

    def __init__(
        self,
        limits: HistoryLimits,
        desk: AlarmDesk,
        deliver: Deliver,
        wall: Callable[[], float],
        monotonic: Callable[[], float],
    ) -> None:
        self.limits = limits
        self.desk = desk
        self.deliver = deliver
        self.wall = wall
        self.monotonic = monotonic
        self.counters = HistoryCounters()
        self._bucket = TokenBucket(limits.pieces_per_s, limits.pieces_per_s / 10, monotonic())
        self._tracks: dict[MeterId, _Track] = {}
        self._live: set[MeterId] = set()
        self._unsaved: set[MeterId] = set()
        self._due = asyncio.Event()

    def adopt(self, intervals: Mapping[MeterId, Collection[Interval]]) -> None:
        """Take over what the database holds."""
        for meter, known in intervals.items():
            self._tracks[meter] = _Track(Coverage(known), frozenset(known))

    def read(self, meter: MeterId, ts: int) -> None:
        """A live reading was handed to the outbox.

        Args:
            meter: whose.
            ts: its time, Unix milliseconds.
        """
        track = self._tracks.get(meter)
        if track is None:
            track = self._tracks[meter] = _Track()
        before = track.coverage.end
        near = before is not None and before <= ts <= before + self.limits.gap * 1000
        track.coverage.add(before if near and before is not None else ts, ts + 1)
        self._live.add(meter)

    def holes(self, meter: MeterId) -> list[Interval]:
        """Return what is still to be read back of a meter, oldest first."""
        track = self._tracks.get(meter)
        return [] if track is None else list(track.coverage.gaps(self._horizon()))

    def missing(self, meter: MeterId, asked: Interval) -> int:
        """Return how much of an interval is still to be read back, milliseconds."""
        return sum(max(0, min(h.end, asked.end) - max(h.start, asked.start)) for h in self.holes(meter))

    def request(self, meter: Meter, asked: Interval) -> Interval:
        """Have an interval read back, whether it is complete or not; return what of it can be.

        Raises:
            ConfigurationError: nothing of it can be: too old, not over yet, or of a meter without history.
        """
        track = self._tracks.get(meter.id)
        if not self.limits.enabled or not meter.tb_enabled:
            why = "[history] is not enabled" if meter.tb_enabled else "tb_enabled is off"
            raise ConfigurationError(f"nothing of {meter.name} is read back: {why}")
        if track is None or track.coverage.end is None:
            raise ConfigurationError(f"{meter.name} gave no reading yet: what is missing cannot be known")
        coverage = track.coverage
        wanted = Interval(max(asked.start, self._horizon()), min(asked.end, track.coverage.end - 1))
        if wanted.start >= wanted.end:
            raise ConfigurationError(
                "nothing of that time can be read back: it is older than max_age_days, or not over yet"
            )
        first = next(iter(coverage)).start
        if wanted.start <= first:
            # Bounds it; what lies between it and the first reading was not asked for.
            coverage.add(wanted.start - 1, first)
        coverage.remove(*wanted)
        self._unsaved.add(meter.id)
        self._due.set()
        return wanted

    def next_piece(self, meter: MeterId, span: int, behind: float = 0.0) -> Interval | None:
        """Return what is to be read next of a meter, None for nothing at present.

        Args:
            meter: which.
            span: longest piece, milliseconds.
            behind: by how much the meter's clock is behind ours, seconds: rows come that much later.
        """
        track = self._tracks.get(meter)
        # One piece at a time: while the disk takes none, none is read, and a crash repeats one at most.
        if track is None or track.under_way is not None or len(track.coverage) < 2:
            return None
        settled = int((self.wall() - self.limits.settle - max(0.0, behind)) * 1000)
        for hole in track.coverage.gaps(self._horizon()):
            # The oldest first: it is what the meter overwrites next.
            end = min(hole.end, hole.start + span, settled)
            return Interval(hole.start, end) if end < settled or hole.end <= settled else None
        return None

    def let_through(self) -> bool:
        """Whether one more piece may be read now, of all meters together."""
        return self._bucket.take(self.monotonic()) == 0.0

    def hand_on(self, meter: Meter, piece: Interval, readings: Sequence[Reading]) -> None:
        """Put what was read into the outbox; the piece is complete once all of it is on disk."""
        track = self._tracks[meter.id]
        track.under_way = piece
        tickets = list(self.deliver(meter, readings))
        left = len(tickets)
        lost = False

        def done(committed: bool) -> None:
            nonlocal left, lost
            left -= 1
            lost = lost or not committed
            if left <= 0:
                if lost:
                    track.under_way = None
                    return
                track.on_disk = True
                track.coverage.add(*piece)
                self._unsaved.add(meter.id)
                self._due.set()

        if not tickets:
            done(True)
        for ticket in tickets:
            ticket.add_done_callback(done)
        self.counters.pieces += 1
        self.counters.rows += len(readings)

    # ---- the database

    async def run(
        self,
        store: IntervalStore,
        flush: Callable[[], Awaitable[None]],
        interval: float,
        failed: Callable[[StoreError], None],
    ) -> None:
        """Save for ever: pieces as soon as they are complete, live readings now and then.

        Args:
            store: where to.
            flush: waits until what the outbox was given is on disk.
            interval: between two savings of the live readings, seconds.
            failed: told why saving failed; it is tried again.
        """
        loop = asyncio.get_running_loop()
        all_due = loop.time() + interval
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._due.wait(), max(0.0, all_due - loop.time()))
            self._due.clear()
            everything = loop.time() >= all_due
            if everything:
                all_due = loop.time() + interval
            try:
                await self.save(store, flush, everything)
            except StoreError as error:
                failed(error)
            await asyncio.sleep(_SAVE_SOON)

    async def save(self, store: IntervalStore, flush: Callable[[], Awaitable[None]], everything: bool = False) -> None:
        """Write what has changed, once the readings it stands for are on disk.

        Args:
            store: where to.
            flush: as for `run`; where it takes too long nothing is written, for the next time.
            everything: the newest live readings too.

        Raises:
            StoreError: it could not be written; it stays due.
        """
        if everything:
            self._unsaved |= self._live
            self._live.clear()
        due, self._unsaved = self._unsaved, set()
        horizon = self._horizon()
        current: dict[MeterId, frozenset[Interval]] = {}
        finished: list[_Track] = []
        for meter in due:
            if (track := self._tracks.get(meter)) is not None:
                track.coverage.forget(horizon)
                current[meter] = frozenset(track.coverage)
                if track.on_disk:
                    finished.append(track)
        changes = {
            meter: (self._tracks[meter].saved - intervals, intervals - self._tracks[meter].saved)
            for meter, intervals in current.items()
            if intervals != self._tracks[meter].saved
        }
        try:
            await asyncio.wait_for(flush(), _FLUSH_TIMEOUT)
            await store.save(changes)
        except TimeoutError:
            self._unsaved |= due
            return
        except BaseException:
            self._unsaved |= due
            raise
        for meter, intervals in current.items():
            self._tracks[meter].saved = intervals
        for track in finished:
            track.under_way, track.on_disk = None, False

    def _horizon(self) -> int:
        return int((self.wall() - self.limits.max_age) * 1000)
