"""A simulated meter on a TCP port."""

from __future__ import annotations

import asyncio
import socket
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from struct import pack
from typing import Final, cast

from meterbridge.dlms import HdlcParameters
from meterbridge.errors import ConfigurationError
from meterbridge.simulator.association import ServerAssociation
from meterbridge.simulator.behaviour import Action, Behaviour, Close, Faithful, Forget, Send
from meterbridge.simulator.links import HdlcSide, ServerSide, WrapperSide
from meterbridge.simulator.meter import PUBLIC_CLIENT, SimulatedMeter
from meterbridge.simulator.secured import SecuredAssociation

_MOST_ACTIONS: Final = 256
"""Answers waiting to go out on one connection: a client that asks on regardless loses the rest."""
_NO_LINGER: Final = pack("ii", 1, 0)
_LISTEN_AGAIN: Final = 0.2
"""Seconds between attempts to have a port back that something else holds."""


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """How a meter serves.

    Args:
        framing: `hdlc` or `wrapper`.
        max_information: largest HDLC information field in either direction, 16..2030 octets.
        window: most HDLC frames under way in either direction, 1..7.
        inactivity: seconds of silence after which a connection is closed.
        exclusive: whether the meter takes one association at a time.

    Raises:
        ConfigurationError: one of them is out of its range.
    """

    framing: str = "hdlc"
    max_information: int = 128
    window: int = 1
    inactivity: float = 120.0
    exclusive: bool = True

    def __post_init__(self) -> None:
        if self.framing not in ("hdlc", "wrapper"):
            raise ConfigurationError(f"framing {self.framing!r} is neither hdlc nor wrapper")
        if not 16 <= self.max_information <= 2030:
            raise ConfigurationError(f"an information field of {self.max_information} octets is outside 16..2030")
        if not 1 <= self.window <= 7:
            raise ConfigurationError(f"a window of {self.window} frames is outside 1..7")
        if not self.inactivity > 0:
            raise ConfigurationError("the inactivity time-out has to be more than 0 seconds")

    @property
    def hdlc_parameters(self) -> HdlcParameters:
        """What UA offers at most."""
        return HdlcParameters(self.max_information, self.max_information, self.window, self.window)


