"""The wrapper over UDP, and an HDLC link kept open while nothing is asked."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from meterbridge.errors import ConnectionLost, MeterError, ResponseTimeout
from meterbridge.meter import DLMSClient, MeterAddress, Timeouts, load_model
from meterbridge.simulator import FleetOptions, ServerOptions, SimulatedFleet

PASSWORD = b"00000000"


class UdpMeter(asyncio.DatagramProtocol):
    """Puts a simulated wrapper meter behind UDP: each datagram over a TCP connection of its client's."""

    def __init__(self, tcp_port: int, lose: int = 0) -> None:
        self._tcp_port = tcp_port
        self._lose = lose
        self._writers: dict[Any, asyncio.StreamWriter] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._incoming: asyncio.Queue[tuple[bytes, Any]] = asyncio.Queue()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)
        self._start(self._forward())

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self._incoming.put_nowait((data, addr))

    def _start(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)

    async def _forward(self) -> None:
        while True:
            data, addr = await self._incoming.get()
            if self._lose:
                self._lose -= 1
                continue
            if addr not in self._writers:
                reader, self._writers[addr] = await asyncio.open_connection("127.0.0.1", self._tcp_port)
                self._start(self._answer(reader, addr))
            self._writers[addr].write(data)

    async def _answer(self, reader: asyncio.StreamReader, addr: Any) -> None:
        while data := await reader.read(65_536):
            self._transport.sendto(data, addr)

    def close(self) -> None:
        self._transport.close()
        for task in self._tasks:
            task.cancel()
        for writer in self._writers.values():
            writer.close()


def client(port: int, framing: str, **times: float) -> DLMSClient:
    address = MeterAddress("127.0.0.1", port, framing, password=PASSWORD)
    return DLMSClient(address, load_model("generic"), Timeouts(1.0, **times))  # type: ignore[arg-type]


async def test_a_meter_is_read_over_udp() -> None:
    async with SimulatedFleet(FleetOptions(port=0, server=ServerOptions("wrapper"))) as fleet:
        loop = asyncio.get_running_loop()
        transport, meter = await loop.create_datagram_endpoint(
            lambda: UdpMeter(fleet.ports[0]), local_addr=("127.0.0.1", 0)
        )
        reader = client(transport.get_extra_info("sockname")[1], "wrapper-udp", response=5.0)
        try:
            await reader.connect()
            for _ in range(3):
                readout = await reader.read_measurements()
                assert len(readout.values) == 5
                assert not readout.errors
        finally:
            await reader.disconnect()
            meter.close()


async def test_a_lost_datagram_ends_in_a_time_out() -> None:
    loop = asyncio.get_running_loop()
    transport, meter = await loop.create_datagram_endpoint(lambda: UdpMeter(1, lose=10), local_addr=("127.0.0.1", 0))
    try:
        with pytest.raises(ResponseTimeout):
            await client(transport.get_extra_info("sockname")[1], "wrapper-udp", response=0.1).connect()
    finally:
        meter.close()


async def test_nobody_at_the_udp_port_is_said(free_port: Any) -> None:
    with pytest.raises((ConnectionLost, ResponseTimeout)):
        await client(free_port(), "wrapper-udp", response=0.5).connect()


@pytest.mark.parametrize(("keep_alive", "survives"), [(0.1, True), (0.0, False)])
async def test_rr_keeps_a_link_from_its_inactivity_time_out(keep_alive: float, survives: bool) -> None:
    server = ServerOptions("hdlc", inactivity=0.5)
    async with SimulatedFleet(FleetOptions(port=0, server=server)) as fleet:
        reader = client(fleet.ports[0], "hdlc", response=5.0, keep_alive=keep_alive)
        await reader.connect()
        await reader.read_measurements()
        await asyncio.sleep(1.5)
        assert reader.connected is survives
        if survives:
            # The quick way goes on where it was, whatever RR went to and fro.
            for _ in range(10):
                assert len((await reader.read_measurements()).values) == 5
        else:
            with pytest.raises(MeterError):
                await reader.read_measurements()
        await reader.disconnect()
