"""A listener for meters that push: TCP connections and UDP datagrams in, decoded APDUs out, all of it bounded."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

from meterbridge.dlms.counters import ReceivedCounters
from meterbridge.dlms.push_decoder import Decoded, KeyRing, PushDecoder
from meterbridge.dlms.push_list import ListLayout
from meterbridge.dlms.reception import Framing, Reception, Refused
from meterbridge.errors import ConfigurationError
from meterbridge.model import host_port

DEFAULT_PORT = 4059
"""Registered for DLMS/COSEM over TCP and UDP."""


@dataclass(frozen=True, slots=True)
class ListenLimits:
    """What a stranger may cost us.

    Args:
        connections: TCP connections at once, and UDP senders remembered.
        idle: seconds of silence after which a connection is closed.
        apdu: octets of one APDU.
        useless: octets without one APDU among them after which a connection is closed.
        waiting: events that may wait to be taken; beyond, TCP is not read and datagrams are dropped and counted.
    """

    connections: int = 1000
    idle: float = 600.0
    apdu: int = 1 << 16
    useless: int = 1 << 20
    waiting: int = 1000


@dataclass(frozen=True, slots=True)
class Closed:
    """A connection is over.

    Args:
        reason: why.
        by_us: whether we ended it.
    """

    reason: str
    by_us: bool


@dataclass(frozen=True, slots=True)
class Pushed:
    """Something came from somebody.

    Args:
        peer: `host:port`.
        event: what.
    """

    peer: str
    event: Decoded | Refused | Closed


def _peer_name(address: Any) -> str:
    host, port = address[:2] if address else ("unknown", 0)
    return host_port(host, port)


class PushListener:
    """Receives what meters push, from many at once; take it with `next_event`.

    Args:
        keys: to decipher with.
        layouts: what is known of makes, `catalogue.push.load_layouts()`.
        framing: None to find out for each sender.
        limits: what is allowed.
    """

    def __init__(
        self,
        keys: KeyRing | None = None,
        layouts: Sequence[ListLayout] = (),
        framing: Framing | None = None,
        limits: ListenLimits | None = None,
    ) -> None:
        self.limits = limits or ListenLimits()
        self._keys = keys or KeyRing()
        self._layouts = layouts
        self._framing = framing
        self._received = ReceivedCounters()
        self._events: deque[Pushed] = deque()
        self._arrived = asyncio.Event()
        self._connections: set[_Connection] = set()
        self._held_back: dict[_Connection, None] = {}
        self._server: asyncio.Server | None = None
        self._datagrams: asyncio.DatagramTransport | None = None
        self.port = 0
        self.dropped = 0
        """Datagrams dropped because too much was waiting."""

    async def start(self, host: str, port: int, *, udp: bool = False) -> None:
        """Listen; port 0 takes a free one, `port` then says which.

        Raises:
            ConfigurationError: the port cannot be listened on.
        """
        loop = asyncio.get_running_loop()
        try:
            if udp:
                self._datagrams, _ = await loop.create_datagram_endpoint(
                    lambda: _Datagrams(self), local_addr=(host, port)
                )
                self.port = self._datagrams.get_extra_info("sockname")[1]
            else:
                self._server = await loop.create_server(lambda: _Connection(self), host, port)
                self.port = self._server.sockets[0].getsockname()[1]
        except (OSError, OverflowError, UnicodeError) as error:
            reason = getattr(error, "strerror", None) or error
            raise ConfigurationError(f"port {port} on {host} cannot be listened on: {reason}") from None

    async def close(self) -> None:
        """Stop listening and drop every connection."""
        if self._server is not None:
            self._server.close()
            self._server = None
        if self._datagrams is not None:
            self._datagrams.close()
            self._datagrams = None
        for connection in list(self._connections):
            connection.close("the listener stops")

    async def next_event(self) -> Pushed:
        """Wait for the next event."""
        while not self._events:
            self._arrived.clear()
            await self._arrived.wait()
        event = self._events.popleft()
        while self._held_back and not self._full:
            # The one that has waited longest; it goes to the end again where it has more than there is room for.
            connection = next(iter(self._held_back))
            del self._held_back[connection]
            connection.go_on()
        return event

    # ---- for the protocols below

    @property
    def _full(self) -> bool:
        return len(self._events) >= self.limits.waiting

    def _decoder(self, *, bare: bool) -> PushDecoder:
        reception = Reception(self._framing, self.limits.apdu, bare=bare)
        return PushDecoder(reception, self._keys, self._layouts, self._received)

    def _emit(self, peer: str, event: Decoded | Refused | Closed) -> None:
        self._events.append(Pushed(peer, event))
        self._arrived.set()


class _Connection(asyncio.Protocol):
    """One TCP connection."""

    def __init__(self, listener: PushListener) -> None:
        self._listener = listener
        self._decoder = listener._decoder(bare=listener._framing is Framing.RAW)
        self._transport: asyncio.Transport | None = None
        self._peer = ""
        self._useless = 0
        self._last = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._paused = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio."""
        listener = self._listener
        self._transport = cast(asyncio.Transport, transport)
        self._peer = _peer_name(transport.get_extra_info("peername"))
        if len(listener._connections) >= listener.limits.connections:
            self._finish(f"more than {listener.limits.connections} connections", by_us=True)
            return
        listener._connections.add(self)
        self._last = asyncio.get_running_loop().time()
        self._watch()

    def data_received(self, data: bytes) -> None:
        """See asyncio."""
        self._last = asyncio.get_running_loop().time()
        self._useless += len(data)
        self._decoder.receive_data(data)
        self.go_on()
        if self._useless > self._listener.limits.useless and not self._paused:
            self._finish(f"{self._useless} octets without an APDU", by_us=True)

    def eof_received(self) -> bool:
        """See asyncio."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio."""
        if self._transport is not None:
            self._finish("closed by the meter" if exc is None else f"dropped ({exc})", by_us=False)

    def close(self, reason: str) -> None:
        """End it."""
        if self._transport is not None:
            self._finish(reason, by_us=True)

    def go_on(self) -> None:
        """Hand on what has come while there is room; read on when all of it is handed on."""
        transport = self._transport
        if transport is None:
            return
        while not self._listener._full:
            if not self._emit_next():
                if self._paused:
                    self._paused = False
                    self._last = asyncio.get_running_loop().time()
                    transport.resume_reading()
                return
        self._listener._held_back[self] = None
        if not self._paused:
            self._paused = True
            transport.pause_reading()

    def _emit_next(self) -> bool:
        event = self._decoder.next_event()
        if event is None:
            return False
        if isinstance(event, Decoded):
            self._useless = 0
        self._listener._emit(self._peer, event)
        return True

    def _watch(self) -> None:
        loop = asyncio.get_running_loop()
        idle = self._listener.limits.idle
        if self._transport is None:
            return
        # While we do not read, the silence is ours.
        since = loop.time() if self._paused else self._last
        if loop.time() >= since + idle:
            self._finish(f"silent for {idle:g} s", by_us=True)
        else:
            self._timer = loop.call_at(since + idle, self._watch)

    def _finish(self, reason: str, *, by_us: bool) -> None:
        transport, self._transport = self._transport, None
        if self._timer is not None:
            self._timer.cancel()
        self._listener._connections.discard(self)
        self._listener._held_back.pop(self, None)
        self._decoder.end()
        while self._emit_next():
            pass
        self._listener._emit(self._peer, Closed(reason, by_us))
        if transport is not None and by_us:
            transport.abort()


class _Datagrams(asyncio.DatagramProtocol):
    """All UDP senders; what each has begun is remembered for the most recent ones."""

    def __init__(self, listener: PushListener) -> None:
        self._listener = listener
        self._decoders: OrderedDict[str, PushDecoder] = OrderedDict()

    def datagram_received(self, data: bytes, addr: Any) -> None:
        """See asyncio."""
        listener = self._listener
        if listener._full:
            listener.dropped += 1
            return
        peer = _peer_name(addr)
        decoder = self._decoders.pop(peer, None)
        if decoder is None:
            decoder = listener._decoder(bare=True)
            if len(self._decoders) >= listener.limits.connections:
                self._decoders.popitem(last=False)
        self._decoders[peer] = decoder
        decoder.receive_data(data)
        decoder.end(datagram=True)
        while (event := decoder.next_event()) is not None:
            listener._emit(peer, event)
