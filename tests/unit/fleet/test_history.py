"""What is read back when: time is an argument, rows are committed when a test says so."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meterbridge.errors import ConfigurationError, DataAccessError, Interrupted, StoreError
from meterbridge.fleet import AlarmDesk, HistoryKeeper, HistoryLimits, MeterHistory
from meterbridge.fleet.pace import Pace
from meterbridge.meter import HistoryPiece, Interval, Polled, ProfileHistory
from meterbridge.model import Meter, MeterId, Quantity, Reading
from tests.unit.fleet.fakes import meter

ONE = MeterId(1)
HOUR = 3_600_000
BEGIN = 500_000 * HOUR


class Ticket:
    def __init__(self) -> None:
        self.callbacks: list[Callable[[bool], None]] = []

    def add_done_callback(self, callback: Callable[[bool], None]) -> None:
        self.callbacks.append(callback)

    def resolve(self, committed: bool) -> None:
        for callback in self.callbacks:
            callback(committed)


class Store:
    def __init__(self) -> None:
        self.held: dict[MeterId, set[Interval]] = {}
        self.fails = False
        self.writes = 0

    async def save(self, changes: Mapping[MeterId, tuple[Collection[Interval], Collection[Interval]]]) -> None:
        if self.fails:
            raise StoreError("away")
        for owner, (gone, new) in changes.items():
            self.held[owner] = (self.held.get(owner, set()) - set(gone)) | set(new)
            self.writes += 1


async def flushed() -> None:
    return


class Site:
    """A keeper on clocks of our own."""

    def __init__(self, **limits: float) -> None:
        self.wall = BEGIN / 1000
        self.monotonic = 0.0
        self.tickets: list[Ticket] = []
        self.delivered: list[Reading] = []
        self.desk = AlarmDesk(lambda: self.wall)
        settings = HistoryLimits(**{"settle": 0.0, "pieces_per_s": 1e6, **limits})  # type: ignore[arg-type]
        self.keeper = HistoryKeeper(settings, self.desk, self.deliver, lambda: self.wall, lambda: self.monotonic)
        self.store = Store()

    def deliver(self, owner: Meter, readings: Sequence[Reading]) -> list[Ticket]:
        self.delivered += readings
        self.tickets.append(Ticket())
        return self.tickets[-1:]

    def live(self, *times: int) -> None:
        for ts in times:
            self.wall = ts / 1000
            self.keeper.read(ONE, ts)

    async def save(self) -> None:
        await self.keeper.save(self.store, flushed, everything=True)

    def holes(self) -> list[Interval]:
        return self.keeper.holes(ONE)


def test_readings_as_far_apart_as_the_gap_make_no_hole_and_further_ones_do() -> None:
    site = Site(gap=300.0)
    site.live(BEGIN, BEGIN + 300_001, BEGIN + 300_001 + 300_002)
    assert site.holes() == [Interval(BEGIN + 300_002, BEGIN + 600_003)]


async def test_a_piece_is_complete_once_it_is_on_disk_and_the_next_waits_for_the_database() -> None:
    site = Site()
    site.live(BEGIN, BEGIN + 10 * HOUR)
    piece = site.keeper.next_piece(ONE, 4 * HOUR)
    assert piece == Interval(BEGIN + 1, BEGIN + 1 + 4 * HOUR)
    site.keeper.hand_on(meter(1), piece, [])
    assert site.keeper.next_piece(ONE, HOUR) is None
    assert len(site.holes()) == 1
    assert site.holes()[0].start == BEGIN + 1
    site.tickets[0].resolve(True)
    assert site.holes() == [Interval(piece.end, BEGIN + 10 * HOUR)]
    assert site.keeper.next_piece(ONE, HOUR) is None
    site.store.fails = True
    with pytest.raises(StoreError):
        await site.save()
    assert site.keeper.next_piece(ONE, HOUR) is None
    site.store.fails = False
    await site.save()
    assert site.keeper.next_piece(ONE, HOUR) == Interval(piece.end, piece.end + HOUR)
    after_a_crash = Site()
    after_a_crash.wall = site.wall
    after_a_crash.keeper.adopt(site.store.held)
    assert after_a_crash.holes() == site.holes()


async def test_a_piece_whose_rows_were_given_up_is_read_again() -> None:
    site = Site()
    site.live(BEGIN, BEGIN + HOUR)
    piece = site.keeper.next_piece(ONE, HOUR)
    assert piece is not None
    site.keeper.hand_on(meter(1), piece, [])
    site.tickets[0].resolve(False)
    assert site.keeper.next_piece(ONE, HOUR) == piece


def test_what_may_still_grow_is_left_to_settle() -> None:
    site = Site(settle=60.0)
    site.live(BEGIN, BEGIN + HOUR)
    assert site.keeper.next_piece(ONE, 24 * HOUR) is None
    site.wall += 61
    assert site.keeper.next_piece(ONE, 24 * HOUR, behind=30.0) is None
    site.wall += 30
    assert site.keeper.next_piece(ONE, 24 * HOUR, behind=30.0) is not None


async def test_what_is_too_old_is_let_go() -> None:
    site = Site(max_age=48 * 3600.0)
    site.live(BEGIN, BEGIN + 2 * HOUR, BEGIN + 49 * HOUR)
    assert site.holes() == [Interval(BEGIN + HOUR, BEGIN + 2 * HOUR), Interval(BEGIN + 2 * HOUR + 1, BEGIN + 49 * HOUR)]
    site.live(BEGIN + 60 * HOUR)
    await site.save()
    assert site.store.held[ONE] == {
        Interval(BEGIN + 2 * HOUR, BEGIN + 2 * HOUR + 1),
        Interval(BEGIN + 49 * HOUR, BEGIN + 49 * HOUR + 1),
        Interval(BEGIN + 60 * HOUR, BEGIN + 60 * HOUR + 1),
    }


async def test_saving_writes_what_changed_and_nothing_twice() -> None:
    site = Site()
    site.live(BEGIN, BEGIN + 1000)
    await site.save()
    await site.save()
    assert (site.store.writes, site.store.held[ONE]) == (1, {Interval(BEGIN, BEGIN + 1001)})


async def test_what_is_asked_for_by_hand_is_a_hole_with_bounds() -> None:
    site = Site(max_age=100 * 3600.0)
    with pytest.raises(ConfigurationError, match="gave no reading"):
        site.keeper.request(meter(1), Interval(BEGIN, BEGIN + HOUR))
    site.live(*range(BEGIN, BEGIN + 10 * HOUR, 60_000))
    asked = site.keeper.request(meter(1), Interval(BEGIN + 3 * HOUR, BEGIN + 4 * HOUR))
    assert site.holes() == [asked] == [Interval(BEGIN + 3 * HOUR, BEGIN + 4 * HOUR)]
    assert site.keeper.missing(ONE, Interval(BEGIN + 3 * HOUR, BEGIN + 5 * HOUR)) == HOUR
    early = site.keeper.request(meter(1), Interval(BEGIN - 5 * HOUR, BEGIN - 3 * HOUR))
    assert site.holes() == [early, asked], "what was neither missed nor asked for is left alone"
    assert site.keeper.request(meter(1), Interval(0, BEGIN + 99 * HOUR)).end == BEGIN + 10 * HOUR - 60_000
    assert site.holes()[0].start == int(site.wall * 1000) - 100 * HOUR
    for impossible in (Interval(0, HOUR), Interval(BEGIN + 20 * HOUR, BEGIN + 21 * HOUR)):
        with pytest.raises(ConfigurationError, match="nothing of that time"):
            site.keeper.request(meter(1), impossible)
    with pytest.raises(ConfigurationError, match="tb_enabled"):
        site.keeper.request(meter(1, tb_enabled=False), early)


# ---- one meter between its polls


class Source:
    def __init__(self, site: Site) -> None:
        self.site = site
        self.offset: float | None = 0.0
        self.error: DataAccessError | None = None
        self.asked: list[Interval] = []
        self.takes = 0.1
        self.exchanges = 1

    async def drift(self, wall: Callable[[], float]) -> float | None:
        return self.offset

    async def read(self, interval: Interval, may_go_on: Callable[[], bool]) -> HistoryPiece:
        self.asked.append(interval)
        for number in range(self.exchanges):
            if number and not may_go_on():
                raise Interrupted("no time was left")
            self.site.monotonic += self.takes
        if self.error is not None:
            raise self.error
        return HistoryPiece(interval, (Reading(ONE, interval.start, {"a": Quantity(1.0, "Wh", "x")}),), 0)


def polled(*, connected: bool = False, latency: float = 0.05) -> Polled:
    return Polled(Reading(ONE, BEGIN, {}), latency, connected)


def chore(site: Site, **changes: object) -> tuple[MeterHistory, Source]:
    source = Source(site)
    return MeterHistory(meter(1), cast(ProfileHistory, source), lambda: True, site.keeper, True), source


async def done(site: Site, work: MeterHistory, left: float = 1.0) -> bool:
    """One turn between two polls, its rows committed and recorded."""
    if not work.due(polled(), left):
        return False
    await work.do()
    for ticket in site.tickets:
        ticket.resolve(True)
    site.tickets.clear()
    await site.save()
    return True


@given(
    hole=st.integers(min_value=1_000, max_value=20 * 24 * HOUR),
    chunk=st.integers(min_value=60, max_value=86_400),
    left=st.floats(min_value=0.7, max_value=60.0),
)
async def test_a_hole_is_read_in_order_without_rest_or_overlap(hole: int, chunk: int, left: float) -> None:
    site = Site(gap=0.5, chunk=float(chunk))
    site.live(BEGIN, BEGIN + hole)
    work, source = chore(site)
    while await done(site, work, left):
        site.monotonic += left
    assert site.holes() == []
    assert source.asked[0].start == BEGIN + 1
    assert source.asked[-1].end == BEGIN + hole
    assert all(a.end == b.start for a, b in zip(source.asked, source.asked[1:], strict=False))
    assert all(interval.end - interval.start <= chunk * 1000 for interval in source.asked)


async def test_the_clock_is_looked_at_first_after_a_connect_and_now_and_then() -> None:
    site = Site(clock_check=3600.0, clock_drift=60.0)
    work, source = chore(site)
    source.offset = -61.0
    assert await done(site, work)
    assert site.desk.open[ONE, "clock_drift"].message == "the meter's clock is 61 s behind of ours"
    assert not await done(site, work)
    source.offset = 2.0
    assert work.due(polled(connected=True), 1.0)
    await work.do()
    assert not site.desk.open
    site.monotonic += 3601
    assert work.due(polled(), 1.0)


async def test_a_profile_that_is_refused_is_asked_for_ever_less_often_and_says_so() -> None:
    site = Site()
    site.live(BEGIN, BEGIN + 10 * HOUR)
    work, source = chore(site)
    assert await done(site, work), "the clock"
    source.error = DataAccessError("1-0:99.1.0: object-undefined", 4)
    for pause in (60.0, 120.0, 240.0):
        assert await done(site, work)
        site.monotonic += pause - 1.0
        assert not await done(site, work)
        site.monotonic += 1.5
    assert "object-undefined" in site.desk.open[ONE, "history_unavailable"].message
    source.error = None
    assert await done(site, work)
    assert not site.desk.open
    assert site.keeper.counters.failures == 3


def test_without_time_to_the_next_poll_nothing_is_begun() -> None:
    site = Site()
    site.live(BEGIN, BEGIN + HOUR)
    work, _ = chore(site)
    assert not work.due(polled(latency=0.3), 0.45)


async def test_a_switched_off_history_still_looks_at_the_clock() -> None:
    site = Site(enabled=False)
    site.live(BEGIN, BEGIN + HOUR)
    work, source = chore(site)
    assert await done(site, work)
    assert not await done(site, work)
    assert source.asked == []


@given(st.floats(min_value=0.001, max_value=0.2), st.floats(min_value=1e-9, max_value=1e-6))
def test_pieces_grow_and_shrink_to_stay_within_the_time_there_is(overhead: float, a_millisecond: float) -> None:
    pace = Pace(24 * HOUR)
    late = 0
    for _ in range(200):
        pace.polled(overhead)
        if pace.fits(1.0):
            seconds = overhead + a_millisecond * pace.span
            late += seconds > 1.0
            pace.took(seconds, 1.0, pace.span)
    # The first may surprise; one that never fits is tried again, ever so rarely.
    assert late <= 4


async def test_pieces_of_all_meters_share_a_rate() -> None:
    site = Site(pieces_per_s=2.0)
    assert [site.keeper.let_through() for _ in range(2)] == [True, False]
    site.monotonic += 0.5
    assert site.keeper.let_through()


async def test_pieces_that_keep_coming_do_not_keep_live_readings_from_being_saved() -> None:
    site = Site()
    site.live(BEGIN, BEGIN + 10 * HOUR)

    async def another_piece() -> None:
        # Asked for anew at each saving, so that one is always due.
        site.keeper.request(meter(2), Interval(BEGIN + 1, BEGIN + 2))

    site.keeper.read(MeterId(2), BEGIN)
    site.keeper.read(MeterId(2), BEGIN + 1000)
    await another_piece()
    task = asyncio.create_task(site.keeper.run(site.store, another_piece, 0.01, lambda error: None))
    async with asyncio.timeout(5):
        while ONE not in site.store.held:
            await asyncio.sleep(0.01)
    task.cancel()


async def test_saving_goes_on_after_a_failure() -> None:
    site = Site()
    site.live(BEGIN)
    site.store.fails = True
    failures: list[StoreError] = []

    def failed(error: StoreError) -> None:
        failures.append(error)
        site.store.fails = False
        site.live(BEGIN + 1000)

    task = asyncio.create_task(site.keeper.run(site.store, flushed, 0.01, failed))
    async with asyncio.timeout(5):
        while ONE not in site.store.held:
            await asyncio.sleep(0.01)
    task.cancel()
    assert len(failures) == 1


async def test_a_piece_that_would_reach_into_the_next_poll_is_broken_off_and_made_shorter() -> None:
    site = Site(chunk=86_400.0)
    site.live(BEGIN, BEGIN + 100 * HOUR)
    work, source = chore(site)
    assert await done(site, work), "the clock"
    while source.asked == [] or source.asked[-1].end - source.asked[-1].start < 8 * HOUR:
        site.monotonic += 1.0
        assert await done(site, work)
    # From now on it takes 40 exchanges of what took one.
    source.exchanges = 40
    begun = site.monotonic
    assert await done(site, work)
    assert site.monotonic - begun <= 1.0, "the exchange that would have come too late was not begun"
    assert site.keeper.counters.interrupted == 1
    assert not site.tickets
    assert site.holes()[0].start == source.asked[-1].start, "what was not read in full is still a hole"
    source.exchanges = 1
    site.monotonic += 1.0
    assert await done(site, work)
    assert source.asked[-1].start == source.asked[-2].start
    assert source.asked[-1].end < source.asked[-2].end


async def test_a_meter_that_minds_being_broken_off_is_not_broken_off_again() -> None:
    site = Site()
    site.live(BEGIN, BEGIN + 100 * HOUR)
    work, source = chore(site)
    assert await done(site, work), "the clock"
    source.exchanges = 20
    assert work.due(polled(), 1.0)
    await work.do()
    assert site.keeper.counters.interrupted == 1
    assert work.due(polled(connected=True), 1.0), "the clock, after a connect"
    await work.do()
    for _ in range(1000):
        if work.due(polled(), 1.0):
            await work.do()
            break
    assert (site.keeper.counters.interrupted, site.keeper.counters.pieces) == (1, 1)


async def test_polls_that_leave_no_time_for_history_are_told_and_not_delayed() -> None:
    site = Site()
    site.live(BEGIN, BEGIN + 10 * HOUR)
    work, source = chore(site)
    looks = 0
    for _ in range(4000):
        if work.due(polled(latency=0.9), 0.1):
            looks += 1
            await work.do()
        site.monotonic += 1.0
    assert looks == 1, "the clock, a check overdue"
    assert source.asked == []
    assert "leave no time" in site.desk.open[ONE, "history_unavailable"].message
    assert work.due(polled(), 1.0) is False, "slow a moment ago"
    for _ in range(100):
        site.monotonic += 1.0
        await done(site, work)
    assert source.asked
    assert (ONE, "history_unavailable") not in site.desk.open
