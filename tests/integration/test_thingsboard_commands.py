"""`meterbridge thingsboard` as people type it: from nothing to meters seen in ThingsBoard, on each route."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import httpx
import pytest
from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion

from meterbridge.delivery import DeviceRoute, Endpoint, GatewayRoute, Kind, Row, publish_once
from meterbridge.errors import DeliveryError
from meterbridge.model import MeterId
from meterbridge.simulator import FleetOptions, SimulatedFleet
from tests.acceptance.processes import start
from tests.broker import Mosquitto
from tests.integration.delivery_recorder import Recorder
from tests.integration.thingsboard_site import ThingsBoardSite, thingsboard_site
from tests.integration.thingsboard_stand_in import PASSWORD, USER


@asynccontextmanager
async def serving(site: ThingsBoardSite) -> AsyncIterator[None]:
    """Run the service meanwhile."""
    process = start("run", folder=site.folder, **site.variables)
    assert process.stdout is not None
    lines = process.stdout
    await asyncio.to_thread(lambda: next(line for line in lines if "service_started" in line))
    reader = threading.Thread(target=lambda: site.outputs.append(lines.read()))
    reader.start()
    async with asyncio.timeout(20), httpx.AsyncClient() as client:
        while True:
            with suppress(httpx.TransportError):
                await client.get(f"http://127.0.0.1:{site.api_port}/healthz")
                break
            await asyncio.sleep(0.05)
    try:
        yield
    finally:
        process.terminate()
        await asyncio.to_thread(process.wait, 15)
        reader.join()
        assert process.stderr is not None
        site.outputs.append(process.stderr.read())


async def until(condition: Callable[[], object], seconds: float = 30.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.1)


def files_of(folder: Path) -> list[Path]:
    return [file for file in folder.rglob("*") if file.is_file() and file.name != "secrets.key"]


def secrets_of(site: ThingsBoardSite) -> list[str]:
    return [PASSWORD, *site.server.store.tokens.values()]


async def test_from_nothing_to_seen_without_a_service(tmp_path: Path, free_port: Callable[[], int]) -> None:
    async with thingsboard_site(tmp_path, free_port) as site:
        early = await site.command("provision", "--all")
        assert "nobody is logged in" in early.refused_in_one_line(2)
        wrong = await site.command("login", site.server.url, "--user", USER, THINGSBOARD_PASSWORD="no-such-password")
        assert "does not let" in wrong.refused_in_one_line(4)
        assert (await site.login()).code == 0
        planned = await site.command("provision", "--all", "--dry-run")
        assert planned.code == 0
        assert "device m1: would be created" in planned.out
        assert site.server.writes == []

        done = await site.typed("provision", "--all", "--route", "gateway")
        assert done.code == 0, done
        assert "m1: seen in ThingsBoard as m1" in done.out
        rows = await site.meters()
        assert {(m.tb_host, m.tb_port, m.tb_token, m.tb_device_name) for m in rows.values()} == {
            ("127.0.0.1", site.mqtt.port, None, "m1"),
            ("127.0.0.1", site.mqtt.port, None, "m2"),
        }
        assert site.attributes("m1")["meter_name"] == "m1"
        assert site.attributes("m1")["bridge_alarm_severity"] == "none"

        site.server.requests.clear()
        messages = len(site.mqtt.messages)
        again = await site.command("provision", "--all", "--json")
        assert again.code == 0
        shape = json.loads(again.out)
        assert {change["action"] for change in shape["changes"]} == {"keep"}
        assert [meter["state"] for meter in shape["meters"]] == ["seen", "seen"]
        assert (site.server.writes, len(site.mqtt.messages)) == ([], messages)

        # The service finds the gateway's token in the database.
        async with serving(site):
            await until(lambda: len(site.mqtt.readings().get("m2", [])) >= 3)
        status = json.loads((await site.command("status", "--json")).out)
        assert [(m["device"], m["route"], m["online"], m["trouble"]) for m in status["meters"]] == [
            ("m1", "gateway", True, ""),
            ("m2", "gateway", True, ""),
        ]
        board = json.loads((await site.command("dashboard", "--print")).out)
        assert board["title"] == "Electricity meters"

        gone = await site.command("unprovision", "--all", "--yes")
        assert gone.code == 0
        held = site.server.snapshot()
        assert (held["devices"], held["dashboards"], held["rules"]) == ([], [], [])
        assert {meter.tb_enabled for meter in (await site.meters()).values()} == {False}
        for secret in secrets_of(site):
            assert not any(secret in output for output in site.outputs)
        assert [
            file for file in files_of(tmp_path) if any(s.encode() in file.read_bytes() for s in secrets_of(site))
        ] == []


@pytest.mark.parametrize("route", ["device", "gateway"])
async def test_a_running_service_takes_it_over_at_once(
    tmp_path: Path, free_port: Callable[[], int], route: str
) -> None:
    async with thingsboard_site(tmp_path, free_port) as site, serving(site):
        await site.login()
        done = await site.command("provision", "--all", "--route", route)
        assert done.code == 0, done
        rows = await site.meters()
        if route == "device":
            tokens = {name: site.server.store.tokens[id_of(site, name)] for name in rows}
            assert {name: meter.tb_token for name, meter in rows.items()} == tokens
            assert set(site.mqtt.senders) == set(tokens.values())
        before = {device: len(times) for device, times in site.mqtt.readings().items()}
        await until(lambda: all(len(times) >= before[d] + 3 for d, times in site.mqtt.readings().items()))
        site.server.requests.clear()
        again = await site.command("provision", "m1", "m2")
        assert again.code == 0
        assert site.server.writes == []
        for secret in secrets_of(site):
            assert not any(secret in output for output in site.outputs)


async def test_alarms_of_the_bridge_arrive_and_go(tmp_path: Path, free_port: Callable[[], int]) -> None:
    async with thingsboard_site(tmp_path, free_port, meters=1) as site:
        await site.login()
        assert (await site.command("provision", "m1")).code == 0
        async with serving(site):
            await until(lambda: len(site.mqtt.readings().get("m1", [])) >= 3)
            assert site.attributes("m1")["bridge_alarm_severity"] == "none"
            # What belongs to no meter has a device of its own, told once there is a way.
            assert site.attributes("Meterbridge service") == {
                "bridge_alarms": 0, "bridge_alarm_severity": "none", "bridge_alarm": "none",
            }  # fmt: skip
            hello = {"device": "Meterbridge service", "type": "meterbridge-service"}
            assert hello in [json.loads(payload) for topic, payload in site.mqtt.messages if "connect" in topic]
            [port] = site.fleet.ports
            await site.fleet.__aexit__(None, None, None)
            await until(lambda: site.attributes("m1")["bridge_alarm_severity"] == "critical")
            assert str(site.attributes("m1")["bridge_alarm"]).startswith("connection_loss: ")
            async with SimulatedFleet(FleetOptions(1, port=port)):
                await until(lambda: site.attributes("m1")["bridge_alarms"] == 0, 60.0)
                assert site.attributes("m1")["bridge_alarm"] == "none"


def id_of(site: ThingsBoardSite, name: str) -> str:
    return next(id_ for id_, device in site.server.store.devices.items() if device["name"] == name)


async def test_through_a_real_broker(tmp_path: Path, free_port: Callable[[], int], mosquitto: Mosquitto) -> None:
    """Mosquitto, and in tb-gateway's place a subscriber that hands on."""
    async with thingsboard_site(tmp_path, free_port, 1, mosquitto.port) as site:
        arrived: list[tuple[str, bytes]] = []

        def pull() -> None:
            while arrived:
                topic, payload = arrived.pop(0)
                site.server.arrived(topic.split("/")[2], json.loads(payload))

        site.server.pull = pull
        subscriber = Client(CallbackAPIVersion.VERSION2)
        subscribed = threading.Event()

        def message(_client: Client, _data: object, got: MQTTMessage) -> None:
            arrived.append((got.topic, bytes(got.payload)))

        subscriber.on_message = message
        subscriber.on_connect = lambda client, *_: client.subscribe("v1/devices/+/telemetry", qos=1)
        subscriber.on_subscribe = lambda *_: subscribed.set()
        subscriber.connect(mosquitto.host, mosquitto.port)
        subscriber.loop_start()
        try:
            assert await asyncio.to_thread(subscribed.wait, 10)
            await site.login()
            assert (await site.command("provision", "--shared")).code == 0
            assert [device["name"] for device in site.server.snapshot()["devices"]] == [
                "Meterbridge",
                "Meterbridge service",
            ]
            done = await site.command("provision", "m1", "--route", "broker")
            assert done.code == 0, done
            [meter] = (await site.meters()).values()
            assert (meter.tb_port, meter.tb_token, meter.tb_device_name) == (mosquitto.port, None, "m1")
            written = await site.other_command("gateway-config", str(tmp_path / "gw"), "--provisioned")
            assert written.code == 0, written
            gateway = json.loads((tmp_path / "gw" / "tb_gateway.json").read_text())["thingsboard"]
            assert site.server.device_of(gateway["security"]["accessToken"]) == "Meterbridge"
            assert gateway["port"] == site.mqtt.port
            # As it is, it stays.
            again = await site.command("provision", "m1", "--json")
            assert {change["action"] for change in json.loads(again.out)["changes"]} == {"keep"}
        finally:
            subscriber.disconnect()
            subscriber.loop_stop()


