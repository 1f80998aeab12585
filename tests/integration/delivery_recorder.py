"""An MQTT server that records each message before it acknowledges it, and misbehaves on demand.

It stands in ThingsBoard's place for the service and for the real tb-gateway.
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections.abc import Callable, Iterator
from typing import Any

_NO_LINGER = struct.pack("ii", 1, 0)
LIMITS = {"maxPayloadSize": 65_536, "maxInflightMessages": 100, "rateLimits": {}, "gatewayRateLimits": {}}


class Recorder:
    """MQTT 3.1.1 or 5, up to QoS 1; it publishes nothing but answers to tb-gateway's question for its limits.

    Args:
        port: loopback port.
    """

    def __init__(self, port: int) -> None:
        self.port = port
        self.messages: list[tuple[str, bytes]] = []
        # Who sent each message: its user name, in ThingsBoard's case the token.
        self.senders: list[str] = []
        self.acknowledge = True
        self.greeting: bytes | None = None
        self.cut_after: int | None = None
        self.refuse: Callable[[str], int] = lambda topic: 0
        self.chokes_on: Callable[[bytes], bool] = lambda payload: False
        # As ThingsBoard does: of two connections under one user name the later one lives.
        self.one_each = False
        # MQTT 5: whether the one thrown out is told why.
        self.says_why = False
        self.connections = 0
        self.closures = 0
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._owners: dict[str, tuple[asyncio.StreamWriter, int]] = {}

    async def start(self) -> None:
        """Listen."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)

    async def stop(self) -> None:
        """Cut all and listen no more."""
        if self._server is not None:
            self._server.close()
            self._server = None
        self.cut()
        await asyncio.sleep(0)

    def cut(self) -> None:
        """Reset every connection."""
        for writer in self._writers:
            writer.transport.abort()

    def send(self, sender: str, topic: str, payload: bytes) -> None:
        """Send a message to whoever has this user name, at QoS 0."""
        writer, version = self._owners[sender]
        name = topic.encode()
        none = b"" if version == 4 else b"\x00"
        writer.write(_packet(0x30, struct.pack(">H", len(name)) + name + none + payload))

    def readings(self) -> dict[str, list[int]]:
        """Times by device in the order of their first arrival, over all three routes; by token on the device route."""
        got: dict[str, dict[int, None]] = {}
        for device, item in self.points():
            got.setdefault(device, {})[item["ts"]] = None
        return {device: list(times) for device, times in got.items()}

    def points(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Each reading as it came, with its device, those that came again included."""
        for (topic, payload), sender in zip(self.messages, self.senders, strict=True):
            if not topic.endswith("/telemetry"):
                continue
            content = json.loads(payload)
            if topic == "v1/gateway/telemetry":
                for device, items in content.items():
                    yield from ((device, item) for item in items)
            else:
                device = sender if topic.split("/")[2] == "me" else topic.split("/")[2]
                # tb-gateway counts itself, without a time.
                items = content if isinstance(content, list) else [content]
                yield from ((device, item) for item in items if "ts" in item)

    def duplicates(self) -> tuple[int, int]:
        """How many readings came again, and how many of a (device, ts) came with other values than before."""
        seen: dict[tuple[str, int], object] = {}
        again = others = 0
        for device, item in self.points():
            key = device, item["ts"]
            if key in seen:
                again += 1
                others += seen[key] != item["values"]
            seen[key] = item["values"]
        return again, others

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.add(writer)
        try:
            await self._talk(reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            self._writers.discard(writer)
            writer.transport.abort()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        version, sender = 4, ""
        while not writer.transport.is_closing():
            (head,) = await reader.readexactly(1)
            length = shift = 0
            while True:
                (octet,) = await reader.readexactly(1)
                length |= (octet & 0x7F) << shift
                shift += 7
                if octet < 0x80:
                    break
            body = await reader.readexactly(length)
            kind, none = head >> 4, b"" if version == 4 else b"\x00"
            if kind == 1:
                if self.greeting is not None:
                    writer.write(self.greeting)
                    continue
                version, sender = body[6], _user(body)
                self._throw_out(sender)
                self._owners[sender] = (writer, version)
                writer.write(b"\x20\x02\x00\x00" if version == 4 else b"\x20\x03\x00\x00\x00")
            elif kind == 3:
                self._publish(head, body, version, sender, writer)
            elif kind == 8:
                count = _topics(body[2 + len(none) :], 1)
                writer.write(_packet(0x90, body[:2] + none + b"\x01" * count))
            elif kind == 10:
                count = _topics(body[2 + len(none) :], 0)
                writer.write(_packet(0xB0, body[:2] + (none + b"\x00" * count if version == 5 else b"")))
            elif kind == 12:
                writer.write(b"\xd0\x00")

    def _throw_out(self, sender: str) -> None:
        if self.one_each and sender in self._owners:
            before, version = self._owners[sender]
            if self.says_why and version == 5:
                before.write(b"\xe0\x02\x8e\x00")
            before.close()

    def _publish(self, head: int, body: bytes, version: int, sender: str, writer: asyncio.StreamWriter) -> None:
        qos = head >> 1 & 3
        (size,) = struct.unpack_from(">H", body)
        topic = body[2 : 2 + size].decode()
        start = 2 + size + (2 if qos else 0)
        mid = body[2 + size : start]
        # No properties come from the clients here: their length is one octet.
        payload = body[start:] if version == 4 else body[start + 1 :]
        if topic.startswith("v1/devices/me/rpc/request/"):
            answer = json.dumps(LIMITS).encode()
            reply = topic.replace("request", "response").encode()
            none = b"" if version == 4 else b"\x00"
            writer.write(_packet(0x30, struct.pack(">H", len(reply)) + reply + none + answer))
            code = 0
        elif self.chokes_on(payload):
            self.closures += 1
            writer.transport.close()
            return
        else:
            code = self.refuse(topic)
            if not code:
                self.messages.append((topic, payload))
                self.senders.append(sender)
        if self.cut_after is not None:
            self.cut_after -= 1
            if self.cut_after <= 0:
                # Recorded, never acknowledged: it has to come again. A network that breaks does not say goodbye.
                self.cut_after = None
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
                writer.transport.abort()
                return
        if self.acknowledge and qos:
            writer.write(b"\x40\x02" + mid if version == 4 else b"\x40\x03" + mid + bytes([code]))


def _packet(head: int, body: bytes) -> bytes:
    length, octets = len(body), bytearray()
    while True:
        length, octet = length >> 7, length & 0x7F
        octets.append(octet | (0x80 if length else 0))
        if not length:
            return bytes([head]) + bytes(octets) + body


def _topics(body: bytes, options: int) -> int:
    count = at = 0
    while at < len(body):
        (size,) = struct.unpack_from(">H", body, at)
        at += 2 + size + options
        count += 1
    return count


def _user(body: bytes) -> str:
    flags, at = body[7], 10
    if body[6] == 5:
        at += 1 + body[at]
    texts = []
    # Client identifier, then user name; no client here leaves a will.
    while at < len(body):
        (size,) = struct.unpack_from(">H", body, at)
        texts.append(body[at + 2 : at + 2 + size].decode())
        at += 2 + size
    return texts[1] if flags & 0x80 else ""
