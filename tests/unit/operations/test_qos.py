"""Each check against its target, and the worst of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from meterbridge.errors import ConfigurationError
from meterbridge.model import MeterId
from meterbridge.operations import Facts, Level, OutboxFact, ProbeFact, quality_of
from meterbridge.operations.facts import DiskFact
from meterbridge.settings import TargetsSettings, load_settings
from meterbridge.store import NetworkSummary
from tests.unit.operations.facts_made import NOW, alarm, healthy, summary

TARGETS = TargetsSettings()


def metrics(**values: Any) -> Facts:
    return replace(healthy(1), metrics=(summary(1, **values),))


def probed(role: str, ok: bool | None) -> Facts:
    return replace(healthy(), probes=(ProbeFact(role, "h:1", ok, "told"),))


def lost(received: int) -> Facts:
    return replace(healthy(1), network=(NetworkSummary(MeterId(1), 100, received),))


def test_all_is_well() -> None:
    found = quality_of(healthy(), TARGETS)
    assert (found.level, found.running) == (Level.OK, True)
    assert {check.level for check in found.checks} <= {Level.OK, Level.UNKNOWN}
    names = [check.name for check in found.checks]
    assert names == [
        "service", "meters_reachable", "broker", "gateway", "thingsboard", "success_rate", "mqtt_rate", "latency",
        "ping_loss", "reconnections", "hdlc_errors", "backlog", "quarantine", "alarms", "disk_free",
    ]  # fmt: skip
    assert all(check.measured and check.target for check in found.checks)


@pytest.mark.parametrize(
    ("facts", "name", "level"),
    [
        (replace(healthy(), running=False), "service", Level.CRITICAL),
        (replace(healthy(20), reachable={MeterId(1): False, MeterId(2): True}), "meters_reachable", Level.CRITICAL),
        (
            replace(healthy(20), reachable={MeterId(n): n > 1 for n in range(1, 21)}),
            "meters_reachable",
            Level.WARNING,
        ),
        (replace(healthy(), reachable={}), "meters_reachable", Level.UNKNOWN),
        (probed("broker", False), "broker", Level.CRITICAL),
        (probed("gateway", False), "gateway", Level.CRITICAL),
        (probed("gateway", None), "gateway", Level.UNKNOWN),
        (probed("ThingsBoard", False), "thingsboard", Level.CRITICAL),
        (probed("ThingsBoard", True), "thingsboard", Level.OK),
        (metrics(success_rate=98.9), "success_rate", Level.WARNING),
        (metrics(success_rate=99.0), "success_rate", Level.OK),
        (metrics(success_rate=89.9), "success_rate", Level.CRITICAL),
        (metrics(success_rate=None), "success_rate", Level.UNKNOWN),
        (metrics(mqtt_rate=0.0), "mqtt_rate", Level.CRITICAL),
        (metrics(avg_latency=2_000.0), "latency", Level.OK),
        (metrics(avg_latency=2_000.1), "latency", Level.WARNING),
        (metrics(avg_latency=6_000.1), "latency", Level.CRITICAL),
        (lost(95), "ping_loss", Level.OK),
        (lost(94), "ping_loss", Level.WARNING),
        (lost(0), "ping_loss", Level.CRITICAL),
        # A quarter of an hour: four times as many in an hour.
        (metrics(reconnections=1), "reconnections", Level.OK),
        (metrics(reconnections=2), "reconnections", Level.WARNING),
        (metrics(reconnections=6), "reconnections", Level.CRITICAL),
        (metrics(hdlc_errors=6), "hdlc_errors", Level.WARNING),
        (replace(healthy(), routes=(replace(healthy().routes[0], oldest_at=NOW - 301_000),)), "backlog", Level.WARNING),
        (replace(healthy(), routes=(replace(healthy().routes[0], oldest_at=1),)), "backlog", Level.CRITICAL),
        (replace(healthy(), routes=(), outbox=None), "backlog", Level.OK),
        (replace(healthy(), outbox=OutboxFact(0, 0, 1)), "quarantine", Level.WARNING),
        (replace(healthy(), alarms=(alarm(1, "x", severity="warning"),)), "alarms", Level.WARNING),
        (replace(healthy(), alarms=(alarm(1, "x"),)), "alarms", Level.CRITICAL),
        (replace(healthy(), disks=(DiskFact("log", "/l", 9, 100),)), "disk_free", Level.WARNING),
        (replace(healthy(), disks=(DiskFact("log", "/l", 2, 100),)), "disk_free", Level.CRITICAL),
    ],
)
def test_a_check_that_fails_makes_the_whole_fail(facts: Facts, name: str, level: Level) -> None:
    found = quality_of(facts, TARGETS)
    [check] = [check for check in found.checks if check.name == name]
    assert check.level is level
    worst = level if level is not Level.UNKNOWN else Level.OK
    assert found.level is (Level.CRITICAL if found.level is Level.CRITICAL and worst is Level.OK else worst)


def test_inactive_meters_are_not_missed() -> None:
    facts = healthy(2)
    facts = replace(facts, meters=(facts.meters[0], replace(facts.meters[1], status="inactive")))
    found = quality_of(replace(facts, reachable={MeterId(1): True, MeterId(2): False}), TARGETS)
    assert found.level is Level.OK


def test_targets_that_contradict_each_other_are_refused(tmp_path: Any) -> None:
    file = tmp_path / "t.toml"
    for text, told in (
        ("success_rate_critical = 99.5", "success_rate_critical must not be above success_rate_warning"),
        ("latency_critical_ms = 1", "latency_critical_ms must not be below latency_warning_ms"),
        ("disk_free_warning = 101", "0 to 100"),
        ("latency_warning_ms = nan", "latency_warning_ms"),
    ):
        file.write_text(f"[targets]\n{text}\n")
        with pytest.raises(ConfigurationError, match="targets") as refused:
            load_settings(file)
        assert told in str(refused.value), refused.value
