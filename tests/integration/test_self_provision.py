"""Meters that make themselves known: over a real Mosquitto, to a peer that answers as ThingsBoard does."""

from __future__ import annotations

import asyncio
import json
import socket
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing, suppress
from pathlib import Path
from typing import Any

import pytest
from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion

from meterbridge.cli.self_provision import self_provision
from meterbridge.delivery import Endpoint, ask
from meterbridge.errors import ConfigurationError, DeliveryError
from tests.acceptance.processes import Ended
from tests.broker import Mosquitto
from tests.integration.delivery_site import Site
from tests.integration.test_delivery import until
from tests.integration.thingsboard_peer import Peer
from tests.integration.thingsboard_site import invoke

pytestmark = pytest.mark.xdist_group("delivery")
KEY, SECRET = "KEY", "SECRET"


class Server:
    """ThingsBoard's part: each device once."""

    def __init__(self, port: int) -> None:
        self.asked: list[dict[str, Any]] = []
        self.devices: set[str] = set()
        self.tokens: set[str] = set()
        self.answers = True
        # Whether answers get lost on their way.
        self.loses = False
        self._ready = threading.Event()
        self._client = Client(CallbackAPIVersion.VERSION2, "server")
        self._client.on_connect = lambda client, *_: client.subscribe("/provision/request", 1)
        self._client.on_subscribe = lambda *_: self._ready.set()
        self._client.on_message = self._heard
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        assert self._ready.wait(10)

    def stop(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def _heard(self, client: Client, _data: object, message: MQTTMessage) -> None:
        asked = json.loads(message.payload)
        if not self.answers:
            return
        self.asked.append(asked)
        name = asked["deviceName"]
        if (asked["provisionDeviceKey"], asked["provisionDeviceSecret"]) != (KEY, SECRET):
            answer = {"status": "NOT_FOUND"}
        elif name in self.devices:
            answer = {"status": "FAILURE"}
        else:
            self.devices.add(name)
            token = asked.get("token", f"TOKEN-{name}")
            self.tokens.add(token)
            answer = {"status": "SUCCESS", "credentialsType": "ACCESS_TOKEN", "credentialsValue": token}
        if self.loses:
            return
        client.publish("/provision/response", json.dumps(answer), 1)


@asynccontextmanager
async def door(port: int, target: int, server: Server) -> AsyncIterator[None]:
    """In front of a broker that lets everybody in: only who provisions, or has a token of the server's."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connect = await reader.read(4096)
        here = 12 + 2 + int.from_bytes(connect[12:14])
        name = connect[here + 2 : here + 2 + int.from_bytes(connect[here : here + 2])].decode()
        if name not in {"provision", *server.tokens}:
            writer.write(b"\x20\x02\x00\x05")
            writer.close()
            return
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", target)
        far_writer.write(connect)
        await asyncio.gather(passing(reader, far_writer), passing(far_reader, writer))

    async def passing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(4096):
                writer.write(data)
        writer.close()

    listener = await asyncio.start_server(serve, "127.0.0.1", port)
    try:
        yield
    finally:
        listener.close()


@pytest.fixture
def server(mosquitto: Mosquitto) -> Iterator[Server]:
    server = Server(mosquitto.port)
    yield server
    server.stop()


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def provision(*arguments: str, key: str = KEY, api_port: str = "1") -> Ended:
    """Run it inside this process, in the installation's folder."""
    secrets = {"THINGSBOARD_PROVISION_KEY": key, "THINGSBOARD_PROVISION_SECRET": SECRET}
    return invoke(["self-provision", *arguments], {"METERBRIDGE_API__PORT": api_port, **secrets})


async def test_a_meter_becomes_a_device_once_and_delivers_under_its_own_token(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    mosquitto: Mosquitto,
    server: Server,
    free_port: Callable[[], int],
) -> None:
    monkeypatch.chdir(tmp_path)
    number = free_port()
    port = str(number)
    async with Site(tmp_path, 3, mosquitto.port, free_port) as site, door(number, mosquitto.port, server):

        async def asked(*arguments: str, **more: str) -> Ended:
            return await asyncio.to_thread(provision, *arguments, **more)

        wrong = await asked("m0", "--port", port, key="OTHER")
        assert (wrong.code, wrong.out) == (1, "")
        assert "m0: the server knows no device profile with this provision key and secret" in wrong.err
        server.devices.add("m1")
        done = await asked("--all", "--port", port)
        assert done.code == 1
        assert done.out.splitlines() == [f"{name}: is the device '{name}' at 127.0.0.1:{port}" for name in ("m0", "m2")]
        assert "m1: the server refuses (FAILURE): a device of this name exists already" in done.err
        # What was in the way is gone: the same command completes what is left, and touches nothing else.
        server.devices.discard("m1")
        before = len(server.asked)
        async with Peer(mosquitto.port) as peer:
            api_port = str(free_port())
            site.start(METERBRIDGE_API__PORT=api_port)
            await until(lambda: len(peer.messages) > 0 and listens(int(api_port)), 30)
            again = await asked("--all", "--port", port, api_port=api_port)
            assert (again.code, again.err) == (0, "")
            assert again.out.splitlines() == [
                "m0: has a token already", f"m1: is the device 'm1' at 127.0.0.1:{port}", "m2: has a token already",
            ]  # fmt: skip
            assert len(server.asked) == before + 1
            assert all(f"u'{token}'".encode() in mosquitto.log.read_bytes() for token in server.tokens)
            await until(lambda: len(peer.of("v1/devices/me/telemetry")) > 3, 20)
            assert await asyncio.to_thread(site.stop) == 0
    with closing(sqlite3.connect(tmp_path / "data" / "admin.db")) as connection:
        stored = [row[0] for row in connection.execute("SELECT tb_token FROM meters")]
    assert len(stored) == 3
    assert not server.tokens & set(stored), "encrypted"
    assert len(server.tokens) == 3
    assert all(len(token) == 22 for token in server.tokens)


async def test_an_answer_that_got_lost_is_made_up_for_by_the_next_try(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    mosquitto: Mosquitto,
    server: Server,
    free_port: Callable[[], int],
) -> None:
    monkeypatch.chdir(tmp_path)
    number = free_port()
    async with Site(tmp_path, 1, mosquitto.port, free_port), door(number, mosquitto.port, server):
        server.loses = True
        lost = await asyncio.to_thread(provision, "m0", "--port", str(number), "--timeout", "1")
        assert "gave no answer within 1 s" in lost.err
        assert server.devices == {"m0"}
        server.loses = False
        done = await asyncio.to_thread(provision, "m0", "--port", str(number))
        assert (done.code, done.out) == (0, f"m0: is the device 'm0' at 127.0.0.1:{number}\n")
        again = await asyncio.to_thread(provision, "m0", "--port", str(number))
        assert again.out == "m0: has a token already\n"


async def test_what_is_mistyped_or_missing_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free_port: Callable[[], int]
) -> None:
    monkeypatch.chdir(tmp_path)
    async with Site(tmp_path, 1, free_port(), free_port):
        for meters, everything, key, line in (
            ([], False, KEY, "name meters, or give --all"),
            (["m0"], True, KEY, "name meters, or give --all"),
            (["m0"], False, "", "THINGSBOARD_PROVISION_KEY and THINGSBOARD_PROVISION_SECRET are needed"),
            (["nobody"], False, KEY, "there is no meter nobody"),
        ):
            with pytest.raises(ConfigurationError, match=line):
                await asyncio.to_thread(self_provision, meters, everything, key, SECRET)
        gone = await asyncio.to_thread(provision, "m0", "--port", str(free_port()))
        assert gone.code == 1
        assert "m0: MQTT at 127.0.0.1" in gone.err
        assert "cannot be reached: Connection refused" in gone.err


async def test_a_server_that_is_away_silent_or_closes_is_said_to_be(
    mosquitto: Mosquitto, server: Server, free_port: Callable[[], int]
) -> None:
    def asking(port: int) -> bytes:
        endpoint = Endpoint("127.0.0.1", port, "p", "provision")
        return ask(endpoint, "/provision/request", b"{}", "/provision/response", 0.5)

    server.answers = False
    with pytest.raises(DeliveryError, match="cannot be reached"):
        await asyncio.to_thread(asking, free_port())
    with pytest.raises(DeliveryError, match=r"gave no answer within 0\.5 s"):
        await asyncio.to_thread(asking, mosquitto.port)
    closing_server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    async with closing_server:
        with pytest.raises(DeliveryError, match=r"closed the connection|cannot be reached"):
            await asyncio.to_thread(asking, closing_server.sockets[0].getsockname()[1])
