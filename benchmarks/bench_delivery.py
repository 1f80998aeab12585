"""Readings through outbox and publisher per CPU second on each route, beside a bare paho loop at QoS 1.

The far side is a process of its own (`mqtt_sink`), so that the CPU counted is the sender's alone; the same sink serves
all. Rounds are interleaved and medians shown. What the bare loop does not do: keep a reading on disk.
"""

from __future__ import annotations

import asyncio
import select
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion

from meterbridge.cli.subscriber import Subscriber
from meterbridge.delivery import BrokerRoute, DeviceRoute, Endpoint, GatewayRoute, LineLimits, Outbox, Publisher, Route
from meterbridge.model import Meter, MeterId
from meterbridge.store import MeterRepository, open_database
from tests.acceptance.processes import COMMAND
from tests.broker import Mosquitto

READINGS = 20_000
METERS = 200
ROUNDS = 5
WINDOW = 1_000


def payload(number: int) -> bytes:
    return (
        b'{"ts":%d,"values":{"voltage_l1":136.5,"current_l1":1.33,"frequency":60.0,"active_power":181.5,'
        b'"active_energy":%d.0}}' % (1_762_857_000_000 + number, 56_281 + number)
    )


def bare(port: int) -> tuple[float, float]:
    """CPU and wall seconds of paho alone: publish at QoS 1, at most WINDOW unacknowledged."""
    client = Client(CallbackAPIVersion.VERSION2, "bare")
    client.max_inflight_messages_set(WINDOW)
    room, done = threading.Semaphore(WINDOW), threading.Event()
    left = [READINGS]

    def acknowledged(*_: object) -> None:
        left[0] -= 1
        room.release()
        if not left[0]:
            done.set()

    client.on_publish = acknowledged
    client.connect("127.0.0.1", port)
    client.loop_start()
    payloads = [payload(number) for number in range(READINGS)]
    topics = [f"v1/devices/m{meter}/telemetry" for meter in range(METERS)]
    cpu, wall = time.process_time(), time.perf_counter()
    for number, octets in enumerate(payloads):
        room.acquire()
        client.publish(topics[number % METERS], octets, 1)
    done.wait()
    used = time.process_time() - cpu, time.perf_counter() - wall
    client.disconnect()
    client.loop_stop()
    return used


def bare_in_one_thread(port: int) -> tuple[float, float]:
    """The same without paho's own thread: the least that paho can cost, written and read a window at a time."""
    client = Client(CallbackAPIVersion.VERSION2, "bare1")
    client.max_inflight_messages_set(0)
    left, flying = READINGS, 0

    def acknowledged(*_: object) -> None:
        nonlocal left, flying
        left -= 1
        flying -= 1

    client.on_publish = acknowledged
    client.on_socket_register_write = lambda *_: None
    client.connect("127.0.0.1", port)
    payloads = [payload(number) for number in range(READINGS)]
    topics = [f"v1/devices/m{meter}/telemetry" for meter in range(METERS)]
    cpu, wall, number = time.process_time(), time.perf_counter(), 0
    while left:
        while flying < WINDOW and number < READINGS:
            client.publish(topics[number % METERS], payloads[number], 1)
            flying += 1
            number += 1
        connection: Any = client.socket()
        ready, _, _ = select.select([connection], [connection] if client.want_write() else [], [], 1.0)
        if client.want_write():
            client.loop_write()
        if ready:
            client.loop_read()
    used = time.process_time() - cpu, time.perf_counter() - wall
    client.disconnect()
    client.loop_write()
    return used


async def through(routes: list[Route]) -> tuple[float, float]:
    """CPU and wall seconds from `put` to the last row's removal from disk."""
    with tempfile.TemporaryDirectory() as folder:
        outbox = await Outbox.open(Path(folder) / "outbox.db", interval_s=0.05)
        done, left = asyncio.Event(), READINGS

        def acknowledged(rows: object) -> None:
            nonlocal left
            left -= len(rows)  # type: ignore[arg-type]
            if not left:
                done.set()

        publisher = Publisher(outbox, LineLimits(window=WINDOW), on_acknowledged=acknowledged)
        for route in routes:
            publisher.add(route)
        publisher.start()
        while not all(stats.connected for stats in publisher.stats()):  # noqa: ASYNC110  (a benchmark may look)
            await asyncio.sleep(0.01)
        payloads = [payload(number) for number in range(READINGS)]
        names = [f"m{meter}" for meter in range(METERS)]
        cpu, wall = time.process_time(), time.perf_counter()
        for number, octets in enumerate(payloads):
            meter = number % METERS
            route = routes[meter % len(routes)]
            outbox.put(MeterId(meter), route.name, names[meter], number, octets)
            if number % 1000 == 999:
                # As polls do: not all in one breath.
                await asyncio.sleep(0.005)
        await done.wait()
        while outbox.stats().rows:  # noqa: ASYNC110
            await asyncio.sleep(0.002)
        used = time.process_time() - cpu, time.perf_counter() - wall
        await publisher.stop()
        await outbox.close()
    return used


def main() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    sink = subprocess.Popen([sys.executable, "-m", "benchmarks.mqtt_sink", str(port)], stdout=subprocess.PIPE)
    try:
        assert sink.stdout is not None
        sink.stdout.readline()
        measure(port)
    finally:
        sink.kill()
        sink.wait()
    peer()
    latency()


