"""From ThingsBoard back: RPC and shared attributes over a real Mosquitto, to simulated meters and back."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from meterbridge.fleet import MultiMeterBridge
from meterbridge.model import Meter, MeterId
from meterbridge.service import Service
from meterbridge.settings import (
    DatabaseSettings,
    DeliverySettings,
    LogSettings,
    MqttSettings,
    OutboxSettings,
    PollingSettings,
    RpcSettings,
    Settings,
)
from meterbridge.simulator import FleetOptions, SimulatedFleet
from meterbridge.simulator.behaviour import Action, Behaviour, Faithful, Send
from meterbridge.simulator.meter import SimulatedMeter
from meterbridge.store import MeterRepository, open_database
from meterbridge.thingsboard.rpc import CHANGING
from tests.acceptance.processes import run
from tests.broker import Mosquitto
from tests.integration.test_fleet import until
from tests.integration.thingsboard_peer import Peer

pytestmark = pytest.mark.xdist_group("delivery")
COUNT = 2
NOTHING_SHARED: dict[str, dict[str, object]] = {}


class Slow(Faithful):
    """Takes its time with every answer."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def deliver(self, octets: bytes, now: float) -> Sequence[Action]:
        return (Send(octets, self._seconds),)


class Here:
    def __init__(self, service: Service, fleet: SimulatedFleet, peer: Peer, folder: Path) -> None:
        self.service = service
        self.fleet = fleet
        self.peer = peer
        self.folder = folder

    @property
    def bridge(self) -> MultiMeterBridge:
        return self.service.fleet

    def conducts(self) -> bool:
        return self.simulated.connected

    @property
    def simulated(self) -> SimulatedMeter:
        return self.fleet.servers[0].meter

    def audit(self) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(self.folder / "admin.db", timeout=10)) as connection:
            return connection.execute(
                "SELECT meter_name, action, parameters, outcome FROM audit ORDER BY id"
            ).fetchall()

    def attributes(self, device: str) -> dict[str, Any]:
        """Newest client attributes of a device; all that came by the device API are of "me"."""
        found: dict[str, Any] = {}
        for message in self.peer.of("v1/gateway/attributes"):
            found.update(message.get(device, {}))
        for message in self.peer.of("v1/devices/me/attributes") if device == "me" else []:
            found.update(message)
        return found

    def reconnections(self) -> list[int]:
        return [status.counters.reconnections for status in self.service.statuses()]


@asynccontextmanager
async def installation(
    folder: Path,
    mosquitto: Mosquitto,
    *,
    gateway: bool = True,
    protocol: str = "5",
    shared: dict[str, dict[str, object]] | None = NOTHING_SHARED,
    relay_allowed: bool = True,
    period_s: float = 0.2,
    behaviours: Sequence[Behaviour] = (),
    **rpc: object,
) -> AsyncIterator[Here]:
    settings = Settings(
        database=DatabaseSettings(url=f"sqlite+aiosqlite:///{folder}/admin.db", key_file=folder / "key"),
        outbox=OutboxSettings(path=folder / "outbox.db"),
        log=LogSettings(file=folder / "meterbridge.log"),
        polling=PollingSettings(period_s=period_s, backoff_initial_s=0.05, backoff_max_s=0.2, connections_per_s=1000),
        mqtt=MqttSettings.model_validate(
            {"protocol": protocol, "backoff_initial_s": 0.1, "backoff_max_s": 0.3, "keepalive_s": 5}
        ),
        delivery=DeliverySettings.model_validate({"route": "gateway", "gateway_token": "GW"}),
        rpc=RpcSettings.model_validate({"allow_relay": True, "poll_interval_min_s": 0.1, **rpc}),
    )
    async with (
        SimulatedFleet(FleetOptions(COUNT, port=0), behaviours) as simulated,
        Peer(mosquitto.port, shared) as peer,
    ):
        engine = await open_database(settings.database.url)
        repository = MeterRepository(engine)
        known = len(await repository.states())
        for number, port in enumerate([] if known else simulated.ports):
            await repository.add(
                Meter(
                    MeterId(0), f"m{number}", "127.0.0.1", port, model="microstar", tb_port=mosquitto.port,
                    tb_token=None if gateway or number else "TOKEN", relay_allowed=relay_allowed and not number,
                )
            )  # fmt: skip
        async with engine.begin() as connection:
            for number, port in enumerate(simulated.ports):
                await connection.execute(sa.text(f"UPDATE meters SET port = {port} WHERE name = 'm{number}'"))
        await engine.dispose()
        service = Service(settings)
        await service.start()
        here = Here(service, simulated, peer, folder)
        try:
            await until(lambda: all(status.counters.successes for status in service.statuses()))
            await until(lambda: all(route.connected for route in service.route_stats()))
            key = "meter_name" if shared is None else "pollInterval"
            await until(lambda: key in here.attributes("m0" if gateway else "me"))
            yield here
        finally:
            await service.stop()
    assert len(asyncio.all_tasks()) == 1


