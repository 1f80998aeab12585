"""The API against its own OpenAPI document: whatever is sent, no 500, no way in without a token, none for a viewer."""

from __future__ import annotations

import asyncio
import os
import random
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from schemathesis.specs.openapi.checks import response_schema_conformance, status_code_conformance

from meterbridge.api import LOCAL_TOKEN, ApiServer
from meterbridge.model import Meter, MeterId
from meterbridge.service import Service
from meterbridge.settings import (
    ApiSettings,
    DatabaseSettings,
    LogSettings,
    OutboxSettings,
    PollingSettings,
    Settings,
)
from meterbridge.store import Raise, Role, Severity, TokenRepository

SEED = int(os.environ.get("API_SEED") or random.SystemRandom().randrange(2**31))
EXAMPLES = int(os.environ.get("API_EXAMPLES", "12"))
OPEN = ("/healthz", "/readyz")
ENDLESS = "/api/events"
SECRET = "pa55-w0rd-x"
TB_TOKEN = "t0ken-of-thingsboard"
HLS_SECRET = "hls-s3cret-of-16"
KEY = "0f1e2d3c4b5a69788796a5b4c3d2e1f0"


@dataclass
class Site:
    url: str
    operator: str
    viewer: str
    document: dict[str, Any]
    log: Path

    def operations(self) -> list[tuple[str, str]]:
        """Method and path of all there are."""
        methods = ("get", "post", "put", "patch", "delete")
        return [(m.upper(), path) for path, item in self.document["paths"].items() for m in item if m in methods]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, free_port: Callable[[], int]) -> Iterator[Site]:
    """A service on a loop of its own: the client of the tests blocks."""
    folder = tmp_path_factory.mktemp("api")
    given_settings = Settings(
        database=DatabaseSettings(url=f"sqlite+aiosqlite:///{folder}/admin.db", key_file=folder / "secrets.key"),
        outbox=OutboxSettings(path=folder / "outbox.db"),
        log=LogSettings(file=folder / "meterbridge.log"),
        polling=PollingSettings(period_s=5, connect_timeout_s=0.2),
        api=ApiSettings(port=free_port(), requests_per_s=100_000),
    )
    ready, ended, tokens = threading.Event(), asyncio.Event(), []
    loop = asyncio.new_event_loop()

    async def serve() -> None:
        service = Service(given_settings)
        await service.start()
        server = ApiServer(service, given_settings)
        await server.start()
        for number in range(3):
            meter = Meter(
                MeterId(0), f"m{number}", "127.0.0.1", 1, password=SECRET, tb_enabled=number > 1, tb_token=TB_TOKEN
            )
            await service.repository.add(meter)
        await service.reload_meters()
        await service.alarms.apply([Raise(None, "novel", Severity.INFO, "told", 1)])
        tokens.append(await TokenRepository(service.database).create("wall", Role.VIEWER, 1))
        ready.set()
        await ended.wait()
        await server.stop()
        await service.stop()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    assert ready.wait(30)
    url = f"http://127.0.0.1:{given_settings.api.port}"
    operator = (folder / LOCAL_TOKEN).read_text()
    document = httpx.get(f"{url}/api/openapi.json", headers={"Authorization": f"Bearer {operator}"}).json()
    yield Site(url, operator, tokens[0], document, folder / "meterbridge.log")
    loop.call_soon_threadsafe(ended.set)
    thread.join(20)
    loop.close()


def takes_something(operation: Any) -> bool:
    """Whether there is anything that could be wrong."""
    return bool([*operation.path_parameters, *operation.query, *operation.body])


def each_case(site: Site, examples: int, check: Callable[[Any], None]) -> None:
    """Make requests of each operation, good ones and bad, and check what becomes of them."""
    print(f"API_SEED={SEED}")
    schema = schemathesis.openapi.from_dict(site.document)
    schema.config.update(base_url=site.url)
    results: list[Any] = list(schema.get_all_operations())
    operations = [result.ok() for result in results]
    assert len(operations) == len(site.operations())
    for operation in operations:
        if operation.path == ENDLESS:
            continue
        for mode in (schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE):
            cases = operation.as_strategy(generation_mode=mode)

            @seed(SEED)
            @settings(
                max_examples=examples,
                deadline=None,
                database=None,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            )
            @given(case=cases)
            def ask(case: Any) -> None:
                check(case)

            if mode is schemathesis.GenerationMode.POSITIVE or takes_something(operation):
                ask()


