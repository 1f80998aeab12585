"""Composition root: settings in, running objects out. The only room that knows everybody."""

from meterbridge.service.counters import ServiceCounters
from meterbridge.service.garbage import keep_garbage_small
from meterbridge.service.inspector import Inspector, live_of
from meterbridge.service.limits import open_vault, outbox_limits, route_settings
from meterbridge.service.machine import process_use
from meterbridge.service.recorder import DATABASE_FAILING
from meterbridge.service.reports import Listener
from meterbridge.service.roster import Roster
from meterbridge.service.service import Service

__all__ = [
    "DATABASE_FAILING",
    "Inspector",
    "Listener",
    "Roster",
    "Service",
    "ServiceCounters",
    "keep_garbage_small",
    "live_of",
    "open_vault",
    "outbox_limits",
    "process_use",
    "route_settings",
]