@pytest.mark.parametrize("gateway", [True, False])
@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
async def test_every_method_reaches_the_meter_and_is_answered(
    tmp_path: Path, mosquitto: Mosquitto, gateway: bool, protocol: str
) -> None:
    async with installation(tmp_path, mosquitto, gateway=gateway, protocol=protocol) as here:
        device = "m0" if gateway else None

        async def call(method: str, params: object = None) -> Any:
            return await here.peer.call(method, params, device=device)

        now = await call("readNow", {})
        assert abs(now["ts"] - time.time() * 1000) < 10_000
        assert 200 < now["values"]["voltage_l1"] < 260
        voltage = await call("getValue", {"obis": "1-0:32.7.0"})
        assert (voltage["obis"], voltage["unit"]) == ("1-0:32.7.0", "V")
        assert 200 < voltage["value"] < 260
        assert (await call("getValue", "active_energy"))["unit"] == "Wh"
        firmware = await call("getValue", {"obis": "1-0:0.2.0", "class": 1, "attribute": 2})
        assert firmware["value"] == "MBS 1.4.2"
        here.simulated.clock_offset = 300
        clock = await call("syncClock")
        assert clock["drift_before_s"] == pytest.approx(300, abs=3)
        assert abs(clock["drift_after_s"]) < 3
        assert abs(here.simulated.clock_offset) < 3
        assert await call("setRelay", {"on": False}) == {"on": False, "changed": True}
        assert not here.conducts()
        assert await call("setRelay", True) == {"on": True, "changed": True}
        assert await call("setRelay", {"on": True}) == {"on": True, "changed": False}
        assert here.conducts()
        end = round(time.time() * 1000) - 60_000
        back = await call("backfill", {"from": end - 7_200_000, "to": end})
        assert (back["accepted"], back["from"], back["to"]) == (True, end - 7_200_000, end)
        assert here.reconnections() == [0, 0], "all of it on the association that was there"
        assert await call("pause") == {"state": "paused"}
        assert await call("readNow") == {"error": "the meter is paused"}
        assert await call("setRelay", {"on": False}) == {"error": "the meter is paused"}
        assert here.conducts()
        assert await call("resume") == {"state": "running"}
        assert "values" in await call("readNow")
        assert [row[1:] for row in here.audit()] == [
            ("syncClock", "{}", "done"),
            ("setRelay", '{"on": false}', "done"),
            ("setRelay", '{"on": true}', "done"),
            ("setRelay", '{"on": true}', "done"),
            ("backfill", json.dumps({"from": end - 7_200_000, "to": end}), "done"),
            ("pause", "{}", "done"),
            ("setRelay", '{"on": false}', "not done: the meter is paused"),
            ("resume", "{}", "done"),
        ]