@pytest.mark.timeout(170)
def test_whatever_is_sent_there_is_no_500(site: Site) -> None:
    seen: set[int] = set()

    def check(case: Any) -> None:
        answer = case.call(headers={"Authorization": f"Bearer {site.operator}"}, timeout=30)
        seen.add(answer.status_code)
        assert answer.status_code != 500, (case.as_curl_command(), answer.text)
        case.validate_response(answer, checks=[response_schema_conformance, status_code_conformance])
        if answer.status_code >= 400:
            assert answer.headers["content-type"] == ["application/problem+json"]
            assert answer.json()["detail"]

    each_case(site, EXAMPLES, check)
    assert {200, 404, 422} <= seen


@pytest.mark.timeout(100)
def test_without_a_token_there_is_no_way_in(site: Site) -> None:
    def check(case: Any) -> None:
        answer = case.call(headers={"Authorization": "Bearer nonsense"}, timeout=30)
        if case.operation.path not in OPEN:
            assert answer.status_code in (401, 413), (case.as_curl_command(), answer.text)

    each_case(site, 3, check)


def test_every_answer_is_documented_with_an_example(site: Site) -> None:
    models = site.document["components"]["schemas"]
    for method, path in site.operations():
        for status, answer in site.document["paths"][path][method.lower()]["responses"].items():
            if path in (ENDLESS, "/metrics") or status == "204":
                continue
            [content] = answer["content"].values()
            model = models[content["schema"]["$ref"].rpartition("/")[2]]
            examples = model.get("examples") or [p.get("examples") for p in model["properties"].values()]
            assert all(examples), (method, path, status)
            for example in model.get("examples", ()):
                # FastAPI leaves null out of examples.
                missing = set(model.get("required", ())) - set(example)
                assert all("null" in str(model["properties"][name]) for name in missing), (method, path, missing)


def looks(viewer: httpx.Client) -> object:
    meters = viewer.get("/api/meters").json()["meters"]
    moving = ("last_seen", "last_error", "error_count", "status", "link", "troubles")
    acknowledged = [alarm["acknowledged_by"] for alarm in viewer.get("/api/alarms").json()["alarms"]]
    return [{key: value for key, value in meter.items() if key not in moving} for meter in meters], acknowledged


def test_a_viewer_can_change_nothing_whatever_there_is(site: Site) -> None:
    with httpx.Client(base_url=site.url, headers={"Authorization": f"Bearer {site.viewer}"}, timeout=20) as viewer:
        before = looks(viewer)
        changing = 0
        for method, path in site.operations():
            if path == ENDLESS:
                continue
            answer = viewer.request(method, path.replace("{id}", "1"), json={"name": "mine"})
            if method == "GET":
                assert answer.status_code != 403, path
            else:
                changing += 1
                assert answer.status_code == 403, (method, path, answer.text)
                assert "operator" in answer.json()["detail"]
        assert changing >= 8
        assert looks(viewer) == before


def test_no_answer_line_or_name_of_a_process_holds_a_secret(site: Site) -> None:
    body = {"name": "keyed", "ip_address": "127.0.0.1", "port": 1, "authentication": "hls-gmac"}
    body |= {"hls_secret": HLS_SECRET, "block_cipher_key": KEY, "authentication_key": KEY}
    body |= {"system_title": "4d42523030303031", "security_suite": 0, "tb_enabled": False}
    with httpx.Client(base_url=site.url, headers={"Authorization": f"Bearer {site.operator}"}, timeout=20) as operator:
        added = operator.post("/api/meters", json=body)
        number = added.json()["id"] if added.is_success else 1
        shown = [added.text, operator.post("/api/meters", json={**body, "port": 0}).text]
        for method, path in site.operations():
            if method == "GET" and path != ENDLESS:
                shown.append(operator.get(path.replace("{id}", str(number)), params={"from": 0, "to": 1}).text)
        shown.append(operator.post(f"/api/meters/{number}/test").text)
    assert added.is_success, added.text
    shown += [
        path.read_bytes().replace(b"\0", b" ").decode(errors="replace") for path in Path("/proc").glob("[0-9]*/cmdline")
    ]
    shown.append(site.log.read_text() if site.log.exists() else "")
    everything = "\n".join(shown)
    assert "keyed" in everything
    for secret in (SECRET, TB_TOKEN, HLS_SECRET, KEY, site.operator, site.viewer):
        assert secret not in everything, secret[:3]
