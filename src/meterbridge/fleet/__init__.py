"""The fleet: who is polled when."""

from meterbridge.fleet.bridge import MultiMeterBridge
from meterbridge.fleet.schedule import Schedule, phase_of
from meterbridge.fleet.worker import MeterWorker, Sink, WorkerCounters

__all__ = ["MeterWorker", "MultiMeterBridge", "Schedule", "Sink", "WorkerCounters", "phase_of"]
