"""What pushed data means, for each shape meters push."""

from __future__ import annotations

import time

import pytest
from hypothesis import given

from meterbridge.dlms import Data, DataType, LogicalName
from meterbridge.dlms.push_list import ListLayout, Positions, UnitRule, interpret
from tests.unit.dlms import pushes
from tests.unit.dlms.pushes import array, descriptor, meaning, name, octets, scaler_unit, structure, text, u16, u32
from tests.unit.dlms.strategies import any_data

LIST_ID = LogicalName.parse("1-1:0.2.129")


def rule(obis: str, scaler: int, unit: int) -> UnitRule:
    return UnitRule(tuple(LogicalName.parse(obis)), scaler, unit)


POSITIONED = ListLayout(
    "positioned",
    positions=(
        Positions((LogicalName.parse("1-0:1.7.0"),)),
        Positions((LIST_ID, LogicalName.parse("1-0:1.7.0"), LogicalName.parse("1-0:31.7.0")), "MY_LIST"),
    ),
    units=(rule("1-0:1.7.0", 0, 27), rule("1-0:31.7.0", -3, 33)),
)
BY_ID = ListLayout("by id", list_id="MY_PAIRS", units=(rule("1-0:1.8.0", 1, 30),), list_id_name=LIST_ID)
BY_TITLE = ListLayout("by title", system_title=b"MBR", units=(UnitRule((1, 0, 1, 8, None, 255), 0, 30),))
LAYOUTS = (POSITIONED, BY_ID, BY_TITLE)


def test_structures_of_name_value_scaler_and_unit() -> None:
    for body in (pushes.AIDON, structure(*pushes.AIDON.value)):
        assert meaning(interpret(body).values) == {
            "1-1:0.2.129": ("AIDON_V0001", None),
            "1-0:1.7.0": (1362, "W"),
            "1-0:31.7.0": (-9.3, "A"),
            "1-0:32.7.0": (250.0, "V"),
        }


def test_a_text_of_six_octets_is_no_name() -> None:
    assert meaning(interpret(pushes.ISKRA).values)["0-0:96.1.1"] == (b"160456", None)


def test_names_and_values_side_by_side() -> None:
    pushed = interpret(pushes.NETZ)
    assert meaning(pushed.values) == {
        "0": (pushes.TIME, None),
        "1-0:1.8.0": (12937, "Wh"),
        "1-0:13.7.0": (0.998, None),
        "7": (b"181220000009", None),
    }
    assert pushed.time == pushes.TIME


def test_side_by_side_mixed_with_structures() -> None:
    pushed = interpret(pushes.SALZBURG)
    assert meaning(pushed.values) == {"0-0:1.0.0": (pushes.TIME, None), "1-0:31.7.0": (1.65, "A")}
    assert pushed.time == pushes.TIME


def test_descriptors_with_their_values() -> None:
    values = interpret(pushes.DESCRIPTORS).values
    assert meaning(values) == {
        "0": (1, None),
        "0-0:96.1.1": (b"5100005149", None),
        "0-0:96.3.10": (1, None),
        "1-0:1.7.0": (1956, None),
    }
    assert values["0-0:96.3.10"].attribute == 3


def test_a_list_that_describes_itself() -> None:
    expected = {"0-0:42.0.0": (b"MBR0001", None), "1-0:1.8.0": (12340, "Wh"), "0-0:97.98.0": (16, None)}
    assert meaning(interpret(pushes.DESCRIBED).values) == expected
    objects, *values = pushes.DESCRIBED.value
    without_itself = structure(array(*objects.value[1:]), *values)
    assert meaning(interpret(without_itself).values) == expected


def test_a_list_by_position() -> None:
    pushed = interpret(structure(octets("MY_LIST"), u32(5), u32(1416)), LAYOUTS)
    assert meaning(pushed.values) == {
        "1-1:0.2.129": (b"MY_LIST", None),
        "1-0:1.7.0": (5, "W"),
        "1-0:31.7.0": (1.416, "A"),
    }
    assert pushed.layout == "positioned"
    assert meaning(interpret(structure(u32(7)), LAYOUTS).values) == {"1-0:1.7.0": (7, "W")}


def test_a_list_of_another_id_or_length_is_not_guessed() -> None:
    for body in (structure(octets("OTHER"), u32(5), u32(1416)), structure(octets("MY_LIST"), u32(5))):
        pushed = interpret(body, LAYOUTS)
        assert [value.logical_name for value in pushed.values.values()] == [None] * len(body.value)
        assert {value.unit for value in pushed.values.values()} == {None}
        assert pushed.layout is None


def test_units_by_list_id_and_by_system_title() -> None:
    body = structure(text("MY_PAIRS"), name("1-0:1.8.0"), u32(5), name("1-0:9.8.0"), u32(6))
    assert meaning(interpret(body, LAYOUTS).values) == {
        "1-1:0.2.129": ("MY_PAIRS", None),
        "1-0:1.8.0": (50, "Wh"),
        "1-0:9.8.0": (6, None),
    }
    body = structure(name("1-0:1.8.4"), u32(5), name("1-0:1.7.0"), u32(6))
    assert meaning(interpret(body, LAYOUTS, system_title=pushes.TITLE).values) == {
        "1-0:1.8.4": (5, "Wh"),
        "1-0:1.7.0": (6, None),
    }
    assert interpret(body, LAYOUTS, system_title=b"XYZ12345").layout is None


def test_what_the_message_says_is_above_the_catalogue() -> None:
    body = structure(text("MY_PAIRS"), name("1-0:1.8.0"), u32(5), scaler_unit(3, 27))
    assert meaning(interpret(body, LAYOUTS).values)["1-0:1.8.0"] == (5000, "W")


def test_a_name_that_comes_again_is_told_apart() -> None:
    body = array(
        structure(descriptor(3, "1-0:1.8.0", 2), u32(1)),
        structure(descriptor(3, "1-0:1.8.0", 5), u32(2)),
        structure(name("1-0:1.8.0"), u32(3)),
    )
    assert meaning(interpret(body).values) == {
        "1-0:1.8.0": (1, None),
        "1-0:1.8.0:5": (2, None),
        "1-0:1.8.0#3": (3, None),
    }


@pytest.mark.parametrize("body", [u32(7), text("alone"), structure(), Data(DataType.NULL_DATA)])
def test_what_is_no_list_stands_at_its_place(body: Data) -> None:
    values = interpret(body).values
    assert list(values) == ([] if body == structure() else ["0"])


def test_a_name_without_a_value_stays_a_value() -> None:
    values = interpret(structure(u16(1), name("1-0:1.8.0"))).values
    assert meaning(values) == {"0": (1, None), "1": (bytes(LogicalName.parse("1-0:1.8.0")), None)}


@given(any_data)
def test_whatever_the_data_it_has_a_meaning(body: Data) -> None:
    interpret(body, LAYOUTS, system_title=pushes.TITLE)


def test_ten_thousand_values_of_one_name_take_no_time() -> None:
    body = structure(*[name("1-0:1.8.0"), u32(1)] * 10_000)
    started = time.process_time()
    assert len(interpret(body).values) == 10_000
    assert time.process_time() - started < 2
