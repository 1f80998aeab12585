"""ThingsBoard's side: its JSON, its gateway's configuration, and what is provisioned over its REST API."""

from meterbridge.thingsboard.alarm_rules import AlarmLimits
from meterbridge.thingsboard.bridge_alarms import (
    ENERGY_BACKWARDS,
    SERVICE_TYPE,
    alarm_attributes,
    service_attributes,
)
from meterbridge.thingsboard.gateway import GatewaySettings, gateway_files
from meterbridge.thingsboard.payload import attributes, telemetry

__all__ = [
    "ENERGY_BACKWARDS",
    "SERVICE_TYPE",
    "AlarmLimits",
    "GatewaySettings",
    "alarm_attributes",
    "attributes",
    "gateway_files",
    "service_attributes",
    "telemetry",
]
