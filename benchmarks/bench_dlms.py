"""CPU of one exchange with a meter: the bare event loop, DLMSClient, gurux-dlms and dlms-cosem, in one run.

The meter is another process on another core and answers from a table. CPU is this process's own, so waiting costs
nothing; rounds of all contestants are interleaved and the median of each is printed. gurux-dlms is driven by the same
event loop; dlms-cosem, which brings its own blocking sockets, one connection after the other.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import logging
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, cast

import uvloop

from benchmarks.canned_meter import hdlc_answer, wrapper_answer
from meterbridge.dlms import AttributeDescriptor, Frame, LogicalName, client_address, server_address
from meterbridge.dlms.xdlms import GetRequest
from meterbridge.meter import DLMSClient, MeterAddress, load_model

ROUNDS = 5
CONNECTIONS = (1, 200)
EXCHANGES = 6_000
"""Exchanges a round, over all connections."""
PEER_EXCHANGES = 1_000
NAMES = ("voltage_l1", "current_l1", "frequency", "active_power", "active_energy")
CODES = ("1.0.32.7.0.255", "1.0.31.7.0.255", "1.0.14.7.0.255", "1.0.1.7.0.255", "1.0.1.8.0.255")

Round = Callable[[int, str, int, int], Awaitable[float]]
"""(port, framing, connections, values) -> CPU µs an exchange."""


@contextlib.contextmanager
def canned_meter(framing: str) -> Iterator[int]:
    """A meter process; yields its port."""
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.canned_meter", framing],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        yield int(process.stdout.readline().split()[1])
    finally:
        process.communicate()


def request_octets(framing: str, values: int) -> bytes:
    """One request as it goes over the wire."""
    attributes = tuple(AttributeDescriptor(3, LogicalName.parse(code), 2) for code in CODES[:values])
    apdu = GetRequest(1, attributes).encode()
    if framing == "hdlc":
        return Frame(server_address(1), client_address(1), 0x10, b"\xe6\xe6\x00" + apdu).encode()
    return bytes((0, 1, 0, 1, 0, 1)) + len(apdu).to_bytes(2, "big") + apdu


class _Echo(asyncio.Protocol):
    """Sends the next request when an answer of the right length is there, and nothing else."""

    def __init__(self, request: bytes, due: int, count: int, done: asyncio.Future[None]) -> None:
        self._request, self._due, self._left, self._done = request, due, count, done
        self._got = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def start(self) -> None:
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._got += len(data)
        if self._got < self._due:
            return
        self._got = 0
        self._left -= 1
        if self._left:
            self._transport.write(self._request)
        else:
            self._transport.close()
            self._done.set_result(None)


def _itself(echo: _Echo) -> _Echo:
    return echo


async def raw(port: int, framing: str, connections: int, values: int) -> float:
    """The limit: the same octets to and fro over uvloop, nothing understood."""
    loop = asyncio.get_running_loop()
    request = request_octets(framing, values)
    due = len((hdlc_answer if framing == "hdlc" else wrapper_answer)(request))
    each = EXCHANGES // connections
    echoes, waiters = [], []
    for _ in range(connections):
        done: asyncio.Future[None] = loop.create_future()
        echo = _Echo(request, due, each, done)
        await loop.create_connection(functools.partial(_itself, echo), "127.0.0.1", port)
        echoes.append(echo)
        waiters.append(done)
    started = time.process_time()
    for echo in echoes:
        echo.start()
    await asyncio.gather(*waiters)
    return (time.process_time() - started) / (each * connections) * 1e6


async def meterbridge(port: int, framing: str, connections: int, values: int) -> float:
    """DLMSClient as everybody uses it."""
    model = load_model("generic")
    clients = [
        DLMSClient(MeterAddress("127.0.0.1", port, framing, password=b"00000000"), model) for _ in range(connections)
    ]
    each = EXCHANGES // connections

    async def one(client: DLMSClient) -> None:
        for _ in range(each):
            await client.read_measurement(NAMES[0])

    async def several(client: DLMSClient) -> None:
        for _ in range(each):
            await client.read_measurements(NAMES)

    for client in clients:
        await client.connect()
        # Scalers and layouts are learned once in a client's life.
        for _ in range(20):
            await (client.read_measurements(NAMES) if values > 1 else client.read_measurement(NAMES[0]))
    started = time.process_time()
    await asyncio.gather(*((several if values > 1 else one)(client) for client in clients))
    spent = (time.process_time() - started) / (each * connections) * 1e6
    for client in clients:
        await client.disconnect()
    return spent


class _Gurux(asyncio.Protocol):
    """gurux-dlms builds and parses; the same event loop as everybody's moves the octets."""

    def __init__(self, framing: str) -> None:
        from gurux_dlms import GXByteBuffer, GXReplyData
        from gurux_dlms.enums import Authentication, InterfaceType
        from gurux_dlms.objects import GXDLMSRegister
        from gurux_dlms.secure import GXDLMSSecureClient

        interface = InterfaceType.HDLC if framing == "hdlc" else InterfaceType.WRAPPER
        self._client = GXDLMSSecureClient(True, 1, 1, Authentication.LOW, "00000000", interface)
        self._reply_type, self._buffer_type = GXReplyData, GXByteBuffer
        self._reply, self._buffer = GXReplyData(), GXByteBuffer()
        self._registers = [GXDLMSRegister(code) for code in CODES]
        self._waiter: asyncio.Future[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._buffer.set(data)
        if self._client.getData(self._buffer, self._reply, None):
            assert self._waiter is not None
            self._waiter.set_result(None)
        else:
            self._buffer.position = 0

    async def _exchange(self, messages: Any) -> Any:
        for message in [messages] if isinstance(messages, (bytes, bytearray)) else messages:
            self._reply, self._buffer = self._reply_type(), self._buffer_type()
            self._waiter = asyncio.get_running_loop().create_future()
            self._transport.write(bytes(message))
            await self._waiter
        return self._reply

    async def open(self) -> None:
        snrm = self._client.snrmRequest()
        if snrm:
            self._client.parseUAResponse((await self._exchange(snrm)).data)
        self._client.parseAareResponse((await self._exchange(self._client.aarqRequest())).data)

    async def read(self, values: int, times: int) -> None:
        for _ in range(times):
            if values == 1:
                reply = await self._exchange(self._client.read(self._registers[0], 2))
                assert self._client.updateValue(self._registers[0], 2, reply.value) is not None
            else:
                items = [(register, 2) for register in self._registers[:values]]
                for messages in self._client.readList(items):
                    assert (await self._exchange(messages)).value

    def close(self) -> None:
        self._transport.close()


async def gurux(port: int, framing: str, connections: int, values: int) -> float:
    """gurux-dlms, its own client object for each connection."""
    loop = asyncio.get_running_loop()
    sessions = []
    for _ in range(connections):
        _, session = await loop.create_connection(lambda: _Gurux(framing), "127.0.0.1", port)
        await session.open()
        await session.read(values, 1)
        sessions.append(session)
    each = max(1, PEER_EXCHANGES // connections)
    started = time.process_time()
    await asyncio.gather(*(session.read(values, each) for session in sessions))
    spent = (time.process_time() - started) / (each * connections) * 1e6
    for session in sessions:
        session.close()
    return spent


class _DlmsCosem:
    def __init__(self, port: int, framing: str) -> None:
        from dlms_cosem import cosem, enumerations
        from dlms_cosem.client import DlmsClient
        from dlms_cosem.io import BlockingTcpIO, HdlcTransport, TcpTransport
        from dlms_cosem.security import LowLevelSecurityAuthentication

        io = BlockingTcpIO(host="127.0.0.1", port=port, timeout=5)
        transport: Any
        if framing == "hdlc":
            transport = HdlcTransport(client_logical_address=1, server_logical_address=1, io=io)
        else:
            transport = TcpTransport(client_logical_address=1, server_logical_address=1, io=io)
        self._client = DlmsClient(
            transport=transport, authentication=LowLevelSecurityAuthentication(secret=b"00000000")
        )
        self._client.connect()
        self._client.associate()
        self._attributes = [
            cosem.CosemAttribute(enumerations.CosemInterface.REGISTER, cosem.Obis.from_string(code), 2)
            for code in CODES
        ]

    def read(self, values: int) -> None:
        if values > 1:
            # Its Get-Request-With-List leaves octets out, and without an answer it waits for ever.
            raise NotImplementedError("its list request cannot be decoded")
        assert self._client.get(self._attributes[0])

    def close(self) -> None:
        self._client.disconnect()


async def dlms_cosem(port: int, framing: str, connections: int, values: int) -> float:
    """dlms-cosem, its own blocking client, its debug log left out."""
    import structlog

    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    sessions = [_DlmsCosem(port, framing) for _ in range(connections)]
    each = max(1, PEER_EXCHANGES // connections)
    for session in sessions:
        session.read(values)
    started = time.process_time()
    for _ in range(each):
        for session in sessions:
            session.read(values)
    spent = (time.process_time() - started) / (each * connections) * 1e6
    for session in sessions:
        session.close()
    return spent


CONTESTANTS: dict[str, Round] = {
    "raw uvloop echo": raw,
    "meterbridge": meterbridge,
    "gurux-dlms": gurux,
    "dlms-cosem": dlms_cosem,
}


def _memory_per_association(port: int) -> float:
    """Resident octets of one idle association, kB, from 1,000 of them."""

    async def measure() -> float:
        model = load_model("generic")
        address = MeterAddress("127.0.0.1", port, password=b"00000000")
        warm = DLMSClient(address, model)
        await warm.connect()
        await warm.read_measurements(NAMES)
        gc.collect()
        before = _resident()
        clients = [DLMSClient(address, model) for _ in range(1000)]
        for client in clients:
            await client.connect()
            await client.read_measurements(NAMES)
        gc.collect()
        used = _resident() - before
        for client in (*clients, warm):
            await client.disconnect()
        return used / len(clients) / 1000

    return uvloop.run(measure())


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text("ascii").split()[1]) * resource.getpagesize()


def main() -> None:
    """Print the table."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard if hard > 0 else soft, hard))
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    try:
        for framing in ("hdlc", "wrapper"):
            with canned_meter(framing) as port:
                _compare(port, framing)
        with canned_meter("hdlc") as port:
            print(f"memory of one idle association: {_memory_per_association(port):.1f} kB (1,000 of them)")
    finally:
        os.sched_setaffinity(0, cores)


def _compare(port: int, framing: str) -> None:
    for values in (1, 5):
        for connections in CONNECTIONS:
            spent: dict[str, list[float]] = {name: [] for name in CONTESTANTS}
            failed: dict[str, str] = {}
            for _ in range(ROUNDS):
                for name, contestant in CONTESTANTS.items():
                    if name in failed:
                        continue
                    try:
                        spent[name].append(uvloop.run(contestant(port, framing, connections, values)))  # type: ignore[arg-type]
                    except Exception as error:  # a peer that cannot do it is a result
                        if name in ("raw uvloop echo", "meterbridge"):
                            raise
                        failed[name] = f"{type(error).__name__}: {error}"
            service = "GET normal" if values == 1 else f"GET with list of {values}"
            print(f"{framing}, {service}, {connections} connection{'s' if connections > 1 else ''}, {ROUNDS} rounds")
            limit = statistics.median(spent["raw uvloop echo"])
            for name, rounds in spent.items():
                if name in failed:
                    print(f"  {name:16} cannot: {failed[name]}")
                    continue
                median = statistics.median(rounds)
                print(
                    f"  {name:16} {median:8.1f} µs CPU an exchange {median / values:8.1f} a value"
                    f" {median / limit:7.2f} x raw"
                )
