"""Shared attributes as settings of one meter: checked, and told back. Pure."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

from meterbridge.errors import ConfigurationError
from meterbridge.thingsboard.rpc import REPORTED_ERROR

_MOST_NAMES = 100


def poll_interval(value: object, shortest: float, longest: float) -> float | None:
    """Read `pollInterval`, seconds; None, which is also what an empty text means, for what is configured.

    Raises:
        ConfigurationError: no number, or out of bounds.
    """
    if value is None or value == "":
        return None
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            value = None
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not shortest <= value <= longest:
        raise ConfigurationError(f"pollInterval must be a number of seconds from {shortest:g} to {longest:g}")
    return float(value)


def measurements(value: object, check: Callable[[str], object]) -> tuple[str, ...] | None:
    """Read `measurements`, a list or a text with commas; None, as an empty text, for what the model polls.

    Args:
        value: as sent.
        check: raises ConfigurationError for a name that is none of the meter's model.

    Raises:
        ConfigurationError: neither, or a name that is none.
    """
    if value is None or value in ("", []):
        return None
    if isinstance(value, str):
        value = [part.strip() for part in value.split(",")]
    if not isinstance(value, list) or not all(isinstance(name, str) and 0 < len(name) <= 100 for name in value):
        raise ConfigurationError("measurements must be names, as a list or with commas between them")
    names = tuple(dict.fromkeys(value))
    if len(names) > _MOST_NAMES:
        raise ConfigurationError(f"measurements are {len(names)}, more than {_MOST_NAMES}")
    for name in names:
        check(name)
    return names


def reported(interval: float, names: Sequence[str], refusals: dict[str, str]) -> bytes:
    """Encode as client attributes what holds, and why what was asked for does not; an empty text for no reason."""
    return json.dumps(
        {
            "pollInterval": interval,
            "measurements": ",".join(names),
            REPORTED_ERROR: refusals.get("pollInterval", ""),
            "measurementsError": refusals.get("measurements", ""),
        },
        separators=(",", ":"),
    ).encode()
