"""Simulated meters on loopback: one association at a time, inactivity, faults, whole fleets."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest

from meterbridge.dlms import (
    AssociationOpened,
    AssociationParameters,
    AttributeDescriptor,
    ClientAssociation,
    HdlcLink,
    LogicalName,
    RequestCompleted,
    client_address,
    server_address,
)
from meterbridge.errors import AssociationRefused, ConfigurationError
from meterbridge.simulator import (
    Action,
    Close,
    Faithful,
    FleetOptions,
    Load,
    LoadOptions,
    MeterServer,
    Send,
    ServerOptions,
    SimulatedFleet,
    SimulatedMeter,
    serve,
    simulated_meter,
)

ENERGY = AttributeDescriptor(3, LogicalName.parse("1-0:1.8.0"), 2)


class Client:
    """Our own client end over a socket."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        link = HdlcLink(client_address(1), server_address(1))
        self.association = ClientAssociation(link, AssociationParameters(b"00000000"))

    async def event(self) -> object:
        async with asyncio.timeout(5):
            while (event := self.association.next_event()) is None:
                self.writer.write(self.association.data_to_send())
                data = await self.reader.read(4096)
                if not data:
                    raise EOFError
                self.association.receive_data(data)
            return event

    async def open(self) -> None:
        self.association.open()
        assert isinstance(await self.event(), AssociationOpened)

    async def energy(self) -> object:
        self.association.get((ENERGY,))
        event = await self.event()
        assert isinstance(event, RequestCompleted)
        return event.results[0]


@asynccontextmanager
async def connected(port: int) -> AsyncIterator[Client]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield Client(reader, writer)
    finally:
        writer.close()


@asynccontextmanager
async def serving(
    options: ServerOptions | None = None, behaviour: Faithful | None = None
) -> AsyncIterator[MeterServer]:
    meter = SimulatedMeter(Load(LoadOptions(seed=1)))
    server = MeterServer(meter, options or ServerOptions(), behaviour or Faithful(), clock=lambda: 1_764_158_400.0)
    await server.start("127.0.0.1", 0)
    try:
        yield server
    finally:
        await server.close()


async def until_gone(server: MeterServer) -> None:
    async with asyncio.timeout(5):
        while server.connections:  # nobody is told when a client is gone
            await asyncio.sleep(0.005)


async def test_a_second_client_waits_until_the_first_is_gone() -> None:
    async with serving() as server:
        async with connected(server.port) as first:
            await first.open()
            async with connected(server.port) as second:
                with pytest.raises(AssociationRefused) as refused:
                    await second.open()
                assert refused.value.result == 2
            assert await first.energy()
        await until_gone(server)
        async with connected(server.port) as third:
            await third.open()


async def test_a_meter_may_take_several() -> None:
    async with (
        serving(ServerOptions(exclusive=False)) as server,
        connected(server.port) as first,
        connected(server.port) as second,
    ):
        await first.open()
        await second.open()
        assert await first.energy() == await second.energy()


async def test_silence_ends_a_connection() -> None:
    async with serving(ServerOptions(inactivity=0.05)) as server, connected(server.port) as client:
        await client.open()
        async with asyncio.timeout(5):
            assert await client.reader.read() == b""
        await until_gone(server)


async def test_a_script_may_delay_repeat_and_close() -> None:
    class Scripted(Faithful):
        answers = 0

        def deliver(self, octets: bytes, now: float) -> Sequence[Action]:
            self.answers += 1
            if self.answers <= 2:
                return (Send(octets),)
            return (Send(b"NEXERRORNO-1"), Send(octets[:5]), Send(octets[5:], after=0.01), Close(abort=True))

    async with serving(behaviour=Scripted()) as server, connected(server.port) as client:
        await client.open()
        client.association.get((ENERGY,))
        events = [await client.event(), await client.event()]
        assert isinstance(events[-1], RequestCompleted)
        with pytest.raises((EOFError, ConnectionError)):
            await client.event()


async def test_a_script_may_refuse_connections() -> None:
    class Absent(Faithful):
        def accepts_connection(self, now: float) -> bool:
            return False

    async with serving(behaviour=Absent()) as server, connected(server.port) as client:
        with pytest.raises((EOFError, ConnectionError)):
            await client.open()


async def test_garbage_neither_stops_a_meter_nor_grows_in_it() -> None:
    async with serving() as server, connected(server.port) as client:
        client.writer.write(bytes(range(256)) * 400)
        await client.open()
        assert await client.energy()


async def test_a_fleet_listens_and_closes() -> None:
    async with SimulatedFleet(FleetOptions(count=5, port=0, seed=3)) as fleet:
        ports = fleet.ports
        assert len(set(ports)) == 5
        async with connected(ports[4]) as client:
            await client.open()
            assert await client.energy()
    with pytest.raises(OSError, match=r".+"):
        await asyncio.open_connection("127.0.0.1", ports[0])


async def test_a_taken_port_is_one_clear_line_and_nothing_stays_open() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        fleet = SimulatedFleet(FleetOptions(count=1, port=port))
        with pytest.raises(ConfigurationError, match=f"port {port} on 127.0.0.1 cannot be listened on"):
            await fleet.start()


async def test_serve_runs_until_cancelled() -> None:
    started = asyncio.Event()
    fleets: list[SimulatedFleet] = []

    def ready(fleet: SimulatedFleet) -> None:
        fleets.append(fleet)
        started.set()

    task = asyncio.create_task(serve(FleetOptions(count=2, port=0), ready))
    async with asyncio.timeout(5):
        await started.wait()
    async with connected(fleets[0].ports[1]) as client:
        await client.open()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_a_seed_makes_the_fleet() -> None:
    one, same, other = (simulated_meter(FleetOptions(seed=seed), 3) for seed in (1, 1, 2))
    assert one.load.at(1_764_158_400) == same.load.at(1_764_158_400) != other.load.at(1_764_158_400)
    assert one.identity.logical_device_name != simulated_meter(FleetOptions(seed=1), 4).identity.logical_device_name
    assert len(one.identity.logical_device_name) == 16


@pytest.mark.parametrize("wrong", [{"count": 0}, {"count": 10, "port": 65_530}])
def test_impossible_fleets_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ConfigurationError):
        FleetOptions(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("wrong", [{"framing": "mbus"}, {"max_information": 8}, {"window": 9}, {"inactivity": 0.0}])
def test_impossible_servers_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigurationError):
        ServerOptions(**wrong)  # type: ignore[arg-type]