async def test_what_is_read_on_request_is_delivered_too(tmp_path: Path, mosquitto: Mosquitto) -> None:
    async with installation(tmp_path, mosquitto) as here:
        now = await here.peer.call("readNow", device="m0")

        def times() -> set[int]:
            return {item["ts"] for body in here.peer.of("v1/gateway/telemetry") for item in body.get("m0", [])}

        await until(lambda: now["ts"] in times())


REFUSED: list[tuple[object, object, str]] = [
    ("reboot", {}, "there is no method 'reboot'; there are readNow"),
    ("", None, "the request is no JSON object with a method"),
    (None, None, "the request is no JSON object with a method"),
    (7, None, "the request is no JSON object with a method"),
    ("x" * 50_000, None, "there is no method 'xxx"),
    ("readNow", {"force": True}, "readNow takes no parameters"),
    ("readNow", [], "readNow takes no parameters"),
    ("getValue", None, "getValue takes an object with obis"),
    ("getValue", {"obis": "bananas"}, "'bananas' is no measurement of model microstar"),
    ("getValue", {"obis": "9" * 60_000}, "getValue takes"),
    ("getValue", {"obis": "1-0:99.99.99"}, "object-undefined"),
    ("getValue", {"obis": "1-0:32.7.0", "class": "3"}, "whole numbers"),
    ("getValue", {"obis": "1-0:32.7.0", "attribute": True}, "whole numbers"),
    ("getValue", {"obis": "1-0:32.7.0", "class": 99_999_999}, "is no measurement"),
    ("getValue", "15:0-0:40.0.0:7", "secrets of a meter are not told"),
    ("getValue", {"name": "voltage_l1"}, "getValue takes obis, class, attribute, not 'name'"),
    ("syncClock", "now", "syncClock takes no parameters"),
    ("setRelay", {"on": "true"}, 'setRelay takes {"on": true}'),
    ("setRelay", {"on": 1}, 'setRelay takes {"on": true}'),
    ("setRelay", None, 'setRelay takes {"on": true}'),
    ("setRelay", {"on": True, "for": 5}, "setRelay takes on, not 'for'"),
    ("backfill", {}, "backfill takes from and to"),
    ("backfill", {"from": -1}, "backfill takes from and to"),
    ("backfill", {"from": 1e300, "to": 5}, "backfill takes from and to"),
    ("backfill", {"from": "tomorrow"}, "backfill takes from and to"),
    ("backfill", {"from": 10, "to": 5}, "backfill ends before it begins"),
    ("backfill", {"from": 0, "to": 5}, "older than max_age_days"),
    ("backfill", {"from": "9999-12-31T23:59:59+00:00"}, "backfill takes from and to"),
]


async def test_what_cannot_be_done_is_refused_with_a_reason_and_changes_nothing(
    tmp_path: Path, mosquitto: Mosquitto
) -> None:
    async with installation(tmp_path, mosquitto) as here:
        for method, params, reason in REFUSED:
            answer = await here.peer.call(method, params, device="m0")
            assert set(answer) == {"error"}, (method, answer)
            assert reason in answer["error"], (method, answer)
            assert len(answer["error"]) < 400
        unknown = await here.peer.call("readNow", device="nobody's")
        assert unknown == {"error": "there is no active meter of this device name"}
        assert here.reconnections() == [0, 0]
        assert here.conducts()
        # What would have changed something is written down, understood or not.
        changing = [(method, reason) for method, _, reason in REFUSED if method in CHANGING]
        assert len(changing) > 10
        audited = here.audit()
        assert [row[1] for row in audited] == [method for method, _ in changing]
        for row, (_, reason) in zip(audited, changing, strict=True):
            assert row[3].startswith("not done: ")
            assert reason in row[3]
        assert '{"on": "true"}' in {row[2] for row in audited}