def peer() -> None:
    """tb-gateway's own sqlite storage, in its own virtual environment: into the file and out of it, nothing sent."""
    python = Path(__file__).parent.parent / ".venv-gateway" / "bin" / "python"
    if not python.exists():
        print("tb-gateway's storage: not measured, .venv-gateway is missing (tools/gateway.sh)")
        return
    script = Path(__file__).parent / "tb_gateway_storage.py"
    try:
        rounds = [
            float(subprocess.run([python, script, str(READINGS)], capture_output=True, text=True, check=True).stdout)
            for _ in range(3)
        ]
    except subprocess.CalledProcessError as error:
        print(f"tb-gateway's storage: not measured, it ends with {error.returncode}: {error.stderr.strip()[-200:]}")
        return
    cpu = statistics.median(rounds)
    print(
        f"{'tb-gateway sqlite, storage only':32} {READINGS / cpu:14.0f} {cpu / READINGS * 1e6:12.1f}"
        " (acknowledged before it is on disk)"
    )


def measure(port: int) -> None:
    host = "127.0.0.1"
    broker: list[Route] = [BrokerRoute(Endpoint(host, port, "broker"))]
    gateway: list[Route] = [GatewayRoute(Endpoint(host, port, "gateway", "TOKEN"), "dlms-meter")]
    devices: list[Route] = [
        DeviceRoute(Endpoint(host, port, f"d{meter}", f"T{meter}"), MeterId(meter)) for meter in range(METERS)
    ]
    cases: dict[str, Callable[[], tuple[float, float]]] = {
        "bare paho, QoS 1": lambda: bare(port),
        "bare paho, one thread": lambda: bare_in_one_thread(port),
        "broker route": lambda: asyncio.run(through(broker)),
        "gateway route": lambda: asyncio.run(through(gateway)),
        f"device route, {METERS} connections": lambda: asyncio.run(through(devices)),
    }
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in cases}
    for number in range(ROUNDS + 1):
        for name, run in cases.items():
            used = run()
            if number:
                # The first round warms up.
                found[name].append(used)
    reference = statistics.median(cpu for cpu, _ in found["bare paho, QoS 1"])
    print(f"{READINGS} readings of {METERS} meters, medians of {ROUNDS} interleaved rounds")
    print(f"{'':32} {'readings/CPU s':>14} {'µs CPU each':>12} {'readings/s':>11} {'x bare paho':>12}")
    for name, rounds in found.items():
        cpu = statistics.median(cpu for cpu, _ in rounds)
        wall = statistics.median(wall for _, wall in rounds)
        print(
            f"{name:32} {READINGS / cpu:14.0f} {cpu / READINGS * 1e6:12.1f} {READINGS / wall:11.0f}"
            f" {reference / cpu:12.2f}"
        )


def latency(meters: int = 1_000, seconds: float = 20.0) -> None:
    """From a meter's answer to a subscriber of a real Mosquitto, at one poll a second; each part a process."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        broker = Mosquitto(folder, free())
        broker.start()
        base = free_row(meters)
        fleet = subprocess.Popen(
            [*COMMAND, "simulate", "--count", str(meters), "--port", str(base)], stdout=subprocess.PIPE, text=True
        )
        service = None
        subscriber = Subscriber(0)
        try:
            assert fleet.stdout is not None
            fleet.stdout.readline()
            asyncio.run(store(folder, meters, base, broker.port))
            subscriber.start(broker.host, broker.port)
            subscriber.wait(10.0)
            (folder / "meterbridge.toml").write_text(f"[polling]\nconnections_per_s = 1000.0\n[api]\nport = {free()}\n")
            service = subprocess.Popen([*COMMAND, "run"], cwd=folder, stdout=subprocess.DEVNULL)
            subscriber.wait_for(meters * 5, time.monotonic() + 60)
            # Without the first rush of a thousand associations.
            subscriber.latencies.clear()
            before, cpu = subscriber.received, cpu_of(service.pid)
            time.sleep(seconds)
            rate, used = (subscriber.received - before) / seconds, cpu_of(service.pid) - cpu
            print(
                f"\n{meters} meters x 1 Hz through Mosquitto: {rate:.0f} readings/s,"
                f" p50 {subscriber.quantile(0.5):.0f} ms, p99 {subscriber.quantile(0.99):.0f} ms,"
                f" service {100 * used / seconds:.0f} % of a core"
            )
        finally:
            subscriber.stop()
            for process in (service, fleet):
                if process is not None:
                    process.terminate()
                    process.wait()
            broker.stop()


async def store(folder: Path, meters: int, base: int, port: int) -> None:
    (folder / "data").mkdir()
    engine = await open_database(f"sqlite+aiosqlite:///{folder}/data/admin.db")
    repository = MeterRepository(engine)
    for index in range(meters):
        await repository.add(Meter(MeterId(0), f"m{index}", "127.0.0.1", base + index, model="microstar", tb_port=port))
    await engine.dispose()


def cpu_of(pid: int) -> float:
    used = psutil.Process(pid).cpu_times()
    return float(used.user + used.system)


def free() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def free_row(count: int) -> int:
    """First of so many ports in a row of which a sample is free, below those the system gives out."""
    for base in range(10_000, 30_000, 1_200):
        try:
            for port in range(base, base + count, 50):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", port))
        except OSError:
            continue
        return base
    raise RuntimeError("no free ports")


if __name__ == "__main__":
    main()
