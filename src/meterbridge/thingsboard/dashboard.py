"""The dashboard: all meters, and one meter, made of what the meters' models measure. Pure: JSON comes out."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from meterbridge.thingsboard.alarm_rules import Source
from meterbridge.thingsboard.bridge_alarms import SERVICE_TYPE, SEVERITY_KEY, TEXT_KEY
from meterbridge.thingsboard.quantities import Shown, of_unit

_NAMESPACE = uuid.UUID("6d657465-7262-4692-8467-650000000000")
_HOUR, _DAY = 3_600_000, 86_400_000
_COLUMNS = 24
_COLORS = ("#F44336", "#FF9800", "#FDD835", "#2196F3", "#00ACC1", "#3F51B5", "#4CAF50", "#9C27B0", "#795548", "#607D8B")
_BLUE = "#2196f3"
_MADE_BY = "Made by Meterbridge from the meter models"
_ATTRIBUTES = (
    ("meter_name", "Meter"),
    ("ip_address", "Address"),
    ("port", "Port"),
    ("client_sap", "Client SAP"),
    ("firmware_version", "Firmware"),
    ("last_connection", "Last connection"),
    (SEVERITY_KEY, "Worst alarm of the bridge"),
    (TEXT_KEY, "Alarms of the bridge"),
)
_EVERYTHING = "Meters and Meterbridge"
_KWH = "return value / 1000;"
# The counter's growth since the bar before; the first bar has none before it.
_GROWTH = "return prevOrigValue ? (value - prevOrigValue) / 1000 : 0;"


@dataclass(slots=True)
class _Page:
    """One state of the dashboard, filled row by row."""

    widgets: dict[str, dict[str, Any]]
    layout: dict[str, dict[str, int]] = field(default_factory=dict)
    row: int = 0
    col: int = 0
    height: int = 0

    def add(self, name: str, fqn: str, kind: str, size: tuple[int, int], config: dict[str, Any]) -> None:
        """Put a widget beside the last one, or below where it does not fit any more."""
        width, height = size
        if self.col + width > _COLUMNS:
            self.below()
        place = {"sizeX": width, "sizeY": height, "row": self.row, "col": self.col}
        id_ = _id("widget", name)
        self.widgets[id_] = {"id": id_, "typeFullFqn": fqn, "type": kind, **place, "config": config}
        self.layout[id_] = place
        self.col += width
        self.height = max(self.height, height)

    def below(self) -> None:
        """Begin a new row."""
        self.row, self.col, self.height = self.row + self.height, 0, 0


def dashboard(
    title: str, device_type: str, quantities: Sequence[Shown], period_s: float, activity: Source
) -> dict[str, Any]:
    """Make the body of `POST /api/dashboard`.

    Args:
        title: of the dashboard.
        device_type: device profile of the meters.
        quantities: what is read of them at each poll.
        period_s: how often, seconds.
        activity: where the server keeps a device's `active`.

    Returns:
        Title and configuration, with states `default` (all meters) and `meter` (the one that was chosen).
    """
    widgets: dict[str, dict[str, Any]] = {}
    active = _key("active", "timeseries" if activity is Source.TELEMETRY else "attribute", "Online")
    meters, meter = _Page(widgets), _Page(widgets)
    _all_meters(meters, quantities, active)
    _one_meter(meter, quantities, period_s, active)
    configuration: dict[str, Any] = {
        "description": "",
        "widgets": widgets,
        "states": {"default": _state("Meters", meters, root=True), "meter": _state("${entityName}", meter, root=False)},
        "entityAliases": _aliases(device_type),
        "filters": {_id("filter", name): _active_filter(name, wanted, active) for name, wanted in _FILTERS},
        "timewindow": _window(30_000, _DAY, "AVG"),
        "settings": {
            "stateControllerId": "entity",
            "showTitle": False,
            "showDashboardsSelect": True,
            "showEntitiesSelect": True,
            "showDashboardTimewindow": True,
            "showDashboardExport": True,
            "toolbarAlwaysOpen": True,
        },
    }
    configuration["description"] = f"{_MADE_BY} [{_digest(configuration)}]"
    return {"title": title, "configuration": configuration}


def is_made_by_us(configuration: Mapping[str, Any]) -> bool:
    """Whether a dashboard began as ours, whatever people did with it since."""
    return str(configuration.get("description", "")).startswith(_MADE_BY)


def is_untouched(configuration: Mapping[str, Any]) -> bool:
    """Whether a dashboard is still as this program made it, now or in an earlier version."""
    return configuration.get("description") == f"{_MADE_BY} [{_digest(configuration)}]"


def _all_meters(page: _Page, quantities: Sequence[Shown], active: dict[str, Any]) -> None:
    for label, filter_, icon in _COUNTS:
        page.add(f"count {label}", "system.entity_count", "latest", (6, 2), _count(label, filter_, icon))
    page.add("count alarms", "system.alarm_count", "latest", (6, 2), _alarm_count())
    page.below()
    page.add("map", "system.map", "latest", (10, 9), _map(active))
    state = {
        **active,
        "settings": {
            "useCellContentFunction": True,
            "cellContentFunction": "return String(value) === 'true' ? 'online' : 'offline';",
            "useCellStyleFunction": True,
            "cellStyleFunction": "return {color: String(value) === 'true' ? '#2e7d32' : '#c62828', fontWeight: 500};",
        },
    }
    columns = [state, *(_latest(what) for what in quantities), _key(TEXT_KEY, "attribute", "Bridge")]
    page.add("meters", "system.cards.entities_table", "latest", (14, 9), _entities(columns))
    page.below()
    page.add("alarms", "system.alarm_widgets.alarms_table", "alarm", (24, 6), _alarms(_EVERYTHING))


def _one_meter(page: _Page, quantities: Sequence[Shown], period_s: float, active: dict[str, Any]) -> None:
    moments = [what for what in quantities if not what.counter]
    counters = [what for what in quantities if what.counter]
    main = of_unit(moments, "V", "A", "W", "var", "VA")
    rest = [what for what in moments if what not in main]
    if main:
        page.add(
            "moments", "system.time_series_chart", "timeseries", (18, 8), _chart("Voltage / current / power", main)
        )
    page.add("attributes", "system.cards.attributes_card", "latest", (6, 8), _attributes_card(active))
    page.below()
    for what in counters:
        page.add(f"value {what.key}", "system.cards.value_card", "latest", (4, 4), _value_card(what))
    page.below()
    if counters:
        for title, interval, window in (("hour", _HOUR, _DAY), ("day", _DAY, 30 * _DAY)):
            config = _chart(f"Energy by {title}", counters, bars=_GROWTH, window=_window(interval, window, "MAX"))
            page.add(f"energy {title}", "system.time_series_chart", "timeseries", (12, 6), config)
        page.below()
    if quantities:
        percent = f"return Math.min(100, value * {period_s:g} / 36);"
        first = Shown(quantities[0].key, "Readings that came, of those due", "%", False, 0)
        config = _chart("Availability by hour", [first], bars=percent, window=_window(_HOUR, 2 * _DAY, "COUNT"))
        page.add("availability", "system.time_series_chart", "timeseries", (12, 6), config)
    if rest:
        page.add("rest", "system.time_series_chart", "timeseries", (12, 6), _chart("Frequency and more", rest))
    page.below()
    page.add("meter alarms", "system.alarm_widgets.alarms_table", "alarm", (24, 5), _alarms("Selected meter"))


# ---- widgets


def _entities(keys: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "title": "Meters",
        "showTitle": True,
        "settings": {
            "entitiesTitle": "Meters",
            "enableSearch": True,
            "displayPagination": True,
            "defaultPageSize": 10,
            "defaultSortOrder": "entityName",
            "displayEntityName": True,
            "entityNameColumnTitle": "Meter",
            "displayEntityLabel": False,
            "displayEntityType": False,
        },
        "datasources": [_source("Meters", keys)],
        "actions": {"rowClick": [_open_meter("row")]},
    }


def _map(active: dict[str, Any]) -> dict[str, Any]:
    color = "return String(data.active) === 'true' ? '#2e7d32' : '#c62828';"
    marker = {
        "dsType": "entity",
        "dsLabel": "Meters",
        "dsDeviceId": None,
        "dsEntityAliasId": _id("alias", "Meters"),
        "dsFilterId": None,
        "additionalDataKeys": [{**active, "label": "active"}, _key(TEXT_KEY, "attribute", TEXT_KEY)],
        "label": {"show": True, "type": "pattern", "pattern": "${entityName}"},
        "tooltip": {
            "show": True,
            "trigger": "click",
            "autoclose": True,
            "type": "pattern",
            "pattern": f"<b>${{entityName}}</b><br/>online: ${{active}}<br/>${{{TEXT_KEY}}}",
            "offsetX": 0,
            "offsetY": -1,
        },
        "click": _open_meter("marker"),
        "groups": None,
        "xKey": _key("latitude", "attribute", "latitude"),
        "yKey": _key("longitude", "attribute", "longitude"),
        "markerType": "shape",
        "markerShape": {
            "shape": "markerShape1",
            "size": 34,
            "color": {"type": "function", "color": _BLUE, "colorFunction": color},
        },
        "markerOffsetX": 0.5,
        "markerOffsetY": 1,
    }
    return {
        "title": "Map",
        "showTitle": True,
        "useDashboardTimewindow": True,
        "settings": {
            "mapType": "geoMap",
            "markers": [marker],
            "polygons": [],
            "circles": [],
            "additionalDataSources": [],
        },
        "datasources": [],
        "actions": {},
    }


def _count(label: str, filter_: str | None, icon: str) -> dict[str, Any]:
    source = {**_source("Meters", [_key("count", "count", "count")], filter_), "type": "entityCount"}
    return {
        "title": label,
        "showTitle": False,
        "settings": {"layout": "row", "showLabel": True, "label": label, "showIcon": True, "icon": icon},
        "datasources": [source],
        "actions": {},
    }


def _alarm_count() -> dict[str, Any]:
    source = {
        **_source(_EVERYTHING, [_key("count", "count", "count")]),
        "type": "alarmCount",
        "alarmFilterConfig": {"statusList": ["ACTIVE"], "severityList": [], "typeList": []},
    }
    settings = {"layout": "row", "showLabel": True, "label": "Active alarms", "showIcon": True, "icon": "warning"}
    return {"title": "Active alarms", "showTitle": False, "settings": settings, "datasources": [source], "actions": {}}


def _alarms(alias: str) -> dict[str, Any]:
    columns = (
        ("createdTime", "Created time"),
        ("originatorDisplayName", "Originator"),
        ("type", "Type"),
        ("severity", "Severity"),
        ("status", "Status"),
        ("assignee", "Assignee"),
    )
    return {
        "title": "Alarms",
        "showTitle": True,
        "useDashboardTimewindow": True,
        "settings": {
            "alarmsTitle": "Alarms",
            "enableSelection": True,
            "enableSearch": True,
            "displayDetails": True,
            "allowAcknowledgment": True,
            "allowClear": True,
            "allowAssign": True,
            "displayPagination": True,
            "defaultPageSize": 10,
            "defaultSortOrder": "-createdTime",
            "enableFilter": True,
        },
        "alarmSource": {
            **_source(alias, [_key(name, "alarm", label) for name, label in columns]),
            "name": "alarms",
        },
        "alarmFilterConfig": {"statusList": [], "severityList": [], "typeList": [], "searchPropagatedAlarms": True},
        "datasources": [],
    }


def _chart(
    title: str, quantities: Sequence[Shown], *, bars: str | None = None, window: dict[str, Any] | None = None
) -> dict[str, Any]:
    """A time-series chart with an axis for each unit; bars are made of the values by a function."""
    units = list(dict.fromkeys(what.unit for what in quantities))
    # The first axis must be called default.
    axes = {unit: "default" if not index else (unit.lower() or "ratio") for index, unit in enumerate(units)}
    keys = []
    for index, what in enumerate(quantities):
        key = _key(what.key, "timeseries", what.label, _COLORS[index % len(_COLORS)])
        key["settings"] = {"yAxisId": axes[what.unit], "type": "line" if bars is None else "bar"}
        key |= {"units": _axis_unit(what, bars), "decimals": what.decimals if bars is None or not what.counter else 3}
        if bars is not None:
            key |= {"usePostProcessing": True, "postFuncBody": bars}
        keys.append(key)
    config: dict[str, Any] = {
        "title": title,
        "showTitle": True,
        "useDashboardTimewindow": window is None,
        "settings": {
            "showLegend": True,
            "dataZoom": True,
            "yAxes": {
                axes[unit]: {
                    "id": axes[unit],
                    "order": order,
                    "label": _axis_unit(first, bars),
                    "units": _axis_unit(first, bars),
                    "position": "right" if order else "left",
                    "decimals": first.decimals,
                }
                for order, unit in enumerate(units)
                for first in [next(what for what in quantities if what.unit == unit)]
            },
        },
        "datasources": [_source("Selected meter", keys)],
    }
    if window is not None:
        config["timewindow"] = window
    return config


def _axis_unit(what: Shown, bars: str | None) -> str:
    return f"k{what.unit}" if what.counter and bars is not None else what.unit


def _value_card(what: Shown) -> dict[str, Any]:
    return {
        "title": what.label,
        "showTitle": False,
        "units": f"k{what.unit}",
        "decimals": 3,
        "settings": {"layout": "square", "icon": "bolt", "showDate": True},
        "datasources": [_source("Selected meter", [_latest(what)])],
    }


def _attributes_card(active: dict[str, Any]) -> dict[str, Any]:
    keys = [active, *(_key(name, "attribute", label) for name, label in _ATTRIBUTES)]
    return {"title": "Meter", "showTitle": True, "settings": {}, "datasources": [_source("Selected meter", keys)]}


def _latest(what: Shown) -> dict[str, Any]:
    key = _key(what.key, "timeseries", what.label)
    if not what.counter:
        return {**key, "units": what.unit, "decimals": what.decimals}
    return {**key, "units": f"k{what.unit}", "decimals": 3, "usePostProcessing": True, "postFuncBody": _KWH}


# ---- parts

_FILTERS = (("Online", True), ("Offline", False))
_COUNTS = (("Meters", None, "electric_meter"), ("Online", "Online", "wifi"), ("Offline", "Offline", "wifi_off"))


def _key(name: str, kind: str, label: str, color: str = _BLUE) -> dict[str, Any]:
    return {"name": name, "type": kind, "label": label, "color": color, "settings": {}}


def _source(alias: str, keys: list[dict[str, Any]], filter_: str | None = None) -> dict[str, Any]:
    return {
        "type": "entity",
        "entityAliasId": _id("alias", alias),
        "filterId": _id("filter", filter_) if filter_ is not None else None,
        "dataKeys": keys,
    }


def _open_meter(name: str) -> dict[str, Any]:
    return {
        "id": _id("action", name),
        "name": "details",
        "icon": "more_horiz",
        "type": "openDashboardState",
        "targetDashboardStateId": "meter",
        "setEntityId": True,
        "stateEntityParamName": None,
    }


def _state(name: str, page: _Page, root: bool) -> dict[str, Any]:
    grid = {
        "backgroundColor": "#eeeeee",
        "columns": _COLUMNS,
        "margin": 10,
        "outerMargin": True,
        "backgroundSizeMode": "100%",
        "layoutType": "default",
    }
    return {"name": name, "root": root, "layouts": {"main": {"widgets": page.layout, "gridSettings": grid}}}


def _aliases(device_type: str) -> dict[str, Any]:
    chosen = {
        "type": "stateEntity",
        "resolveMultiple": False,
        "stateEntityParamName": None,
        "defaultStateEntity": None,
    }
    meters = {"type": "deviceType", "resolveMultiple": True, "deviceTypes": [device_type], "deviceNameFilter": ""}
    everything = {**meters, "deviceTypes": [device_type, SERVICE_TYPE]}
    filters = (("Meters", meters), (_EVERYTHING, everything), ("Selected meter", chosen))
    return {
        _id("alias", name): {"id": _id("alias", name), "alias": name, "filter": filter_} for name, filter_ in filters
    }


def _active_filter(name: str, wanted: bool, active: dict[str, Any]) -> dict[str, Any]:
    predicate = {"type": "BOOLEAN", "operation": "EQUAL", "value": {"defaultValue": wanted, "dynamicValue": None}}
    key = {"type": "ATTRIBUTE" if active["type"] == "attribute" else "TIME_SERIES", "key": "active"}
    info = {"editable": False, "label": "", "autogeneratedLabel": True, "order": 0}
    return {
        "id": _id("filter", name),
        "filter": name,
        "keyFilters": [
            {
                "key": key,
                "valueType": "BOOLEAN",
                "predicates": [{"keyFilterPredicate": predicate, "userInfo": info}],
            }
        ],
        "editable": False,
    }


def _window(interval: int, span: int, aggregation: str) -> dict[str, Any]:
    return {
        "selectedTab": 0,
        "realtime": {"realtimeType": 0, "interval": interval, "timewindowMs": span},
        "aggregation": {"type": aggregation, "limit": 25_000},
    }


def _id(kind: str, name: str) -> str:
    return str(uuid.uuid5(_NAMESPACE, f"{kind}:{name}"))


def _digest(configuration: Mapping[str, Any]) -> str:
    content = {name: value for name, value in configuration.items() if name != "description"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]
