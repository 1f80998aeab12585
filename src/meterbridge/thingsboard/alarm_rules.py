"""Alarm rules of the device profile, in both forms ThingsBoard has: in the profile up to 4.2, on their own from 4.3."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from meterbridge.thingsboard.bridge_alarms import ENERGY_BACKWARDS, SEVERITY_KEY, TEXT_KEY
from meterbridge.thingsboard.quantities import Shown, of_unit

# A value that hovers at its limit must not open and clear an alarm all the time.
_HYSTERESIS = 0.005
_OUR_ID = "meterbridge-"


@dataclass(frozen=True, slots=True)
class AlarmLimits:
    """Where alarms begin; 0 leaves a rule out.

    Args:
        under_voltage: volts.
        over_voltage: volts.
        under_frequency: hertz.
        over_frequency: hertz.
    """

    under_voltage: float
    over_voltage: float
    under_frequency: float
    over_frequency: float


class Source(StrEnum):
    """Where a rule finds a value."""

    TELEMETRY = "telemetry"
    CLIENT_ATTRIBUTE = "CLIENT_SCOPE"
    SERVER_ATTRIBUTE = "SERVER_SCOPE"


@dataclass(frozen=True, slots=True)
class Condition:
    """One comparison, e.g. voltage_l1 LESS 207.0."""

    source: Source
    key: str
    operation: str
    value: float | bool | str

    @property
    def kind(self) -> str:
        """How ThingsBoard calls the type of its value."""
        if isinstance(self.value, bool):
            return "BOOLEAN"
        return "STRING" if isinstance(self.value, str) else "NUMERIC"


@dataclass(frozen=True, slots=True)
class Rule:
    """One alarm: when it opens, by severity, and when it clears."""

    name: str
    create: tuple[tuple[str, Condition], ...]
    clear: Condition
    details: str


def alarm_rules(quantities: Sequence[Shown], limits: AlarmLimits, activity: Source, no_data: bool) -> list[Rule]:
    """Make the rules for what meters measure.

    Args:
        quantities: of all their models.
        limits: settings.
        activity: where the server keeps a device's `active`.
        no_data: whether silence is an alarm.
    """
    rules: list[Rule] = []
    for what in of_unit(quantities, "V"):
        rules += _limits(what, limits.under_voltage, limits.over_voltage)
    for what in of_unit(quantities, "Hz"):
        rules += _limits(what, limits.under_frequency, limits.over_frequency)
    if no_data:
        silent = Condition(activity, "active", "EQUAL", False)
        clear = Condition(activity, "active", "EQUAL", True)
        rules.append(Rule("No data", (("CRITICAL", silent),), clear, "No reading came for too long."))
    backwards = Condition(Source.CLIENT_ATTRIBUTE, ENERGY_BACKWARDS, "EQUAL", True)
    forwards = Condition(Source.CLIENT_ATTRIBUTE, ENERGY_BACKWARDS, "EQUAL", False)
    rules.append(Rule("Energy backwards", (("CRITICAL", backwards),), forwards, "A counter went backwards."))
    return [*rules, bridge_alarm()]


def bridge_alarm() -> Rule:
    """Make the rule that repeats our own alarms of a device."""
    told = tuple(
        (theirs, Condition(Source.CLIENT_ATTRIBUTE, SEVERITY_KEY, "EQUAL", ours))
        for theirs, ours in (("CRITICAL", "critical"), ("WARNING", "warning"), ("INDETERMINATE", "info"))
    )
    over = Condition(Source.CLIENT_ATTRIBUTE, SEVERITY_KEY, "EQUAL", "none")
    return Rule("Bridge alarm", told, over, f"${{{TEXT_KEY}}}")


def _limits(what: Shown, low: float, high: float) -> list[Rule]:
    rules = []
    for word, limit, beyond, back, sign in (
        ("Under", low, "LESS", "GREATER_OR_EQUAL", 1),
        ("Over", high, "GREATER", "LESS_OR_EQUAL", -1),
    ):
        if not limit:
            continue
        calm = round(limit * (1 + sign * _HYSTERESIS), 3)
        rules.append(
            Rule(
                word + what.label[:1].lower() + what.label[1:],
                (("MAJOR", Condition(Source.TELEMETRY, what.key, beyond, float(limit))),),
                Condition(Source.TELEMETRY, what.key, back, calm),
                f"${{{what.key}}} {what.unit}, the limit is {limit:g} {what.unit}.",
            )
        )
    return rules


# ---- up to 4.2: inside the device profile


def profile_alarms(rules: Iterable[Rule]) -> list[dict[str, Any]]:
    """Return the rules as `profileData.alarms` of a device profile holds them."""
    return [
        {
            "id": _OUR_ID + re.sub(r"[^a-z0-9]+", "-", rule.name.lower()),
            "alarmType": rule.name,
            "createRules": {severity: _old_rule(condition, rule.details) for severity, condition in rule.create},
            "clearRule": _old_rule(rule.clear, None),
            "propagate": False,
            "propagateToOwner": False,
            "propagateToTenant": False,
            "propagateRelationTypes": None,
        }
        for rule in rules
    ]


def possible_names(quantities: Sequence[Shown]) -> set[str]:
    """Return the names of all rules there may be for what meters can measure: those not wanted any more are removed."""
    every = AlarmLimits(1.0, 2.0, 1.0, 2.0)
    return {rule.name for rule in alarm_rules(quantities, every, Source.SERVER_ATTRIBUTE, True)}


def is_ours(alarm: dict[str, Any]) -> bool:
    """Whether an alarm of a device profile is one that this file made."""
    return str(alarm.get("id", "")).startswith(_OUR_ID)


def _old_rule(condition: Condition, details: str | None) -> dict[str, Any]:
    predicate: dict[str, Any] = {
        "type": condition.kind,
        "operation": condition.operation,
        "value": {"defaultValue": condition.value, "userValue": None, "dynamicValue": None},
    }
    if condition.kind == "STRING":
        predicate["ignoreCase"] = False
    filter_ = {
        "key": {
            "type": "TIME_SERIES" if condition.source is Source.TELEMETRY else "ATTRIBUTE",
            "key": condition.key,
        },
        "valueType": condition.kind,
        "value": None,
        "predicate": predicate,
    }
    return {
        "condition": {"condition": [filter_], "spec": {"type": "SIMPLE"}},
        "schedule": None,
        "alarmDetails": details,
        "dashboardId": None,
    }


# ---- from 4.3: entities of their own


def rule_entities(rules: Iterable[Rule], profile: str) -> list[dict[str, Any]]:
    """Return the rules as `POST /api/alarm/rule` takes them.

    Args:
        rules: all.
        profile: id of the device profile they belong to.
    """
    return [
        {
            "name": rule.name,
            "entityId": {"entityType": "DEVICE_PROFILE", "id": profile},
            "configuration": {
                "type": "ALARM",
                "arguments": _arguments(rule),
                "createRules": {severity: _new_rule(condition, rule.details) for severity, condition in rule.create},
                "clearRule": _new_rule(rule.clear, None),
                "propagate": False,
                "propagateToOwner": False,
                "propagateToTenant": False,
            },
        }
        for rule in rules
    ]


def _arguments(rule: Rule) -> dict[str, Any]:
    conditions = [condition for _, condition in rule.create] + [rule.clear]
    sources = {condition.key: condition.source for condition in conditions}
    # What the details quote must be an argument too.
    sources |= dict.fromkeys(re.findall(r"\$\{(\w+)\}", rule.details), rule.clear.source)
    return {
        key: {
            "refEntityKey": {"key": key, "type": "TS_LATEST"}
            if source is Source.TELEMETRY
            else {"key": key, "type": "ATTRIBUTE", "scope": str(source)}
        }
        for key, source in sources.items()
    }


def _new_rule(condition: Condition, details: str | None) -> dict[str, Any]:
    predicate: dict[str, Any] = {
        "type": condition.kind,
        "operation": condition.operation,
        "value": {"staticValue": condition.value},
    }
    if condition.kind == "STRING":
        predicate["ignoreCase"] = False
    expression = {
        "type": "SIMPLE",
        "operation": "AND",
        "filters": [
            {"argument": condition.key, "valueType": condition.kind, "operation": "AND", "predicates": [predicate]}
        ],
    }
    rule: dict[str, Any] = {"condition": {"type": "SIMPLE", "expression": expression}}
    if details is not None:
        rule["alarmDetails"] = details
    return rule
