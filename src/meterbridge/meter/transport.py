"""TCP or UDP to a meter: the one place where operating system errors become ours."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar, cast

from meterbridge.errors import ConnectFailed, ConnectionLost
from meterbridge.model import host_port

_Connected = TypeVar("_Connected")


def _unheard(octets: bytes) -> None:
    pass


class Receiver(Protocol):
    """Who gets what arrives."""

    def data_received(self, data: bytes) -> None:
        """Octets arrived."""

    def connection_lost(self, error: ConnectionLost) -> None:
        """The connection ended and we had not asked for it."""


async def _connected(opening: Awaitable[_Connected], peer: str, host: str, timeout: float) -> _Connected:
    """Wait for a connection: the one place where what the operating system says of it becomes ours."""
    try:
        async with asyncio.timeout(timeout):
            return await opening
    except TimeoutError:
        raise ConnectFailed(f"no answer to a connection to {peer} within {timeout:g} s") from None
    except socket.gaierror as error:
        raise ConnectFailed(f"host {host!r} is not known: {error.strerror or error}") from None
    except ConnectionRefusedError:
        raise ConnectFailed(f"{peer} refused the connection: nothing listens there") from None
    except OSError as error:
        raise ConnectFailed(f"cannot connect to {peer}: {error.strerror or error}") from None
    except (UnicodeError, OverflowError) as error:
        raise ConnectFailed(f"{peer} is no address: {error}") from None


class Transport(Protocol):
    """What carries octets to one meter and back."""

    write: Callable[[bytes], object]
    """Send octets; a connection that is gone is reported to the receiver, not here."""

    def close(self) -> None:
        """Close at once, without waiting for what is not sent yet."""


class UdpTransport(asyncio.DatagramProtocol):
    """UDP to one meter, for the wrapper: one datagram for each write, each that comes handed on at once."""

    def __init__(self, receiver: Receiver, peer: str) -> None:
        self._receiver = receiver
        self._peer = peer
        self._transport: asyncio.DatagramTransport | None = None
        self._closing = False
        self.write: Callable[[bytes], object] = _unheard

    @classmethod
    async def connect(cls, host: str, port: int, receiver: Receiver, timeout: float) -> UdpTransport:
        """Open a socket towards `host:port`; nothing is sent, so nobody need be there.

        Raises:
            ConnectFailed: unknown name, or no route.
        """
        peer = host_port(host, port)
        opening = asyncio.get_running_loop().create_datagram_endpoint(
            lambda: cls(receiver, peer), remote_addr=(host, port)
        )
        _, protocol = await _connected(opening, peer, host, timeout)
        return protocol

    def close(self) -> None:
        """Close at once."""
        self._closing = True
        if self._transport is not None:
            self._transport.abort()

    # ---- asyncio.DatagramProtocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio."""
        self._transport = cast(asyncio.DatagramTransport, transport)
        self.write = self._transport.sendto

    def datagram_received(self, data: bytes, addr: object) -> None:
        """See asyncio."""
        if not self._closing:
            self._receiver.data_received(data)

    def error_received(self, exc: Exception) -> None:
        """See asyncio: an ICMP message, as a rule that nobody listens."""
        self._lost(f"cannot be reached ({exc})")

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio."""
        self._transport = None
        self.write = _unheard
        self._lost(f"dropped the connection ({exc})")

    def _lost(self, why: str) -> None:
        if not self._closing:
            self._closing = True
            self._receiver.connection_lost(ConnectionLost(f"{self._peer} {why}"))


class TcpTransport(asyncio.Protocol):
    """One TCP connection; what arrives is handed to the receiver at once, nothing is buffered here."""

    def __init__(self, receiver: Receiver, peer: str) -> None:
        self._receiver = receiver
        self._peer = peer
        self._transport: asyncio.Transport | None = None
        # The loop's own method while there is a connection: nothing stands between a request and the socket.
        self.write: Callable[[bytes], object] = _unheard
        """Send octets; a connection that is gone is reported to the receiver, not here."""
        self._closing = False
        # Nothing of ours stands between the loop and the receiver: after `close` the loop reads no more.
        self.data_received = receiver.data_received  # type: ignore[method-assign]

    @classmethod
    async def connect(cls, host: str, port: int, receiver: Receiver, timeout: float) -> TcpTransport:
        """Connect to `host:port` within `timeout` seconds.

        Raises:
            ConnectFailed: refused, unreachable, unknown name, or no answer in time.
        """
        peer = host_port(host, port)
        opening = asyncio.get_running_loop().create_connection(lambda: cls(receiver, peer), host, port)
        _, protocol = await _connected(opening, peer, host, timeout)
        return protocol

    def close(self) -> None:
        """Close at once, without waiting for what is not sent yet."""
        self._closing = True
        if self._transport is not None:
            self._transport.abort()

    # ---- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio."""
        self._transport = cast(asyncio.Transport, transport)
        self.write = self._transport.write
        raw = transport.get_extra_info("socket")
        if raw is not None:
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def eof_received(self) -> bool:
        """See asyncio."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio."""
        self._transport = None
        self.write = _unheard
        if self._closing:
            return
        self._closing = True
        why = "closed the connection" if exc is None else f"dropped the connection ({exc})"
        self._receiver.connection_lost(ConnectionLost(f"{self._peer} {why}"))