async def test_the_relay_is_off_limits_unless_both_say_so_and_every_try_is_written_down(
    tmp_path: Path, mosquitto: Mosquitto
) -> None:
    # Beside what the service allows, m1 is not allowed.
    async with installation(tmp_path, mosquitto) as here:
        answer = await here.peer.call("setRelay", {"on": False}, device="m1")
        assert answer == {"error": "setRelay is not allowed for m1: its relay_allowed is off"}
    async with installation(tmp_path, mosquitto, allow_relay=False) as here:
        answer = await here.peer.call("setRelay", {"on": False}, device="m0")
        assert answer == {"error": "setRelay is not allowed: [rpc] allow_relay is off"}
        assert here.conducts()
        assert [(row[0], row[1], row[3].split(":")[0]) for row in here.audit()] == [
            ("m1", "setRelay", "not done"),
            ("m0", "setRelay", "not done"),
        ]
    assert RpcSettings().allow_relay is False
    assert Meter(MeterId(1), "a", "b").relay_allowed is False


async def test_a_command_that_comes_twice_is_done_once_and_answered_again(tmp_path: Path, mosquitto: Mosquitto) -> None:
    async with installation(tmp_path, mosquitto) as here:
        assert (await here.peer.call("setRelay", {"on": False}, device="m0", id_=7))["changed"] is True
        # A person has put the breaker back since: the repetition must not throw it again.
        here.simulated.connected = True
        assert (await here.peer.call("setRelay", {"on": False}, device="m0", id_=7))["changed"] is True
        assert here.conducts()
        # The same number for something else is something else: the server counts anew.
        assert (await here.peer.call("setRelay", True, device="m0", id_=7)) == {"on": True, "changed": False}
        assert len(here.audit()) == 2
    async with Peer(mosquitto.port) as peer:
        # The broker may keep one, for whomever: nobody wants it done at each connection.
        request = {"device": "m0", "data": {"id": 8, "method": "setRelay", "params": False}}
        peer.publish("v1/gateway/rpc", request, retain=True)
        await asyncio.sleep(0.2)
    async with installation(tmp_path, mosquitto) as here:
        assert "values" in await here.peer.call("readNow", device="m0")
        assert here.conducts()
        assert len(here.audit()) == 2
    (tmp_path / "meterbridge.toml").write_text(f'[database]\nurl = "sqlite+aiosqlite:///{tmp_path}/admin.db"\n')
    listed = await asyncio.to_thread(run, "audit", "--json", folder=tmp_path)
    assert [(entry["action"], entry["outcome"]) for entry in json.loads(listed.out)] == [("setRelay", "done")] * 2


async def test_a_flood_delays_no_poll_and_is_refused_beyond_its_bound(tmp_path: Path, mosquitto: Mosquitto) -> None:
    # At the pace installations poll at, and with time for each answer: a loaded machine must not look like a flood.
    async with installation(tmp_path, mosquitto, period_s=1.0, timeout_s=60.0) as here:
        before = [(status.counters.due, status.counters.skipped) for status in here.service.statuses()]
        for number in range(2_000):
            here.peer.ask("getValue", "voltage_l1", device="m0", id_=10_000 + number)
        publisher = here.service._publisher
        assert publisher is not None

        def answers() -> list[Any]:
            replies = here.peer.of("v1/gateway/rpc")
            return [reply for reply in replies if isinstance(reply, dict) and 10_000 <= reply.get("id", 0) < 12_000]

        # Each is answered, but for those that came too fast to be looked at: these are counted.
        await until(lambda: len(answers()) + publisher.dropped >= 2_000, 60)
        given = [reply["data"] for reply in answers()]
        assert len(given) + publisher.dropped == 2_000
        done = sum("value" in answer for answer in given)
        refused = sum("wait for this meter already" in answer.get("error", "") for answer in given)
        print(f"of 2,000: {done} done, {refused} refused, {publisher.dropped} not heard")
        assert done + refused == len(given)
        assert refused > 0
        assert done > 8
        for (due, skipped), status in zip(before, here.service.statuses(), strict=True):
            # One in twenty, on a machine that others use too.
            assert status.counters.skipped - skipped <= (status.counters.due - due) / 20 + 1
        assert "values" in await here.peer.call("readNow", device="m0")
        assert here.reconnections() == [0, 0]


