"""Alert rules and dashboard use metrics and labels that a running service really exports."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.acceptance.processes import run, start, stop
from tests.conftest import ROOT

USERS = (ROOT / "deploy/prometheus/meterbridge.rules.yml", ROOT / "deploy/grafana/meterbridge.json")
# What Prometheus adds, and the variables of a dashboard.
GIVEN = {"instance", "job"}


@pytest.fixture(scope="module")
def exposition(tmp_path_factory: pytest.TempPathFactory, free_port: Callable[[], int]) -> Iterator[str]:
    """Of a service with one meter that does not answer, so that there is an alarm."""
    folder, port = tmp_path_factory.mktemp("metrics"), free_port()
    nobody = ("--port", str(free_port()), "--tb-port", str(free_port()))
    assert run("add", "Main", "127.0.0.1", *nobody, folder=folder).code == 0
    process = start("run", folder=folder, METERBRIDGE_API__PORT=str(port), METERBRIDGE_POLLING__ALARM_AFTER="1")
    assert process.stdout is not None
    assert any("api_started" in line for line in process.stdout)
    token = (folder / "data" / "api.token").read_text()
    give_up = time.monotonic() + 20
    while True:
        answer = httpx.get(f"http://127.0.0.1:{port}/metrics", headers={"Authorization": f"Bearer {token}"})
        if "meterbridge_alarms_open{" in answer.text or time.monotonic() > give_up:
            break
        time.sleep(0.1)
    yield answer.text
    assert stop(process).code == 0


@pytest.mark.parametrize("file", USERS, ids=["rules", "dashboard"])
def test_every_metric_and_label_that_is_used_is_exported(exposition: str, file: Path) -> None:
    families = list(text_string_to_metric_families(exposition))
    names = {family.name + ("_total" if family.type == "counter" else "") for family in families}
    labels = {label for family in families for sample in family.samples for label in sample.labels} | GIVEN
    text = file.read_text()
    used = set(re.findall(r"\bmeterbridge_[a-z_]+", text))
    assert len(used) > 8
    assert used <= names
    named = {label for group in re.findall(r"\b(?:by|on) \(([^)]*)\)", text) for label in group.split(", ")}
    named |= set(re.findall(r"\{\{ ?(?:\$labels\.)?([a-z]+) ?\}\}", text)) - {"value"}
    assert "instance" in named or "name" in named
    assert named <= labels
