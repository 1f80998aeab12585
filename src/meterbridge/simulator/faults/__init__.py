"""Faults on demand: what goes wrong with which simulated meter, when, by a file or while it runs."""

from meterbridge.simulator.faults.catalogue import Fault
from meterbridge.simulator.faults.control import ControlPort
from meterbridge.simulator.faults.director import Director, Running
from meterbridge.simulator.faults.fault import AnyFault
from meterbridge.simulator.faults.script import FaultScript, fault_of, read_script
from meterbridge.simulator.faults.scripted import Assigned, Scripted
from meterbridge.simulator.faults.trouble import serve_with_faults

__all__ = [
    "AnyFault",
    "Assigned",
    "ControlPort",
    "Director",
    "Fault",
    "FaultScript",
    "Running",
    "Scripted",
    "fault_of",
    "read_script",
    "serve_with_faults",
]
