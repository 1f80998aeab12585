"""Chaos: every fault there is, in random order, on a fleet whose other half must not notice.

CHAOS_METERS, CHAOS_SECONDS and CHAOS_SEED make it longer and repeat it; `make soak` runs it with 200 meters for 3 min.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import socket
import sqlite3
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest
from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion

from meterbridge.model import Meter, MeterId
from meterbridge.service import Service
from meterbridge.settings import (
    DatabaseSettings,
    LogSettings,
    MonitorSettings,
    OutboxSettings,
    PollingSettings,
    Settings,
)
from meterbridge.store import MeterRepository, open_database
from tests.acceptance.processes import start, stop
from tests.broker import Mosquitto

METERS = int(os.environ.get("CHAOS_METERS", "24"))
SECONDS = float(os.environ.get("CHAOS_SECONDS", "15"))
SEED = int(os.environ.get("CHAOS_SEED", str(random.randrange(1 << 32))))
PERIOD = 0.5
# Times are scaled down: a step is a second where it is a minute in the field.
POLLING = PollingSettings(
    period_s=PERIOD,
    response_timeout_floor_s=0.5,
    response_timeout_ceiling_s=1.0,
    connect_timeout_s=1.0,
    backoff_initial_s=0.1,
    backoff_max_s=1.0,
    breaker_pause_s=1.0,
    silence_s=5.0,
    inactivity_timeout_s=1.0,
    object_retry_max_s=1.0,
    authentication_retry_s=0.5,
    authentication_retry_max_s=1.0,
    hang_s=20.0,
    connections_per_s=500.0,
)
# The longest wait there is, one poll that began while the meter was still in trouble (connection, two tries of an
# answer, and as many for the goodbye), and the next tick.
ONE_STEP = 1.0 + 1.0 + 4 * 1.0 + 2 * PERIOD + 2.0
FAULTS: tuple[dict[str, Any], ...] = (
    {"kind": "no-answer"},
    {"kind": "slow", "delay": [0.1, 0.9]},
    {"kind": "slow-middle", "delay": [0.1, 0.9]},
    {"kind": "busy", "says": "temporary-failure"},
    {"kind": "busy", "says": "exception"},
    {"kind": "busy", "says": "not-ready"},
    {"kind": "wrong-fcs"},
    {"kind": "garbage-before", "size": 40},
    {"kind": "garbage-inside"},
    {"kind": "stale", "how": "before"},
    {"kind": "stale", "how": "instead"},
    {"kind": "duplicate"},
    {"kind": "repeated-ns"},
    {"kind": "skipped-ns"},
    {"kind": "dm"},
    {"kind": "frmr"},
    {"kind": "rst"},
    {"kind": "fin"},
    {"kind": "half-open"},
    {"kind": "refused-connection"},
    {"kind": "refused-association", "result": 1, "diagnostic": 1},
    {"kind": "already-associated", "says": "aare"},
    {"kind": "already-associated", "says": "dm"},
    {"kind": "wrong-password"},
    {"kind": "object-undefined"},
    # With its battery: the alarm of a clock that was lost rightly stays until somebody sets the clock.
    {"kind": "power-cut", "clock": "kept"},
    {"kind": "segmented", "size": 32},
    {"kind": "windowed", "size": 32, "window": 3},
)


class Control:
    """The simulator's control port."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def ask(self, **request: Any) -> dict[str, Any]:
        self._writer.write(json.dumps(request).encode() + b"\n")
        answer: dict[str, Any] = json.loads(await self._reader.readline())
        assert answer["ok"], answer
        return answer


@asynccontextmanager
async def simulated(first: int) -> AsyncIterator[Control]:
    process = start("simulate", "--count", str(METERS), "--port", str(first), "--control-port", "0")
    try:
        assert process.stdout is not None
        word, port = (await asyncio.to_thread(process.stdout.readline)).split()
        assert word == "CONTROL"
        assert (await asyncio.to_thread(process.stdout.readline)).startswith("READY")
        reader, writer = await asyncio.open_connection("127.0.0.1", int(port))
        yield Control(reader, writer)
        writer.close()
        await writer.wait_closed()
    finally:
        await asyncio.to_thread(stop, process)


class Arrivals:
    """Timestamps that an MQTT subscriber received, by device."""

    def __init__(self, broker: Mosquitto) -> None:
        self.times: dict[str, list[int]] = defaultdict(list)
        self._client = Client(CallbackAPIVersion.VERSION2)
        self._client.on_message = self._message
        self._client.on_connect = lambda client, *_: client.subscribe("v1/devices/+/telemetry", qos=1)
        self._client.connect(broker.host, broker.port)
        self._client.loop_start()

    def _message(self, _client: Client, _data: object, got: MQTTMessage) -> None:
        self.times[got.topic.split("/")[2]].append(json.loads(got.payload)["ts"])

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


def _open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def _fill(url: str, first: int, broker: Mosquitto) -> None:
    engine = await open_database(url)
    repository = MeterRepository(engine)
    for number in range(METERS):
        await repository.add(
            Meter(MeterId(0), f"m{number}", "127.0.0.1", first + number, model="microstar", tb_port=broker.port)
        )
    await engine.dispose()


