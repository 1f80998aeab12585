"""The action plan: symptoms become diagnoses by the rules, and these an ordered list of what to do. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from meterbridge.model import MeterId
from meterbridge.operations.facts import Facts
from meterbridge.operations.rules import Rule, rules
from meterbridge.operations.symptoms import Symptom, symptoms_of
from meterbridge.settings import TargetsSettings

_SEVERITIES = ("critical", "warning", "info")
_SHOWN = 5
# Evidence of each, where one action is about several.
_EVIDENCE = 3


@dataclass(frozen=True, slots=True)
class Action:
    """One thing to be done.

    Args:
        diagnosis: stable name of what is wrong.
        severity: `critical`, `warning` or `info`.
        what: what is wrong, one line.
        since: Unix milliseconds, or None.
        meters: whom it is about; empty for the installation as a whole.
        evidence: numbers and lines of the log.
        cause: the probable one.
        commands: to be typed, in order.
        check: how to see that it worked.
    """

    diagnosis: str
    severity: str
    what: str
    since: int | None
    meters: tuple[MeterId, ...]
    evidence: tuple[str, ...]
    cause: str
    commands: tuple[str, ...]
    check: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do, most urgent first; empty when nothing is wrong. `at` in Unix milliseconds."""

    at: int
    running: bool
    meters: int
    actions: tuple[Action, ...]


def plan_of(facts: Facts, targets: TargetsSettings) -> Plan:
    """Make the plan.

    Args:
        facts: of this moment.
        targets: what numbers are held against.
    """
    order = {rule.diagnosis: number for number, rule in enumerate(rules())}
    found: dict[str, list[tuple[Rule, Symptom]]] = {}
    for symptom in symptoms_of(facts, targets):
        rule = next(rule for rule in rules() if rule.fits(symptom))
        found.setdefault(rule.diagnosis, []).append((rule, symptom))
    actions = [_action(pairs[0][0], [symptom for _, symptom in pairs]) for pairs in found.values()]
    actions.sort(key=lambda action: (_SEVERITIES.index(action.severity), order[action.diagnosis]))
    return Plan(facts.now, facts.running, len(facts.active), tuple(actions))


def _action(rule: Rule, symptoms: list[Symptom]) -> Action:
    """One action for all that have the same diagnosis."""
    shown = symptoms[:_SHOWN]
    what = "; ".join(rule.what.format_map(symptom.words) for symptom in shown)
    if len(symptoms) > _SHOWN:
        what = f"{len(symptoms)} ×: {what}; and {len(symptoms) - _SHOWN} more"
    meters = {meter for symptom in symptoms for meter in (symptom.meter, *symptom.meters) if meter is not None}
    several = len(symptoms) > 1
    return Action(
        rule.diagnosis,
        min((_severity(symptom.severity) for symptom in symptoms), key=_SEVERITIES.index),
        what,
        min((symptom.since for symptom in symptoms if symptom.since is not None), default=None),
        tuple(sorted(meters)),
        tuple(_once(_told(symptom, text, several) for symptom in shown for text in _evidence(symptom, several))),
        rule.cause.format_map(shown[0].words),
        tuple(_once(_filled(command, symptom) for symptom in shown for command in rule.commands)),
        "\n".join(_once(rule.check.format_map(symptom.words) for symptom in shown)),
    )


def _filled(command: str, symptom: Symptom) -> str:
    # A route that many meters share has no meter to be edited.
    return command.format_map({**symptom.words, "id": symptom.words.get("id") or "ID"})


def _evidence(symptom: Symptom, several: bool) -> tuple[str, ...]:
    if not several or len(symptom.evidence) <= _EVIDENCE:
        return symptom.evidence
    # The last is the newest line of the log.
    return (*symptom.evidence[: _EVIDENCE - 1], symptom.evidence[-1])


def _severity(told: str) -> str:
    # An old installation's alarms may say anything.
    return told if told in _SEVERITIES else "warning"


def _told(symptom: Symptom, text: str, several: bool) -> str:
    name = symptom.words.get("name", "")
    return f"{name}: {text}" if several and name else text


def _once(texts: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(texts))
