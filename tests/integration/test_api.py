"""The API of a running service: who gets in, what it tells, what it does, and what it never shows."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from meterbridge.api import LOCAL_TOKEN, ApiServer, check_exposure
from meterbridge.errors import ConfigurationError
from meterbridge.service import DATABASE_FAILING, Service, open_vault
from meterbridge.settings import (
    ApiSettings,
    DatabaseSettings,
    LogSettings,
    OutboxSettings,
    PollingSettings,
    Settings,
)
from meterbridge.simulator import FleetOptions, SimulatedFleet
from meterbridge.store import Account, AccountRepository, Raise, Role, Severity, TokenRepository

SECRET = "pa55-w0rd-x"
TB_TOKEN = "t0ken-of-thingsboard"
METER = {"name": "Main", "ip_address": "127.0.0.1", "port": 1, "password": SECRET, "tb_enabled": False}
SPECIFIED = [
    ("GET", "/api/meters"),
    ("GET", "/api/meters/1/status"),
    ("GET", "/api/meters/1/logs"),
    ("POST", "/api/meters/1/pause"),
    ("POST", "/api/meters/1/resume"),
    ("POST", "/api/meters/1/test"),
    ("POST", "/api/meters/1/restart"),
    ("GET", "/api/system/health"),
]

OTHERS = [
    ("POST", "/api/meters"),
    ("OPTIONS", "/api/meters"),
    ("DELETE", "/api/meters/1"),
    ("GET", "/metrics"),
    ("GET", "/api/events"),
    ("GET", "/api/openapi.json"),
    ("GET", "/docs"),
    ("GET", "/no/such/thing"),
]


@dataclass
class Running:
    service: Service
    settings: Settings
    url: str
    operator: httpx.AsyncClient
    viewer: httpx.AsyncClient
    stranger: httpx.AsyncClient


def bearing(url: str, token: str) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=url, headers={"Authorization": f"Bearer {token}"}, timeout=20)


@pytest.fixture
async def running(tmp_path: Path, free_port: Callable[[], int]) -> AsyncIterator[Running]:
    settings = Settings(
        database=DatabaseSettings(url=f"sqlite+aiosqlite:///{tmp_path}/admin.db", key_file=tmp_path / "secrets.key"),
        outbox=OutboxSettings(path=tmp_path / "outbox.db"),
        log=LogSettings(file=tmp_path / "meterbridge.log"),
        polling=PollingSettings(period_s=0.1, backoff_initial_s=0.1, backoff_max_s=0.2),
        api=ApiSettings(port=free_port(), requests_per_s=1_000),
    )
    service = Service(settings)
    await service.start()
    server = ApiServer(service, settings)
    await server.start()
    url = f"http://127.0.0.1:{settings.api.port}"
    local = (tmp_path / LOCAL_TOKEN).read_text()
    viewer = await TokenRepository(service.database).create("wall", Role.VIEWER, 1)
    try:
        async with bearing(url, local) as one, bearing(url, viewer) as two, httpx.AsyncClient(base_url=url) as three:
            yield Running(service, settings, url, one, two, three)
    finally:
        await server.stop()
        await service.stop()


async def added(running: Running, **changes: object) -> int:
    answer = await running.operator.post("/api/meters", json={**METER, **changes})
    assert answer.status_code == 201, answer.text
    number: int = answer.json()["id"]
    return number


def refused(answer: httpx.Response, status: int) -> str:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert (body["status"], set(body)) == (status, {"type", "title", "status", "detail"})
    detail: str = body["detail"]
    assert "\n" not in detail
    return detail


@pytest.mark.parametrize(
    ("method", "path"),
    [*SPECIFIED, *OTHERS],
)
async def test_without_a_token_nobody_learns_anything(running: Running, method: str, path: str) -> None:
    await added(running)
    for header in (
        {},
        {"Authorization": "Bearer nonsense"},
        {"Authorization": "Basic eDp5"},
        {"Authorization": "Bearer"},
    ):
        refused(await running.stranger.request(method, path, headers=header), 401)


async def test_a_viewer_sees_all_and_changes_nothing(running: Running) -> None:
    await added(running)
    for method, path in [*SPECIFIED, ("DELETE", "/api/meters/1"), ("PATCH", "/api/meters/1"), ("POST", "/api/meters")]:
        answer = await running.viewer.request(method, path)
        if method == "GET":
            assert answer.status_code == 200, answer.text
        else:
            refused(answer, 403)
    assert len((await running.viewer.get("/api/meters")).json()["meters"]) == 1


async def test_a_revoked_token_is_refused_soon(running: Running) -> None:
    assert (await running.viewer.get("/api/meters")).status_code == 200
    await TokenRepository(running.service.database).revoke("wall")
    async with asyncio.timeout(5):
        while (await running.viewer.get("/api/meters")).status_code == 200:
            await asyncio.sleep(0.1)


async def test_all_that_the_installation_had_answers(running: Running) -> None:
    await added(running)
    for method, path in SPECIFIED:
        answer = await running.operator.request(method, path)
        assert answer.status_code == 200, (path, answer.text)


async def test_a_meter_is_added_changed_paused_resumed_and_removed(running: Running) -> None:
    number = await added(running)
    assert number in running.service.fleet.workers
    refused(await running.operator.post("/api/meters", json=METER), 409)
    changed = await running.operator.patch(f"/api/meters/{number}", json={"port": 2, "tb_token": TB_TOKEN})
    assert (changed.json()["port"], changed.json()["has_tb_token"]) == (2, True)
    stored = await running.service.repository.get(number)
    assert (stored.password, stored.tb_token, stored.port) == (SECRET, TB_TOKEN, 2)
    states = []
    for what in ("pause", "resume", "restart"):
        states.append((await running.operator.post(f"/api/meters/{number}/{what}")).json()["run_state"])
    assert states == ["paused", "running", "running"]
    assert (await running.operator.delete(f"/api/meters/{number}")).status_code == 204
    refused(await running.operator.get(f"/api/meters/{number}"), 404)
    assert running.service.fleet.workers == {}


async def test_the_list_says_of_each_meter_what_it_says_of_one(running: Running) -> None:
    await added(running)
    await added(running, name='quo"te ü', port=2, tb_token=TB_TOKEN, status="inactive")
    async with asyncio.timeout(20):
        while True:
            listed = (await running.viewer.get("/api/meters")).json()["meters"]
            singly = [(await running.viewer.get(f"/api/meters/{meter['id']}")).json() for meter in listed]
            if listed == singly and listed[0]["error_count"] and listed[0]["troubles"]:
                break
            await asyncio.sleep(0.2)
    assert [meter["status"] for meter in listed] == ["error", "inactive"]
    await running.operator.patch("/api/meters/2", json={"name": "new"})
    assert (await running.viewer.get("/api/meters")).json()["meters"][1]["name"] == "new"


async def test_an_inactive_meter_is_listed_but_not_polled(running: Running) -> None:
    number = await added(running, status="inactive")
    assert (await running.viewer.get(f"/api/meters/{number}")).json()["run_state"] is None
    assert "no active meter" in refused(await running.operator.post(f"/api/meters/{number}/test"), 404)


async def test_a_meter_that_does_not_answer_says_why(running: Running) -> None:
    number = await added(running)
    result = (await running.operator.post(f"/api/meters/{number}/test")).json()
    assert (result["ok"], result["values"]) == (False, {})
    assert "refused" in result["error"].lower()


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"name": "x"},
        {**METER, "port": 0},
        {**METER, "password": SECRET * 10},
        {**METER, "password": 7},
        {**METER, "model": "nobody"},
        {**METER, "framing": "smoke"},
        {**METER, "name": None},
        {**METER, "bogus": 1},
        {**METER, "name": "a\x00b"},
        [],
        "x",
    ],
)
async def test_what_cannot_be_is_one_sentence_without_the_secret(running: Running, body: object) -> None:
    assert SECRET not in refused(await running.operator.post("/api/meters", json=body), 422)


@pytest.mark.parametrize(
    "path", ["/api/meters/0", "/api/meters/x", f"/api/meters/{10**30}", "/api/meters/1/logs?limit=0"]
)
async def test_a_path_that_cannot_be(running: Running, path: str) -> None:
    refused(await running.operator.get(path), 422)


async def test_an_unknown_meter_is_not_found(running: Running) -> None:
    for method, path in SPECIFIED[1:-1]:
        assert "7" in refused(await running.operator.request(method, path.replace("/1/", "/7/")), 404)
    refused(await running.operator.get("/api/nothing"), 404)
    refused(await running.operator.put("/api/meters"), 405)


async def test_a_body_that_is_too_big_is_refused_announced_or_not(running: Running) -> None:
    async def dribble() -> AsyncIterator[bytes]:
        for _ in range(80):
            yield b" " * 1024

    refused(await running.operator.post("/api/meters", content=b" " * 70_000), 413)
    refused(await running.operator.post("/api/meters", content=dribble()), 413)


async def test_no_secret_is_ever_shown(running: Running) -> None:
    number = await added(running, tb_token=TB_TOKEN)
    paths = ["/api/meters", f"/api/meters/{number}", f"/api/meters/{number}/status", "/metrics", "/api/system/outbox"]
    paths += [f"/api/meters/{number}/logs", f"/api/meters/{number}/metrics", "/api/alarms", "/api/system/health"]
    shown = "".join([(await running.operator.get(path)).text for path in paths])
    assert "Main" in shown
    assert SECRET not in shown
    assert TB_TOKEN not in shown


async def test_alarms_are_acknowledged_by_whom_the_token_names(running: Running) -> None:
    await running.service.alarms.apply([Raise(None, "disk_full", Severity.CRITICAL, "no room", 5)])
    [alarm] = (await running.viewer.get("/api/alarms")).json()["alarms"]
    path = f"/api/alarms/{alarm['id']}/acknowledge"
    refused(await running.viewer.post(path), 403)
    assert (await running.operator.post(path)).json()["acknowledged_by"] == "local"
    [alarm] = (await running.viewer.get("/api/alarms?minutes=525600")).json()["alarms"] or [alarm]
    refused(await running.operator.post("/api/alarms/999/acknowledge"), 404)


async def test_events_arrive_as_they_happen(running: Running) -> None:
    seen: list[str] = []
    async with asyncio.timeout(20), running.viewer.stream("GET", "/api/events") as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        lines = stream.aiter_lines()
        assert (await anext(lines)) == ": welcome"
        await added(running)
        async for line in lines:
            if line.startswith("event: "):
                seen.append(line.removeprefix("event: "))
            if line.startswith("data: "):
                assert json.loads(line.removeprefix("data: "))["meter"] == 1
            if len(seen) >= 2:
                break
    assert "failure" in seen


async def test_changes_of_state_and_alarms_told_again_are_events(running: Running) -> None:
    number = await added(running)
    seen: dict[str, dict[str, object]] = {}
    async with asyncio.timeout(20), running.viewer.stream("GET", "/api/events") as stream:
        lines = stream.aiter_lines()
        assert (await anext(lines)) == ": welcome"
        await asyncio.sleep(0.7)
        await running.operator.post(f"/api/meters/{number}/pause")
        for message in ("first", "second"):
            running.service.desk.raise_alarm(None, "novel", Severity.INFO, message)
        running.service.desk.resolve(None, "novel")
        kind = ""
        async for line in lines:
            if line.startswith("event: "):
                kind = line.removeprefix("event: ")
            if line.startswith("data: "):
                seen[kind] = json.loads(line.removeprefix("data: "))
            if seen.get("state", {}).get("run_state") != "paused":
                # On a busy machine the first states of its connection come only now.
                continue
            if {"state", "alarm_opened", "alarm_repeated", "alarm_resolved"} <= set(seen):
                break
    assert (seen["state"]["meter"], seen["state"]["run_state"]) == (number, "paused")
    assert (seen["alarm_repeated"]["type"], seen["alarm_repeated"]["message"]) == ("novel", "second")


async def test_a_meter_that_answers_without_a_value_is_in_error(running: Running) -> None:
    async with SimulatedFleet(FleetOptions(1, port=0)) as fleet, asyncio.timeout(20):
        # A public client may read little.
        number = await added(running, port=fleet.ports[0], client_id=16)
        status: dict[str, Any] = {"last_error": None}
        while not status["last_error"]:
            await asyncio.sleep(0.05)
            status = (await running.viewer.get(f"/api/meters/{number}/status")).json()
    assert str(status["last_error"]).startswith("the meter answers, but no object gives a value (")
    assert status["last_seen"] is None


async def test_supervisors_and_prometheus(running: Running) -> None:
    await added(running)
    assert (await running.stranger.get("/healthz")).json() == {"status": "ok"}
    assert (await running.stranger.get("/readyz")).json() == {"status": "ok"}
    text = (await running.viewer.get("/metrics")).text
    assert 'meterbridge_meter_running{meter="1",name="Main"} 1.0' in text
    desk = running.service.desk
    desk.raise_alarm(None, DATABASE_FAILING, Severity.CRITICAL, "database x: gone")
    answer = await running.stranger.get("/readyz")
    refused(answer, 503)
    assert "database" in answer.json()["detail"]
    assert (await running.stranger.get("/healthz")).status_code == 200
    desk.resolve(None, DATABASE_FAILING)
    assert (await running.stranger.get("/readyz")).status_code == 200
    running.service.broken.set()
    refused(await running.stranger.get("/readyz"), 503)


async def test_a_second_service_on_the_port_says_so_and_leaves_the_token(running: Running, tmp_path: Path) -> None:
    before = running.operator.headers["Authorization"]
    with pytest.raises(ConfigurationError, match="cannot listen"):
        await ApiServer(running.service, running.settings).start()
    assert before == f"Bearer {(tmp_path / LOCAL_TOKEN).read_text()}"


def test_it_is_never_open_to_others_without_tls_and_tokens(tmp_path: Path) -> None:
    check_exposure(ApiSettings(), 0)
    check_exposure(ApiSettings(host="::1"), 0)
    for host in ("0.0.0.0", "192.0.2.1", "meters.example.org", "::"):
        with pytest.raises(ConfigurationError, match="behind-proxy"):
            check_exposure(ApiSettings(host=host), 3)
        with pytest.raises(ConfigurationError, match="no token"):
            check_exposure(ApiSettings(host=host, behind_proxy=True), 0)
        check_exposure(ApiSettings(host=host, behind_proxy=True), 1)
        check_exposure(ApiSettings(host=host, tls_cert=tmp_path / "c", tls_key=tmp_path / "k"), 1)


async def test_thingsboard_is_asked_where_somebody_has_logged_in(
    running: Running, free_port: Callable[[], int]
) -> None:
    port = free_port()
    vault = open_vault(running.settings.database)
    account = Account(f"http://127.0.0.1:{port}", "ann", SECRET, None, "127.0.0.1", 1883)
    await AccountRepository(running.service.database, vault).save(account)

    async def level() -> str:
        checks = (await running.viewer.get("/api/system/qos")).json()["checks"]
        [check] = [check for check in checks if check["name"] == "thingsboard"]
        assert check["detail"] == account.server
        assert SECRET not in json.dumps(checks)
        found: str = check["level"]
        return found

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        writer.close()

    assert await level() == "critical"
    async with await asyncio.start_server(refuse, "127.0.0.1", port):
        assert await level() == "ok"
