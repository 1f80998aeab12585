"""ThingsBoard's side: its JSON."""

from meterbridge.thingsboard.payload import MAX_OCTETS, attributes, gateway_telemetry, telemetry

__all__ = ["MAX_OCTETS", "attributes", "gateway_telemetry", "telemetry"]
