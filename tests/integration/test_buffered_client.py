"""BufferedClient against a server of the test's own: few calls, the same octets, losses noticed as paho does."""

from __future__ import annotations

import select
import socket
import struct
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion

from meterbridge.delivery.buffered_client import BufferedClient

_CONNACK = b"\x20\x02\x00\x00"
_CONNACK_5 = b"\x20\x03\x00\x00\x00"
MQTTv311, MQTTv5 = MQTTProtocolVersion.MQTTv311, MQTTProtocolVersion.MQTTv5
_LIMIT_S = 10.0


@contextmanager
def connected(version: MQTTProtocolVersion = MQTTv311) -> Iterator[tuple[BufferedClient, socket.socket]]:
    """A client that has its CONNACK, and the server's end."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = BufferedClient(CallbackAPIVersion.VERSION2, "b", protocol=version)
        client.max_inflight_messages_set(0)
        client.on_socket_register_write = lambda *_: None
        client.connect("127.0.0.1", listener.getsockname()[1])
        server, _ = listener.accept()
        with server:
            server.settimeout(_LIMIT_S)
            server.sendall(_CONNACK if version == MQTTv311 else _CONNACK_5)
            until(client, client.is_connected)
            client.loop_write()
            packets(server, 1)
            yield client, server
            connection: Any = client.socket()
            if connection is not None:
                connection.close()


def readable(client: BufferedClient, within_s: float = 0.1) -> bool:
    connection: Any = client.socket()
    return bool(select.select([connection], [], [], within_s)[0])


def puback(mid: int) -> bytes:
    return b"\x40\x02" + struct.pack("!H", mid)


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
        client.on_acknowledged = lambda mid, _reason: acknowledged.append(mid)
        mids = [client.post(f"t/{number}", b"x" * 100) for number in range(300)]
        assert client.want_write()
        client.loop_write()
        assert not client.want_write()
        heard = packets(server, 300)
        assert [packet[4 : 4 + packet[3]].decode() for packet in heard] == [f"t/{number}" for number in range(300)]
        server.sendall(b"".join(puback(mid or 0) for mid in mids))
        until(client, lambda: len(acknowledged) == 300)
        assert acknowledged == mids
        assert calls["_sock_send"] == 1
        assert calls["_sock_recv"] <= 10
        assert not client.has_read_ahead


@pytest.mark.parametrize(
    "publish",
    [
        lambda client, payload: client.post("t", payload),
        lambda client, payload: client.publish("t", payload, qos=1),
        lambda client, payload: client.post("t", payload) if payload[0] % 3 else client.publish("t", payload, qos=1),
    ],
    ids=["post", "publish", "both"],
)
def test_what_the_socket_does_not_take_waits_and_arrives_whole_and_in_order(
    publish: Callable[[BufferedClient, bytes], object],
) -> None:
    with connected() as (client, server):
        connection: Any = client.socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8_192)
        payloads = [bytes([number]) * (500 + 197 * number) for number in range(200)]
        for payload in payloads:
            publish(client, payload)
        publish(client, b"\xff" * 300_000)
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


@pytest.mark.parametrize("version", [MQTTv311, MQTTv5])
@pytest.mark.parametrize("octets", [0, 1, 119, 120, 121, 16_375, 16_376, 16_377, 70_000])
def test_what_is_posted_is_on_the_wire_as_paho_would_have_it(version: MQTTProtocolVersion, octets: int) -> None:
    with connected(version) as (client, server), ThreadPoolExecutor(1) as pool:

        def heard(mid: int | None) -> bytes:
            hearing = pool.submit(packets, server, 1)
            while client.want_write():
                client.loop_write()
            (packet,) = hearing.result(_LIMIT_S)
            here = packet.index("v1/ü".encode()) + 5
            assert int.from_bytes(packet[here : here + 2]) == mid
            return packet[:here] + packet[here + 2 :]

        ours = heard(client.post("v1/ü", b"x" * octets))
        assert ours == heard(client.publish("v1/ü", b"x" * octets, 1).mid)


def test_acknowledgements_count_once_each_however_they_come_and_whatever_stands_between() -> None:
    with connected(MQTTv5) as (client, server):
        acknowledged: list[tuple[int, int]] = []
        heard: list[bytes] = []
        client.on_acknowledged = lambda mid, reason: acknowledged.append((mid, reason.value))
        client.on_message = lambda _c, _d, message: heard.append(bytes(message.payload))
        one, two, three, four, five = (client.post("t", b"x") or 0 for _ in range(5))
        theirs = client.publish("t", b"x", qos=1)
        client.loop_write()
        octets = b"".join(
            (
                puback(one),
                b"\xd0\x00",
                puback(two),
                puback(9_999),
                puback(theirs.mid),
                b"\x30\x06\x00\x01a\x00\x40\x02",
                puback(three),
                puback(three),
                b"\x40\x03" + struct.pack("!HB", four, 0x10),
                b"\x40\x04" + struct.pack("!HBB", five, 0x97, 0),
            )
        )
        for position in range(len(octets)):
            server.sendall(octets[position : position + 1])
            until(client, lambda: not client.has_read_ahead and not readable(client, 0.001))
        assert acknowledged == [(one, 0), (two, 0), (three, 0), (four, 0x10), (five, 0x97)]
        assert theirs.is_published() and heard == [b"\x40\x02"]

        acknowledged.clear()
        mids = [client.post("t", b"x") or 0 for _ in range(50)]
        client.loop_write()
        server.sendall(b"\xd0\x00".join(puback(mid) for mid in mids) + puback(mids[0]))
        until(client, lambda: len(acknowledged) == 50)
        assert acknowledged == [(mid, 0) for mid in mids]


def test_a_packet_identifier_on_its_way_is_not_given_out_again() -> None:
    with connected() as (client, server):
        first = client.post("t", b"x") or 0
        others = [client.post("t", b"") for _ in range(65_534)]
        assert len({first, *others}) == 65_535 and None not in others
        assert client.post("t", b"x") is None
        server.sendall(puback(first))
        acknowledged: list[int] = []
        client.on_acknowledged = lambda mid, _reason: acknowledged.append(mid)
        until(client, lambda: acknowledged == [first])
        assert first in {client.post("t", b"x") for _ in range(65_535)}


def test_what_mqtt_cannot_carry_is_refused_and_leaves_nothing_behind() -> None:
    with connected() as (client, _server):
        for topic in ("", "a/+/b", "a/#", "x" * 65_536, "\ud800"):
            with pytest.raises(ValueError):
                client.post(topic, b"x")
        with pytest.raises(ValueError, match="too long"):
            client.post("t", bytes(268_435_455))
        assert not client.want_write()
    assert BufferedClient(CallbackAPIVersion.VERSION2, "b").post("t", b"x") is None


def test_an_acknowledgement_of_the_wrong_length_ends_the_connection() -> None:
    with connected() as (client, server):
        mid = client.post("t", b"x") or 0
        server.sendall(b"\x40\x03" + struct.pack("!HB", mid, 0))
        until(client, lambda: client.socket() is None)


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
            client.post("t", b"x")
            client.loop_write()
        until(client, lambda: client.socket() is None)
        assert len(reasons) == 1
        assert client.loop_write() == MQTTErrorCode.MQTT_ERR_NO_CONN


def test_a_new_connection_begins_with_nothing_of_the_last() -> None:
    with connected() as (client, server):
        acknowledged: list[int] = []
        client.on_acknowledged = lambda mid, _reason: acknowledged.append(mid)
        mid = client.post("t", b"x") or 0
        server.sendall(b"\xd0\x00" * 3 + b"\x40")
        until(client, lambda: not readable(client))
        assert client.want_write()
        with socket.create_server(("127.0.0.1", 0)) as other:
            client.connect("127.0.0.1", other.getsockname()[1])
            again, _ = other.accept()
            with again:
                again.settimeout(_LIMIT_S)
                client.loop_write()
                again.sendall(_CONNACK + puback(mid) + b"\xd0\x00")
                until(client, client.is_connected)
                until(client, lambda: not readable(client))
                assert packets(again, 1)[0][0] == 0x10
                assert not acknowledged
                client.post("t", b"after")
                client.loop_write()
                assert packets(again, 1)[0].endswith(b"after")
