"""A fleet in trouble: meters, their script of faults and the control port, together."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from meterbridge.simulator.faults.control import ControlPort
from meterbridge.simulator.faults.director import Director
from meterbridge.simulator.faults.script import FaultScript
from meterbridge.simulator.fleet import FleetOptions, SimulatedFleet


async def serve_with_faults(
    options: FleetOptions,
    script: FaultScript,
    control_port: int | None = None,
    ready: Callable[[SimulatedFleet, ControlPort | None], None] = lambda fleet, control: None,
) -> None:
    """Simulate meters with their faults until cancelled.

    Args:
        options: what and where.
        script: what goes wrong; its times count from when every meter listens.
        control_port: where faults are changed on loopback; 0 is a free port, None none at all.
        ready: called once every meter and the control port listen.

    Raises:
        ConfigurationError: a port cannot be listened on, or the script does not fit the fleet.
    """
    director = Director(options.count, options.seed if script.seed is None else script.seed)
    async with SimulatedFleet(options, director.behaviours) as fleet:
        control = None if control_port is None else ControlPort(director, fleet.servers)
        try:
            if control is not None and control_port is not None:
                await control.start(control_port)
            director.start(fleet.servers, script.faults)
            ready(fleet, control)
            await asyncio.get_running_loop().create_future()
        finally:
            if control is not None:
                await control.close()
            await director.close()
