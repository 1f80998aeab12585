"""Thousands of meters at 1 Hz: the whole service as a process of its own, against simulators in theirs.

Five values a meter and second, through outbox and broker. CPU is the service's process time, lateness and polls are
what its own status reports say of the time measured. FLEET_COUNTS="10,100,1000" and FLEET_SECONDS=60 choose.
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

from benchmarks.installation import (
    REPORT_EVERY,
    events,
    fill,
    free_port,
    service,
    simulators,
    wait_until_connected,
)
from tests.broker import Mosquitto


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
    """

    meters: int
    polls: float
    lateness: float
    cpu: float
    memory: float
    started: float | None
    acknowledged: float


def main() -> None:
    """Print growth by number of meters, then the same fleet with faults."""
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
        _print(measure(faulty, seconds), base)
        _print(measure(faulty, seconds, faults=True), base)


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


def measure(count: int, seconds: float, *, faults: bool = False) -> Result:
    """Run one fleet for a while.

    Args:
        count: meters.
        seconds: measured, after all are associated.
        faults: whether a quarter of them is in trouble.
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
        log = stack.enter_context(service(folder))
        healthy = count - count // 10 if faults else count
        connected = wait_until_connected(log, healthy, began)
        measured_from = time.time()
        time.sleep(seconds + REPORT_EVERY + 1)
        reports = [
            event
            for event in events(log)
            if event["event"] == "SYSTEM STATUS REPORT" and event["at"] / 1000 - event["seconds"] >= measured_from
        ]
        if not any(report["cycles"] for report in reports):
            end = log.read_text(encoding="utf-8")[-600:] if log.exists() else "there is none"
            raise RuntimeError(f"the service gave no report of {count} meters; its log ends:\n{end}")
    return _result(count, reports, connected)


def _result(count: int, reports: Sequence[dict[str, Any]], started: float | None) -> Result:
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
    )
