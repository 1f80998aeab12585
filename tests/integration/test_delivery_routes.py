"""The three routes, poison, a backlog behind live readings, and a disk that refuses: on an endpoint that records."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from meterbridge.delivery import (
    BrokerRoute,
    DeviceRoute,
    Endpoint,
    Event,
    GatewayRoute,
    Kind,
    LineLimits,
    Outbox,
    Publisher,
    Quarantined,
    Route,
    inspection,
)
from meterbridge.delivery.outbox_file import OutboxFile
from meterbridge.model import MeterId
from tests.integration.delivery_recorder import Recorder

SEED = 20251112
FAST = LineLimits(window=50, ack_timeout_s=0.5, connect_timeout_s=0.5, backoff_first_s=0.02, backoff_max_s=0.1)


async def until(condition: Callable[[], object], seconds: float = 20.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)


class Rig:
    def __init__(self, outbox: Outbox, publisher: Publisher, events: list[Event]) -> None:
        self.outbox = outbox
        self.publisher = publisher
        self.events = events

    def put(self, route: Route, device: str, ts: int, kind: Kind = Kind.TELEMETRY) -> None:
        payload = b'{"ts":%d,"values":{"x":1}}' % ts if kind is Kind.TELEMETRY else b'{"a":%d}' % ts
        self.outbox.put(MeterId(int(device[1:])), route.name, device, ts, payload, kind)

    async def drained(self) -> None:
        await self.outbox.flush()
        await until(lambda: self.outbox.stats().rows == 0)


@asynccontextmanager
async def rig(folder: Path, *routes: Route, limits: LineLimits = FAST) -> AsyncIterator[Rig]:
    events: list[Event] = []
    outbox = await Outbox.open(folder / "outbox.db", listener=events.append, interval_s=0.01, retry_s=0.05)
    publisher = Publisher(outbox, limits, events.append, rng=random.Random(SEED))
    for route in routes:
        publisher.add(route)
    publisher.start()
    try:
        yield Rig(outbox, publisher, events)
    finally:
        await publisher.stop(1.0)
        await outbox.close()


@pytest.fixture
async def recorder(free_port: Callable[[], int]) -> AsyncIterator[Recorder]:
    recorder = Recorder(free_port())
    await recorder.start()
    yield recorder
    await recorder.stop()


def gateway(recorder: Recorder, version: int = 4) -> GatewayRoute:
    return GatewayRoute(Endpoint("127.0.0.1", recorder.port, "gw", "GW_TOKEN", version=version), "dlms-meter")


@pytest.mark.parametrize("version", [4, 5])
async def test_the_gateway_route_announces_each_device_and_packs_many_into_a_message(
    tmp_path: Path, recorder: Recorder, version: int
) -> None:
    route = gateway(recorder, version)
    async with rig(tmp_path, route) as it:
        for ts in range(1000):
            it.put(route, f"m{ts % 40}", ts)
        it.put(route, "m3", 5000, Kind.ATTRIBUTES)
        await it.drained()
    topics = [topic for topic, _ in recorder.messages]
    assert recorder.readings() == {f"m{m}": list(range(m, 1000, 40)) for m in range(40)}
    assert topics.count("v1/gateway/telemetry") < 100
    hellos = [json.loads(p) for topic, p in recorder.messages if topic == "v1/gateway/connect"]
    assert sorted(hello["device"] for hello in hellos) == sorted(f"m{m}" for m in range(40))
    assert {hello["type"] for hello in hellos} == {"dlms-meter"}
    assert json.loads(next(p for topic, p in recorder.messages if topic == "v1/gateway/attributes")) == {
        "m3": {"a": 5000}
    }
    assert topics.count("v1/gateway/disconnect") == 40
    assert set(recorder.senders) == {"GW_TOKEN"}
    assert max(len(payload) for _, payload in recorder.messages) <= 65_536


async def test_a_dismissed_device_is_said_to_have_gone(tmp_path: Path, recorder: Recorder) -> None:
    route = gateway(recorder)
    async with rig(tmp_path, route) as it:
        it.put(route, "m1", 1)
        await it.drained()
        it.publisher.dismiss(route.name, "m1")
        await until(lambda: ("v1/gateway/disconnect", b'{"device":"m1"}') in recorder.messages)


async def test_two_hundred_devices_have_a_connection_each_from_one_thread(tmp_path: Path, recorder: Recorder) -> None:
    routes = [DeviceRoute(Endpoint("127.0.0.1", recorder.port, f"d{m}", f"TOKEN{m}"), MeterId(m)) for m in range(200)]
    async with rig(tmp_path, *routes) as it:
        for ts in range(5):
            for m, route in enumerate(routes):
                it.put(route, f"m{m}", ts)
        await it.drained()
        assert all(stats.connected and stats.acknowledged == 5 for stats in it.publisher.stats())
        it.publisher.remove(routes[0].name)
        await until(lambda: len(it.publisher.stats()) == 199)
    assert recorder.readings() == {f"TOKEN{m}": [0, 1, 2, 3, 4] for m in range(200)}
    assert recorder.connections == 200


@pytest.mark.parametrize("packed", [False, True])
async def test_a_row_the_server_closes_over_is_found_and_put_aside_and_can_be_freed(
    tmp_path: Path, recorder: Recorder, packed: bool
) -> None:
    recorder.chokes_on = lambda payload: b'"ts":777,' in payload
    route: Route = gateway(recorder) if packed else BrokerRoute(Endpoint("127.0.0.1", recorder.port, "b"))
    async with rig(tmp_path, route) as it:
        for ts in range(700, 900):
            it.put(route, f"m{ts % 7}", ts)
        await until(lambda: it.outbox.stats().quarantined == 1)
        # Nothing else waits behind it for longer than it takes to find it.
        await it.drained()
        assert [event.device for event in it.events if isinstance(event, Quarantined)] == [f"m{777 % 7}"]
        (listed,) = inspection.listing(tmp_path / "outbox.db", quarantined=True, meter=None, limit=10)
        assert (listed.row.ts, "closes the connection" in listed.error) == (777, True)
        assert recorder.closures >= FAST.refusals
        recorder.chokes_on = lambda payload: False
        assert inspection.retry(tmp_path / "outbox.db", None) == 1
        await until(lambda: it.outbox.stats().quarantined == 0)
        await it.drained()
    got = recorder.readings()
    assert {device: sorted(times) for device, times in got.items()} == {
        f"m{m}": [ts for ts in range(700, 900) if ts % 7 == m] for m in range(7)
    }


async def test_a_network_that_keeps_breaking_convicts_no_row(tmp_path: Path, recorder: Recorder) -> None:
    rng = random.Random(SEED)
    route = gateway(recorder)
    limits = replace(FAST, refusals=2)
    async with rig(tmp_path, route, limits=limits) as it:
        for ts in range(600):
            it.put(route, f"m{ts % 5}", ts)
            if ts % 20 == 0:
                recorder.cut_after = rng.choice([1, 1, 1, 2, 3])
                await asyncio.sleep(0.03)
        recorder.cut_after = None
        await it.drained()
        assert it.outbox.stats().quarantined == 0
    assert {device: sorted(times) for device, times in recorder.readings().items()} == {
        f"m{m}": list(range(m, 600, 5)) for m in range(5)
    }


async def test_live_readings_pass_a_long_backlog_that_drains_oldest_first(tmp_path: Path, recorder: Recorder) -> None:
    route = gateway(recorder)
    limits = replace(FAST, backlog_rows_per_s=1000.0)
    await recorder.stop()
    async with rig(tmp_path, route, limits=limits) as it:
        for ts in range(6_000):
            it.put(route, f"m{ts % 5}", ts)
        await it.outbox.flush()
        await recorder.start()
        await until(lambda: it.publisher.stats()[0].connected)
        behind = 0
        for ts in range(100_000, 100_020):
            it.put(route, f"m{ts % 5}", ts)
            await until(lambda ts=ts: ts in recorder.readings().get(f"m{ts % 5}", []), 1.0)  # type: ignore[misc]
            behind = it.outbox.stats().rows
        assert behind > 2_000
        await it.drained()
    for device, times in recorder.readings().items():
        backlog = [ts for ts in times if ts < 100_000]
        live = [ts for ts in times if ts >= 100_000]
        assert backlog == list(range(int(device[1:]), 6_000, 5))
        assert live == sorted(live)


async def test_while_the_disk_refuses_readings_are_published_from_memory(tmp_path: Path, recorder: Recorder) -> None:
    route = gateway(recorder)
    async with rig(tmp_path, route) as it:
        await until(lambda: it.publisher.stats()[0].connected)
        assert isinstance(it.outbox._file, OutboxFile)
        # SQLITE_FULL, just as a full disk gives it.
        it.outbox._file._db.execute("PRAGMA max_page_count=1")
        for ts in range(300):
            it.put(route, f"m{ts % 5}", ts)
        await until(lambda: sum(map(len, recorder.readings().values())) == 300)
        assert it.outbox.stats().failing
        await until(lambda: it.outbox.stats().pending == 0)
        it.outbox._file._db.execute("PRAGMA max_page_count=1000000")
        it.put(route, "m1", 1001)
        await it.drained()
        assert not it.outbox.stats().failing
        assert it.outbox.stats().losses == {}
    assert recorder.readings() == {f"m{m}": [*range(m, 300, 5), *([1001] if m == 1 else [])] for m in range(5)}


@pytest.mark.parametrize(("version", "says_why"), [(4, False), (5, True)])
async def test_another_client_with_the_same_token_is_told_and_not_thrown_out_endlessly(
    tmp_path: Path, recorder: Recorder, version: int, says_why: bool
) -> None:
    recorder.one_each, recorder.says_why = True, says_why
    thief = mqtt.Client(CallbackAPIVersion.VERSION2, "thief")
    thief.username_pw_set("GW_TOKEN")
    thief.reconnect_delay_set(0.1, 0.1)  # type: ignore[arg-type]
    route = gateway(recorder, version)
    async with rig(tmp_path, route, limits=replace(FAST, backoff_max_s=60.0)) as it:
        it.put(route, "m1", 1)
        await it.drained()
        thief.connect_async("127.0.0.1", recorder.port)
        thief.loop_start()
        try:
            await until(lambda: it.publisher.stats()[0].contested, 30)
            sent = 1
            while it.publisher.stats()[0].contested < 8:
                sent += 1
                it.put(route, "m1", sent)
                await asyncio.sleep(0.02)
            # It comes back at once each time, and we ever later: a bound of 0.02 s, doubled again and again.
            assert recorder.connections < 40
        finally:
            await asyncio.to_thread(thief.loop_stop)
            thief.disconnect()
        await it.drained()
        assert it.outbox.stats().quarantined == 0
    assert recorder.readings() == {"m1": list(range(1, sent + 1))}
