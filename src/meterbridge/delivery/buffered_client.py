"""paho's client for many messages: a buffer on either side of its socket, and publishing without a diary.

paho makes one call of the system for each message it sends and three for each PUBACK. Here what is written in one
turn leaves with one call, and what has come is read with one. For each message paho also keeps an object that threads
can wait on, and of each PUBACK it makes a table of properties; `post` does without, for whoever keeps what is on its
way.
The hooks are private to paho, so a version that lacks one is refused at import.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Literal

from paho.mqtt.client import Client
from paho.mqtt.enums import MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.reasoncodes import ReasonCode

_AT_ONCE = 1 << 16
_DISCONNECT = 0xE0
_PUBLISH_QOS_1 = b"\x32"
# MQTT 3.1.1 section 2.2.3, MQTT 5 section 2.1.4: what the remaining length can say at most.
_LONGEST = 268_435_455
# MQTT 3.1.1 section 3.4, MQTT 5 section 3.4.2.1: PUBACK with nothing but a packet identifier, which means success.
_PUBACK = 0x4002
_SUCCESS = ReasonCode(PacketTypes.PUBACK)
_HOOKS = ("_handle_pubackcomp", "_mid_generate", "_packet_queue", "_sock_recv", "_sock_send")
if missing := [hook for hook in _HOOKS if not hasattr(Client, hook)]:
    raise ImportError(f"This paho-mqtt has no {', '.join(missing)}: Meterbridge wants version 2.1 or 2.2.")


def _remaining_length(length: int) -> bytes:
    octets = bytearray()
    while length > 0x7F:
        octets.append(0x80 | length & 0x7F)
        length >>= 7
    octets.append(length)
    return bytes(octets)


def _encoded(topic: str) -> bytes:
    octets = topic.encode()
    if not 0 < len(octets) < 1 << 16 or "+" in topic or "#" in topic:
        raise ValueError(f"{topic[:100]!a} is no topic to publish to.")
    return octets


class BufferedClient(Client):
    """A paho client as its base is; takes the same arguments. One thread drives it."""

    on_acknowledged: Callable[[int, ReasonCode], None] | None = None
    """Called with packet identifier and reason for the PUBACK of each message of `post`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._posted: set[int] = set()
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
        self._posted.clear()
        return super().reconnect()

    def post(self, topic: str, payload: bytes) -> int | None:
        """Publish with QoS 1, once: the next `loop_write` sends it, and no reconnection repeats it.

        Returns:
            Packet identifier, or None where there is no connection, or no identifier is free.

        Raises:
            ValueError: the topic is none to publish to, or the payload is too long for MQTT.
        """
        name = _encoded(topic)
        properties = b"\0" if self.protocol == MQTTProtocolVersion.MQTTv5 else b""
        length = len(name) + len(payload) + len(properties) + 4
        if length > _LONGEST:
            raise ValueError(f"{len(payload)} octets are too long for an MQTT message.")
        if self.socket() is None:
            return None
        mid = self._mid_generate()
        if mid in self._posted:
            return None
        self._posted.add(mid)
        packet = b"".join(
            (
                _PUBLISH_QOS_1,
                _remaining_length(length),
                struct.pack("!H", len(name)),
                name,
                struct.pack("!H", mid),
                properties,
                payload,
            )
        )
        if self._out_packet or len(packet) >= _AT_ONCE:
            # Behind what paho has to send: a part of that may be on its way.
            self._packet_queue(_PUBLISH_QOS_1[0], packet, mid, 1)
        else:
            self._held += packet
        return mid

    def loop_read(self, max_packets: int = 1) -> MQTTErrorCode:
        """Read what has come, all of it."""
        outcome = super().loop_read(max_packets)
        while outcome == MQTTErrorCode.MQTT_ERR_SUCCESS and self._received:
            self._acknowledge()
            if self._received:
                outcome = super().loop_read(max_packets)
        return outcome

    def _acknowledge(self) -> None:
        """Take PUBACKs without a word beside them, as far as they are whole and nothing else comes between.

        A packet begins here: paho stops amid one only when nothing is left to read.
        """
        whole = len(self._received) & ~3
        taken = 0
        for head, mid in struct.iter_unpack("!HH", self._received[:whole]):
            if head != _PUBACK or mid not in self._posted:
                break
            taken += 4
            self._answered(mid, _SUCCESS)
        self._received = self._received[taken:]

    def _answered(self, mid: int, reason: ReasonCode) -> None:
        self._posted.discard(mid)
        if self.on_acknowledged is not None:
            self.on_acknowledged(mid, reason)

    def _handle_pubackcomp(self, cmd: Literal["PUBACK", "PUBCOMP"]) -> MQTTErrorCode:
        packet = self._in_packet["packet"]
        mid = int.from_bytes(packet[:2])
        if cmd != "PUBACK" or mid not in self._posted:
            return super()._handle_pubackcomp(cmd)
        if len(packet) == 2:
            self._answered(mid, _SUCCESS)
        elif self.protocol == MQTTProtocolVersion.MQTTv5:
            self._answered(mid, ReasonCode(PacketTypes.PUBACK, identifier=packet[2]))
        else:
            return MQTTErrorCode.MQTT_ERR_PROTOCOL
        return MQTTErrorCode.MQTT_ERR_SUCCESS

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
