"""`meterbridge run` as a process: meters in, readings out, and what stops it from starting."""

from __future__ import annotations

import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion

from tests.acceptance.processes import run, start, stop
from tests.broker import Mosquitto

INSERT = (
    "INSERT INTO meters (name, ip_address, port, client_id, server_id, password, status, tb_enabled, tb_host, tb_port,"
    " model, framing) VALUES ('{name}', '127.0.0.1', {port}, 1, 1, '00000000', 'active', 1, '127.0.0.1', {broker},"
    " '{model}', 'hdlc')"
)


@pytest.fixture(scope="module")
def meter_port(free_port: Callable[[], int]) -> Iterator[int]:
    port = free_port()
    process = start("simulate", "--port", str(port))
    assert process.stdout is not None
    assert process.stdout.readline() == f"READY {port}-{port}\n"
    yield port
    stop(process)


def made_database(folder: Path) -> Path:
    """Let the service make its database, and return where it is."""
    process = start("run", folder=folder)
    wait_for_line(process, "service_started")
    assert stop(process).code == 0
    return folder / "data" / "admin.db"


def wait_for_line(process: subprocess.Popen[str], text: str) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        if text in line:
            return
    pytest.fail(f"it ended before it said {text}: {process.communicate()[1]}")


def sql(database: Path, *statements: str) -> None:
    subprocess.run(["sqlite3", str(database), ";".join(statements)], check=True)


def test_good_meters_are_delivered_whatever_the_others_are(
    tmp_path: Path, meter_port: int, mosquitto: Mosquitto
) -> None:
    devices: set[str] = set()
    arrived = threading.Event()

    def message(_client: Client, _data: object, got: MQTTMessage) -> None:
        devices.add(got.topic)
        arrived.set()

    database = made_database(tmp_path)
    mosquitto.stop()  # the broker is absent at the start
    rows = [("good", meter_port, "microstar"), ("odd", meter_port, "nobody"), ("a/b", meter_port, "generic")]
    inserts = [INSERT.format(name=name, port=port, broker=mosquitto.port, model=model) for name, port, model in rows]
    sql(database, *inserts, INSERT.format(name="bad", port=99_999, broker=mosquitto.port, model="generic"))
    process = start("run", folder=tmp_path)
    wait_for_line(process, "meter_connected")
    mosquitto.start()
    subscriber = Client(CallbackAPIVersion.VERSION2)
    subscriber.on_message = message
    subscriber.on_connect = lambda client, *_: client.subscribe("v1/devices/+/telemetry", qos=1)
    subscriber.connect(mosquitto.host, mosquitto.port)
    subscriber.loop_start()
    try:
        assert arrived.wait(30)
    finally:
        subscriber.disconnect()
        subscriber.loop_stop()
        started = time.monotonic()
        ended = stop(process)
    assert time.monotonic() - started < 10
    assert (ended.code, devices) == (0, {"v1/devices/good/telemetry"})
    assert "Traceback" not in ended.out + ended.err
    # The meter takes one association at a time: it was released.
    assert run("read", f"127.0.0.1:{meter_port}", "clock").code == 0


@pytest.mark.parametrize("url", ["file", "folder", "file/x"])
def test_a_database_that_is_none_is_one_clear_line(tmp_path: Path, url: str) -> None:
    (tmp_path / "file").write_text("this is no database, and never was one\n" * 100)
    (tmp_path / "folder").mkdir()
    ended = run("run", folder=tmp_path, METERBRIDGE_DATABASE__URL=f"sqlite+aiosqlite:///{url}")
    assert ended.code == 1
    assert "Traceback" not in ended.out + ended.err
    [line] = ended.err.splitlines()
    assert line.startswith("meterbridge: database ")


def test_a_second_service_stops_at_the_port_before_it_touches_anything(
    tmp_path: Path, free_port: Callable[[], int]
) -> None:
    with socket.create_server(("127.0.0.1", free_port())) as taken:
        port = taken.getsockname()[1]
        done = run("run", folder=tmp_path, timeout=60, METERBRIDGE_API__PORT=str(port))
    assert f"the API cannot listen on 127.0.0.1 port {port}: " in done.refused_in_one_line(2)
    assert not (tmp_path / "data").exists()
