"""`meterbridge outbox` and `meterbridge gateway-config` as people meet them."""

from __future__ import annotations

import json
import os
import queue
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from meterbridge.delivery.outbox_file import Limits, OutboxFile
from meterbridge.delivery.row import Row
from meterbridge.model import MeterId
from tests.acceptance.processes import run
from tests.broker import Mosquitto


def filled(folder: Path) -> None:
    (folder / "data").mkdir()
    file = OutboxFile(folder / "data" / "outbox.db", Limits())
    rows = [Row(n, MeterId(1), "broker:h:1", "telemetry", "m[red]1", n, b'{"ts":1}', 0) for n in range(1, 6)]
    file.write(rows, [], [], 0)
    file.write([], [], [(rows[0], "refused"), (rows[1], "closed")], 0)
    file.close()


def test_status_list_retry_and_purge(tmp_path: Path) -> None:
    filled(tmp_path)
    status = json.loads(run("outbox", "status", "--json", folder=tmp_path).out)
    assert (status["rows"], status["quarantined"], status["routes"][0]["route"]) == (3, 2, "broker:h:1")
    assert "2 in quarantine" in run("outbox", "status", folder=tmp_path).out
    shown = run("outbox", "list", folder=tmp_path).out
    assert "m[red]1" in shown
    listed = [json.loads(line) for line in run("outbox", "list", "--json", folder=tmp_path).out.splitlines()]
    assert [(row["id"], row["error"]) for row in listed] == [(1, "refused"), (2, "closed")]
    assert "1 to be sent again" in run("outbox", "retry", "1", folder=tmp_path).out
    assert json.loads(run("outbox", "status", "--json", folder=tmp_path).out)["retrying"] == 1
    assert "1 deleted" in run("outbox", "purge", "2", "--yes", folder=tmp_path).out
    assert "3 deleted" in run("outbox", "purge", "--route", "broker:h:1", "-y", folder=tmp_path).out


def test_nothing_is_purged_unasked(tmp_path: Path) -> None:
    filled(tmp_path)
    assert run("outbox", "purge", "--all", folder=tmp_path).code == 1
    assert run("outbox", "purge", "--yes", folder=tmp_path).refused_in_one_line(2)
    assert json.loads(run("outbox", "status", "--json", folder=tmp_path).out)["quarantined"] == 2


def test_no_outbox_is_one_line(tmp_path: Path) -> None:
    assert "no outbox" in run("outbox", "status", folder=tmp_path).refused_in_one_line(1)


def test_gateway_config_writes_four_files_and_overwrites_none(tmp_path: Path) -> None:
    done = run("gateway-config", "gw", "--token", "TOKEN", "--port", "1999", folder=tmp_path)
    assert done.code == 0
    assert "TOKEN" not in done.out
    folder = tmp_path / "gw"
    gateway = json.loads((folder / "tb_gateway.json").read_text())
    assert gateway["thingsboard"]["security"] == {"type": "accessToken", "accessToken": "TOKEN"}
    assert (gateway["thingsboard"]["port"], gateway["storage"]["type"]) == (1999, "sqlite")
    assert (folder / "tb_gateway.json").stat().st_mode & 0o777 == 0o600
    broker = json.loads((folder / "mqtt.json").read_text())["broker"]
    assert (broker["port"], broker["cleanStart"]) == (1884, False)
    assert json.loads((folder / "logs.json").read_text())["version"] == 1
    config = (folder / "mosquitto.conf").read_text()
    for line in ("listener 1884 127.0.0.1", "persistence true", "max_queued_messages 0"):
        assert line in config.splitlines()
    assert "--force" in run("gateway-config", "gw", folder=tmp_path).refused_in_one_line(2)
    assert run("gateway-config", "gw", "--force", folder=tmp_path).code == 0


def connected(
    port: int, work: Callable[[mqtt.Client], object], ends: str, name: str = "tb-gateway-meters"
) -> tuple[Any, ...]:
    """Do something on a session that lasts, until a callback is called; what it was given."""
    told: queue.Queue[tuple[Any, ...]] = queue.Queue()
    client = mqtt.Client(CallbackAPIVersion.VERSION2, name, clean_session=False)

    def begin(*_: object) -> None:
        work(client)

    client.on_connect = begin
    setattr(client, ends, lambda *arguments: told.put(arguments))
    client.connect("127.0.0.1", port)
    client.loop_start()
    try:
        return told.get(timeout=10)
    finally:
        client.disconnect()
        client.loop_stop()


@pytest.fixture
def reachable() -> Iterator[Path]:
    """A folder that every account can pass through."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


def test_mosquitto_keeps_what_waits_over_a_restart_with_the_configuration_written(
    reachable: Path, free_port: Callable[[], int]
) -> None:
    port = free_port()
    done = run("gateway-config", "gw", "--broker-port", str(port), folder=reachable)
    assert (done.code, done.err) == (0, "")
    broker = Mosquitto(reachable, port)
    broker.use(reachable / "gw" / "mosquitto.conf")
    broker.start()
    try:
        connected(port, lambda client: client.subscribe("v1/devices/+/telemetry", qos=1), "on_subscribe")
        connected(port, lambda client: client.publish("v1/devices/m1/telemetry", b"{}", qos=1), "on_publish", "service")
        broker.stop()
        broker.start()
        *_, message = connected(port, lambda client: None, "on_message")
        assert (message.topic, message.payload) == ("v1/devices/m1/telemetry", b"{}")
    finally:
        broker.stop()


def test_a_folder_mosquitto_cannot_reach_is_told(tmp_path: Path) -> None:
    if os.geteuid():
        pytest.skip("whoever is not root runs Mosquitto as himself")
    (tmp_path / "closed").mkdir(mode=0o700)
    done = run("gateway-config", "closed/gw", folder=tmp_path)
    assert done.code == 0
    assert "cannot pass through" in done.err
