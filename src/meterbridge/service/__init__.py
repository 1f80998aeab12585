"""Composition root: settings in, running objects out. The only room that knows everybody."""

from meterbridge.service.counters import ServiceCounters
from meterbridge.service.limits import meter_address, open_vault, outbox_limits, route_settings
from meterbridge.service.reports import Listener
from meterbridge.service.service import Service

__all__ = [
    "Listener",
    "Service",
    "ServiceCounters",
    "meter_address",
    "open_vault",
    "outbox_limits",
    "route_settings",
]
