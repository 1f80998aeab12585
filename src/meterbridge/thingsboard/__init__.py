"""ThingsBoard's side: its JSON, and its gateway's configuration."""

from meterbridge.thingsboard.gateway import GatewaySettings, gateway_files
from meterbridge.thingsboard.payload import attributes, telemetry

__all__ = ["GatewaySettings", "attributes", "gateway_files", "telemetry"]