async def test_what_cannot_be_done_is_said_in_one_line(tmp_path: Path, free_port: Callable[[], int]) -> None:
    async with thingsboard_site(tmp_path, free_port, 1) as site:
        for arguments, code, text in [
            (("login", "ftp://tb", "--user", "a"), 2, "must be http"),
            (("login", "http://user:pw@tb", "--user", "a"), 2, "no user name or password"),
            (("login", site.server.url), 2, "either a user name with its password or an API key"),
            (("login", f"http://127.0.0.1:{free_port()}", "--user", USER), 3, "does not answer"),
        ]:
            done = await site.command(*arguments, THINGSBOARD_PASSWORD="pw-123")
            assert text in done.refused_in_one_line(code), arguments
        await site.login()
        for arguments, text in [
            (("provision",), "name the meters, or give --all"),
            (("provision", "m1", "--all"), "name the meters, or give --all"),
            (("provision", "m1", "--shared"), "--shared is without meters"),
            (("provision", "nobody"), "there is no meter nobody"),
            (("provision", "m1", "--route", "pigeon"), "must be one of device, gateway, broker"),
            (("unprovision", "nobody", "--yes"), "there is no meter nobody"),
        ]:
            assert text in (await site.command(*arguments)).refused_in_one_line(2), arguments
        # A meter that is not there: provisioned, not seen, and that is not success.
        await site.fleet.__aexit__(None, None, None)
        done = await site.command("provision", "m1")
        assert done.code == 1
        assert "provisioned, but not seen yet: the meter gives no reading" in done.err
        assert (await site.command("logout")).out == "logged out\n"


