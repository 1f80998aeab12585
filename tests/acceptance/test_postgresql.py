"""The service and its commands on PostgreSQL, and a server that goes away under them."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion

from tests.acceptance.processes import Ended, run, start, stop
from tests.broker import Mosquitto
from tests.postgres import Postgres, program

SECRET = "pa55-w0rd-y"


@pytest.fixture
def variables(postgres: Postgres, free_port: Callable[[], int]) -> Iterator[dict[str, str]]:
    name = postgres.create()
    path = f"{Path(program('pg_dump')).parent}:/usr/bin:/bin"
    yield {
        "METERBRIDGE_DATABASE__URL": postgres.url(name),
        "METERBRIDGE_API__PORT": str(free_port()),
        "PATH": path,
    }
    postgres.drop(name)


@pytest.fixture
def typed(variables: dict[str, str], tmp_path: Path) -> Callable[..., Ended]:
    return lambda *words, **more: run(*words, folder=tmp_path, timeout=30.0, **variables, **more)


@pytest.fixture
def meter_port(free_port: Callable[[], int]) -> Iterator[int]:
    port = free_port()
    process = start("simulate", "--port", str(port))
    assert process.stdout is not None
    assert process.stdout.readline().startswith("READY")
    yield port
    stop(process)


def event(process: subprocess.Popen[str], name: str, **wanted: object) -> dict[str, Any]:
    assert process.stdout is not None
    for line in process.stdout:
        found: dict[str, Any] = json.loads(line) if line.startswith("{") else {}
        if found.get("event") == name and all(found.get(key) == value for key, value in wanted.items()):
            return found
    pytest.fail(f"it ended before it said {name}: {process.communicate()[1]}")


def test_commands_without_a_service(typed: Callable[..., Ended], tmp_path: Path, postgres: Postgres) -> None:
    assert typed("add", "Main", "127.0.0.1", METER_PASSWORD=SECRET).code == 0
    assert json.loads(typed("list", "--json").out)[0]["name"] == "Main"
    assert typed("secrets", "rotate").out == "1 secrets encrypted anew\n"
    assert typed("db", "check").out == "all is well\n"
    made = typed("db", "backup")
    assert made.code == 0, made
    dump = (tmp_path / made.out.strip()).read_bytes()
    assert (dump[:5], SECRET.encode() in dump) == (b"PGDMP", False)
    assert "pg_restore" in typed("db", "restore", made.out.strip()).refused_in_one_line(2)
    assert not (tmp_path / "data" / "admin.db").exists()
    token = typed("token", "add", "ann", "--role", "viewer").out.strip()
    assert token not in postgres.dump(typed_database(made)).decode()


def typed_database(made: Ended) -> str:
    return Path(made.out.strip()).name.partition(".backup-")[0]


def test_readings_go_on_while_the_server_is_away(
    variables: dict[str, str],
    typed: Callable[..., Ended],
    tmp_path: Path,
    meter_port: int,
    mosquitto: Mosquitto,
    postgres: Postgres,
) -> None:
    added = ("--port", str(meter_port), "--model", "microstar", "--tb-port", str(mosquitto.port))
    assert typed("add", "Main", "127.0.0.1", *added, METER_PASSWORD="00000000").code == 0
    process = start("run", folder=tmp_path, METERBRIDGE_POLLING__PERIOD_S="0.2", **variables)
    arrived = threading.Event()

    def message(_client: Client, _data: object, _got: MQTTMessage) -> None:
        arrived.set()

    subscriber = Client(CallbackAPIVersion.VERSION2)
    subscriber.on_message = message
    subscriber.on_connect = lambda client, *_: client.subscribe("v1/devices/Main/telemetry", qos=1)
    subscriber.connect(mosquitto.host, mosquitto.port)
    subscriber.loop_start()
    try:
        event(process, "meter_connected")
        postgres.stop()
        try:
            lost = event(process, "alarm_opened", type="database_failing")
            arrived.clear()
            assert arrived.wait(10), "readings stopped with the database"
            # The service knows its meters; what only the database knows is refused.
            assert [meter["name"] for meter in json.loads(typed("list", "--json").out)] == ["Main"]
            refused = typed("health")
            assert (refused.code, "Traceback" in refused.err) == (1, False)
            assert len(refused.err.splitlines()) == 1
        finally:
            postgres.start()
        event(process, "alarm_resolved", type="database_failing")
        assert json.loads(typed("status", "Main", "--json").out)["counters"]["successes"] > 0
    finally:
        subscriber.disconnect()
        subscriber.loop_stop()
        ended = stop(process)
    assert ended.code == 0, ended
    assert postgres.password not in ended.out + ended.err + json.dumps(lost)
    assert "Traceback" not in ended.out + ended.err
    name = variables["METERBRIDGE_DATABASE__URL"].rpartition("/")[2]
    opened = postgres.sql("SELECT alarm_type, resolved_at > created_at FROM alarms WHERE meter_id IS NULL", name)
    assert "database_failing|t" in opened.splitlines()


def test_a_server_that_hangs_does_not_hold_up_the_end(
    variables: dict[str, str],
    typed: Callable[..., Ended],
    tmp_path: Path,
    free_port: Callable[[], int],
    postgres: Postgres,
) -> None:
    assert typed("add", "Main", "127.0.0.1", "--port", str(free_port()), "--tb-port", str(free_port())).code == 0
    process = start("run", folder=tmp_path, **variables)
    event(process, "meter_failed")
    with postgres.frozen():
        began = time.monotonic()
        ended = stop(process, timeout=30)
        took = time.monotonic() - began
    assert (ended.code, "Traceback" in ended.out + ended.err) == (0, False), ended
    assert took < 12


def test_a_server_that_is_not_there_stops_the_start_in_one_line(
    typed: Callable[..., Ended], free_port: Callable[[], int]
) -> None:
    url = f"postgresql://meterbridge:{SECRET}@127.0.0.1:{free_port()}/x"
    ended = run("run", METERBRIDGE_DATABASE__URL=url)
    assert (ended.code, SECRET in ended.out + ended.err) == (1, False)
    assert ended.err.splitlines()[-1].startswith("meterbridge: database postgresql+asyncpg://meterbridge:***@127.0.0.1")
    assert len(ended.err.splitlines()) == 1
