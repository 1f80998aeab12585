"""Whom faults befall, when and how often; scripts, and what is wrong with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from meterbridge.dlms import Frame, HdlcParameters
from meterbridge.errors import ConfigurationError
from meterbridge.simulator import Action, Close, Send
from meterbridge.simulator.faults import Assigned, Scripted, fault_of, read_script
from meterbridge.simulator.faults.draw import Draw

ANSWER = Frame(b"\x03", b"\x03", 0x30, b"\xe6\xe7\x00\xc4\x01\xc1\x00\x06\x00\x00\x10\x00").encode()
GREETING = Frame(b"\x03", b"\x03", 0x73).encode()


def behaviour(*faults: dict[str, Any], seed: int = 1) -> Scripted:
    scripted = Scripted()
    for number, fault in enumerate(faults, 1):
        scripted.assign(Assigned(number, fault_of(fault), 100.0, Draw(seed, number)))
    return scripted


def struck(scripted: Scripted, now: float) -> bool:
    return list(scripted.deliver(ANSWER, now)) != [Send(ANSWER)]


@pytest.mark.parametrize(
    ("times", "on", "off"),
    [
        ({}, [100, 10**9], [99.9]),
        ({"duration": 5}, [100, 104.9], [99.9, 105, 10**9]),
        ({"duration": 5, "every": 20}, [100, 104, 120, 124.9, 20_000_100], [99, 105, 119.9, 125]),
    ],
)
def test_a_fault_is_on_in_its_time(times: dict[str, float], on: list[float], off: list[float]) -> None:
    scripted = behaviour({"kind": "no-answer", **times})
    assert [struck(scripted, now) for now in on] == [True] * len(on)
    assert [struck(scripted, now) for now in off] == [False] * len(off)
    assert scripted.applied == {"no-answer": len(on)}


def test_chance_is_what_it_says_and_the_same_for_the_same_seed() -> None:
    def run(seed: int) -> list[bool]:
        scripted = behaviour({"kind": "no-answer", "chance": 0.2}, seed=seed)
        return [struck(scripted, 100) for _ in range(2000)]

    assert run(1) == run(1) != run(2)
    assert 320 < sum(run(1)) < 480


def test_faults_pass_by_answers_that_are_not_theirs() -> None:
    scripted = behaviour({"kind": "dm"})
    assert list(scripted.deliver(GREETING, 100)) == [Send(GREETING)]
    assert struck(scripted, 100)
    everything = behaviour({"kind": "dm", "answers": "any"})
    assert list(everything.deliver(GREETING, 100)) != [Send(GREETING)]


def test_delays_of_several_faults_add_up_in_front_of_the_first_octet() -> None:
    actions = behaviour({"kind": "slow", "delay": 2}, {"kind": "fin", "partial": 0.5}).deliver(ANSWER, 100)
    expected: list[Action] = [Send(ANSWER[: len(ANSWER) // 2], after=2.0), Close()]
    assert list(actions) == expected


def test_a_withdrawn_fault_is_over() -> None:
    scripted = behaviour({"kind": "no-answer"}, {"kind": "garbage-before", "text": "x"})
    scripted.withdraw(1)
    assert list(scripted.deliver(ANSWER, 100)) == [Send(b"x" + ANSWER)]


def test_link_parameters_are_the_meters_but_for_what_is_scripted() -> None:
    offered = HdlcParameters(128, 128, 1, 1)
    changed = behaviour({"kind": "windowed", "size": 40, "window": 3}).link_parameters(offered, 100)
    assert changed == HdlcParameters(40, 128, 3, 1)
    assert behaviour({"kind": "segmented"}).link_parameters(offered, 99) == offered


@pytest.mark.parametrize(
    ("meters", "chosen"),
    [("all", list(range(20))), ("3", [3]), (7, [7]), ("0-2, 5,4-6", [0, 1, 2, 4, 5, 6])],
)
def test_meters_are_chosen_by_index(meters: object, chosen: list[int]) -> None:
    assert fault_of({"kind": "rst", "meters": meters}).chosen(20, 1) == chosen


def test_a_share_of_the_meters_is_exact_and_follows_the_seed() -> None:
    fault = fault_of({"kind": "rst", "meters": "10%"})
    assert len(fault.chosen(1000, 1)) == 100
    assert fault.chosen(1000, 1) == fault.chosen(1000, 1) != fault.chosen(1000, 2)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({}, "a fault without a kind"),
        ({"kind": "explosion"}, "kind 'explosion' is none of no-answer, slow"),
        ({"kind": "slow", "dealy": 1}, "slow: unknown key dealy"),
        ({"kind": "slow", "delay": [2, 1]}, "slow: delay: from is later than to"),
        ({"kind": "slow", "delay": -1}, "slow: delay"),
        ({"kind": "slow", "meters": "ten"}, "slow: meters: 'ten' is none of all"),
        ({"kind": "slow", "meters": "101%"}, "slow: meters: '101%'"),
        ({"kind": "slow", "chance": 0}, "slow: chance"),
        ({"kind": "slow", "every": 5}, "slow: every needs a duration"),
        ({"kind": "slow", "every": 5, "duration": 6}, "slow: every needs a duration that is not longer"),
        ({"kind": "power-cut", "chance": 0.5}, "power-cut: a power cut strikes"),
        ({"kind": "object-undefined", "objects": ["1.8.0"]}, "object-undefined: objects: '1.8.0' is not a logical"),
        ({"kind": "object-undefined", "result": 0}, "object-undefined: result: 0 is no refusal"),
        ({"kind": "segmented", "size": 5}, "segmented: size"),
    ],
)
def test_a_wrong_fault_is_one_clear_sentence(table: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError) as wrong:
        fault_of(table)
    assert str(wrong.value).startswith(message)
    assert "\n" not in str(wrong.value)


def test_a_script_is_read(tmp_path: Path) -> None:
    path = tmp_path / "faults.toml"
    path.write_text(
        'seed = 7\n[[fault]]\nkind = "slow"\nmeters = "10%"\ndelay = 2\n\n[[fault]]\nkind = "power-cut"\nstart = 30\n'
    )
    script = read_script(path)
    assert script.seed == 7
    assert [fault.kind for fault in script.faults] == ["slow", "power-cut"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[fault]", "Expected"),
        ("sead = 1", "unknown key sead"),
        ('seed = "x"', "seed is not a whole number"),
        ("fault = 3", "faults are written as"),
        ('[[fault]]\nkind = "rst"\n[[fault]]\nkind = "slow"\ndelay = "x"', "fault 2: slow: delay: "),
    ],
)
def test_a_wrong_script_names_file_and_fault(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "faults.toml"
    path.write_text(text)
    with pytest.raises(ConfigurationError) as wrong:
        read_script(path)
    assert str(wrong.value).startswith(f"{path}: {message}")


def test_a_script_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="No such file"):
        read_script(tmp_path / "none.toml")
