"""ThingsBoard's side: its JSON."""

from meterbridge.thingsboard.payload import attributes, telemetry

__all__ = ["attributes", "telemetry"]
