"""Exit codes, the same for all commands."""

from __future__ import annotations

from meterbridge.errors import (
    AssociationRefused,
    ConfigurationError,
    MeterbridgeError,
    RemoteProtocolError,
    ThingsBoardRefused,
    ThingsBoardUnreachable,
    TransportError,
)

OK = 0
INCOMPLETE = 1
"""Some of what was asked for could not be had; also any failure that has no code of its own."""
USAGE = 2
UNREACHABLE = 3
"""The meter or ThingsBoard cannot be reached, stays silent, or talks nonsense."""
REFUSED = 4
"""The meter refused the association, or ThingsBoard the request."""
UNKNOWN = 3
"""`qos` could not find out, as monitoring systems expect it."""
QUALITY = {"ok": 0, "warning": 1, "critical": 2}
"""Outcomes of `qos`."""
INTERRUPTED = 130


def exit_code(error: MeterbridgeError) -> int:
    """Return the code for an error that ended a command."""
    if isinstance(error, ConfigurationError):
        return USAGE
    if isinstance(error, (TransportError, RemoteProtocolError, ThingsBoardUnreachable)):
        return UNREACHABLE
    if isinstance(error, (AssociationRefused, ThingsBoardRefused)):
        return REFUSED
    return INCOMPLETE
