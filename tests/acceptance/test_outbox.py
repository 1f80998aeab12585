"""`meterbridge outbox` and `meterbridge gateway-config` as people meet them."""

from __future__ import annotations

import json
from pathlib import Path

from meterbridge.delivery.outbox_file import Limits, OutboxFile
from meterbridge.delivery.row import Row
from meterbridge.model import MeterId
from tests.acceptance.processes import run


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
