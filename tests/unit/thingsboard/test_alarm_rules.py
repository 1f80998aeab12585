"""Alarm rules in both forms, and our own alarms as attributes that they look at."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from meterbridge.meter import load_model
from meterbridge.thingsboard.alarm_rules import (
    AlarmLimits,
    Source,
    alarm_rules,
    is_ours,
    possible_names,
    profile_alarms,
    rule_entities,
)
from meterbridge.thingsboard.bridge_alarms import alarm_attributes
from meterbridge.thingsboard.quantities import polled

LIMITS = AlarmLimits(207.0, 253.0, 49.0, 51.0)
THREE_PHASES = replace(
    load_model("generic"), poll=("voltage_l1", "voltage_l2", "voltage_l3", "frequency", "clock", "serial_number")
)
QUANTITIES = polled([THREE_PHASES])
RULES = alarm_rules(QUANTITIES, LIMITS, Source.SERVER_ATTRIBUTE, True)


def test_a_pair_for_each_phase_and_the_frequency_and_three_for_the_meter() -> None:
    assert [rule.name for rule in RULES] == [
        "Undervoltage L1", "Overvoltage L1", "Undervoltage L2", "Overvoltage L2", "Undervoltage L3", "Overvoltage L3",
        "Underfrequency", "Overfrequency", "No data", "Energy backwards", "Bridge alarm",
    ]  # fmt: skip
    assert {rule.name for rule in RULES} <= possible_names(QUANTITIES)


def test_a_limit_of_zero_and_no_time_leave_a_rule_out() -> None:
    left = alarm_rules(QUANTITIES, AlarmLimits(0, 253.0, 0, 0), Source.SERVER_ATTRIBUTE, False)
    assert [rule.name for rule in left] == [
        "Overvoltage L1", "Overvoltage L2", "Overvoltage L3", "Energy backwards", "Bridge alarm",
    ]  # fmt: skip


def test_an_alarm_clears_a_little_inside_its_limit() -> None:
    under, over = RULES[:2]
    assert (under.create[0][1].operation, under.create[0][1].value) == ("LESS", 207.0)
    assert (under.clear.operation, under.clear.value) == ("GREATER_OR_EQUAL", 208.035)
    assert (over.clear.operation, over.clear.value) == ("LESS_OR_EQUAL", 251.735)


def test_inside_a_profile() -> None:
    alarms = profile_alarms(RULES)
    assert all(is_ours(alarm) for alarm in alarms)
    assert not is_ours({"id": "by-hand"})
    assert len({alarm["id"] for alarm in alarms}) == len(alarms)
    under = alarms[0]
    assert under["createRules"]["MAJOR"]["condition"] == {
        "condition": [
            {
                "key": {"type": "TIME_SERIES", "key": "voltage_l1"},
                "valueType": "NUMERIC",
                "value": None,
                "predicate": {
                    "type": "NUMERIC",
                    "operation": "LESS",
                    "value": {"defaultValue": 207.0, "userValue": None, "dynamicValue": None},
                },
            }
        ],
        "spec": {"type": "SIMPLE"},
    }
    bridge = alarms[-1]
    assert list(bridge["createRules"]) == ["CRITICAL", "WARNING", "INDETERMINATE"]
    [filter_] = bridge["clearRule"]["condition"]["condition"]
    assert (filter_["key"], filter_["predicate"]["value"]["defaultValue"]) == (
        {"type": "ATTRIBUTE", "key": "bridge_alarm_severity"},
        "none",
    )


def test_on_their_own() -> None:
    entities = {entity["name"]: entity for entity in rule_entities(RULES, "an-id")}
    assert entities["No data"]["entityId"] == {"entityType": "DEVICE_PROFILE", "id": "an-id"}
    assert entities["No data"]["configuration"]["arguments"] == {
        "active": {"refEntityKey": {"key": "active", "type": "ATTRIBUTE", "scope": "SERVER_SCOPE"}}
    }
    bridge = entities["Bridge alarm"]["configuration"]
    # What the details quote is an argument too.
    assert set(bridge["arguments"]) == {"bridge_alarm_severity", "bridge_alarm"}
    assert bridge["createRules"]["CRITICAL"]["alarmDetails"] == "${bridge_alarm}"
    for entity in entities.values():
        configuration = entity["configuration"]
        rules = [*configuration["createRules"].values(), configuration["clearRule"]]
        used = {f["argument"] for rule in rules for f in rule["condition"]["expression"]["filters"]}
        assert used <= set(configuration["arguments"])


def test_our_alarms_as_attributes() -> None:
    told = json.loads(
        alarm_attributes(
            {"hdlc_error": ("warning", "15 in a row."), "connection_loss": ("critical", "Nobody listens.")}
        )
    )
    assert told == {
        "bridge_alarms": 2,
        "bridge_alarm_severity": "critical",
        "bridge_alarm": "connection_loss: Nobody listens. · hdlc_error: 15 in a row.",
        "energy_backwards": False,
    }
    assert json.loads(alarm_attributes({})) == {
        "bridge_alarms": 0,
        "bridge_alarm_severity": "none",
        "bridge_alarm": "none",
        "energy_backwards": False,
    }
    assert json.loads(alarm_attributes({"energy_backwards": ("critical", "x")}))["energy_backwards"] is True


@pytest.mark.parametrize("severity", ["", "disaster"])
def test_an_unknown_severity_comes_last(severity: str) -> None:
    told = json.loads(alarm_attributes({"a": (severity, "x"), "b": ("info", "y")}))
    assert told["bridge_alarm_severity"] == "info"


def test_a_long_story_is_cut() -> None:
    assert len(json.loads(alarm_attributes({"a": ("info", "x" * 5000)}))["bridge_alarm"]) == 1000
