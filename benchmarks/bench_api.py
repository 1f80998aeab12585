"""The API while a fleet is polled: 1,000 meters at 1 Hz, `GET /api/meters` over and over, polling's lateness beside it.

First the fleet is left alone for API_SECONDS (20), then asked API_RATE (10) times a second for as long. API_METERS
chooses how many meters. What is measured at the client is the whole answer; lateness is what the service's own reports
say of each time.
"""

from __future__ import annotations

import http.client
import json
import os
import tempfile
import time
from contextlib import ExitStack
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


def main() -> None:
    """Print the time of answers, and the lateness of polls without and with requests."""
    count = int(os.environ.get("API_METERS", "1000"))
    seconds = float(os.environ.get("API_SECONDS", "20"))
    rate = float(os.environ.get("API_RATE", "10"))
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        (folder / "broker").mkdir()
        broker = Mosquitto(folder / "broker", free_port())
        broker.start()
        stack.callback(broker.stop)
        first = stack.enter_context(simulators(count, folder, faults=False))
        fill(folder, count, first, broker.port)
        port = free_port()
        log = stack.enter_context(service(folder, METERBRIDGE_API__PORT=str(port)))
        if wait_until_connected(log, count, time.time()) is None:
            raise RuntimeError(f"{count} meters are not connected in time")
        token = (folder / "data" / "api.token").read_text()
        alone_from = time.time()
        time.sleep(seconds + REPORT_EVERY)
        asked_from = time.time()
        times, octets = _ask(port, token, seconds, rate)
        time.sleep(REPORT_EVERY + 1)
        reports = [event for event in events(log) if event["event"] == "SYSTEM STATUS REPORT"]
    print(
        f"{count} meters at 1 Hz, GET /api/meters {rate:g} times a second for {seconds:g} s, {octets / 1e3:.0f} kB each"
    )
    times.sort()
    print(f"answers: {len(times)}, median {_quantile(times, 0.5):.1f} ms, p99 {_quantile(times, 0.99):.1f} ms")
    for name, since, until in (
        ("without requests", alone_from, asked_from),
        ("with requests", asked_from, asked_from + seconds + REPORT_EVERY),
    ):
        _print(name, [r for r in reports if since <= r["at"] / 1000 - r["seconds"] and r["at"] / 1000 <= until])


def _print(name: str, reports: list[dict[str, Any]]) -> None:
    lateness = sorted(report["lateness_p99_ms"] for report in reports)
    cycles, readings = (sum(report[key] for report in reports) for key in ("cycles", "readings"))
    cpu = sum(report["cpu_percent"] * report["seconds"] for report in reports) / sum(r["seconds"] for r in reports)
    print(
        f"{name}: {100.0 * readings / cycles:.2f} % of polls, lateness p99 {lateness[len(lateness) // 2]:.1f} ms "
        f"(median of {len(reports)} reports, worst {lateness[-1]:.1f} ms), CPU {cpu:.1f} %"
    )


def _ask(port: int, token: str, seconds: float, rate: float) -> tuple[list[float], int]:
    """Ask at a steady rate on one connection; milliseconds of each answer, and the octets of the last."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    times: list[float] = []
    octets = 0
    begun = time.monotonic()
    for number in range(int(seconds * rate)):
        time.sleep(max(0.0, begun + number / rate - time.monotonic()))
        asked = time.perf_counter()
        connection.request("GET", "/api/meters", headers={"Authorization": f"Bearer {token}"})
        answer = connection.getresponse()
        body = answer.read()
        times.append((time.perf_counter() - asked) * 1000)
        if answer.status != 200:
            raise RuntimeError(f"status {answer.status}: {body[:200]!r}")
        octets = len(body)
    meters = json.loads(body)["meters"]
    if not all(meter["run_state"] == "running" for meter in meters):
        raise RuntimeError("a meter was not polled")
    return times, octets


def _quantile(ordered: list[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
