"""The dashboard holds together: everything it names is there, and it has the shape of the example."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from meterbridge.meter import MeterModel, load_model
from meterbridge.thingsboard.alarm_rules import Source
from meterbridge.thingsboard.dashboard import dashboard, is_made_by_us, is_untouched
from meterbridge.thingsboard.quantities import polled, shown

# Widget types that ThingsBoard 4.0 and later ship.
KNOWN = {
    "system.cards.entities_table",
    "system.cards.value_card",
    "system.cards.attributes_card",
    "system.alarm_widgets.alarms_table",
    "system.time_series_chart",
    "system.entity_count",
    "system.alarm_count",
    "system.map",
}
EVERYTHING = replace(load_model("generic"), poll=tuple(load_model("generic").measurements))
NOTHING = replace(load_model("generic"), poll=("clock", "serial_number"))
ATTRIBUTES = {
    "active", "meter_name", "ip_address", "port", "client_sap", "firmware_version", "last_connection", "latitude",
    "longitude", "bridge_alarm", "bridge_alarm_severity",
}  # fmt: skip


def made(*models: MeterModel, activity: Source = Source.SERVER_ATTRIBUTE) -> dict[str, Any]:
    body = dashboard("Meters", "dlms-meter", polled(models), 5.0, activity)
    assert json.loads(json.dumps(body)) == body
    return body


def widgets(body: dict[str, Any], state: str) -> list[dict[str, Any]]:
    layout = body["configuration"]["states"][state]["layouts"]["main"]["widgets"]
    return [body["configuration"]["widgets"][id_] for id_ in layout]


def sources(widget: dict[str, Any]) -> Iterator[dict[str, Any]]:
    config = widget["config"]
    yield from config["datasources"]
    if "alarmSource" in config:
        yield config["alarmSource"]
    for marker in config["settings"].get("markers", []):
        yield {
            "entityAliasId": marker["dsEntityAliasId"],
            "filterId": marker["dsFilterId"],
            "dataKeys": [*marker["additionalDataKeys"], marker["xKey"], marker["yKey"]],
        }


@pytest.mark.parametrize("models", [[load_model("generic")], [load_model("generic"), EVERYTHING], [NOTHING], []])
@pytest.mark.parametrize("activity", [Source.SERVER_ATTRIBUTE, Source.TELEMETRY])
def test_all_that_is_named_is_there(models: list[MeterModel], activity: Source) -> None:
    body = made(*models, activity=activity)
    configuration = body["configuration"]
    keys = {what.key for what in polled(models)}
    placed = [id_ for state in configuration["states"].values() for id_ in state["layouts"]["main"]["widgets"]]
    assert sorted(placed) == sorted(configuration["widgets"])
    for kind in ("widgets", "entityAliases", "filters"):
        assert all(entry["id"] == id_ for id_, entry in configuration[kind].items())
    for widget in configuration["widgets"].values():
        assert widget["typeFullFqn"] in KNOWN
        assert widget["config"]["title"]
        for source in sources(widget):
            assert source["entityAliasId"] in configuration["entityAliases"]
            assert source["filterId"] is None or source["filterId"] in configuration["filters"]
            assert source["dataKeys"]
            for key in source["dataKeys"]:
                if key["type"] == "timeseries":
                    assert key["name"] in keys | ({"active"} if activity is Source.TELEMETRY else set())
                elif key["type"] == "attribute":
                    assert key["name"] in ATTRIBUTES
                axes = widget["config"]["settings"].get("yAxes")
                if axes is not None:
                    assert key["settings"]["yAxisId"] in axes
                    assert "default" in axes
        for action in widget["config"].get("actions", {}).get("rowClick", []):
            assert action["targetDashboardStateId"] in configuration["states"]


@pytest.mark.parametrize("models", [[load_model("generic")], [EVERYTHING], [NOTHING]])
def test_no_widget_covers_another(models: list[MeterModel]) -> None:
    body = made(*models)
    for state in ("default", "meter"):
        taken: set[tuple[int, int]] = set()
        for widget in widgets(body, state):
            cells = {
                (row, col)
                for row in range(widget["row"], widget["row"] + widget["sizeY"])
                for col in range(widget["col"], widget["col"] + widget["sizeX"])
            }
            assert max(col for _, col in cells) < 24
            assert not cells & taken
            taken |= cells


def test_it_shows_what_the_models_measure_not_a_fixed_five() -> None:
    own = replace(load_model("generic"), poll=("voltage_l2", "reactive_energy"))
    table = next(w for w in widgets(made(own), "default") if w["typeFullFqn"].endswith("entities_table"))
    names = [key["name"] for key in table["config"]["datasources"][0]["dataKeys"]]
    assert names == ["active", "voltage_l2", "reactive_energy", "bridge_alarm"]
    titles = [w["config"]["title"] for w in widgets(made(EVERYTHING), "meter")]
    assert titles == [
        "Voltage / current / power", "Meter", "Active energy", "Active energy export", "Reactive energy",
        "Energy by hour", "Energy by day", "Availability by hour", "Frequency and more", "Alarms",
    ]  # fmt: skip
    assert [w["config"]["title"] for w in widgets(made(NOTHING), "meter")] == ["Meter", "Alarms"]


def test_energy_is_counted_by_hour_and_by_day_in_kwh() -> None:
    found = {w["config"]["title"]: w["config"] for w in widgets(made(load_model("generic")), "meter")}
    for title, interval in (("Energy by hour", 3_600_000), ("Energy by day", 86_400_000)):
        config = found[title]
        assert (config["timewindow"]["realtime"]["interval"], config["timewindow"]["aggregation"]["type"]) == (
            interval,
            "MAX",
        )
        [key] = config["datasources"][0]["dataKeys"]
        assert (key["units"], key["settings"]["type"]) == ("kWh", "bar")
    assert found["Availability by hour"]["timewindow"]["aggregation"]["type"] == "COUNT"
    # One reading every 5 s is 720 an hour.
    assert "value * 5 / 36" in found["Availability by hour"]["datasources"][0]["dataKeys"][0]["postFuncBody"]


def test_it_is_the_same_each_time_and_knows_itself_changed_or_not() -> None:
    first, second = made(load_model("generic")), made(load_model("generic"))
    assert first == second
    configuration = first["configuration"]
    assert is_made_by_us(configuration)
    assert is_untouched(configuration)
    configuration["settings"]["showTitle"] = True
    assert is_made_by_us(configuration)
    assert not is_untouched(configuration)
    assert not is_made_by_us({"description": "Mine"})
    assert not is_made_by_us({})


def test_what_an_object_is_by_its_code() -> None:
    model = load_model("generic")
    assert shown(model.measurements["clock"]) is None
    assert shown(model.measurements["firmware_version"]) is None
    found = {name: shown(measurement) for name, measurement in model.measurements.items()}
    units = {name: what.unit for name, what in found.items() if what is not None}
    assert units == {
        "voltage_l1": "V", "voltage_l2": "V", "voltage_l3": "V", "current_l1": "A", "current_l2": "A",
        "current_l3": "A", "frequency": "Hz", "power_factor": "", "active_power": "W", "active_power_export": "W",
        "reactive_power": "var", "active_energy": "Wh", "active_energy_export": "Wh", "reactive_energy": "varh",
    }  # fmt: skip


def test_it_has_the_shape_of_the_example(shared: Path) -> None:
    example = json.loads((shared / "thingsboard" / "dashboard.example.json").read_text())
    body = made(load_model("generic"))
    assert set(example["configuration"]) == set(body["configuration"])
    assert set(example["configuration"]["states"]) == set(body["configuration"]["states"])
    theirs = {widget["typeFullFqn"]: widget for widget in example["configuration"]["widgets"].values()}
    ours = {widget["typeFullFqn"]: widget for widget in body["configuration"]["widgets"].values()}
    assert set(theirs) <= set(ours)
    for fqn, widget in theirs.items():
        assert set(widget) == set(ours[fqn])
        assert widget["type"] == ours[fqn]["type"]
        assert set(widget["config"]) <= set(ours[fqn]["config"]) | {"useDashboardTimewindow"}, fqn
        assert set(widget["config"]["settings"]) <= set(ours[fqn]["config"]["settings"]), fqn
    for alias, entry in example["configuration"]["entityAliases"].items():
        ours_of_that_name = [
            own for own in body["configuration"]["entityAliases"].values() if own["alias"] == entry["alias"]
        ]
        assert alias
        assert [set(own["filter"]) for own in ours_of_that_name] == [set(entry["filter"])]
