"""Faults played for real, the service as a process, and what `meterbridge plan` makes of them."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion

from tests.acceptance.processes import COMMAND, Ended, environment, run, start, stop
from tests.broker import Mosquitto

TOKEN = "t0ken-of-a-device"
PASSWORD = "s3cret-meter-pw"
SEEN = "2026-01-01 00:00:00.000Z"
# TCP reaches no multicast group. What answers for addresses of documentation, a proxy or a lab, is not ours to know.
NOWHERE = "239.255"
# By index: what a simulated meter does.
FAULTS = {
    1: 'kind = "wrong-password"',
    2: 'kind = "no-answer"',
    3: 'kind = "busy"',
    4: 'kind = "already-associated"',
    5: 'kind = "wrong-fcs"',
    6: 'kind = "power-cut"',
    7: 'kind = "busy"\nsays = "not-ready"',
    8: 'kind = "no-answer"',
    13: 'kind = "garbage-before"',
}
COUNT, DRIFTING = 14, 9
# Everything that takes minutes in the field, in seconds.
FAST = {
    "POLLING__PERIOD_S": "0.2",
    "POLLING__RESPONSE_TIMEOUT_FLOOR_S": "0.4",
    "POLLING__RESPONSE_TIMEOUT_CEILING_S": "0.8",
    "POLLING__CONNECT_TIMEOUT_S": "0.4",
    "POLLING__BACKOFF_INITIAL_S": "0.1",
    "POLLING__BACKOFF_MAX_S": "0.3",
    "POLLING__INACTIVITY_TIMEOUT_S": "1",
    "POLLING__SILENCE_S": "4",
    "POLLING__HDLC_ERRORS": "3",
    "MONITOR__INTERVAL_S": "1",
    "NETWORK__PING_INTERVAL_S": "0.5",
    "NETWORK__PING_TIMEOUT_S": "0.3",
    "NETWORK__OUTAGE_AFTER": "2",
    "MQTT__BACKOFF_INITIAL_S": "0.1",
    "MQTT__BACKOFF_MAX_S": "0.3",
    "DELIVERY__ROUTE_DOWN_AFTER_S": "1",
    "DELIVERY__ACK_TIMEOUT_S": "60",
    "TARGETS__BACKLOG_WARNING_S": "2",
    # The first polls of a run of seconds wait for their association.
    "TARGETS__SUCCESS_RATE_WARNING": "1",
    "TARGETS__SUCCESS_RATE_CRITICAL": "1",
    "TARGETS__MQTT_RATE_WARNING": "1",
    "TARGETS__MQTT_RATE_CRITICAL": "1",
}


@dataclass
class Site:
    """An installation in a folder of its own."""

    folder: Path
    port: int
    more: dict[str, str] = field(default_factory=dict)

    @property
    def variables(self) -> dict[str, str]:
        given = {**FAST, "API__PORT": str(self.port), **self.more}
        return {f"METERBRIDGE_{name}": value for name, value in given.items()}

    def typed(self, *arguments: str) -> Ended:
        return run(*arguments, folder=self.folder, timeout=30.0, **self.variables)

    def meters(self, rows: list[dict[str, Any]]) -> dict[str, int]:
        """Put meters into the database as typed rows; their ids by name."""
        assert self.typed("db", "upgrade").code == 0
        with closing(sqlite3.connect(self.folder / "data" / "admin.db")) as database, database:
            for row in rows:
                names = ", ".join(row)
                database.execute(f"INSERT INTO meters ({names}) VALUES ({', '.join('?' * len(row))})", [*row.values()])
            return dict(database.execute("SELECT name, id FROM meters"))

    @contextmanager
    def service(self) -> Iterator[httpx.Client]:
        with (self.folder / "out.txt").open("w") as out:
            process = subprocess.Popen(
                [*COMMAND, "run"], cwd=self.folder, env=environment(**self.variables), stdout=out, stderr=out, text=True
            )
        try:
            token = self.folder / "data" / "api.token"
            until = time.monotonic() + 20
            while "api_started" not in (self.folder / "out.txt").read_text():
                assert process.poll() is None and time.monotonic() < until, (self.folder / "out.txt").read_text()
                time.sleep(0.05)
            headers = {"Authorization": f"Bearer {token.read_text()}"}
            with httpx.Client(base_url=f"http://127.0.0.1:{self.port}", headers=headers, timeout=20) as client:
                yield client
        finally:
            stop(process)

    def plan(self) -> tuple[int, dict[str, Any]]:
        ended = self.typed("plan", "--json")
        return ended.code, json.loads(ended.out)


def diagnosed(found: dict[str, Any]) -> dict[str, set[int]]:
    return {action["diagnosis"]: set(action["meters"]) for action in found["actions"]}


def wait_for(client: httpx.Client, wanted: Callable[[dict[str, Any]], bool], seconds: float = 30.0) -> dict[str, Any]:
    until = time.monotonic() + seconds
    while True:
        found: dict[str, Any] = client.get("/api/system/plan").json()
        if wanted(found):
            return found
        if time.monotonic() > until:
            pytest.fail("\n".join(f"{name}: {sorted(meters)}" for name, meters in diagnosed(found).items()))
        time.sleep(0.3)


@pytest.fixture
def site(tmp_path: Path, free_port: Callable[[], int]) -> Site:
    return Site(tmp_path, free_port())


@contextmanager
def simulated(folder: Path, first: int, faults: dict[int, str]) -> Iterator[None]:
    script = "".join(f'[[fault]]\n{text}\nmeters = "{index}"\n' for index, text in faults.items())
    (folder / "faults.toml").write_text("seed = 11\n" + script)
    options = ("--count", str(COUNT), "--port", str(first), "--faults", "faults.toml")
    process = start("simulate", *options, folder=folder)
    assert process.stdout is not None
    assert process.stdout.readline().startswith("READY"), process.communicate()[1]
    yield
    stop(process)


@contextmanager
def rival(port: int, client_id: str) -> Iterator[None]:
    """Another client under the same identifier that comes back whenever it is thrown out."""
    ended = threading.Event()

    def connect() -> None:
        while not ended.wait(0.1):
            client = Client(CallbackAPIVersion.VERSION2, client_id)
            client.connect("127.0.0.1", port)
            for _ in range(3):
                client.loop(0.1)
            client.disconnect()

    thread = threading.Thread(target=connect)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def broker_of(stack: ExitStack, folder: Path, port: int, more: str = "") -> Mosquitto:
    folder.mkdir()
    broker = Mosquitto(folder, port)
    file = folder / "mosquitto.conf"
    if more:
        file.write_text(file.read_text().replace("allow_anonymous true\n", more))
    broker.start()
    stack.callback(broker.stop)
    return broker


@pytest.mark.timeout(150)
def test_each_fault_gets_its_own_diagnosis(site: Site, free_port: Callable[[], int]) -> None:
    first = 12_000 + os.getpid() % 9_000
    closed, nobody = free_port(), free_port()
    (site.folder / "no-users").touch(mode=0o600)
    with ExitStack() as stack:
        good = broker_of(stack, site.folder / "good", free_port())
        strict = broker_of(stack, site.folder / "strict", free_port(), "allow_anonymous false\n")
        stalled = broker_of(stack, site.folder / "stalled", free_port())
        stack.enter_context(simulated(site.folder, first, FAULTS))
        aside = run("clock", f"127.0.0.1:{first + DRIFTING}", "--set", "2020-01-01T00:00:00Z")
        assert aside.code == 0, aside
        there = {"ip_address": "127.0.0.1", "model": "microstar", "tb_host": "127.0.0.1", "tb_port": good.port}
        rows = [{**there, "name": f"m{index}", "port": first + index} for index in range(COUNT)]
        rows[1]["password"] = PASSWORD
        rows[2]["last_seen"] = SEEN
        rows[10].update(tb_port=nobody)
        rows[11].update(tb_port=strict.port, tb_token=TOKEN)
        rows[12].update(tb_port=stalled.port)
        rows.append({**there, "name": "shared", "port": first, "tb_token": f"{TOKEN}-2"})
        # A meter takes one client: that one reads the first.
        del rows[0]
        rows += [
            {**there, "name": "closed", "port": closed},
            {**there, "name": "unknown", "port": 1, "ip_address": "no-such-host.invalid"},
            {**there, "name": "nowhere", "port": 1, "ip_address": f"{NOWHERE}.0.7"},
            {**there, "name": "gone", "port": 1, "ip_address": f"{NOWHERE}.1.9", "last_seen": SEEN},
            {**there, "name": "site-a", "port": 1, "ip_address": f"{NOWHERE}.2.1", "last_seen": SEEN},
            {**there, "name": "site-b", "port": 1, "ip_address": f"{NOWHERE}.2.2", "last_seen": SEEN},
        ]
        site.more["TARGETS__DISK_FREE_WARNING"] = "100"
        ids = site.meters(rows)
        wanted = {
            "disk_filling": set(),
            "wrong_password": {ids["m1"]},
            "meter_silent": {ids["m2"]},
            "busy_meter": {ids["m3"], ids["m7"]},
            "stuck_association": {ids["m4"]},
            "garbage_line": {ids["m5"]},
            "port_closed": {ids["m6"], ids["closed"]},
            "wrong_dlms_address": {ids["m8"]},
            "noisy_line": {ids["m13"]},
            "clock_drift": {ids["m9"]},
            "broker_down": set(),
            "thingsboard_refusing": {ids["m11"]},
            "outbox_growing": set(),
            "token_shared": {ids["shared"]},
            "unknown_host": {ids["unknown"]},
            "wrong_address": {ids["nowhere"]},
            "network_gone": {ids["gone"]},
            "subnet_gone": {ids["site-a"], ids["site-b"]},
        }
        with site.service() as client:
            stack.enter_context(rival(good.port, f"meterbridge-device-{ids['shared']}"))
            time.sleep(2)
            os.kill(stalled.pid, signal.SIGSTOP)
            try:
                found = wait_for(client, lambda plan: wanted.items() <= diagnosed(plan).items())
                assert set(diagnosed(found)) - set(wanted) <= {"unstable_link"}, diagnosed(found)
                for_people = site.typed("plan").out
                checked = site.typed("qos", "--json")
                everything = client.get("/api/meters").text + client.get("/api/system/plan").text + for_people
            finally:
                os.kill(stalled.pid, signal.SIGCONT)
        for action in found["actions"]:
            assert action["evidence"] and action["cause"] and action["commands"] and action["check"], action
            assert action["since"] is None or action["since"] < time.time() * 1000
        assert f"meterbridge edit {ids['m1']}" in for_people
        levels = {check["name"]: check["level"] for check in json.loads(checked.out)["checks"]}
        assert (checked.code, levels["service"], levels["meters_reachable"]) == (2, "ok", "critical")
        log = (site.folder / "logs" / "meterbridge.log").read_text()
        for secret in (TOKEN, PASSWORD):
            assert secret not in everything + log + (site.folder / "out.txt").read_text()
        code, after = site.plan()
        assert (code, after["actions"][0]["diagnosis"], after["running"]) == (1, "service_down", False)


@pytest.mark.timeout(90)
def test_nothing_wrong_and_then_no_way_out(site: Site, mosquitto: Mosquitto) -> None:
    first = 22_000 + os.getpid() % 9_000
    with simulated(site.folder, first, {}):
        there = {"ip_address": "127.0.0.1", "tb_host": "127.0.0.1", "tb_port": mosquitto.port}
        ids = site.meters([{**there, "name": name, "port": first + at} for at, name in enumerate(("a", "b"))])
        with site.service() as client:
            while not all(client.get(f"/api/meters/{id_}/readings").is_success for id_ in ids.values()):
                time.sleep(0.1)
            time.sleep(1.5)
            ended = site.typed("plan")
            assert (ended.code, ended.err) == (0, ""), ended
            assert ended.out == "Nothing is wrong: 2 meters are read and their readings arrive.\n"
            checked = site.typed("qos")
            # Nobody subscribes here, which is what the check of the gateway is for.
            assert checked.code == 2, checked
            [gateway] = [line for line in checked.out.splitlines() if "gateway" in line]
            assert "nobody subscribes" in gateway
            assert checked.out.count("│ critical │") == 1, checked.out
            for at, id_ in enumerate(ids.values()):
                client.patch(f"/api/meters/{id_}", json={"ip_address": f"{NOWHERE}.0.{at + 1}"}).raise_for_status()
            found = wait_for(client, lambda plan: "own_link_gone" in diagnosed(plan))
            assert set(diagnosed(found)) == {"own_link_gone"}