async def test_a_meter_that_is_silent_or_slow_is_said_to_be(tmp_path: Path, mosquitto: Mosquitto) -> None:
    async with installation(tmp_path, mosquitto, timeout_s=1.0) as here:
        server = here.fleet.servers[0]
        port = server.port
        await server.close()
        await until(lambda: here.service.statuses()[0].counters.failures > 1)
        for method in ("readNow", "syncClock"):
            began = time.monotonic()
            answer = await here.peer.call(method, device="m0")
            assert "does not answer" in answer["error"] or "refused the connection" in answer["error"], answer
            assert time.monotonic() - began < 2.0
        assert (await here.peer.call("getValue", "voltage_l1", device="m1"))["unit"] == "V"
        await server.start("127.0.0.1", port)
        before = here.service.statuses()[0].counters.successes
        await until(lambda: here.service.statuses()[0].counters.successes > before)
        assert "values" in await here.peer.call("readNow", device="m0")


async def test_a_slow_meter_is_asked_where_its_polls_leave_time_and_else_rarely(
    tmp_path: Path, mosquitto: Mosquitto
) -> None:
    # As the installation's own: 0.15 s of each 0.2 s go into a poll.
    async with installation(tmp_path, mosquitto, timeout_s=3.0, behaviours=[Slow(0.15)]) as here:
        counters = here.service.statuses()[0].counters
        polls, skipped = counters.polls, counters.skipped
        for number in range(50):
            here.peer.ask("getValue", "voltage_l1", device="m0", id_=100 + number)
        await until(lambda: all(here.peer.answers("m0", 100 + number) for number in range(50)), 20)
        answers = [here.peer.answers("m0", 100 + number)[0] for number in range(50)]
        done = sum("value" in answer for answer in answers)
        print(
            f"of 50: {done} done while {counters.polls - polls} polls were made, {counters.skipped - skipped} left out"
        )
        assert done >= 1
        assert all("value" in answer or "error" in answer for answer in answers)
        assert counters.skipped - skipped <= (counters.polls - polls) / 5 + 1
        assert here.reconnections() == [0, 0]


GARBAGE = [
    b"",
    b"{",
    b"\xff\xfe",
    b"[1, 2]",
    b"null",
    b"NaN",
    b"[" * 60_000,
    b'{"device": "m0"}',
    b'{"device": 5, "data": {"id": 1, "method": "pause"}}',
    b'{"device": "m0", "data": {"id": {}, "method": "pause"}}',
    b'{"device": "m0", "data": {"id": true, "method": "pause"}}',
    b'{"device": "m0", "data": "pause"}',
    b'{"device": "m0", "data": {"method": "pause"}}',
    b'{"data": {"id": 1, "method": "pause"}}',
    b"x" * 300_000,
    b'{"device": "m0", "id": 3, "data": {"error": "our own answer, come back"}}',
]


async def test_nonsense_is_survived_in_silence(tmp_path: Path, mosquitto: Mosquitto) -> None:
    async with installation(tmp_path, mosquitto) as here:
        for octets in GARBAGE:
            for topic in ("v1/gateway/rpc", "v1/gateway/attributes", "v1/gateway/attributes/response"):
                here.peer.publish(topic, octets)
        assert "values" in await here.peer.call("readNow", device="m0")
        assert here.service.fleet.status(MeterId(1)).state == "running"
        assert here.reconnections() == [0, 0]
        assert here.audit() == []


