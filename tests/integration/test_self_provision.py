"""Meters that make themselves known: over a real Mosquitto, to a peer that answers as ThingsBoard does."""

from __future__ import annotations

import asyncio
import json
import socket
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
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
        self.answers = True
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
            answer = {"status": "SUCCESS", "credentialsType": "ACCESS_TOKEN", "credentialsValue": f"TOKEN-{name}"}
        client.publish("/provision/response", json.dumps(answer), 1)


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
    port = str(mosquitto.port)
    async with Site(tmp_path, 3, mosquitto.port, free_port) as site:

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
            await until(lambda: b"u'TOKEN-m1'" in mosquitto.log.read_bytes(), 20)
            await until(lambda: len(peer.of("v1/devices/me/telemetry")) > 3, 20)
            assert await asyncio.to_thread(site.stop) == 0
    with closing(sqlite3.connect(tmp_path / "data" / "admin.db")) as connection:
        stored = [row[0] for row in connection.execute("SELECT tb_token FROM meters")]
    assert len(stored) == 3
    assert not any("TOKEN" in token for token in stored), "encrypted"


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
