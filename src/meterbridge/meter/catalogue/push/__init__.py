"""The catalogue of push lists: one TOML file per make whose messages leave names or units out."""

from __future__ import annotations

import functools
import tomllib
from collections.abc import Mapping
from importlib import resources
from typing import Any

from meterbridge.dlms import LogicalName, unit_symbol
from meterbridge.dlms.push_list import LIST_ID, ListLayout, Positions, UnitRule
from meterbridge.errors import ConfigurationError

_KNOWN_KEYS = {"description", "match", "lists", "units"}
_KNOWN_MATCHES = {"list_id", "list_id_name", "system_title", "bare_descriptors"}
_NO_UNIT = 255
_CODES = {symbol: code for code in range(_NO_UNIT) if (symbol := unit_symbol(code)) != f"unit {code}"}


def parse_layout(name: str, text: str) -> ListLayout:
    """Read a catalogue file.

    Raises:
        ConfigurationError: not TOML, an unknown key, or a name or unit that does not exist.
    """
    try:
        content = tomllib.loads(text)
        match: Mapping[str, Any] = content.get("match", {})
        unknown = (set(content) - _KNOWN_KEYS) | (set(match) - _KNOWN_MATCHES)
        if unknown:
            raise ConfigurationError(f"push catalogue entry {name}: unknown key {min(unknown)!r}")
        list_id_name = match.get("list_id_name")
        return ListLayout(
            name,
            match.get("list_id"),
            match.get("system_title", "").encode("ascii"),
            match.get("bare_descriptors"),
            tuple(_positions(entry) for entry in content.get("lists", [])),
            tuple(_rule(where, *how) for where, how in content.get("units", {}).items()),
            None if list_id_name is None else LogicalName.parse(list_id_name),
        )
    except (ValueError, TypeError, KeyError) as error:
        raise ConfigurationError(f"push catalogue entry {name}: {error}") from None


def _positions(entry: Mapping[str, Any]) -> Positions:
    names = tuple(LogicalName.parse(name) for name in entry["names"])
    list_id = entry.get("id")
    if list_id is not None and LIST_ID not in names:
        raise ValueError(f"a list with an id must name it as {LIST_ID.obis}")
    return Positions(names, list_id)


def _rule(where: str, scaler: int, unit: str) -> UnitRule:
    groups = tuple(None if group == "*" else int(group) for group in where.split("."))
    if len(groups) != 6 or not all(group is None or 0 <= group <= 255 for group in groups):
        raise ValueError(f"{where!r} is not six groups such as 1.0.1.8.*.255")
    if unit and unit not in _CODES:
        raise ValueError(f"unit {unit!r} of {where} does not exist")
    if not -128 <= scaler <= 127:
        raise ValueError(f"scaler {scaler} of {where} is outside -128..127")
    return UnitRule(groups, scaler, _CODES[unit] if unit else _NO_UNIT)


@functools.cache
def load_layouts() -> tuple[ListLayout, ...]:
    """Return all of the shipped catalogue, by name."""
    entries = sorted(resources.files(__package__).iterdir(), key=lambda entry: entry.name)
    return tuple(
        parse_layout(entry.name.removesuffix(".toml"), entry.read_text("utf-8"))
        for entry in entries
        if entry.name.endswith(".toml")
    )
