"""Simulated meters: the server side of DLMS/COSEM with believable values, on HDLC or wrapper."""

from meterbridge.simulator.behaviour import Action, Behaviour, Close, Faithful, Forget, Mute, Refusal, Send
from meterbridge.simulator.fleet import FleetOptions, SimulatedFleet, serve, simulated_meter
from meterbridge.simulator.load import Load, LoadOptions, Premises
from meterbridge.simulator.meter import Identity, SimulatedMeter
from meterbridge.simulator.security import MeterSecurity, SecurityOptions
from meterbridge.simulator.server import MeterServer, ServerOptions

__all__ = [
    "Action",
    "Behaviour",
    "Close",
    "Faithful",
    "FleetOptions",
    "Forget",
    "Identity",
    "Load",
    "LoadOptions",
    "MeterSecurity",
    "MeterServer",
    "Mute",
    "Premises",
    "Refusal",
    "SecurityOptions",
    "Send",
    "ServerOptions",
    "SimulatedFleet",
    "SimulatedMeter",
    "serve",
    "simulated_meter",
]
