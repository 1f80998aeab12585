"""Provisioning against a server that follows ThingsBoard's contract: found again, broken off anywhere, repeated."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from tb_ce_client import ThingsboardClient

from meterbridge.delivery import Route, RouteBook, RouteSettings, Row
from meterbridge.errors import (
    ConnectFailed,
    MeterbridgeError,
    ThingsBoardRefused,
    ThingsBoardUnreachable,
)
from meterbridge.meter import MeterModel, load_model, model_names
from meterbridge.model import Meter, MeterId, Quantity, Reading
from meterbridge.thingsboard import AlarmLimits
from meterbridge.thingsboard.entities import Change, Entities
from meterbridge.thingsboard.provisioning import Provisioner, Wanted
from meterbridge.thingsboard.rest import Credentials, Patience, ThingsBoardRest
from meterbridge.thingsboard.rollout import Mqtt, Outcome, Rollout, RouteKind
from meterbridge.thingsboard.server import look_at
from tests.integration.thingsboard_stand_in import API_KEY, PASSWORD, USER, StandIn, failing

SERVICE = "Meterbridge service"
WANTED = Wanted(
    "dlms-meter",
    "Meterbridge",
    SERVICE,
    "Electricity meters",
    AlarmLimits(207.0, 253.0, 49.0, 51.0),
    600,
    1.0,
)
METERS = [Meter(MeterId(n), f"m{n}", "192.0.2.1", model="microstar") for n in (1, 2)]
CATALOGUE = [replace(m, poll=tuple(m.measurements)) for m in map(load_model, model_names())]
MODELS: list[MeterModel] = [load_model("microstar")]
# As few requests as there can be, for tests that break off at each.
FEW = replace(WANTED, limits=AlarmLimits(0.0, 0.0, 0.0, 0.0))
LOGIN = Credentials(USER, PASSWORD)


@dataclass
class Home:
    """Our side: rows, and readings that are there at once."""

    rows: dict[MeterId, Meter] = field(default_factory=lambda: {meter.id: meter for meter in METERS})
    runs: bool = False
    dead: bool = False
    used: set[str] = field(default_factory=set)
    stored: list[Meter] = field(default_factory=list)

    async def reading(self, meter: Meter) -> Reading:
        if self.dead:
            raise ConnectFailed("192.0.2.1:3333: nobody listens")
        values = {"voltage_l1": Quantity(231.5, "V", ""), "active_energy": Quantity(56281.0, "Wh", "")}
        return Reading(meter.id, 1_762_857_000_000 + meter.id, values)

    async def store(self, meter: Meter) -> None:
        self.rows[meter.id] = meter
        self.stored.append(meter)

    async def open_alarms(self, meter: Meter) -> Mapping[str, tuple[str, str]]:
        return {}

    def uses(self, token: str) -> bool:
        return token in self.used


class Wire:
    """MQTT without a network: what is published arrives at the stand-in, or is turned away with its token."""

    def __init__(self, server: StandIn) -> None:
        self.server = server
        self.published: list[tuple[str, Row]] = []

    def route_of(self, meter: Meter, gateway_token: str | None) -> Route:
        return RouteBook(RouteSettings(gateway_token), lambda _: True).route_for(meter)

    async def publish(self, route: Route, rows: list[Row], timeout_s: float) -> None:
        kind = route.name.partition(":")[0]
        for row in rows:
            self.published.append((kind, row))
            device = row.device
            if kind != "broker":
                owner = self.server.device_of(str(route.endpoint.username))
                assert owner == (device if kind == "device" else "Meterbridge")
            if row.kind == "telemetry":
                self.server.arrived(device, json.loads(row.payload))


@pytest.fixture
async def server(free_port: Callable[[], int]) -> AsyncIterator[StandIn]:
    async with StandIn(free_port()) as stand_in:
        yield stand_in


async def no_sleep(_: float) -> None:
    pass


async def provision(
    server: StandIn,
    home: Home,
    kind: RouteKind = "gateway",
    *,
    wire: Wire | None = None,
    credentials: Credentials = LOGIN,
    patience: Patience | None = None,
    dry_run: bool = False,
    wanted: Wanted = WANTED,
    meters: list[Meter] = METERS,
) -> tuple[list[Change], list[Outcome]]:
    """One run, meter after meter, so that its requests come in the same order each time."""
    wire = wire or Wire(server)
    changes: list[Change] = []
    async with ThingsBoardRest(server.url, credentials, patience, sleep=no_sleep) as rest:
        facts = await look_at(rest)
        entities = Entities(rest, changes.append, dry_run)
        provisioner = Provisioner(entities, facts, wanted)
        foundation = await provisioner.foundation(MODELS, CATALOGUE)
        mqtt = Mqtt("tb.example", 1883, wire.route_of, 1.0, wire.publish)
        clock = iter(range(10**9))
        rollout = Rollout(provisioner, entities, home, mqtt, lambda: float(next(clock)), no_sleep)
        outcomes = [await rollout.meter(home.rows[meter.id], kind, foundation) for meter in meters]
    return changes, outcomes


def states(outcomes: list[Outcome]) -> list[str]:
    return [outcome.state for outcome in outcomes]


@pytest.mark.parametrize("version", ["4.2.1", "4.3.0.1", "4.4.0-SNAPSHOT"])
@pytest.mark.parametrize("kind", ["device", "gateway", "broker"])
async def test_all_is_made_once_and_a_second_run_writes_nothing(server: StandIn, version: str, kind: RouteKind) -> None:
    server.version = version
    home = Home()
    changes, outcomes = await provision(server, home, kind)
    assert states(outcomes) == ["seen", "seen"]
    made = {(change.thing, change.name) for change in changes if change.action == "create"}
    assert {("device profile", "dlms-meter"), ("gateway", "Meterbridge"), ("device", "m1")} <= made
    held = server.snapshot()
    assert held["relations"] == [("Meterbridge", name, "Created") for name in (SERVICE, "m1", "m2")]
    types = {device["name"]: device["type"] for device in held["devices"]}
    assert types == {"Meterbridge": "default", SERVICE: "meterbridge-service", "m1": "dlms-meter", "m2": "dlms-meter"}
    assert [values for *_, values in held["attributes"]] == [{"inactivityTimeout": 600_000}] * 2
    row = home.rows[MeterId(1)]
    assert (row.tb_enabled, row.tb_device_name) == (True, "m1")
    endpoint = ("127.0.0.1", 1884) if kind == "broker" else ("tb.example", 1883)
    assert (row.tb_host, row.tb_port) == endpoint
    assert row.tb_token == (server.store.tokens[device_id(server, "m1")] if kind == "device" else None)
    profiles = {id_: profile["name"] for id_, profile in server.store.profiles.items()}
    apart = sorted((profiles[rule["entityId"]["id"]], rule["name"]) for rule in server.store.rules.values())
    inside = sorted(
        (p["name"], alarm["alarmType"])
        for p in held["profiles"]
        for alarm in (p.get("profileData") or {}).get("alarms") or []
    )
    wanted = ["Bridge alarm", "Energy backwards", "No data", "Overfrequency", "Overvoltage L1", "Underfrequency"]
    wanted.append("Undervoltage L1")
    rules = [*(("dlms-meter", name) for name in wanted), ("meterbridge-service", "Bridge alarm")]
    assert (apart, inside) == (([], rules) if version == "4.2.1" else (rules, []))

    server.requests.clear()
    home.stored.clear()
    changes, outcomes = await provision(server, home, kind)
    assert states(outcomes) == ["seen", "seen"]
    assert server.writes == []
    assert home.stored == []
    assert {change.action for change in changes} == {"keep"}
    assert server.snapshot() == held


def device_id(server: StandIn, name: str) -> str:
    return next(id_ for id_, device in server.store.devices.items() if device["name"] == name)


async def test_a_dry_run_writes_nothing_and_says_what_a_run_would_do(server: StandIn) -> None:
    home = Home()
    planned, outcomes = await provision(server, home, "device", dry_run=True)
    assert states(outcomes) == ["planned", "planned"]
    assert (server.writes, home.stored) == ([], [])
    done, _ = await provision(server, home, "device")

    def made(changes: list[Change]) -> set[tuple[str, str]]:
        kinds = ("device profile", "alarm rule", "gateway", "device", "dashboard", "meter")
        return {(c.thing, c.name) for c in changes if c.action in ("create", "update") and c.thing in kinds}

    assert made(planned) == made(done)
    again, _ = await provision(server, home, "device", dry_run=True)
    assert {change.action for change in again} == {"keep"}


@pytest.mark.parametrize("version", ["4.2.1", "4.4.0"])
async def test_broken_off_at_any_request_a_rerun_completes(
    server: StandIn, free_port: Callable[[], int], version: str
) -> None:
    """From request n on nothing is answered any more: before, or just after, the server did what it was asked."""
    server.version = version
    async with StandIn(free_port(), version) as whole:
        await provision(whole, Home(), wanted=FEW, meters=METERS[:1])
        golden, total = whole.snapshot(), len(whole.requests)
    patience = Patience(attempts=1)
    for fault in ("cut", "cut-after") if version == "4.4.0" else ("cut-after",):
        for first in range(total):
            server.store = type(server.store)()
            home = Home()

            def broken(index: int, method: str, path: str, first: int = first, fault: str = fault) -> str | None:
                return None if index < first else fault if index == first else "cut"

            with failing(server, broken), pytest.raises(ThingsBoardUnreachable):
                await provision(server, home, patience=patience, wanted=FEW, meters=METERS[:1])
            _, outcomes = await provision(server, home, wanted=FEW, meters=METERS[:1])
            assert states(outcomes) == ["seen"], (fault, first)
            assert server.snapshot() == golden, (fault, first)
            assert home.rows[MeterId(1)].tb_port == 1883


@pytest.mark.parametrize("fault", ["401", "429", "500", "cut", "cut-after"])
async def test_one_fault_at_any_request_is_got_over_in_the_same_run(
    server: StandIn, free_port: Callable[[], int], fault: str
) -> None:
    async with StandIn(free_port()) as whole:
        await provision(whole, Home(), wanted=FEW, meters=METERS[:1])
        golden, total = whole.snapshot(), len(whole.requests)
    for bad in range(total):
        server.store = type(server.store)()

        def once(index: int, method: str, path: str, bad: int = bad) -> str | None:
            return fault if index == bad else None

        with failing(server, once):
            if fault == "401" and bad == 0:
                # A login that is refused is refused.
                with pytest.raises(ThingsBoardRefused, match="does not let tenant@example"):
                    await provision(server, Home())
                continue
            _, outcomes = await provision(server, Home(), wanted=FEW, meters=METERS[:1])
        assert states(outcomes) == ["seen"], bad
        assert server.snapshot() == golden, bad
        server.requests.clear()


async def test_the_official_client_reads_back_what_was_made(server: StandIn) -> None:
    import asyncio

    await provision(server, Home())

    def read() -> dict[str, Any]:
        client = ThingsboardClient(server.url, USER, PASSWORD)
        device = client.get_tenant_device_by_name("m1")
        profile = client.get_device_profile_by_id(str(device.device_profile_id.id))
        gateway = client.get_tenant_device_by_name("Meterbridge")
        board = client.get_tenant_dashboards(page_size=10, page=0).data[0]
        rules = client.get_alarm_rules_by_entity_id("DEVICE_PROFILE", str(profile.id.id), page_size=100, page=0).data
        return {
            "device": device.name,
            "profile": profile.name,
            "gateway": gateway.additional_info["gateway"],
            "board": board.title,
            "rules": sorted(rule.name for rule in rules),
            "overvoltage": next(rule for rule in rules if rule.name == "Overvoltage L1").to_dict(),
        }

    found = await asyncio.to_thread(read)
    assert (found["device"], found["profile"], found["gateway"]) == ("m1", "dlms-meter", True)
    assert found["board"] == "Electricity meters"
    assert len(found["rules"]) == 7
    [filter_] = found["overvoltage"]["configuration"]["createRules"]["MAJOR"]["condition"]["expression"]["filters"]
    assert filter_["predicates"][0]["value"]["staticValue"] == 253.0


async def test_an_api_key_serves_as_well(server: StandIn) -> None:
    _, outcomes = await provision(server, Home(), credentials=Credentials(api_key=API_KEY))
    assert states(outcomes) == ["seen", "seen"]
    assert not any(path.startswith("/api/auth/login") for _, path in server.requests)
    with pytest.raises(ThingsBoardRefused, match="the API key"):
        await provision(server, Home(), credentials=Credentials(api_key="another"))


async def test_a_login_that_expires_again_and_again_is_renewed(server: StandIn) -> None:
    server.token_uses = 3
    _, outcomes = await provision(server, Home())
    assert states(outcomes) == ["seen", "seen"]
    assert ("POST", "/api/auth/token") in server.requests
    assert server.requests.count(("POST", "/api/auth/login")) == 1


async def test_a_busy_server_is_waited_for_as_long_as_it_asks(server: StandIn) -> None:
    waited: list[float] = []

    async def sleep(seconds: float) -> None:
        waited.append(seconds)

    server.retry_after = "7"
    with failing(server, lambda index, method, path: "429" if index in (1, 2) else None):
        async with ThingsBoardRest(server.url, LOGIN, sleep=sleep) as rest:
            await look_at(rest)
    assert waited == [7.0, 7.0]
    server.retry_after = "86400"
    with failing(server, lambda index, method, path: "429" if index > 0 else None):
        async with ThingsBoardRest(server.url, LOGIN, Patience(attempts=2), sleep=sleep) as rest:
            with pytest.raises(ThingsBoardUnreachable, match="is busy"):
                await look_at(rest)
    assert waited[2:] == [30.0]


async def test_devices_that_were_there_are_adopted_and_survive_their_leaving(server: StandIn) -> None:
    server.add_device("m1", label="cellar")
    own = server.store.tokens[device_id(server, "m1")]
    home = Home()
    changes, outcomes = await provision(server, home, "device")
    assert states(outcomes) == ["seen", "seen"]
    assert Change("device", "m1", "update") in changes
    first = server.store.devices[device_id(server, "m1")]
    assert (first["type"], first["label"]) == ("dlms-meter", "cellar")
    assert home.rows[MeterId(1)].tb_token == own

    async with ThingsBoardRest(server.url, LOGIN) as rest:
        provisioner = Provisioner(Entities(rest, changes.append), await look_at(rest), WANTED)
        for name in ("m1", "m2"):
            await provisioner.remove_device(name)
        await provisioner.remove_foundation(CATALOGUE)
    left = server.snapshot()
    assert [device["name"] for device in left["devices"]] == ["m1"]
    assert (left["rules"], left["dashboards"], left["relations"]) == ([], [], [])
    # The adopted device still uses it.
    assert "dlms-meter" in {profile["name"] for profile in left["profiles"]}
    assert "meterbridge-service" not in {profile["name"] for profile in left["profiles"]}


async def test_the_device_of_the_installation_is_made_only_where_it_has_a_name(server: StandIn) -> None:
    await provision(server, Home(), wanted=replace(WANTED, service_name=""))
    held = server.snapshot()
    assert [device["name"] for device in held["devices"]] == ["Meterbridge", "m1", "m2"]
    assert "meterbridge-service" not in {profile["name"] for profile in held["profiles"]}
    with pytest.raises(ThingsBoardRefused, match=r"is the gateway device's name; set thingsboard\.service_name"):
        await provision(server, Home(), wanted=replace(WANTED, service_name="Meterbridge"))
    _, [outcome, _] = await provision(server, Home(), wanted=replace(WANTED, service_name="m1"))
    assert (outcome.state, outcome.reason) == ("failed", "name conflict: 'm1' is Meterbridge's own name")


async def test_a_device_that_a_gateway_made_for_the_installation_gets_its_profile(server: StandIn) -> None:
    """tb-gateway announces all devices as meters."""
    server.add_device(SERVICE, type="dlms-meter")
    changes, _ = await provision(server, Home())
    assert Change("device", SERVICE, "update") in changes
    assert server.store.devices[device_id(server, SERVICE)]["type"] == "meterbridge-service"


async def test_a_device_made_again_gets_the_token_its_meter_has(server: StandIn) -> None:
    home = Home()
    await provision(server, home, "device")
    token = home.rows[MeterId(1)].tb_token
    del server.store.devices[device_id(server, "m1")]
    _, outcomes = await provision(server, home, "device")
    assert states(outcomes) == ["failed", "seen"]  # its old token is still taken, and the server says so
    assert "already assigned" in outcomes[0].reason
    server.store.tokens = {i: t for i, t in server.store.tokens.items() if i in server.store.devices}
    _, outcomes = await provision(server, home, "device")
    assert states(outcomes) == ["seen", "seen"]
    assert home.rows[MeterId(1)].tb_token == token == server.store.tokens[device_id(server, "m1")]


async def test_names_that_belong_to_something_else(server: StandIn) -> None:
    server.add_device("m1", additionalInfo={"gateway": True})
    _, outcomes = await provision(server, Home())
    assert states(outcomes) == ["failed", "seen"]
    assert outcomes[0].reason.startswith("name conflict: device 'm1' is a gateway")
    with pytest.raises(ThingsBoardRefused, match="name conflict: device 'm2' is a meter"):
        await provision(server, Home(), wanted=replace(WANTED, gateway_name="m2"))


async def test_a_device_without_an_access_token(server: StandIn) -> None:
    server.add_device("m2")
    server.store.tokens[device_id(server, "m2")] = "x509:ABCDEF"
    _, outcomes = await provision(server, Home())
    assert states(outcomes) == ["seen", "failed"]
    assert "credentials of type X509_CERTIFICATE" in outcomes[1].reason


async def test_a_meter_that_gives_no_reading_is_provisioned_but_unseen_until_it_does(server: StandIn) -> None:
    home = Home(dead=True)
    wire = Wire(server)
    _, outcomes = await provision(server, home, wire=wire)
    assert states(outcomes) == ["unseen", "unseen"]
    assert "nobody listens" in outcomes[0].reason
    assert {row.kind for _, row in wire.published} == {"attributes"}
    home.dead = False
    _, outcomes = await provision(server, home)
    assert states(outcomes) == ["seen", "seen"]


async def test_a_reading_that_never_appears_leaves_the_row_as_it_was(server: StandIn) -> None:
    class Lost(Wire):
        async def publish(self, route: Route, rows: list[Row], timeout_s: float) -> None:
            pass

    home = Home()
    _, outcomes = await provision(server, home, wire=Lost(server))
    assert states(outcomes) == ["failed", "failed"]
    assert home.stored == []
    assert "ThingsBoard has none after 1 s" in outcomes[0].reason
    _, outcomes = await provision(server, home)
    assert states(outcomes) == ["seen", "seen"]


async def test_under_a_token_in_use_the_service_sends(server: StandIn) -> None:
    class Running(Home):
        async def store(self, meter: Meter) -> None:
            await super().store(meter)
            server.arrived(meter.device_name, {"ts": 1_762_900_000_000, "values": {"voltage_l1": 230.0}})

    wire = Wire(server)
    home = Running(runs=True)
    _, outcomes = await provision(server, home, "gateway", wire=wire)
    assert states(outcomes) == ["seen", "seen"]
    # The first meter hands the token over; from then on a second connection would throw the service out.
    assert {row.device for _, row in wire.published} == {"m1"}


async def test_people_keep_their_dashboard_and_settings_win_over_rules(server: StandIn) -> None:
    home = Home()
    await provision(server, home)
    [board] = server.store.dashboards.values()
    board["configuration"]["settings"]["showTitle"] = True
    [overvoltage] = [rule for rule in server.store.rules.values() if rule["name"] == "Overvoltage L1"]
    other = replace(WANTED, limits=replace(WANTED.limits, over_voltage=264.0, under_frequency=0.0))
    changes, _ = await provision(server, home, wanted=other)
    acted = {(c.thing, c.name, c.action) for c in changes if c.action != "keep"}
    assert acted == {
        ("dashboard", "Electricity meters", "leave"),
        ("alarm rule", "Overvoltage L1", "update"),
        ("alarm rule", "Underfrequency", "delete"),
    }
    assert "264" in json.dumps(overvoltage["configuration"])
    assert board["configuration"]["settings"]["showTitle"] is True


async def test_a_dashboard_of_an_earlier_version_is_renewed_another_of_that_title_is_not_ours(server: StandIn) -> None:
    home = Home()
    theirs = {"title": "Electricity meters", "configuration": {"description": "by hand"}}
    server._save_dashboard({}, theirs)
    await provision(server, home)
    assert len(server.store.dashboards) == 2
    changes, _ = await provision(server, home, wanted=replace(WANTED, period_s=5.0))
    assert ("dashboard", "update") in {(c.thing, c.action) for c in changes}
    assert len(server.store.dashboards) == 2


async def test_alarms_of_others_in_the_profile_stay(server: StandIn) -> None:
    server.version = "4.2.0"
    await provision(server, Home())
    [profile] = [p for p in server.store.profiles.values() if p["name"] == "dlms-meter"]
    theirs = {**profile["profileData"]["alarms"][0], "id": "by-hand", "alarmType": "Theirs"}
    profile["profileData"]["alarms"].insert(0, theirs)
    await provision(server, Home(), wanted=replace(WANTED, no_data_s=0))
    types = [alarm["alarmType"] for alarm in profile["profileData"]["alarms"]]
    assert "Theirs" in types
    assert "No data" not in types


async def test_where_activity_is_kept_as_telemetry_rule_and_dashboard_look_there(server: StandIn) -> None:
    server.persists_activity = True
    await provision(server, Home())
    [rule] = [rule for rule in server.store.rules.values() if rule["name"] == "No data"]
    assert rule["configuration"]["arguments"]["active"]["refEntityKey"] == {"key": "active", "type": "TS_LATEST"}
    [board] = server.store.dashboards.values()
    keys = [
        key
        for widget in board["configuration"]["widgets"].values()
        for s in widget["config"]["datasources"]
        for key in s["dataKeys"]
    ]
    assert {key["type"] for key in keys if key["name"] == "active"} == {"timeseries"}


@pytest.mark.parametrize(("version", "rules"), [("4.2.1", 0), ("4.4.0", 8)])
async def test_a_server_that_hides_its_version_is_probed(server: StandIn, version: str, rules: int) -> None:
    server.version, server.hides_version = version, True
    await provision(server, Home())
    assert len(server.store.rules) == rules


async def test_refusals_are_one_clear_sentence(server: StandIn, free_port: Callable[[], int]) -> None:
    async def refused(credentials: Credentials = LOGIN) -> str:
        with pytest.raises(MeterbridgeError) as caught:
            await provision(server, Home(), credentials=credentials)
        text = str(caught.value)
        assert "\n" not in text
        assert PASSWORD not in text
        return text

    wrong = await refused(Credentials(USER, "wrong-password-77"))
    assert "does not let tenant@example.org in: Invalid username or password" in wrong
    assert "wrong-password-77" not in wrong
    server.version = "3.9.1"
    assert "3.9.1" in (old := await refused())
    assert "too old: 4.0 or newer is needed" in old
    server.version, server.authority = "4.4.0", "CUSTOMER_USER"
    assert "this account is a CUSTOMER_USER; a tenant administrator" in await refused()
    nobody = StandIn(free_port())
    with pytest.raises(ThingsBoardUnreachable, match=f"{nobody.url} does not answer"):
        await provision(nobody, Home())
    assert server.store.devices == {}


async def test_a_second_factor_and_another_address_are_said(server: StandIn) -> None:
    server.asks_for_second_factor = True
    with pytest.raises(ThingsBoardRefused, match="for a second factor; take an API key"):
        await provision(server, Home())
    server.asks_for_second_factor = False
    with (
        failing(server, lambda index, method, path: "redirect"),
        pytest.raises(ThingsBoardRefused, match=r"sends us to https://tb\.example\.org/: log in there"),
    ):
        await provision(server, Home())
