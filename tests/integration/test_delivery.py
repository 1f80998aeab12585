"""Outbox and publisher against a real Mosquitto and against an endpoint that misbehaves: lost 0, order kept."""

from __future__ import annotations

import asyncio
import random
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from meterbridge.delivery import (
    BrokerRoute,
    Connected,
    Disconnected,
    Endpoint,
    Event,
    LineLimits,
    Outbox,
    Publisher,
    PublisherStats,
    Quarantined,
    Row,
)
from meterbridge.model import MeterId
from tests.broker import Mosquitto
from tests.integration.delivery_recorder import Recorder

FAST = LineLimits(window=50, ack_timeout_s=0.5, connect_timeout_s=0.5, backoff_first_s=0.02, backoff_max_s=0.1)
SEED = 20251111


async def until(condition: Callable[[], object], seconds: float = 15.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)


class Rig:
    """An outbox and a publisher, and what they reported."""

    def __init__(self, outbox: Outbox, publisher: Publisher, route: str, events: list[Event], acked: list[Row]) -> None:
        self.outbox = outbox
        self.publisher = publisher
        self.events = events
        self.acked = acked
        self._route = route

    def stats(self) -> PublisherStats:
        (stats,) = self.publisher.stats()
        return stats

    def put(self, numbers: range, meters: int = 5) -> None:
        for number in numbers:
            meter = number % meters
            self.outbox.put(MeterId(meter), self._route, f"m{meter}", number, b'{"ts":%d}' % number)

    async def drained(self) -> None:
        await self.outbox.flush()
        await until(lambda: self.outbox.stats().rows == 0)


@asynccontextmanager
async def rig(folder: Path, port: int, limits: LineLimits = FAST, version: int = 4) -> AsyncIterator[Rig]:
    events: list[Event] = []
    acked: list[Row] = []
    outbox = await Outbox.open(folder / "outbox.db", listener=events.append, interval_s=0.01)
    route = BrokerRoute(Endpoint("127.0.0.1", port, "meterbridge-test", version=version))
    publisher = Publisher(outbox, limits, events.append, acked.extend, random.Random(SEED))
    publisher.add(route)
    publisher.start()
    try:
        yield Rig(outbox, publisher, route.name, events, acked)
    finally:
        await publisher.stop(1.0)
        await outbox.close()


@pytest.fixture
async def recorder(free_port: Callable[[], int]) -> AsyncIterator[Recorder]:
    recorder = Recorder(free_port())
    await recorder.start()
    yield recorder
    await recorder.stop()


def by_device(messages: list[tuple[str, bytes]]) -> dict[str, list[int]]:
    """Numbers by device in the order of their first arrival; a repetition is legal, a step back among firsts is not."""
    got: dict[str, list[int]] = {}
    for topic, payload in messages:
        number = int(payload.removeprefix(b'{"ts":').removesuffix(b"}"))
        numbers = got.setdefault(topic.split("/")[2], [])
        if number not in numbers:
            numbers.append(number)
    return got


def expected(count: int, meters: int = 5) -> dict[str, list[int]]:
    return {f"m{meter}": list(range(meter, count, meters)) for meter in range(meters)}


@pytest.mark.parametrize("version", [4, 5])
async def test_mosquitto_hands_every_reading_on_under_its_device(
    tmp_path: Path, mosquitto: Mosquitto, version: int
) -> None:
    with Subscriber(mosquitto) as subscriber:
        async with rig(tmp_path, mosquitto.port, version=version) as it:
            it.put(range(500))
            await it.drained()
            await until(lambda: len(subscriber.messages) >= 500)
            stats = it.stats()
    assert by_device(subscriber.messages) == expected(500)
    assert (stats.published, stats.acknowledged, stats.unacknowledged, stats.resent) == (500, 500, 0, 0)
    assert len(it.acked) == 500


async def test_mosquitto_killed_and_restarted_loses_nothing(tmp_path: Path, mosquitto: Mosquitto) -> None:
    with Subscriber(mosquitto) as subscriber:
        # An orderly restart stores the subscription, so that the killed broker comes back with it.
        mosquitto.stop()
        mosquitto.start()
        await until(lambda: subscriber.connected.is_set())
        async with rig(tmp_path, mosquitto.port) as it:
            it.put(range(200))
            await until(lambda: len(subscriber.messages) >= 200)
            mosquitto.stop(kill=True)
            it.put(range(200, 400))
            await it.outbox.flush()
            mosquitto.start()
            it.put(range(400, 600))
            await it.drained()
            await until(lambda: len(by_device(subscriber.messages).get("m4", [])) == 120)
            assert it.stats().reconnects >= 1
            assert any(isinstance(event, Disconnected) for event in it.events)
    assert by_device(subscriber.messages) == expected(600)


class Subscriber:
    """A client with a lasting session that notes what arrives."""

    def __init__(self, broker: Mosquitto, qos: int = 1) -> None:
        self._qos = qos
        self.messages: list[tuple[str, bytes]] = []
        self.connected = threading.Event()
        self._subscribed = threading.Event()
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2, "subscriber", clean_session=False)
        self._client.reconnect_delay_set(1, 1)
        self._client.on_message = lambda client, data, message: self.messages.append(
            (message.topic, bytes(message.payload))
        )
        self._client.on_subscribe = lambda *_: self._subscribed.set()
        self._client.on_disconnect = lambda *_: self.connected.clear()
        self._client.on_connect = self._on_connect
        self._client.connect(broker.host, broker.port)

    def _on_connect(self, client: mqtt.Client, *_: object) -> None:
        self.connected.set()
        client.subscribe("v1/devices/+/+", qos=self._qos)

    def __enter__(self) -> Subscriber:
        self._client.loop_start()
        assert self._subscribed.wait(5)
        return self

    def __exit__(self, *_: object) -> None:
        self._client.disconnect()
        self._client.loop_stop()


