"""paho's client with a buffer on either side of its socket.

paho makes one call of the system for each message it sends and three for each PUBACK. Here what is written in one
turn leaves with one call, and what has come is read with one. Both hooks are private to paho: were they renamed,
nothing would be buffered and all would work as before, only slower.
"""

from __future__ import annotations

import socket
from contextlib import suppress
from typing import Any

from paho.mqtt.client import Client
from paho.mqtt.enums import MQTTErrorCode

_AT_ONCE = 1 << 16
_DISCONNECT = 0xE0


class BufferedClient(Client):
    """A paho client as its base is; takes the same arguments."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._received = memoryview(b"")
        self._held = bytearray()
        self._gathering = False
        super().__init__(*args, **kwargs)

    @property
    def has_read_ahead(self) -> bool:
        """Whether octets were received that no selector will announce, here or within TLS."""
        return bool(self._received) or bool(getattr(self.socket(), "pending", int)())

    def reconnect(self) -> MQTTErrorCode:
        """Connect; what the last connection left is not for the next."""
        self._received = memoryview(b"")
        self._held.clear()
        return super().reconnect()

    def want_write(self) -> bool:
        """Whether octets wait for the socket."""
        return bool(self._held) or super().want_write()

    def loop_write(self) -> MQTTErrorCode:
        """Write what waits, as far as the socket takes it."""
        self._gathering = True
        try:
            return super().loop_write()
        finally:
            self._gathering = False
            self._flush_at_last()

    def _flush_at_last(self) -> None:
        if not self._held or self.socket() is None:
            return
        try:
            self._flush()
        except BlockingIOError:
            return
        except OSError:
            # Reading finds it closed, and paho does then what there is to do.
            self._held.clear()
            with suppress(OSError, AttributeError):
                self.socket().shutdown(socket.SHUT_RDWR)  # type: ignore[union-attr]

    def _sock_recv(self, bufsize: int) -> bytes:
        if not self._received:
            octets = super()._sock_recv(max(bufsize, _AT_ONCE))
            if len(octets) <= bufsize:
                return octets
            self._received = memoryview(octets)
        taken, self._received = self._received[:bufsize], self._received[bufsize:]
        return bytes(taken)

    def _sock_send(self, buf: bytes | bytearray) -> int:
        # After DISCONNECT paho closes the socket: it cannot wait here.
        if self._gathering and len(buf) < _AT_ONCE and buf[0] != _DISCONNECT:
            if len(self._held) >= _AT_ONCE:
                self._flush()
            self._held += buf
            return len(buf)
        self._flush()
        return super()._sock_send(buf)

    def _flush(self) -> None:
        """Send what is held.

        Raises:
            BlockingIOError: the socket does not take all of it now.
            OSError: the connection is lost.
        """
        while self._held:
            del self._held[: super()._sock_send(self._held)]
