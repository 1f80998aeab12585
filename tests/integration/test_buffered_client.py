"""BufferedClient against a server of the test's own: few calls, the same octets, losses noticed as paho does."""

from __future__ import annotations

import select
import socket
import struct
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode

from meterbridge.delivery.buffered_client import BufferedClient

_CONNACK = b"\x20\x02\x00\x00"
_LIMIT_S = 10.0


@contextmanager
def connected(**options: int) -> Iterator[tuple[BufferedClient, socket.socket]]:
    """A client that has its CONNACK, and the server's end."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = BufferedClient(CallbackAPIVersion.VERSION2, "b")
        client.max_inflight_messages_set(0)
        client.on_socket_register_write = lambda *_: None
        client.connect("127.0.0.1", listener.getsockname()[1])
        server, _ = listener.accept()
        with server:
            server.settimeout(_LIMIT_S)
            server.sendall(_CONNACK)
            until(client, client.is_connected)
            client.loop_write()
            packets(server, 1)
            yield client, server
            connection: Any = client.socket()
            if connection is not None:
                connection.close()


def readable(client: BufferedClient) -> bool:
    connection: Any = client.socket()
    return bool(select.select([connection], [], [], 0.1)[0])


def until(client: BufferedClient, done: Any) -> None:
    deadline = time.monotonic() + _LIMIT_S
    while not done():
        assert time.monotonic() < deadline
        if client.has_read_ahead or readable(client):
            client.loop_read()


def packets(server: socket.socket, count: int) -> list[bytes]:
    """The next packets, whole."""
    data = bytearray()
    found: list[bytes] = []
    while len(found) < count:
        length, shift, here = 0, 0, 1
        while here < len(data):
            length |= (data[here] & 0x7F) << shift
            shift, here = shift + 7, here + 1
            if data[here - 1] < 0x80:
                break
        else:
            here = 1 << 30
        if here + length <= len(data):
            found.append(bytes(data[: here + length]))
            del data[: here + length]
            continue
        received = server.recv(1 << 16)
        assert received, "the client closed the connection"
        data += received
    return found


def test_many_messages_leave_with_few_calls_and_their_acknowledgements_come_with_few(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls: Counter[str] = Counter()

    def counted(name: str) -> Any:
        original = getattr(Client, name)

        def call(self: Client, argument: Any) -> Any:
            calls[name] += 1
            return original(self, argument)

        return call

    with connected() as (client, server):
        for name in ("_sock_recv", "_sock_send"):
            monkeypatch.setattr(Client, name, counted(name))
        acknowledged: list[int] = []
        client.on_publish = lambda _c, _d, mid, _r, _p: acknowledged.append(mid)
        mids = [client.publish(f"t/{number}", b"x" * 100, qos=1).mid for number in range(300)]
        assert client.want_write()
        client.loop_write()
        assert not client.want_write()
        heard = packets(server, 300)
        assert [packet[4 : 4 + packet[3]].decode() for packet in heard] == [f"t/{number}" for number in range(300)]
        server.sendall(b"".join(b"\x40\x02" + struct.pack("!H", mid) for mid in mids))
        until(client, lambda: len(acknowledged) == 300)
        assert acknowledged == mids
        assert calls["_sock_send"] == 1
        assert calls["_sock_recv"] <= 10
        assert not client.has_read_ahead


def test_what_the_socket_does_not_take_waits_and_arrives_whole_and_in_order() -> None:
    with connected() as (client, server):
        connection: Any = client.socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8_192)
        payloads = [bytes([number]) * (500 + 197 * number) for number in range(200)]
        for payload in payloads:
            client.publish("t", payload, qos=1)
        client.publish("t", b"\xff" * 300_000, qos=1)
        client.loop_write()
        assert client.want_write(), "the socket took 4 MB at once: nothing was tried"
        with ThreadPoolExecutor(1) as pool:
            hearing = pool.submit(packets, server, 201)
            while client.want_write():
                assert select.select([], [connection], [], _LIMIT_S)[1]
                client.loop_write()
            heard = hearing.result(_LIMIT_S)
        for packet, payload in zip(heard, [*payloads, b"\xff" * 300_000], strict=True):
            assert packet.endswith(payload) and packet[0] == 0x32


def test_disconnect_leaves_after_all_that_was_said_before() -> None:
    with connected() as (client, server):
        client.publish("t", b"last words", qos=0)
        client.disconnect()
        client.loop_write()
        assert client.socket() is None
        said, leave = packets(server, 2)
        assert said.endswith(b"last words") and leave == b"\xe0\x00"
        assert server.recv(1) == b""


def test_a_connection_lost_while_writing_is_noticed() -> None:
    with connected() as (client, server):
        reasons: list[str] = []
        client.on_disconnect = lambda _c, _d, _f, reason, _p: reasons.append(str(reason))
        server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        server.close()
        for _ in range(3):
            client.publish("t", b"x", qos=1)
            client.loop_write()
        until(client, lambda: client.socket() is None)
        assert len(reasons) == 1
        assert client.loop_write() == MQTTErrorCode.MQTT_ERR_NO_CONN


def test_a_new_connection_begins_with_nothing_of_the_last() -> None:
    with connected() as (client, server):
        server.sendall(b"\xd0\x00" * 3 + b"\x40")
        while not readable(client):
            pass
        client.loop_read()
        before = client.has_read_ahead
        assert before
        with socket.create_server(("127.0.0.1", 0)) as other:
            client.connect("127.0.0.1", other.getsockname()[1])
            assert not client.has_read_ahead
            again, _ = other.accept()
            with again:
                again.settimeout(_LIMIT_S)
                client.loop_write()
                again.sendall(_CONNACK)
                until(client, client.is_connected)
                assert packets(again, 1)[0][0] == 0x10
