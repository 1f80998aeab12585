"""The poller's moves, with a client that does what the test says and a clock that only the test moves."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable
from typing import cast

import pytest

from meterbridge.dlms import Discarded
from meterbridge.errors import (
    AssociationRefused,
    AuthenticationFailed,
    CommandRefused,
    ConnectFailed,
    ConnectionLost,
    DataAccessError,
    LocalProtocolError,
    MeterError,
    ResponseTimeout,
    ServiceError,
)
from meterbridge.meter import (
    Backoff,
    BackoffSettings,
    BreakerSettings,
    DLMSClient,
    DLMSProductionPoller,
    Failed,
    Polled,
    PollerEvent,
    PollerSettings,
    PollerState,
    Readout,
    Recovered,
    Timeouts,
    Tripped,
    Trouble,
    Waiting,
    parse_model,
)
from meterbridge.model import MeterId, Quantity

MODEL = parse_model("two", '[measurements]\na = "3:1-0:1.7.0:2"\nb = "3:1-0:2.7.0:2"\n')


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


class Client:
    """A meter that can be told what to do next; every call is written down."""

    address = "the meter"
    model = MODEL

    def __init__(self) -> None:
        self.timeouts = Timeouts(5.0, 6.0)
        self.connected = False
        self.calls: list[str] = []
        self.connect_error: MeterError | None = None
        self.read_error: MeterError | None = None
        self.refused: dict[str, MeterError] = {}
        self.value: float | None = 1.0

    async def connect(self) -> None:
        self.calls.append("connect")
        if self.connect_error is not None:
            raise self.connect_error
        self.connected = True

    async def disconnect(self) -> None:
        if self.connected:
            self.calls.append("disconnect")
        self.connected = False

    async def read_measurements(self, names: Iterable[str] | None = None) -> Readout:
        asked = tuple(names or self.model.poll)
        self.calls.append("read " + " ".join(asked))
        if self.read_error is not None:
            self.connected = False
            raise self.read_error
        values = {name: Quantity(self.value, "W", name) for name in asked if name not in self.refused}
        return Readout(values, {name: self.refused[name] for name in asked if name in self.refused})

    def resynchronise(self) -> int:
        self.calls.append("resynchronise")
        return 7

    def connection_lost(self, error: ConnectionLost) -> None:
        self.calls.append("lost")
        self.connected = False


class Bench:
    def __init__(self, settings: PollerSettings | None = None) -> None:
        self.clock = Clock()
        self.client = Client()
        self.events: list[PollerEvent] = []
        backoff = Backoff(BackoffSettings(1.0, 60.0), random.Random(7))
        self.poller = DLMSProductionPoller(
            MeterId(1),
            cast(DLMSClient, self.client),
            backoff,
            self.clock,
            lambda: 1.7e9,
            settings,
            listener=self.events.append,
        )

    def told(self, trouble: Trouble) -> list[type[PollerEvent]]:
        return [type(e) for e in self.events if isinstance(e, (Tripped, Recovered)) and e.trouble is trouble]


@pytest.fixture
def bench() -> Bench:
    return Bench()


async def test_one_association_serves_all_polls(bench: Bench) -> None:
    outcomes = [await bench.poller.poll_once() for _ in range(3)]
    assert [isinstance(o, Polled) and o.connected for o in outcomes] == [True, False, False]
    assert bench.client.calls == ["connect", "read a b", "read a b", "read a b"]
    await bench.poller.close()
    assert bench.poller.state is PollerState.IDLE


async def test_it_never_gives_up_and_waits_at_most_a_minute(bench: Bench) -> None:
    bench.client.connect_error = ConnectFailed("nobody there")
    attempts = 0
    for _ in range(3000):
        outcome = await bench.poller.poll_once()
        if isinstance(outcome, Failed):
            attempts += 1
            assert outcome.retry_at - bench.clock.now <= 60
        bench.clock.now += 1
    assert attempts > 60
    assert bench.told(Trouble.CIRCUIT_BREAKER) == [], "a dead meter is not a flapping one"
    assert bench.told(Trouble.CONNECTION_LOSS) == [Tripped]
    assert bench.told(Trouble.SILENCE)[0] is Tripped
    bench.client.connect_error = None
    bench.clock.now += 60
    assert isinstance(await bench.poller.poll_once(), Polled)
    assert bench.told(Trouble.CONNECTION_LOSS) == [Tripped, Recovered]
    assert bench.told(Trouble.SILENCE)[-1] is Recovered
    assert not bench.poller.open_troubles


async def test_the_eleventh_loss_within_an_hour_pauses_for_five_minutes(bench: Bench) -> None:
    await bench.poller.poll_once()
    for _ in range(10):
        bench.client.connected = False
        bench.clock.now += 1
        assert isinstance(await bench.poller.poll_once(), Polled)
    bench.client.connected = False
    tripped = bench.clock.now
    outcome = await bench.poller.poll_once()
    assert outcome == Waiting(tripped + 300)
    assert bench.poller.state is PollerState.PAUSED
    bench.clock.now += 299
    calls = len(bench.client.calls)
    assert isinstance(await bench.poller.poll_once(), Waiting)
    assert len(bench.client.calls) == calls
    bench.clock.now += 1
    bench.client.connect_error = ConnectFailed("still not")
    assert isinstance(await bench.poller.poll_once(), Failed)
    assert bench.poller.state is PollerState.PAUSED, "the probe failed: another pause"
    bench.clock.now += 300
    bench.client.connect_error = None
    assert isinstance(await bench.poller.poll_once(), Polled)
    assert bench.told(Trouble.CIRCUIT_BREAKER) == [Tripped, Tripped, Recovered]


async def test_a_person_may_probe_before_the_pause_is_over() -> None:
    bench = Bench(PollerSettings(BreakerSettings(1, 3600.0, 300.0)))
    await bench.poller.poll_once()
    for _ in range(2):
        bench.client.connected = False
        await bench.poller.poll_once()
    assert bench.poller.state is PollerState.PAUSED
    assert isinstance(await bench.poller.poll_once(force=True), Polled)
    assert bench.told(Trouble.CIRCUIT_BREAKER) == [Tripped, Recovered]


async def test_ten_minutes_without_a_value_force_a_reconnection(bench: Bench) -> None:
    await bench.poller.poll_once()
    bench.client.refused = {name: DataAccessError("hardware fault", 1) for name in MODEL.poll}
    for _ in range(599):
        bench.clock.now += 1
        await bench.poller.poll_once()
    assert bench.client.calls.count("connect") == 1
    bench.clock.now += 1
    await bench.poller.poll_once()
    assert bench.client.calls.count("connect") == 2
    assert bench.told(Trouble.SILENCE) == [Tripped]
    bench.client.refused = {}
    bench.clock.now += 3600
    await bench.poller.poll_once()
    assert bench.told(Trouble.SILENCE)[-1] is Recovered


async def test_null_data_breaks_no_silence(bench: Bench) -> None:
    await bench.poller.poll_once()
    bench.client.value = None
    bench.clock.now += 601
    await bench.poller.poll_once()
    await bench.poller.poll_once()
    assert bench.told(Trouble.SILENCE) == [Tripped]


async def test_silence_cuts_a_pause_short() -> None:
    bench = Bench(PollerSettings(BreakerSettings(1, 3600.0, 3000.0), silence=600.0))
    await bench.poller.poll_once()
    for _ in range(2):
        bench.client.connected = False
        last = await bench.poller.poll_once()
    assert last == Waiting(bench.clock.now + 600)
    bench.clock.now += 600
    assert isinstance(await bench.poller.poll_once(), Polled)


async def test_fifteen_damaged_frames_drain_and_fifteen_more_reconnect(bench: Bench) -> None:
    await bench.poller.poll_once()
    noise = Discarded("wrong FCS", 12)
    for _ in range(100):
        bench.poller.discarded(Discarded("repeated frame", 0, damaged=False))
    for _ in range(14):
        bench.poller.discarded(noise)
    assert "resynchronise" not in bench.client.calls
    bench.poller.discarded(noise)
    assert bench.client.calls[-1] == "resynchronise"
    for _ in range(15):
        bench.poller.discarded(noise)
    assert bench.client.calls[-1] == "resynchronise", "not from within what is being received"
    await asyncio.sleep(0)
    assert bench.client.calls[-1] == "lost"
    assert isinstance(await bench.poller.poll_once(), Polled)
    assert bench.told(Trouble.HDLC_ERROR) == [Tripped, Tripped, Recovered]


async def test_a_stuck_association_is_waited_out_not_hammered(bench: Bench) -> None:
    bench.client.connect_error = AssociationRefused("already associated", 1, 1)
    first = await bench.poller.poll_once()
    assert isinstance(first, Failed)
    assert first.retry_at - bench.clock.now <= 1
    bench.clock.now += 1
    second = await bench.poller.poll_once()
    assert isinstance(second, Failed)
    assert second.retry_at - bench.clock.now == 120
    assert bench.poller.state is PollerState.WAITING_OUT
    for _ in range(119):
        bench.clock.now += 1
        assert isinstance(await bench.poller.poll_once(), Waiting)
    bench.clock.now += 1
    bench.client.connect_error = None
    assert isinstance(await bench.poller.poll_once(), Polled)
    assert bench.told(Trouble.ASSOCIATION_STUCK) == [Tripped, Recovered]


async def test_a_wrong_password_is_told_apart_and_does_not_lock_the_meter(bench: Bench) -> None:
    bench.client.connect_error = AuthenticationFailed("authentication failure", 1, 13)
    attempts: list[float] = []
    began = bench.clock.now
    while bench.clock.now < began + 86_400:
        if isinstance(await bench.poller.poll_once(), Failed):
            attempts.append(bench.clock.now - began)
            assert bench.poller.state is PollerState.SHUT_OUT
        bench.clock.now += 10
    assert attempts[:4] == [0, 300, 900, 2100]
    assert len(attempts) == 10, "no watchdog shortens the waits"
    assert bench.told(Trouble.AUTHENTICATION_FAILURE) == [Tripped] * 10
    for other in (Trouble.CONNECTION_LOSS, Trouble.ASSOCIATION_STUCK, Trouble.CIRCUIT_BREAKER):
        assert bench.told(other) == []
    bench.client.connect_error = None
    assert isinstance(await bench.poller.poll_once(), Waiting)
    assert isinstance(await bench.poller.poll_once(force=True), Polled), "a person who mended it need not wait"
    assert bench.told(Trouble.AUTHENTICATION_FAILURE)[-1] is Recovered
    assert not bench.poller.open_troubles


async def test_a_bad_object_costs_the_others_nothing(bench: Bench) -> None:
    bench.client.refused = {"b": DataAccessError("object undefined", 4)}
    asked = 0
    for _ in range(1000):
        outcome = await bench.poller.poll_once()
        assert isinstance(outcome, Polled)
        assert "a" in outcome.reading.values
        asked += "b" in outcome.reading.errors
        bench.clock.now += 1
    assert asked < 12
    bench.client.refused = {}
    bench.clock.now += 3600
    await bench.poller.poll_once()
    assert bench.told(Trouble.OBJECT_FAILING) == [Tripped, Recovered]


async def test_the_timeout_grows_with_silence_and_comes_back(bench: Bench) -> None:
    bench.client.read_error = ResponseTimeout("nothing")
    for wanted in (12.0, 24.0, 30.0, 30.0):
        await bench.poller.poll_once(force=True)
        assert bench.client.timeouts.response == wanted
    bench.client.read_error = None
    await bench.poller.poll_once(force=True)
    assert bench.client.timeouts.response == 6.0


async def test_what_an_earlier_poller_told_of_is_over_once_an_answer_disproves_it(bench: Bench) -> None:
    bench.poller.inherited = {Trouble.CONNECTION_LOSS, Trouble.SILENCE, Trouble.OBJECT_FAILING}
    bench.client.connect_error = ConnectFailed("still gone")
    await bench.poller.poll_once()
    assert bench.events == []
    bench.client.connect_error = None
    bench.client.refused = {name: DataAccessError("hardware fault", 1) for name in MODEL.poll}
    await bench.poller.poll_once(force=True)
    assert bench.told(Trouble.CONNECTION_LOSS) == [Recovered]
    assert bench.told(Trouble.SILENCE) == []
    assert bench.told(Trouble.OBJECT_FAILING) == [Tripped, Tripped], "still so"
    bench.client.refused = {}
    bench.clock.now += 60
    for _ in range(3):
        await bench.poller.poll_once()
        bench.clock.now += 1
    assert bench.told(Trouble.SILENCE) == [Recovered]
    assert bench.told(Trouble.OBJECT_FAILING) == [Tripped, Tripped, Recovered]
    assert not bench.poller.inherited


async def test_our_own_bug_is_not_retried(bench: Bench) -> None:
    bench.client.read_error = LocalProtocolError("a bug")
    with pytest.raises(LocalProtocolError):
        await bench.poller.poll_once()


async def test_any_course_of_events_leads_back_to_readings() -> None:
    seed = 20_261_124
    print(f"seed {seed}")
    chance = random.Random(seed)
    bench = Bench()
    errors = [
        *(ConnectFailed("c"), ConnectionLost("l"), ResponseTimeout("t")),
        *(AssociationRefused("r", 1, 1), AuthenticationFailed("a", 1, 13), None),
    ]
    for _ in range(5000):
        bench.client.connect_error = chance.choice(errors)
        bench.client.read_error = chance.choice([*errors[1:3], None, None])
        bench.client.connected = bench.client.connected and chance.random() > 0.1
        await bench.poller.poll_once(force=chance.random() < 0.01)
        bench.clock.now += chance.choice([0.1, 1.0, 30.0])
    bench.client.connect_error = bench.client.read_error = None
    bench.clock.now += 21_601
    assert isinstance(await bench.poller.poll_once(), Polled)
    assert not bench.poller.open_troubles


# ---- errands beside the polls


async def test_an_errand_uses_the_open_association_and_opens_one_where_there_is_none(bench: Bench) -> None:
    async def errand(client: DLMSClient) -> bool:
        return client.connected

    assert await bench.poller.attend(errand)
    assert bench.client.calls == ["connect"]
    outcome = await bench.poller.poll_once()
    assert isinstance(outcome, Polled)
    assert outcome.connected, "the first reading of an association says so, whoever opened it"
    assert await bench.poller.attend(errand)
    outcome = await bench.poller.poll_once()
    assert isinstance(outcome, Polled)
    assert not outcome.connected
    assert bench.client.calls.count("connect") == 1


async def test_a_plain_no_to_an_errand_harms_nothing(bench: Bench) -> None:
    async def errand(client: DLMSClient) -> None:
        raise DataAccessError("read-write-denied", 3)

    await bench.poller.poll_once()
    with pytest.raises(DataAccessError):
        await bench.poller.attend(errand)
    assert (bench.poller.state, bench.poller.failures) == (PollerState.READY, 0)


async def test_an_errand_that_breaks_the_link_counts_as_a_failed_poll_and_no_other_is_tried_at_once(
    bench: Bench,
) -> None:
    async def errand(client: DLMSClient) -> None:
        raise ResponseTimeout("silent")

    await bench.poller.poll_once()
    with pytest.raises(ResponseTimeout):
        await bench.poller.attend(errand)
    assert (bench.poller.state, bench.poller.failures) == (PollerState.BACKING_OFF, 1)
    calls = len(bench.client.calls)
    with pytest.raises(CommandRefused, match="does not answer; the next try is in"):
        await bench.poller.attend(errand)
    assert len(bench.client.calls) == calls


async def test_an_errand_whose_connection_is_lost_between_two_exchanges_is_no_bug(bench: Bench) -> None:
    async def errand(client: DLMSClient) -> None:
        bench.client.connected = False
        raise LocalProtocolError("not connected")

    await bench.poller.poll_once()
    with pytest.raises(ConnectionLost):
        await bench.poller.attend(errand)
    assert bench.poller.failures == 1

    async def bug(client: DLMSClient) -> None:
        raise LocalProtocolError("a bug")

    bench.clock.now += 100.0
    await bench.poller.poll_once()
    with pytest.raises(LocalProtocolError):
        await bench.poller.attend(bug)


async def test_a_connection_that_cannot_be_had_for_an_errand_leaves_the_poller_fit(bench: Bench) -> None:
    async def errand(client: DLMSClient) -> None:
        return

    for error in (ConnectFailed("nobody there"), ServiceError("no", "exception-response")):
        bench.client.connect_error = error
        with pytest.raises(type(error)):
            await bench.poller.attend(errand)
        assert bench.poller.state is PollerState.BACKING_OFF
        bench.clock.now += 100.0
    bench.client.connect_error = None
    assert isinstance(await bench.poller.poll_once(), Polled)


async def test_what_is_read_can_be_changed_and_earlier_troubles_with_it_are_forgotten(bench: Bench) -> None:
    bench.client.refused = {"b": DataAccessError("object-undefined", 4)}
    await bench.poller.poll_once()
    assert Trouble.OBJECT_FAILING in bench.poller.open_troubles
    bench.poller.read_only(("a",))
    assert Trouble.OBJECT_FAILING not in bench.poller.open_troubles
    await bench.poller.poll_once()
    assert bench.client.calls[-1] == "read a"
    bench.poller.read_only(None)
    await bench.poller.poll_once()
    assert bench.client.calls[-1] == "read a b"
