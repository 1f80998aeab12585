"""Our own alarms as client attributes of a device, so that ThingsBoard shows them and its rules see them."""

from __future__ import annotations

import json
from collections.abc import Mapping

COUNT_KEY = "bridge_alarms"
SEVERITY_KEY = "bridge_alarm_severity"
TEXT_KEY = "bridge_alarm"
ENERGY_BACKWARDS = "energy_backwards"
"""Also the type of our alarm that says so."""
_WORST_FIRST = ("critical", "warning", "info")
_LONGEST_TEXT = 1_000
SERVICE_TYPE = "meterbridge-service"
"""Device profile of the device that stands for the installation."""


def alarm_attributes(open_alarms: Mapping[str, tuple[str, str]]) -> bytes:
    """Encode which alarms of one meter are open.

    Args:
        open_alarms: severity (`critical`, `warning` or `info`) and message by type.

    Returns:
        UTF-8 JSON: `bridge_alarms` how many, `bridge_alarm_severity` of the worst or `none`, `bridge_alarm` what they
        say, worst first, or `none`; `energy_backwards` whether that one is among them.
    """
    return _encoded({**_told(open_alarms), ENERGY_BACKWARDS: ENERGY_BACKWARDS in open_alarms})


def service_attributes(open_alarms: Mapping[str, tuple[str, str]]) -> bytes:
    """Encode which alarms are open that belong to no meter, as `alarm_attributes` does, without `energy_backwards`."""
    return _encoded(_told(open_alarms))


def _told(open_alarms: Mapping[str, tuple[str, str]]) -> dict[str, int | str]:
    ranked = sorted(open_alarms.items(), key=lambda item: (_rank(item[1][0]), item[0]))
    text = " · ".join(f"{type_}: {message}" for type_, (_, message) in ranked)
    return {
        COUNT_KEY: len(ranked),
        SEVERITY_KEY: ranked[0][1][0] if ranked else "none",
        TEXT_KEY: text[:_LONGEST_TEXT] or "none",
    }


def _encoded(values: Mapping[str, int | str]) -> bytes:
    return json.dumps(values, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


def _rank(severity: str) -> int:
    return _WORST_FIRST.index(severity) if severity in _WORST_FIRST else len(_WORST_FIRST)