async def test_connections_cut_in_the_middle_lose_nothing_and_keep_order(tmp_path: Path, recorder: Recorder) -> None:
    rng = random.Random(SEED)
    async with rig(tmp_path, recorder.port) as it:
        for start in range(0, 2000, 100):
            recorder.cut_after = rng.randrange(1, 90)
            it.put(range(start, start + 100))
            await asyncio.sleep(0.02)
        recorder.cut_after = None
        await it.drained()
        stats = it.stats()
    assert by_device(recorder.messages) == expected(2000)
    assert stats.acknowledged == 2000
    assert stats.resent > 0
    assert stats.reconnects >= 3


async def test_withheld_pubacks_keep_the_rows_and_the_window_bounded(tmp_path: Path, recorder: Recorder) -> None:
    recorder.acknowledge = False
    async with rig(tmp_path, recorder.port) as it:
        it.put(range(300))
        await it.outbox.flush()
        await until(lambda: recorder.connections >= 2)
        assert it.outbox.stats().rows == 300
        assert it.stats().unacknowledged <= FAST.window
        assert any(isinstance(event, Disconnected) and "PUBACK" in event.reason for event in it.events)
        recorder.acknowledge = True
        await it.drained()
    assert by_device(recorder.messages) == expected(300)


async def test_a_row_always_refused_is_quarantined_and_the_others_pass(tmp_path: Path, recorder: Recorder) -> None:
    recorder.refuse = lambda topic: 0x83 if "/m2/" in topic else 0
    async with rig(tmp_path, recorder.port, version=5) as it:
        it.put(range(10))
        await it.drained()
        await until(lambda: it.outbox.stats().quarantined == 2)
        assert [event.device for event in it.events if isinstance(event, Quarantined)] == ["m2", "m2"]
        assert it.stats().refused >= 2 * FAST.refusals
        assert it.stats().quarantined == 2
    want = expected(10)
    del want["m2"]
    assert by_device(recorder.messages) == want


@pytest.mark.parametrize(
    "greeting",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"\x20\x02\x00\x05",
        b"\x20\x00",
        b"\x40\x01\x00",
        b"\xff" * 50,
        b"\x20\x80\x80\x80\x80\x80",
    ],
)
async def test_a_peer_that_refuses_or_is_no_mqtt_server_is_retried_for_ever(
    tmp_path: Path, recorder: Recorder, greeting: bytes
) -> None:
    recorder.greeting = greeting
    async with rig(tmp_path, recorder.port) as it:
        it.put(range(20))
        await until(lambda: recorder.connections >= 3)
        recorder.greeting = None
        recorder.cut()
        await it.drained()
        assert sum(isinstance(event, Connected) for event in it.events) == 1
    assert by_device(recorder.messages) == expected(20)


async def test_an_unreachable_server_does_not_hold_up_the_stop(tmp_path: Path, free_port: Callable[[], int]) -> None:
    async with asyncio.timeout(5):
        async with rig(tmp_path, free_port()) as it:
            it.put(range(20))
            await it.outbox.flush()
            await until(lambda: sum(isinstance(event, Disconnected) for event in it.events) >= 3)
    with sqlite3.connect(tmp_path / "outbox.db") as db:
        assert db.execute("SELECT count(*) FROM outbox").fetchone() == (20,)


async def test_stop_sends_what_was_committed(tmp_path: Path, recorder: Recorder) -> None:
    async with rig(tmp_path, recorder.port) as it:
        await until(lambda: it.stats().connected)
        it.put(range(1000))
        await it.outbox.flush()
        await it.publisher.stop(5.0)
        assert len(recorder.messages) == 1000


WRITER = """
import asyncio, sys
from pathlib import Path
from meterbridge.delivery import BrokerRoute, Endpoint, Outbox, Publisher
from meterbridge.model import MeterId

async def main(path, port, start):
    outbox = await Outbox.open(Path(path), interval_s=0.01)
    route = BrokerRoute(Endpoint("127.0.0.1", port, "writer"))
    publisher = Publisher(outbox)
    publisher.add(route)
    publisher.start()
    number = start
    while True:
        batch = range(number, number + 20)
        for number in batch:
            ticket = outbox.put(MeterId(number % 5), route.name, f"m{number % 5}", number, b'{"ts":%d}' % number)
        await ticket
        number += 1
        print(number, flush=True)

asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
"""


async def test_a_writer_killed_at_random_moments_loses_nothing_it_counted(tmp_path: Path, recorder: Recorder) -> None:
    rng = random.Random(SEED)
    path, counted = tmp_path / "outbox.db", 0
    confirmed: list[int] = []
    for _ in range(5):
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", WRITER, str(path), str(recorder.port), str(counted), stdout=subprocess.PIPE
        )
        assert process.stdout is not None
        first = await asyncio.wait_for(process.stdout.readline(), 20)
        await asyncio.sleep(rng.uniform(0.0, 0.2))
        process.send_signal(signal.SIGKILL)
        lines = (first + await process.stdout.read()).split()
        await process.wait()
        confirmed.extend(range(counted, int(lines[-1])))
        # What was put and not counted may arrive too: the next run uses other numbers.
        counted = int(lines[-1]) + 100_000
    async with rig(tmp_path, recorder.port) as it:
        await it.drained()
    arrived = {number for numbers in by_device(recorder.messages).values() for number in numbers}
    assert set(confirmed) - arrived == set()
    assert all(numbers == sorted(numbers) for numbers in by_device(recorder.messages).values())
