"""The fleet: who is polled when, how it goes, and what is done about it."""

from meterbridge.fleet.alarms import AlarmDesk, OpenAlarm
from meterbridge.fleet.bridge import MeterTest, MultiMeterBridge, ReloadResult, RunState, WorkerStatus, same_meter
from meterbridge.fleet.commands import Body, Command, CommandDesk, CommandLimits
from meterbridge.fleet.energy import EnergyWatch
from meterbridge.fleet.gate import ConnectionGate, TokenBucket
from meterbridge.fleet.histogram import Histogram
from meterbridge.fleet.history import HistoryKeeper, HistoryLimits
from meterbridge.fleet.meter_history import MeterHistory
from meterbridge.fleet.monitor import DeliveryTally, FleetMonitor, MonitorLimits, ProcessUse
from meterbridge.fleet.network import (
    IcmpPinger,
    NetworkLimits,
    NetworkMonitor,
    Pinger,
    Reachability,
    TcpPinger,
    Verdict,
    choose_pinger,
    verdicts,
)
from meterbridge.fleet.report import MeterLine, StatusReport, render
from meterbridge.fleet.schedule import Schedule, phase_of
from meterbridge.fleet.worker import Chore, LoopTimer, MeterWorker, Sink, Timer, WorkerCounters

__all__ = [
    "AlarmDesk",
    "Body",
    "Chore",
    "Command",
    "CommandDesk",
    "CommandLimits",
    "ConnectionGate",
    "DeliveryTally",
    "EnergyWatch",
    "FleetMonitor",
    "Histogram",
    "HistoryKeeper",
    "HistoryLimits",
    "IcmpPinger",
    "LoopTimer",
    "MeterHistory",
    "MeterLine",
    "MeterTest",
    "MeterWorker",
    "MonitorLimits",
    "MultiMeterBridge",
    "NetworkLimits",
    "NetworkMonitor",
    "OpenAlarm",
    "Pinger",
    "ProcessUse",
    "Reachability",
    "ReloadResult",
    "RunState",
    "Schedule",
    "Sink",
    "StatusReport",
    "TcpPinger",
    "Timer",
    "TokenBucket",
    "Verdict",
    "WorkerCounters",
    "WorkerStatus",
    "choose_pinger",
    "phase_of",
    "render",
    "same_meter",
    "verdicts",
]
