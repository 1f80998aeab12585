"""From facts to diagnoses: each fault its own, one explanation for each symptom, nothing where nothing is wrong."""

from __future__ import annotations

import shlex
import string
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.main import get_command

from meterbridge.cli.app import app
from meterbridge.model import MeterId
from meterbridge.operations import Facts, OutboxFact, RouteFact, plan_of
from meterbridge.operations.facts import DiskFact, UnusableFact
from meterbridge.operations.rules import rules
from meterbridge.operations.symptoms import symptoms_of
from meterbridge.settings import TargetsSettings
from tests.unit.operations.alarm_types import alarm_types
from tests.unit.operations.facts_made import NOW, ROUTE, alarm, disconnected, failed, healthy, meter, summary

TARGETS = TargetsSettings()
DEVICE = "device:192.0.2.1:1883:1"


def with_meter(*alarms: str, error: str = "", **changes: Any) -> Facts:
    """A fleet whose meter 1 has these alarms and fails with this."""
    facts = healthy()
    changes.setdefault("status", "error")
    changes.setdefault("last_error", error)
    first = meter(1, **changes)
    lines = (failed(1, error),) if error else ()
    return replace(
        facts, meters=(first, *facts.meters[1:]), alarms=tuple(alarm(1, type_, error) for type_ in alarms), lines=lines
    )


def refused(number: int, reason: str) -> dict[str, Any]:
    return {**failed(number, reason), "level": "error", "event": "meter_unusable"}


def with_route(**changes: Any) -> Facts:
    return replace(healthy(), routes=(replace(healthy().routes[0], **changes),))


def all_gone(*numbers: int, seen: int | None = NOW - 90_000) -> Facts:
    facts = healthy(4)
    there = [replace(m, host="198.51.100.7" if m.id == 4 else m.host) for m in facts.meters]
    meters = tuple(replace(m, status="error", last_seen=seen) if m.id in numbers else m for m in there)
    return replace(facts, meters=meters, alarms=tuple(alarm(number, "network_outage") for number in numbers))


SILENT = "192.0.2.11:3333, client 1, server 1 stays silent for 12 s: wrong server address or client SAP"
REFUSED = "the meter refused the association, rejected for good: authentication failure"

