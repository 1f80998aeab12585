"""Thousands of meters at 1 Hz: the whole service as a process of its own, against simulators in theirs.

Five values a meter and second, through outbox and broker. The service has a core to itself, simulators and broker the
others. CPU is the service's process time, lateness (the worst p99 of five seconds) and polls are what its own status
reports say of the time measured. What faults cost the healthy is told by their readings as a subscriber gets them: the
time of each against its meter's tick, the answer included. FLEET_COUNTS="10,100,1000" and FLEET_SECONDS=60 choose.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion

from benchmarks.installation import (
    REPORT_EVERY,
    events,
    fill,
    free_port,
    service,
    simulators,
    wait_until_connected,
)
from meterbridge.fleet import phase_of
from tests.broker import Mosquitto

_SERVICE_CORE = max(os.sched_getaffinity(0))


@dataclass(frozen=True, slots=True)
class Result:
    """One run.

    Args:
        meters: how many.
        polls: readings in percent of polls due, of all meters.
        lateness: p99 of the beginning of polls, milliseconds, the worst report's.
        cpu: of one core, percent.
        memory: resident, 10**6 octets.
        started: seconds from the start of the process until all healthy meters were associated; None: not in time.
        acknowledged: readings acknowledged by the broker in percent of those queued.
        healthy: p99 of the time from tick to reading of those meters that are healthy in either run, milliseconds;
            None where nobody listened.
    """

    meters: int
    polls: float
    lateness: float
    cpu: float
    memory: float
    started: float | None
    acknowledged: float
    healthy: float | None = None


class _Ear:
    """Hears every reading and compares its time with the meter's tick: ticks are on the system's monotonic clock."""

    def __init__(self, port: int, first_healthy: int) -> None:
        self._first = first_healthy
        self._offset = time.time() - time.monotonic()
        self.late: list[float] = []
        self._client = Client(CallbackAPIVersion.VERSION2, "ear")
        self._client.on_message = self._heard
        self._client.connect("127.0.0.1", port)
        self._client.subscribe("v1/devices/+/telemetry", 0)
        self._client.loop_start()

    def _heard(self, _client: Client, _data: object, message: MQTTMessage) -> None:
        number = int(message.topic.split("/")[2].removeprefix("meter-"))
        if number >= self._first:
            ts = int(message.payload[6:19]) / 1000
            # The database numbers the meters from 1. Times are whole milliseconds, so one may lie before its tick.
            self.late.append((ts - self._offset - phase_of(number + 1, 1.0) + 0.001) % 1.0 - 0.001)

    def p99(self) -> float:
        return sorted(self.late)[int(len(self.late) * 0.99)] * 1000

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


def main() -> None:
    """Print growth by number of meters, then the same fleet with faults."""
    cores = os.sched_getaffinity(0)
    # What is started without a core of its own stays off the service's.
    os.sched_setaffinity(0, cores - {_SERVICE_CORE} or cores)
    try:
        _growth_and_faults()
    finally:
        os.sched_setaffinity(0, cores)


def _growth_and_faults() -> None:
    counts = [int(count) for count in os.environ.get("FLEET_COUNTS", "10,100,1000,2000,4000").split(",")]
    seconds = float(os.environ.get("FLEET_SECONDS", "60"))
    print(f"{seconds:g} s each, 5 values, 1 Hz, HDLC; load of the machine before: {os.getloadavg()[0]:.2f}")
    print(
        f"{'meters':>7} {'polls':>8} {'late p99':>10} {'CPU':>8} {'us/poll':>8} {'kB/meter':>9} {'start':>7} "
        f"{'acked':>8}"
    )
    base: Result | None = None
    for count in counts:
        result = measure(count, seconds)
        _print(result, base)
        base = base or result
    faulty = int(os.environ.get("FLEET_FAULTY", "1000"))
    if faulty:
        print(f"{faulty} meters, then with 10 % dead, 10 % slow (2 s) and 5 % behind garbage")
        sound, troubled = (measure(faulty, seconds, faults=faults, listen=True) for faults in (False, True))
        for result in (sound, troubled):
            _print(result, base)
        if sound.healthy is not None and troubled.healthy is not None:
            print(
                f"from tick to reading, p99 of the healthy 75 %: {sound.healthy:.1f} ms without,"
                f" {troubled.healthy:.1f} ms with the others' faults ({troubled.healthy / sound.healthy:.2f} x)"
            )


def _print(result: Result, base: Result | None) -> None:
    each = "" if base is None or result.meters == base.meters else f"{_each(result, base):.0f}"
    start = "–" if result.started is None else f"{result.started:.1f} s"
    print(
        f"{result.meters:>7} {result.polls:>6.2f} % {result.lateness:>7.1f} ms {result.cpu:>6.1f} % "
        f"{result.cpu * 1e4 / result.meters:>8.0f} {each:>9} {start:>7} {result.acknowledged:>6.2f} %",
        flush=True,
    )


def _each(result: Result, base: Result) -> float:
    return (result.memory - base.memory) * 1e3 / (result.meters - base.meters)


def measure(count: int, seconds: float, *, faults: bool = False, listen: bool = False) -> Result:
    """Run one fleet for a while.

    Args:
        count: meters.
        seconds: measured, after all are associated.
        faults: whether a quarter of them is in trouble.
        listen: whether the readings of the other three quarters are heard.
    """
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        (folder / "broker").mkdir()
        broker = Mosquitto(folder / "broker", free_port())
        broker.start()
        stack.callback(broker.stop)
        first = stack.enter_context(simulators(count, folder, faults))
        fill(folder, count, first, broker.port)
        began = time.time()
        log = stack.enter_context(service(folder, core=_SERVICE_CORE))
        healthy = count - count // 10 if faults else count
        connected = wait_until_connected(log, healthy, began)
        measured_from = time.time()
        ear = _Ear(broker.port, count // 4) if listen else None
        time.sleep(seconds + REPORT_EVERY + 1)
        if ear is not None:
            ear.close()
        reports = [
            event
            for event in events(log)
            if event["event"] == "SYSTEM STATUS REPORT" and event["at"] / 1000 - event["seconds"] >= measured_from
        ]
        if not any(report["cycles"] for report in reports):
            end = log.read_text(encoding="utf-8")[-600:] if log.exists() else "there is none"
            raise RuntimeError(f"the service gave no report of {count} meters; its log ends:\n{end}")
    return _result(count, reports, connected, None if ear is None else ear.p99())


def _result(count: int, reports: Sequence[dict[str, Any]], started: float | None, healthy: float | None) -> Result:
    total = {key: sum(r[key] for r in reports) for key in ("cycles", "readings", "mqtt_queued", "mqtt_acknowledged")}
    seconds = sum(r["seconds"] for r in reports)
    return Result(
        count,
        100.0 * total["readings"] / total["cycles"],
        max(r["lateness_p99_ms"] for r in reports),
        sum(r["cpu_percent"] * r["seconds"] for r in reports) / seconds,
        reports[-1]["memory_mb"],
        started,
        100.0 * total["mqtt_acknowledged"] / total["mqtt_queued"],
        healthy,
    )
