"""Every threshold of the specification, on a clock that only the test moves."""

from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meterbridge.meter.policy import (
    AdaptiveTimeout,
    Backoff,
    BackoffSettings,
    BreakerSettings,
    BreakerState,
    CircuitBreaker,
    LinkTrip,
    LinkWatchdog,
    ObjectBackoff,
    RefusedAuthentication,
    SilenceWatchdog,
    StuckAssociation,
)
from meterbridge.settings import PollingSettings


def test_backoff_grows_to_its_maximum_with_full_jitter_and_never_ends() -> None:
    backoff = Backoff(BackoffSettings(1.0, 60.0), random.Random(1))
    bounds = []
    for _ in range(2000):
        bounds.append(backoff.bound)
        assert 0.0 <= backoff.failed() <= bounds[-1]
    assert bounds[:8] == [1, 2, 4, 8, 16, 32, 60, 60]
    assert bounds[-1] == 60
    backoff.succeeded()
    assert backoff.bound == 1


def test_more_than_ten_reconnections_in_an_hour_pause_for_five_minutes() -> None:
    breaker = CircuitBreaker(BreakerSettings())
    now = 1_000_000.0
    assert [breaker.reconnected(now + 60 * n) for n in range(10)] == [False] * 10
    tripped = now + 3599
    assert breaker.reconnected(tripped)
    assert breaker.waits_until(tripped) == tripped + 300
    assert breaker.waits_until(tripped + 299.9) == tripped + 300
    assert breaker.waits_until(tripped + 300) is None
    assert breaker.state is BreakerState.HALF_OPEN


def test_the_hour_slides() -> None:
    breaker = CircuitBreaker(BreakerSettings())
    # One every 6 minutes is ten an hour at any time: allowed for ever.
    assert not any(breaker.reconnected(360.0 * n) for n in range(1000))


def test_a_half_open_breaker_closes_with_a_reading_and_opens_again_without() -> None:
    breaker = CircuitBreaker(BreakerSettings(1, 100.0, 10.0))
    assert not breaker.reconnected(0)
    assert breaker.reconnected(1)
    assert not breaker.succeeded(), "a reading that was under way does not end the pause"
    assert breaker.waits_until(11) is None
    assert breaker.failed(12)
    assert breaker.waits_until(13) == 22
    assert breaker.waits_until(22) is None
    assert breaker.succeeded()
    assert breaker.state is BreakerState.CLOSED
    assert not breaker.reconnected(23), "it begins to count anew"
    assert not breaker.failed(23)
    assert breaker.trips == 2


def test_ten_minutes_without_a_reading_force_a_reconnection_and_again_after_ten_more() -> None:
    watchdog = SilenceWatchdog(600.0, now=50.0)
    assert not watchdog.reading(100.0)
    assert not watchdog.check(699.9)
    assert watchdog.check(700.0)
    assert not watchdog.check(1299.9)
    assert watchdog.check(1300.0)
    assert watchdog.silence(1300.0) == 1200
    assert watchdog.reading(1301.0)
    assert not watchdog.reading(1302.0)
    assert watchdog.due == 1902


def test_fifteen_link_errors_in_a_row_drain_and_fifteen_more_reconnect() -> None:
    watchdog = LinkWatchdog(15)
    trips = [watchdog.damaged() for _ in range(30)]
    assert trips[:14] == [None] * 14
    assert trips[14] is LinkTrip.DRAIN
    assert trips[15:29] == [None] * 14
    assert trips[29] is LinkTrip.RECONNECT
    watchdog.connected()
    assert [watchdog.damaged() for _ in range(15)][-1] is LinkTrip.DRAIN
    assert watchdog.answered()
    assert not watchdog.answered()


def test_an_answer_between_link_errors_starts_the_count_anew() -> None:
    watchdog = LinkWatchdog(15)
    for _ in range(100):
        assert all(watchdog.damaged() is None for _ in range(14))
        assert not watchdog.answered()