CASES: list[tuple[str, Facts, list[str]]] = [
    ("nothing", healthy(), []),
    ("no meters", Facts(NOW, NOW - 1, True), []),
    ("service", replace(healthy(), running=False, started=None), ["service_down"]),
    ("password, by alarm", with_meter("authentication_failure", error="no"), ["wrong_password"]),
    ("password, by error", with_meter("connection_loss", "association_stuck", error=REFUSED), ["wrong_password"]),
    ("host unknown", with_meter("connection_loss", error="host 'x' is not known: Name unknown"), ["unknown_host"]),
    ("address", all_gone(4, seen=None), ["wrong_address"]),
    ("network", all_gone(4), ["network_gone"]),
    ("subnet", all_gone(1, 2, 3), ["subnet_gone"]),
    ("part of a subnet", all_gone(1, 2), ["network_gone"]),
    (
        "own link",
        replace(all_gone(1, 2, 3, 4), alarms=(alarm(None, "own_link"), alarm(1, "connection_loss"))),
        ["own_link_gone"],
    ),
    ("port", with_meter("connection_loss", error="a:1 refused the connection: nothing listens there"), ["port_closed"]),
    ("busy", with_meter("object_failing", error="u cannot be read: temporary-failure"), ["busy_meter"]),
    ("busy, RNR", with_meter("connection_loss", error="a gave no answer (waiting for an answer)"), ["busy_meter"]),
    ("stuck", with_meter("association_stuck", error="the meter refused the link (DM)"), ["stuck_association"]),
    ("garbage", with_meter("connection_loss", "hdlc_error", error=SILENT), ["garbage_line"]),
    ("silent", with_meter("connection_loss", "silence", error=SILENT), ["meter_silent"]),
    ("silent from the first", with_meter("silence", error=SILENT, last_seen=None), ["wrong_dlms_address"]),
    ("dropped", with_meter("connection_loss", error="a:1 closed the connection"), ["connection_dropped"]),
    ("objects", with_meter("object_failing", error="u cannot be read: object-undefined"), ["objects_missing"]),
    ("defect", with_meter("worker_crash"), ["worker_defect"]),
    ("another", with_meter("circuit_breaker", error="more than 10"), ["meter_failing"]),
    ("clock", with_meter("clock_drift", status="active", error=""), ["clock_drift"]),
    ("broker", with_route(connected=False, reason="cannot connect: Connection refused"), ["broker_down"]),
    ("refusing", with_route(connected=False, reason="connection refused: Not authorized"), ["thingsboard_refusing"]),
    ("TLS", with_route(connected=False, reason="certificate verify failed"), ["tls_refused"]),
    ("no PUBACK", with_route(connected=False, reason="no PUBACK in time"), ["server_not_acknowledging"]),
    (
        "ThingsBoard down",
        replace(healthy(), routes=(RouteFact(DEVICE, MeterId(1), False, "cannot connect"),)),
        ["thingsboard_down"],
    ),
    ("token, by the route", with_route(contested=5), ["token_shared"]),
    ("a connection lost for a moment", replace(healthy(), lines=(disconnected("connection closed: x"),)), []),
    ("token, by alarm", replace(healthy(), alarms=(alarm(None, "route_contested", ROUTE),)), ["token_shared"]),
    ("behind", with_route(oldest_at=NOW - 400_000), ["outbox_growing"]),
    ("quarantine", replace(healthy(), outbox=OutboxFact(0, 0, 7)), ["messages_refused"]),
    ("disk", replace(healthy(), disks=(DiskFact("log", "/l", 5, 100),)), ["disk_filling"]),
    (
        "disk full",
        replace(healthy(), outbox=OutboxFact(0, 0, 0, True), alarms=(alarm(None, "outbox_disk"),)),
        ["disk_full"],
    ),
    ("stranded", replace(healthy(), alarms=(alarm(None, "outbox_stranded"),)), ["messages_stranded"]),
    ("given up", with_meter("outbox_bound", status="active"), ["readings_given_up"]),
    ("unusable", replace(healthy(), unusable=(UnusableFact(MeterId(9), "bad", "port must be"),)), ["row_unusable"]),
    (
        "a token that another meter has",
        replace(
            healthy(),
            meters=(meter(1), meter(2, run_state=None, last_seen=None)),
            lines=({**refused(2, "Meters 'm1' and 'm2' have the same tb_token"), "timestamp": "2026-09-21T15:00:00Z"},),
        ),
        ["same_token"],
    ),
    (
        "a meter that was not started and is now",
        replace(healthy(), lines=(refused(2, "Meters 'm1' and 'm2' have the same tb_token"),)),
        [],
    ),
    ("database", replace(healthy(), alarms=(alarm(None, "database_failing"),)), ["database_failing"]),
    ("few files", replace(healthy(), alarms=(alarm(None, "too_few_files"),)), ["too_few_files"]),
    ("outbox damaged", replace(healthy(), alarms=(alarm(None, "outbox_corrupt"),)), ["outbox_damaged"]),
    ("alarm without a rule", replace(healthy(), alarms=(alarm(None, "novel", severity="odd"),)), ["open_alarm"]),
    (
        "own fault",
        replace(healthy(), lines=({"timestamp": "2026-09-21T15:00:00Z", "level": "error", "event": "record_failed"},)),
        ["own_fault"],
    ),
    ("paused", replace(healthy(), meters=(meter(1, run_state="paused"),)), ["paused"]),
]  # fmt: skip


@pytest.mark.parametrize(("facts", "expected"), [pytest.param(*case[1:], id=case[0]) for case in CASES])
def test_each_fault_has_its_diagnosis_and_no_other(facts: Facts, expected: list[str]) -> None:
    found = plan_of(facts, TARGETS)
    assert [action.diagnosis for action in found.actions] == expected
    for action in found.actions:
        assert action.evidence, action
        assert "{" not in "".join((action.what, action.cause, action.check, *action.commands)).replace("{print $3;", "")