def row(device: str, kind: Kind, payload: bytes) -> Row:
    return Row(0, MeterId(1), "", kind, device, 5, payload, 5)


async def test_rows_published_once_are_acknowledged_or_it_is_an_error(free_port: Callable[[], int]) -> None:
    recorder = Recorder(free_port())
    await recorder.start()
    rows = [row("a", Kind.ATTRIBUTES, b'{"x":1}'), row("a", Kind.TELEMETRY, b'{"ts":5,"values":{"u":1}}')]
    device = DeviceRoute(Endpoint("127.0.0.1", recorder.port, "once", "TOKEN"), MeterId(1))
    gateway = GatewayRoute(Endpoint("127.0.0.1", recorder.port, "once", "GW"), "dlms-meter")
    try:
        await publish_once(device, rows, 5.0)
        await publish_once(gateway, rows, 5.0)
        assert recorder.readings() == {"TOKEN": [5], "a": [5]}
        assert next(topic for topic, _ in recorder.messages if "gateway" in topic) == "v1/gateway/connect"
        recorder.greeting = b"\x20\x02\x00\x05"
        with pytest.raises(DeliveryError, match=f"127.0.0.1:{recorder.port} does not let us in: Not authorized"):
            await publish_once(device, rows, 5.0)
        recorder.greeting = None
        recorder.acknowledge = False
        begun = time.monotonic()
        with pytest.raises(DeliveryError, match="did not acknowledge in time"):
            await publish_once(device, rows, 0.5)
        assert time.monotonic() - begun < 5
        with pytest.raises(DeliveryError, match="octets are more than ThingsBoard takes"):
            await publish_once(device, [row("a", Kind.TELEMETRY, b"x" * 70_000)], 0.5)
    finally:
        await recorder.stop()
    with pytest.raises(DeliveryError, match="cannot be reached"):
        await publish_once(device, rows, 0.5)