@dataclass(slots=True)
class MeterServer:
    """One meter's TCP server.

    Args:
        meter: who answers.
        options: how.
        behaviour: asked before everything a client could notice.
        clock: Unix time in seconds.
    """

    meter: SimulatedMeter
    options: ServerOptions = field(default_factory=ServerOptions)
    behaviour: Behaviour = field(default_factory=Faithful)
    clock: Callable[[], float] = time.time
    port: int = 0
    _host: str = ""
    _server: asyncio.Server | None = None
    _connections: set[MeterConnection] = field(default_factory=set)
    _holder: MeterConnection | None = None

    async def start(self, host: str, port: int) -> None:
        """Listen; port 0 takes a free one, `port` then says which.

        Raises:
            ConfigurationError: the port cannot be listened on.
        """
        loop = asyncio.get_running_loop()
        try:
            self._server = await loop.create_server(lambda: MeterConnection(self), host, port)
        except OSError as error:
            reason = error.strerror or error
            raise ConfigurationError(f"port {port} on {host} cannot be listened on: {reason}") from None
        self._host, self.port = host, self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Stop listening and drop every connection."""
        server, self._server = self._server, None
        if server is not None:
            server.close()
        self.drop_connections()
        if server is not None:
            await server.wait_closed()

    def drop_connections(self) -> None:
        """Reset every connection."""
        self.act(Close(abort=True))

    def act(self, action: Action) -> None:
        """Do something to every connection, unasked."""
        for connection in tuple(self._connections):
            connection.act(action)

    def power_off(self) -> None:
        """Reset every connection and refuse new ones until `power_on`."""
        server, self._server = self._server, None
        if server is not None:
            server.close()
        self.drop_connections()

    async def power_on(self) -> None:
        """Listen again on the port as it was, as soon as it is free."""
        while self._server is None:
            try:
                await self.start(self._host, self.port)
            except ConfigurationError:
                await asyncio.sleep(_LISTEN_AGAIN)

    @property
    def powered(self) -> bool:
        """Whether it listens."""
        return self._server is not None

    @property
    def connections(self) -> int:
        """Open TCP connections."""
        return len(self._connections)

    def claim(self, connection: MeterConnection) -> bool:
        """Let a connection have the association; False while another one holds it."""
        if self.options.exclusive and self._holder not in (None, connection):
            return False
        self._holder = connection
        return True

    def release(self, connection: MeterConnection) -> None:
        """Take the association back from a connection."""
        if self._holder is connection:
            self._holder = None

    def opened(self, connection: MeterConnection) -> None:
        """Count a connection in."""
        self._connections.add(connection)

    def closed(self, connection: MeterConnection) -> None:
        """Count a connection out."""
        self._connections.discard(connection)
        self.release(connection)


class MeterConnection(asyncio.Protocol):
    """One TCP connection to a meter.

    Args:
        server: whose.
    """

    def __init__(self, server: MeterServer) -> None:
        self._server = server
        self._side: ServerSide
        self._transport: asyncio.Transport
        self._due: deque[Action] = deque()
        self._sending: asyncio.TimerHandle | None = None
        self._idle: asyncio.TimerHandle
        self._heard = 0.0
        self._muted = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection, or reset it where the behaviour says so."""
        server = self._server
        self._transport = cast(asyncio.Transport, transport)
        self._side = self._new_side()
        loop = asyncio.get_running_loop()
        self._heard = loop.time()
        self._idle = loop.call_later(server.options.inactivity, self._check_idle)
        server.opened(self)
        if not server.behaviour.accepts_connection(server.clock()):
            self._reset()

    def connection_lost(self, error: Exception | None) -> None:
        """Forget everything the connection held."""
        self._idle.cancel()
        if self._sending is not None:
            self._sending.cancel()
        self._due.clear()
        self._side.close()
        self._server.closed(self)

    def data_received(self, data: bytes) -> None:
        """Answer what arrived."""
        if self._muted:
            return
        self._heard = asyncio.get_running_loop().time()
        server = self._server
        now = server.clock()
        answer = self._side.receive(data, now)
        if not answer:
            return
        behaviour = server.behaviour
        if type(behaviour) is Faithful:
            self._transport.write(answer)
            return
        room = _MOST_ACTIONS - len(self._due)
        self._due.extend(list(behaviour.deliver(answer, now))[:room])
        if self._sending is None:
            self._next_action()

    def pause_writing(self) -> None:
        """Stop listening to a client that does not read its answers."""
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        """Listen again."""
        self._transport.resume_reading()

    def _new_side(self) -> ServerSide:
        server = self._server
        options, identity = server.options, server.meter.identity
        if options.framing == "wrapper":
            return WrapperSide(identity, self._associate)
        parameters = server.behaviour.link_parameters(options.hdlc_parameters, server.clock())
        return HdlcSide(identity, parameters, self._associate)

    def _associate(self, client: int) -> ServerAssociation:
        server = self._server
        meter = server.meter

        def claim() -> bool:
            return server.claim(self)

        def release() -> None:
            server.release(self)

        if meter.security is None or client == PUBLIC_CLIENT:
            return ServerAssociation(meter, client, server.behaviour, claim, release)
        return SecuredAssociation(meter, client, server.behaviour, claim, release, meter.security)

    def _next_action(self) -> None:
        self._sending = None
        while self._due and not self._transport.is_closing():
            if (wait := self._due[0].after) > 0:
                self._sending = asyncio.get_running_loop().call_later(wait, self._waited)
                return
            self.act(self._due.popleft())

    def _waited(self) -> None:
        self.act(self._due.popleft())
        self._next_action()

    def act(self, action: Action) -> None:
        """Do one thing now, whatever time it is due."""
        if isinstance(action, Send):
            self._transport.write(action.octets)
        elif isinstance(action, Close):
            self._reset() if action.abort else self._transport.close()
        elif isinstance(action, Forget):
            self._side.close()
            self._side = self._new_side()
        else:
            self._muted = True
            self._due.clear()
            self._idle.cancel()
            self._side.close()

    def _reset(self) -> None:
        # Aborting alone drops what is not sent yet, and then says FIN.
        self._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
        self._transport.abort()

    def _check_idle(self) -> None:
        loop = asyncio.get_running_loop()
        left = self._heard + self._server.options.inactivity - loop.time()
        if left > 0:
            self._idle = loop.call_later(left, self._check_idle)
        else:
            self._transport.close()
