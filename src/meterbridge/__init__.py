"""Meterbridge: reads DLMS/COSEM electricity meters and delivers every reading to ThingsBoard."""

__version__ = "0.1.0"
