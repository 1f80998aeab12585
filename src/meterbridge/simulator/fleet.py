"""Many simulated meters on consecutive ports of one process."""

from __future__ import annotations

import asyncio
import resource
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Self

from meterbridge.errors import ConfigurationError
from meterbridge.simulator.behaviour import Behaviour, Faithful
from meterbridge.simulator.load import INSTALLED, Load, LoadOptions, Premises
from meterbridge.simulator.meter import Identity, SimulatedMeter
from meterbridge.simulator.security import SecurityOptions
from meterbridge.simulator.server import MeterServer, ServerOptions


@dataclass(frozen=True, slots=True)
class FleetOptions:
    """What is simulated and where.

    Args:
        count: meters, on consecutive ports.
        host: address to listen on.
        port: of the first meter; 0 gives every meter a free one.
        hertz: nominal frequency, 50 or 60.
        seed: makes the whole fleet; the same seed gives the same meters.
        password: LLS secret of every meter. Never shown by repr.
        server: how each meter serves.
        physical: HDLC lower address of every meter, 0..16383.
        max_pdu: largest APDU of every meter, octets.
        profile_entries: rows every load profile keeps.
        security: authentication and ciphering of every meter in place of the password.
        installed: Unix time from which registers and profiles count.

    Raises:
        ConfigurationError: no meters, or ports beyond 65535.
    """

    count: int = 1
    host: str = "127.0.0.1"
    port: int = 3333
    hertz: int = 50
    seed: int = 1
    password: str = field(default="00000000", repr=False)
    server: ServerOptions = field(default_factory=ServerOptions)
    physical: int = 17
    max_pdu: int = 1024
    profile_entries: int = 2880
    security: SecurityOptions | None = None
    installed: int = INSTALLED

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ConfigurationError(f"{self.count} meters cannot be simulated, 1 is the least")
        if not 0 <= self.physical <= 0x3FFF:
            raise ConfigurationError(f"physical address {self.physical} is outside 0..16383")
        if self.port and not 1 <= self.port <= 65_536 - self.count:
            raise ConfigurationError(f"{self.count} ports from {self.port} on do not exist, 65535 is the last")


def simulated_meter(options: FleetOptions, index: int) -> SimulatedMeter:
    """Make one meter of a fleet: every fourth is a small business on three phases, every fifth has solar panels."""
    business = index % 4 == 3
    load = LoadOptions(
        seed=options.seed * 1_000_003 + index,
        premises=Premises.BUSINESS if business else Premises.HOUSEHOLD,
        phases=3 if business else 1,
        hertz=options.hertz,
        photovoltaic=index % 5 == 4,
        installed=options.installed,
    )
    identity = Identity(
        serial=str(10_000_000 + options.seed % 1000 * 100_000 + index),
        physical=options.physical,
        password=options.password.encode(),
        max_pdu=options.max_pdu,
        profile_entries=options.profile_entries,
    )
    security = None if options.security is None else options.security.of_meter(index)
    return SimulatedMeter(Load(load), identity, security=security)


class SimulatedFleet:
    """Meters listening on consecutive ports; an asynchronous context manager that closes them all.

    Args:
        options: what and where.
        behaviours: how each meter treats its clients, by index; the rest are in good health.
        clock: Unix time in seconds.
    """

    def __init__(
        self,
        options: FleetOptions,
        behaviours: Sequence[Behaviour] = (),
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.options = options
        healthy = Faithful()
        self.servers = [
            MeterServer(
                simulated_meter(options, index),
                options.server,
                behaviours[index] if index < len(behaviours) else healthy,
                clock,
            )
            for index in range(options.count)
        ]

    @property
    def ports(self) -> list[int]:
        """Port of each meter."""
        return [server.port for server in self.servers]

    async def start(self) -> None:
        """Listen with every meter, or with none.

        Raises:
            ConfigurationError: a port cannot be listened on.
        """
        options = self.options
        _allow_files(2 * options.count + 64)
        try:
            for index, server in enumerate(self.servers):
                await server.start(options.host, options.port and options.port + index)
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Stop listening and drop every connection."""
        await asyncio.gather(*(server.close() for server in self.servers))

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


async def serve(options: FleetOptions, ready: Callable[[SimulatedFleet], None] = lambda fleet: None) -> None:
    """Simulate meters in good health until cancelled.

    Args:
        options: what and where.
        ready: called once every meter listens.

    Raises:
        ConfigurationError: a port cannot be listened on.
    """
    async with SimulatedFleet(options) as fleet:
        ready(fleet)
        await asyncio.get_running_loop().create_future()


def _allow_files(wanted: int) -> None:
    # A listener and a connection for each meter soon pass the usual soft limit of 1024.
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