def off_target(**values: Any) -> Facts:
    return replace(healthy(1), metrics=(summary(1, **values),))


@pytest.mark.parametrize(
    ("values", "expected", "severity"),
    [
        ({"success_rate": 95.0}, "off_target", "warning"),
        ({"success_rate": 10.0}, "off_target", "critical"),
        ({"mqtt_rate": 10.0}, "off_target", "critical"),
        ({"avg_latency": 2_500.0}, "slow_meter", "warning"),
        ({"reconnections": 3}, "unstable_link", "warning"),
        ({"hdlc_errors": 500}, "noisy_line", "critical"),
    ],
)
def test_a_number_off_target_is_told_without_an_alarm(values: dict[str, float], expected: str, severity: str) -> None:
    [action] = plan_of(off_target(**values), TARGETS).actions
    assert (action.diagnosis, action.severity, action.meters) == (expected, severity, (1,))


def test_rates_are_not_judged_before_they_have_settled() -> None:
    facts = off_target(success_rate=10.0, mqtt_rate=10.0)
    assert len(plan_of(facts, TARGETS).actions) == 1
    assert plan_of(replace(facts, metrics=(replace(facts.metrics[0], intervals=2),)), TARGETS).actions == ()


def test_many_meters_with_one_trouble_are_one_action() -> None:
    facts = healthy(40)
    meters = tuple(replace(m, status="error", last_error=REFUSED) for m in facts.meters)
    found = plan_of(
        replace(facts, meters=meters, alarms=tuple(alarm(m.id, "connection_loss", REFUSED) for m in meters)), TARGETS
    )
    [action] = found.actions
    assert (len(action.meters), action.diagnosis) == (40, "wrong_password")
    assert "and 35 more" in action.what
    assert len(action.evidence) <= 15
    assert "meterbridge test 1" in action.commands


def test_what_is_critical_and_what_concerns_all_comes_first() -> None:
    facts = replace(with_meter("clock_drift", "authentication_failure", error="no"), running=False)
    facts = replace(facts, disks=(DiskFact("log", "/l", 5, 100),))
    facts = replace(
        facts, alarms=(*facts.alarms[:-1], replace(facts.alarms[0], type="clock_drift", severity="warning"))
    )
    severities = [action.severity for action in plan_of(facts, TARGETS).actions]
    assert severities == sorted(severities, key=["critical", "warning", "info"].index)
    assert plan_of(facts, TARGETS).actions[0].diagnosis == "service_down"


def test_an_error_of_a_trouble_that_is_over_is_none() -> None:
    assert plan_of(with_meter(status="active", last_error=REFUSED), TARGETS).actions == ()


def words_of(kind: str) -> set[str]:
    """Names of what is known of each kind of symptom, as the cases above make them."""
    facts = [case[1] for case in CASES] + [off_target(success_rate=1.0)]
    found = [symptom for each in facts for symptom in symptoms_of(each, TARGETS) if symptom.kind == kind]
    assert found, f"no case makes a symptom of kind {kind}"
    return set.intersection(*(set(symptom.words) for symptom in found))


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule.diagnosis)
def test_a_rule_asks_for_nothing_that_is_not_known(rule: Any) -> None:
    known = words_of(rule.symptom)
    for text in (rule.what, rule.cause, rule.check, *rule.commands):
        assert {name for _, name, _, _ in string.Formatter().parse(text) if name} <= known, text
    for alternative in rule.when:
        assert set(alternative) <= known


