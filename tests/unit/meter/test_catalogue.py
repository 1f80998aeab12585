"""The catalogue: shipped models, and what a broken entry is told."""

from __future__ import annotations

import pytest

from meterbridge.errors import ConfigurationError
from meterbridge.meter import load_model, model_names, parse_model


@pytest.mark.parametrize("name", model_names())
def test_a_shipped_model_reads_the_five(name: str) -> None:
    poll = ("voltage_l1", "current_l1", "frequency", "active_power", "active_energy")
    assert load_model(name).poll == poll


def test_channels_of_the_shipped_models() -> None:
    assert load_model("generic").find("voltage_l1").logical_name == "1.0.32.7.0.255"
    assert load_model("microstar").find("voltage_l1").logical_name == "1.1.32.7.0.255"


def test_find_by_name_obis_code_and_place() -> None:
    model = load_model("generic")
    assert model.find("1-0:32.7.0") == model.find("voltage_l1")
    assert model.find("1-0:99.7.0").class_id == 3
    clock = model.find("8:0-0:1.0.0:2")
    assert (clock.name, clock.class_id, clock.attribute) == ("8:0-0:1.0.0:2", 8, 2)


@pytest.mark.parametrize(("text", "says"), [("voltage_1", "perhaps voltage_l1"), ("zzz", "and [0-9]+ more")])
def test_an_unknown_measurement_is_told_in_a_line_that_fits_a_screen(text: str, says: str) -> None:
    with pytest.raises(ConfigurationError, match=says) as refused:
        load_model("generic").find(text)
    assert len(str(refused.value)) < 240


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("poll = [", "broken"),
        ("colour = 1", "'colour'"),
        ('poll = ["u"]', "'u'"),
        ('[measurements]\nu = "3:1-0:32.7.0"', "u: "),
        ('[measurements]\nu = "3:1-0:999.7.0:2"', "u: "),
        ('[measurements]\nu = "0:1-0:32.7.0:2"', "class 0"),
        ('[measurements]\nu = "3:1-0:32.7.0:200"', "attribute 200"),
        ('load_profile = "99"', "load_profile"),
    ],
)
def test_a_broken_entry_is_named(text: str, says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        parse_model("broken", text)


@pytest.mark.parametrize(
    ("text", "profile"),
    [("", "1.0.99.1.0.255"), ('load_profile = "1-0:99.2.0"', "1.0.99.2.0.255"), ('load_profile = ""', None)],
)
def test_where_a_model_keeps_its_history(text: str, profile: str | None) -> None:
    assert parse_model("m", text).load_profile == profile


@pytest.mark.parametrize("name", ["nobody", "", "../generic", "__init__"])
def test_an_unknown_model_lists_those_there_are(name: str) -> None:
    with pytest.raises(ConfigurationError, match="generic, microstar"):
        load_model(name)