@given(st.lists(st.floats(0.001, 60), min_size=1))
def test_the_timeout_stays_between_floor_and_ceiling(latencies: list[float]) -> None:
    timeout = AdaptiveTimeout(6.0, 30.0)
    for latency in latencies:
        timeout.answered(latency)
        assert 6.0 <= timeout.value <= 30.0
        timeout.silent()
        assert 6.0 <= timeout.value <= 30.0


def test_the_timeout_follows_a_slow_meter_and_its_bursts() -> None:
    timeout = AdaptiveTimeout(1.0, 30.0)
    for _ in range(50):
        timeout.answered(0.02)
    assert timeout.value == 1.0
    for _ in range(20):
        timeout.answered(4.5)
    assert 4.5 < timeout.value < 20
    for _ in range(200):
        timeout.answered(0.7)
    assert timeout.value == pytest.approx(1.0)
    for _ in range(9):
        timeout.silent()
    assert timeout.value == 30.0
    timeout.answered(0.7)
    assert timeout.value < 2


def test_an_object_that_keeps_failing_is_asked_less_and_less() -> None:
    objects = ObjectBackoff(2.0, 3600.0)
    names = ("a", "bad", "c")
    asked, now = [], 0.0
    while now < 24 * 3600:
        if "bad" in objects.wanted(names, now):
            asked.append(now)
            objects.failed("bad", now)
        now += 1
    gaps = [after - before for before, after in itertools.pairwise(asked)]
    assert gaps[:5] == [2, 4, 8, 16, 32]
    assert max(gaps) == 3600
    assert len(asked) < 40
    assert objects.succeeded("bad")
    assert objects.wanted(names, now) == names


def test_a_poll_always_asks_for_something() -> None:
    objects = ObjectBackoff(2.0, 3600.0)
    objects.failed("a", 0)
    objects.failed("b", 1)
    assert objects.wanted(("b", "a"), 1.5) == ("a",)


def test_the_second_refusal_in_a_row_waits_out_the_inactivity_timeout() -> None:
    stuck = StuckAssociation(120.0)
    assert stuck.refused() == 0.0
    assert not stuck.accepted()
    assert [stuck.refused() for _ in range(3)] == [0.0, 120.0, 120.0]
    assert stuck.accepted()


def test_refused_credentials_are_tried_less_and_less_often() -> None:
    refused = RefusedAuthentication(300.0, 21_600.0)
    assert not refused.accepted()
    waits = [refused.refused() for _ in range(100)]
    assert waits[:8] == [300, 600, 1200, 2400, 4800, 9600, 19_200, 21_600]
    assert waits[-1] == 21_600
    assert sum(waits[:5]) > 2 * 3600, "a meter that locks at the fifth try within an hour never sees it"
    assert refused.accepted()
    assert not refused.waiting
    assert refused.refused() == 300


def test_the_specification_is_the_default() -> None:
    polling = PollingSettings()
    assert polling.period_s == 1
    assert (polling.breaker_reconnections, polling.breaker_window_s, polling.breaker_pause_s) == (10, 3600, 300)
    assert (polling.silence_s, polling.hdlc_errors) == (600, 15)


def test_single_meters_have_settings_of_their_own() -> None:
    polling = PollingSettings.model_validate({"period_s": 2, "meters": {"Käfer 2": {"silence_s": 60}}})
    own = polling.for_meter("Käfer 2")
    assert (own.period_s, own.silence_s) == (2, 60)
    assert polling.for_meter("other") is polling
    for wrong, said in (
        ({"silence": 60}, "meters.x: silence"),
        ({"silence_s": -1}, "meters.x: silence_s"),
        ({"max_connections": 1}, "for all meters together"),
        ({"backoff_max_s": 0.5}, "must not be below"),
        ({"authentication_retry_max_s": 10}, "must not be below"),
    ):
        with pytest.raises(ValueError, match=said):
            PollingSettings.model_validate({"meters": {"x": wrong}})