async def test_commands_find_their_way_again_after_the_broker_was_away(tmp_path: Path, mosquitto: Mosquitto) -> None:
    async with installation(tmp_path, mosquitto) as here:
        assert await here.peer.call("pause", device="m0") == {"state": "paused"}
        mosquitto.stop(kill=True)
        mosquitto.start()
        await until(lambda: all(route.connected for route in here.service.route_stats()), 20)
        await until(lambda: here.peer.connected, 20)
        assert await here.peer.call("resume", device="m0") == {"state": "running"}


async def test_shared_attributes_hold_at_once_are_told_back_and_outlive_a_restart(
    tmp_path: Path, mosquitto: Mosquitto
) -> None:
    shared: dict[str, dict[str, object]] = {"m0": {"pollInterval": 0.5, "measurements": "voltage_l1,1-0:1.8.0"}}
    async with installation(tmp_path, mosquitto, shared=shared) as here:
        worker = here.bridge.workers[MeterId(1)]
        await until(lambda: here.attributes("m0").get("pollInterval") == 0.5)
        assert here.attributes("m0")["measurements"] == "voltage_l1,1-0:1.8.0"
        assert here.attributes("m1")["pollInterval"] == 0.2
        await until(lambda: set(here.service.latest[MeterId(1)].values) == {"voltage_l1", "1-0:1.8.0"})
        here.peer.publish("v1/gateway/attributes", {"device": "m0", "data": {"pollInterval": 0.1}})
        await until(lambda: here.attributes("m0")["pollInterval"] == 0.1)
        before, began = worker.counters.polls, time.monotonic()
        await until(lambda: worker.counters.polls >= before + 10)
        assert time.monotonic() - began < 1.5
        for key, value, reason in (
            ("pollInterval", 0.01, "from 0.1 to 300"),
            ("pollInterval", "soon", "from 0.1 to 300"),
            ("pollInterval", [5], "from 0.1 to 300"),
            ("measurements", {"a": 1}, "as a list or with commas"),
            ("measurements", ["voltage_l1", "bananas"], "'bananas' is no measurement"),
            ("measurements", [""], "as a list or with commas"),
        ):
            here.peer.publish("v1/gateway/attributes", {"device": "m0", "data": {key: value}})
            await until(lambda k=key, r=reason: r in here.attributes("m0")[f"{k}Error"])  # type: ignore[misc]
        assert here.attributes("m0")["pollInterval"] == 0.1
        assert here.attributes("m0")["measurements"] == "voltage_l1,1-0:1.8.0"
        here.peer.publish("v1/gateway/attributes", {"device": "m0", "data": {"measurements": ["current_l1"]}})
        await until(lambda: here.attributes("m0")["measurements"] == "current_l1")
        assert here.attributes("m0")["measurementsError"] == ""
        assert here.reconnections() == [0, 0], "the association stayed"
    # Nobody answers what it asks for now.
    async with installation(tmp_path, mosquitto, shared=None) as here:
        assert here.bridge.workers[MeterId(1)].poller.client.connected
        await until(lambda: set(here.service.latest[MeterId(1)].values) == {"current_l1"})
        here.peer.publish(
            "v1/gateway/attributes", {"device": "m0", "data": {"deleted": ["pollInterval", "measurements"]}}
        )
        await until(lambda: here.attributes("m0").get("pollInterval") == 0.2)
        await until(lambda: "voltage_l1" in here.service.latest[MeterId(1)].values)
    with closing(sqlite3.connect(tmp_path / "admin.db")) as connection:
        assert connection.execute("SELECT * FROM meter_overrides").fetchall() == []


async def test_shared_attributes_of_the_device_api(tmp_path: Path, mosquitto: Mosquitto) -> None:
    async with installation(tmp_path, mosquitto, gateway=False, shared={"me": {"pollInterval": 0.5}}) as here:
        await until(lambda: here.attributes("me").get("pollInterval") == 0.5)
        here.peer.publish("v1/devices/me/attributes", {"pollInterval": 0.25, "unknown": 5})
        await until(lambda: here.attributes("me")["pollInterval"] == 0.25)