async def _until(what: Callable[[], bool], seconds: float, why: str) -> float:
    began = time.monotonic()
    while not what():
        assert time.monotonic() - began < seconds, why
        await asyncio.sleep(0.05)
    return time.monotonic() - began


async def _cause_trouble(control: Control, chance: random.Random, faulty: range) -> int:
    """Add faults for a while; each kind at least once where there is time."""
    until, order, added = time.monotonic() + SECONDS, list(FAULTS), 0
    chance.shuffle(order)
    pause = min(0.5, SECONDS / (2 * len(order))) * 24 / max(24, METERS)
    while time.monotonic() < until:
        fault = order[added % len(order)]
        meters = str(chance.choice(faulty))
        await control.ask(do="add", fault={**fault, "meters": meters, "duration": chance.uniform(0.5, 3.0)})
        added += 1
        await asyncio.sleep(pause)
    await control.ask(do="clear")
    return added


@pytest.mark.timeout(SECONDS + 120)
async def test_no_fault_spreads_and_none_lasts(
    tmp_path: Path, mosquitto: Mosquitto, free_port: Callable[[], int]
) -> None:
    print(f"CHAOS_SEED={SEED} CHAOS_METERS={METERS} CHAOS_SECONDS={SECONDS:g}")
    chance = random.Random(SEED)
    first = _free_range(chance)
    url = f"sqlite+aiosqlite:///{tmp_path}/admin.db"
    settings = Settings(
        database=DatabaseSettings(url=url),
        outbox=OutboxSettings(path=tmp_path / "outbox.db"),
        log=LogSettings(file=tmp_path / "log" / "meterbridge.log"),
        polling=POLLING,
        monitor=MonitorSettings(interval_s=2.0),
    )
    await _fill(url, first, mosquitto)
    arrivals = Arrivals(mosquitto)
    files = _open_files()
    async with simulated(first) as control:
        service = Service(settings)
        await service.start()
        bridge = service.bridge
        assert bridge is not None
        workers = {worker.meter.name: worker for worker in bridge.workers.values()}
        await _until(lambda: all(w.counters.successes for w in workers.values()), 30, "the fleet does not start")
        tasks, connected = len(asyncio.all_tasks()), _open_files()
        healthy = [f"m{number}" for number in range(METERS // 2)]
        added = await _cause_trouble(control, chance, range(METERS // 2, METERS))
        successes = {name: worker.counters.successes for name, worker in workers.items()}
        back = await _until(
            lambda: all(w.counters.successes > successes[name] + 1 for name, w in workers.items()),
            ONE_STEP,
            "a meter is not back within one step of its recovery",
        )
        print(f"{added} faults; all meters back after {back:.1f} s")
        await _until(lambda: not service.desk.open, ONE_STEP + 5, f"alarms stay open: {list(service.desk.open)}")
        assert not service.broken.is_set()
        assert all(status.crashes == 0 for status in bridge.statuses())
        assert len(asyncio.all_tasks()) <= tasks + 3
        assert _open_files() <= connected + 8
        assert all(workers[name].counters.failures == 0 for name in healthy)
        assert all(workers[name].counters.reconnections == 0 for name in healthy)
        began = time.monotonic()
        await service.stop()
        assert time.monotonic() - began < 10
        published = service.counters.published
        await _until(lambda: sum(map(len, arrivals.times.values())) >= published, 10, "published and never received")
    arrivals.close()
    for name in healthy:
        polled = workers[name].counters
        assert polled.successes == polled.polls
        assert polled.skipped <= 1 + SECONDS / 20, "the machine may stutter, other meters' faults may not be seen"
        assert len(set(arrivals.times[name])) == polled.successes
    assert len(asyncio.all_tasks()) == 1
    assert _open_files() <= files + 2
    _check_alarms(tmp_path / "admin.db", service.desk.counters.opened)


def _check_alarms(database: Path, opened: int) -> None:
    """Each alarm was opened once and resolved once: rows of one meter and type never overlap."""
    with closing(sqlite3.connect(database)) as connection:
        rows = connection.execute(
            "SELECT meter_id, alarm_type, created_at, resolved_at FROM alarms ORDER BY id"
        ).fetchall()
    assert len(rows) == opened > 0
    last: dict[tuple[int, str], str] = {}
    for meter, type_, created, resolved in rows:
        assert resolved is not None
        assert last.get((meter, type_), "") <= created <= resolved
        last[meter, type_] = resolved


def _free_range(chance: random.Random) -> int:
    """Return the first of METERS consecutive ports that are free, outside of what the system gives away."""
    for _ in range(100):
        first = chance.randrange(12_000, 32_000 - METERS)
        try:
            for port in range(first, first + METERS):
                with socket.socket() as probe:
                    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    probe.bind(("127.0.0.1", port))
        except OSError:
            continue
        return first
    pytest.fail(f"no {METERS} free ports in a row")
