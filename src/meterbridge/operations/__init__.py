"""From facts to what an operator should know and do."""

from meterbridge.operations.health import Health, MeterHealth, health_of
from meterbridge.operations.log_search import LogFilter, follow, search

__all__ = ["Health", "LogFilter", "MeterHealth", "follow", "health_of", "search"]