def test_every_diagnosis_is_of_one_rule_and_every_kind_has_a_last_resort() -> None:
    names = [rule.diagnosis for rule in rules()]
    assert len(names) == len(set(names))
    kinds = {symptom.kind for case in CASES for symptom in symptoms_of(case[1], TARGETS)} | {"metric"}
    assert kinds == {rule.symptom for rule in rules()}
    assert kinds == {rule.symptom for rule in rules() if not rule.when}


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule.diagnosis)
def test_the_commands_of_a_rule_can_be_typed_as_they_stand(rule: Any) -> None:
    filled = dict.fromkeys(words_of(rule.symptom), "1") | {"since": "2026-09-21T14:13:00Z"}
    for command in rule.commands:
        first, *arguments = shlex.split(command.format_map(filled))
        if first != "meterbridge":
            continue
        placeholders = {"ADDRESS": "a", "PORT": "1", "SERVER": "1", "SAP": "1", "MODEL": "generic"}
        typed = [placeholders.get(word, word) for word in arguments]
        group: Any = get_command(app)
        context = group.make_context("meterbridge", [], resilient_parsing=True)
        while hasattr(group, "get_command"):
            group = group.get_command(context, typed.pop(0))
            assert group is not None, command
        # Parses and checks; nothing is invoked.
        group.make_context(group.name, typed)


@given(st.lists(st.builds(alarm, st.sampled_from([None, 1, 2, 99]), st.text(max_size=12), st.text(max_size=40))))
def test_no_alarm_is_passed_over_and_none_breaks_the_plan(alarms: list[Any]) -> None:
    found = plan_of(replace(healthy(), alarms=tuple(alarms)), TARGETS)
    told = {meter_id for action in found.actions for meter_id in action.meters}
    assert {each.meter for each in alarms if each.meter in (1, 2)} <= told
    if any(each.meter is None for each in alarms):
        assert found.actions


# Of one alone nothing can be told but what its message says; the error that comes with it tells more, see CASES.
BY_ITS_ERROR = {"connection_loss", "circuit_breaker"}
OF_THE_INSTALLATION = {
    "own_link",
    "outbox_disk",
    "outbox_corrupt",
    "outbox_stranded",
    "database_failing",
    "too_few_files",
    "route_down",
    "route_contested",
}
DIAGNOSES = {
    "association_stuck": "stuck_association",
    "authentication_failure": "wrong_password",
    "clock_drift": "clock_drift",
    "database_failing": "database_failing",
    "delivery_backlog": "outbox_growing",
    "delivery_quarantined": "messages_refused",
    "energy_backwards": "energy_backwards",
    "hdlc_error": "garbage_line",
    "history_unavailable": "history_unavailable",
    "network_outage": "network_gone",
    "object_failing": "objects_missing",
    "outbox_bound": "readings_given_up",
    "outbox_corrupt": "outbox_damaged",
    "outbox_disk": "disk_full",
    "outbox_stranded": "messages_stranded",
    "own_link": "own_link_gone",
    "route_contested": "token_shared",
    "route_down": "broker_down",
    "too_few_files": "too_few_files",
    "silence": "meter_silent",
    "worker_crash": "worker_defect",
    "worker_hang": "worker_defect",
    **dict.fromkeys(BY_ITS_ERROR, "meter_failing"),
}


def test_every_alarm_the_code_can_raise_has_its_diagnosis() -> None:
    assert alarm_types() == set(DIAGNOSES)
    assert set(DIAGNOSES.values()) <= {rule.diagnosis for rule in rules()} - {"open_alarm"}


@pytest.mark.parametrize("type_", sorted(DIAGNOSES))
def test_an_alarm_alone_is_enough(type_: str) -> None:
    facts = healthy(1)
    down = type_ == "route_down"
    route = replace(facts.routes[0], connected=not down, reason="cannot connect" if down else facts.routes[0].reason)
    number = None if type_ in OF_THE_INSTALLATION or type_ == "delivery_backlog" else 1
    message = "no reading for 600 s" if type_ == "silence" else ROUTE
    facts = replace(facts, alarms=(alarm(number, type_, message),), routes=(route,))
    if type_ == "delivery_quarantined":
        facts = replace(facts, outbox=OutboxFact(7, 700, 7))
    assert [action.diagnosis for action in plan_of(facts, TARGETS).actions] == [DIAGNOSES[type_]]
