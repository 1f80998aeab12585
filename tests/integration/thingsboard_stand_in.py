"""A ThingsBoard server's REST API as far as Meterbridge uses it, with faults on demand.

Bodies are checked by the models of the official client package: what these do not know, or would change, is refused.
Readings come in over MQTT, at whoever stands in for its MQTT side: see `arrived`.
"""

from __future__ import annotations

import itertools
import json
import re
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs

import uvicorn
from tb_ce_client.models.alarm_rule_definition import AlarmRuleDefinition
from tb_ce_client.models.dashboard import Dashboard
from tb_ce_client.models.device import Device
from tb_ce_client.models.device_profile import DeviceProfile
from tb_ce_client.models.entity_relation import EntityRelation
from tb_ce_client.models.login_request import LoginRequest

USER, PASSWORD, API_KEY = "tenant@example.org", "opensesame-42", "api-key-0815"
TENANT = str(uuid.uuid5(uuid.NAMESPACE_DNS, "tenant"))
WRITES = ("POST", "PUT", "DELETE", "PATCH")
_LOGIN = ("/api/auth/login", "/api/auth/token")
Query = dict[str, str]
Body = Any


class Refusal(Exception):
    """An answer other than 200."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass
class Store:
    """What the server holds."""

    devices: dict[str, dict[str, Any]] = field(default_factory=dict)
    tokens: dict[str, str] = field(default_factory=dict)
    profiles: dict[str, dict[str, Any]] = field(default_factory=dict)
    dashboards: dict[str, dict[str, Any]] = field(default_factory=dict)
    rules: dict[str, dict[str, Any]] = field(default_factory=dict)
    relations: dict[tuple[str, str, str], dict[str, Any]] = field(default_factory=dict)
    attributes: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    telemetry: dict[str, dict[str, list[tuple[int, Any]]]] = field(default_factory=dict)


class StandIn:
    """The server.

    Args:
        port: loopback port.
        version: what it says it is; decides where alarm rules are.
    """

    def __init__(self, port: int, version: str = "4.4.0") -> None:
        self.port = port
        self.version = version
        self.authority = "TENANT_ADMIN"
        self.persists_activity = False
        self.hides_version = False
        self.asks_for_second_factor = False
        self.store = Store()
        self.requests: list[tuple[str, str]] = []
        self.fault: Callable[[int, str, str], str | None] = lambda index, method, path: None
        self.token_uses: int | None = None
        self.retry_after = "2"
        # Asked before telemetry is read: brings what came over MQTT meanwhile.
        self.pull: Callable[[], None] = lambda: None
        self._bearers: dict[str, int] = {}
        self._ids = itertools.count(1)
        self._server: uvicorn.Server | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def writes(self) -> list[tuple[str, str]]:
        """Requests that change something, logins aside."""
        return [(method, path) for method, path in self.requests if method in WRITES and path not in _LOGIN]

    async def __aenter__(self) -> StandIn:
        config = uvicorn.Config(self, "127.0.0.1", self.port, lifespan="off", log_level="critical", ws="none")
        self._server = uvicorn.Server(config)
        # Without its main loop, which looks only ten times a second whether it shall end.
        config.load()
        self._server.lifespan = config.lifespan_class(config)
        await self._server.startup()
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.force_exit = True
        await self._server.shutdown()

    # ---- what happens to it besides requests

    def arrived(self, device: str, content: Any) -> None:
        """Take telemetry of a device, as its MQTT side would: one point or many."""
        points = content if isinstance(content, list) else [content]
        series = self.store.telemetry.setdefault(self._device_named(device)["id"]["id"], {})
        for point in points:
            for key, value in point["values"].items():
                series.setdefault(key, []).append((point["ts"], value))

    def device_of(self, token: str) -> str | None:
        """Name of the device that has a token."""
        for id_, own in self.store.tokens.items():
            if own == token and id_ in self.store.devices:
                return str(self.store.devices[id_]["name"])
        return None

    def add_device(self, name: str, **more: Any) -> dict[str, Any]:
        """Make a device as a person would."""
        return dict(self._save_device({"name": name, "type": "default", **more}, {}))

    def snapshot(self) -> dict[str, Any]:
        """What it holds, without what differs from one run to the next: ids and tokens."""
        names = {
            id_: entity["name"] for kind in ("devices", "profiles") for id_, entity in vars(self.store)[kind].items()
        }

        def plain(value: Any) -> Any:
            if isinstance(value, dict):
                return {k: plain(v) for k, v in value.items() if k not in ("createdTime", "version")}
            if isinstance(value, list):
                return [plain(item) for item in value]
            return names.get(value, "an id" if _is_id(value) else value) if isinstance(value, str) else value

        store = self.store
        boards = [
            {"title": board["title"], "configuration": board["configuration"]} for board in store.dashboards.values()
        ]
        return {
            "devices": sorted((plain(d) for d in store.devices.values()), key=lambda d: str(d["name"])),
            "profiles": sorted((plain(p) for p in store.profiles.values()), key=lambda p: str(p["name"])),
            "rules": sorted((plain(r) for r in store.rules.values()), key=lambda r: str(r["name"])),
            "dashboards": boards,
            "relations": sorted((names[a], names[b], kind) for a, b, kind in store.relations),
            "attributes": sorted((names[id_], scope, values) for (id_, scope), values in store.attributes.items()),
        }

    # ---- HTTP

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        method, path = scope["method"], scope["path"]
        query = {name: values[0] for name, values in parse_qs(scope["query_string"].decode()).items()}
        content = b""
        while True:
            message = await receive()
            content += message.get("body", b"")
            if not message.get("more_body"):
                break
        index = len(self.requests)
        self.requests.append((method, path))
        fault = self.fault(index, method, path)
        if fault in ("429", "500", "401"):
            headers = [(b"retry-after", self.retry_after.encode())] if fault == "429" else []
            await _answer(send, int(fault), {"status": int(fault), "message": f"a fault of {fault}"}, headers)
            return
        if fault == "redirect":
            await _answer(send, 308, None, [(b"location", b"https://tb.example.org/")])
            return
        if fault == "cut":
            await _cut(send)
            return
        try:
            body = json.loads(content) if content else None
            status, answer = 200, self._handle(method, path, query, body, dict(scope["headers"]))
        except Refusal as refusal:
            status, answer = refusal.status, {"status": refusal.status, "message": str(refusal)}
        except (ValueError, KeyError, TypeError) as error:
            status, answer = 400, {"status": 400, "message": f"{type(error).__name__}: {error}"}
        if fault == "cut-after":
            await _cut(send)
            return
        await _answer(send, status, answer)

    def _handle(self, method: str, path: str, query: Query, body: Body, headers: dict[bytes, bytes]) -> Any:
        if path == "/api/auth/login":
            validated(LoginRequest, body)
            if (body["username"], body["password"]) != (USER, PASSWORD):
                raise Refusal(401, "Invalid username or password")
            return self._tokens()
        if path == "/api/auth/token":
            if not str(body["refreshToken"]).startswith("refresh-"):
                raise Refusal(401, "Invalid refresh token")
            return self._tokens()
        self._authorize(headers)
        for pattern, verbs in self._routes():
            found = re.fullmatch(pattern, path)
            if found is not None and method in verbs:
                return verbs[method](query, body, *found.groups())
        raise Refusal(404, f"no {method} {path}")

    def _tokens(self) -> dict[str, str]:
        number = next(self._ids)
        self._bearers[f"bearer-{number}"] = 0
        tokens = {"token": f"bearer-{number}", "refreshToken": f"refresh-{number}"}
        return {**tokens, "scope": "PRE_VERIFICATION_TOKEN"} if self.asks_for_second_factor else tokens

    def _authorize(self, headers: dict[bytes, bytes]) -> None:
        given = headers.get(b"x-authorization", b"").decode()
        if given == f"ApiKey {API_KEY}":
            return
        kind, _, token = given.partition(" ")
        if kind != "Bearer" or token not in self._bearers:
            raise Refusal(401, "Authentication failed")
        self._bearers[token] += 1
        if self.token_uses is not None and self._bearers[token] > self.token_uses:
            raise Refusal(401, "Token has expired")

    def _routes(self) -> list[tuple[str, dict[str, Callable[..., Any]]]]:
        old = self.version.startswith(("3.", "4.0", "4.1", "4.2"))
        tenant = self.authority == "TENANT_ADMIN"
        routes: list[tuple[str, dict[str, Callable[..., Any]]]] = [
            ("/api/auth/user", {"GET": lambda q, b: {"authority": self.authority, "email": USER}}),
            ("/api/system/info", {"GET": lambda q, b: {"version": "unknown" if self.hides_version else self.version}}),
            ("/api/system/params", {"GET": lambda q, b: {"persistDeviceStateToTelemetry": self.persists_activity}}),
        ]
        if not tenant:
            return [*routes, (".*", dict.fromkeys(("GET", *WRITES), _forbidden))]
        routes += [
            ("/api/device", {"POST": lambda q, b: self._save_device(validated(Device, b), q)}),
            ("/api/tenant/devices", {"GET": self._list_devices}),
            ("/api/tenant/device", {"GET": self._list_devices}),
            ("/api/device/([^/]+)", {"GET": self._get_device, "DELETE": self._delete_device}),
            ("/api/device/([^/]+)/credentials", {"GET": self._credentials}),
            ("/api/deviceProfile", {"POST": self._save_profile}),
            ("/api/deviceProfiles", {"GET": lambda q, b: _page(self.store.profiles, q)}),
            ("/api/deviceProfile/([^/]+)", {"GET": self._get_profile, "DELETE": self._delete_profile}),
            ("/api/dashboard", {"POST": self._save_dashboard}),
            ("/api/tenant/dashboards", {"GET": self._list_dashboards}),
            ("/api/dashboard/([^/]+)", {"GET": self._get_dashboard, "DELETE": self._delete_dashboard}),
            ("/api/relation", {"POST": self._relate, "GET": self._relation, "DELETE": self._unrelate}),
            ("/api/v2/relation", {"POST": self._relate, "DELETE": self._unrelate}),
            ("/api/plugins/telemetry/DEVICE/([^/]+)/values/timeseries", {"GET": self._timeseries}),
            ("/api/plugins/telemetry/DEVICE/([^/]+)/values/attributes(?:/([A-Z_]+))?", {"GET": self._attributes}),
            ("/api/plugins/telemetry/DEVICE/([^/]+)/attributes/([A-Z_]+)", {"POST": self._save_attributes}),
        ]
        if not old:
            routes += [
                ("/api/alarm/rules", {"GET": lambda q, b: _page(self.store.rules, q)}),
                ("/api/alarm/rules/([A-Z_]+)/([^/]+)", {"GET": self._rules_of}),
                ("/api/alarm/rule", {"POST": self._save_rule}),
                ("/api/alarm/rule/([^/]+)", {"GET": self._get_rule, "DELETE": self._delete_rule}),
            ]
        # An older server takes the last part for an alarm's id.
        return [*routes, ("/api/alarm/([^/]+)", {"GET": _no_uuid})]

    # ---- devices

    def _device_named(self, name: str) -> dict[str, Any]:
        for device in self.store.devices.values():
            if device["name"] == name:
                return device
        raise Refusal(404, "Device with such name wasn't found!")

    def _save_device(self, body: Body, query: Query) -> Any:
        if "id" in body:
            old = self._known(self.store.devices, body["id"]["id"])
            old.update(body)
            return old
        if any(device["name"] == body["name"] for device in self.store.devices.values()):
            raise Refusal(400, "Device with such name already exists!")
        token = query.get("accessToken") or f"TOKEN{next(self._ids):016d}"
        if token in self.store.tokens.values():
            raise Refusal(400, "Device credentials are already assigned to another device!")
        profile = self._profile_for(body)
        device = self._new("DEVICE", {**body, "deviceProfileId": profile["id"], "type": profile["name"]})
        self.store.devices[device["id"]["id"]] = device
        self.store.tokens[device["id"]["id"]] = token
        return device

    def _profile_for(self, body: Body) -> Any:
        if "deviceProfileId" in body:
            return self._known(self.store.profiles, body["deviceProfileId"]["id"])
        for profile in self.store.profiles.values():
            if profile["name"] == body.get("type", "default"):
                return profile
        return self._save_profile({}, {"name": body.get("type", "default"), "type": "DEFAULT"})

    def _list_devices(self, query: Query, _: Body) -> Any:
        if "deviceName" in query:
            return self._device_named(query["deviceName"])
        devices = {i: d for i, d in self.store.devices.items() if query.get("type") in (None, "", d["type"])}
        return _page(devices, query)

    def _get_device(self, _: Query, __: Body, id_: str) -> Any:
        return self._known(self.store.devices, id_)

    def _delete_device(self, _: Query, __: Body, id_: str) -> None:
        self._known(self.store.devices, id_)
        del self.store.devices[id_]
        for key in [key for key in self.store.relations if id_ in key]:
            del self.store.relations[key]
        for pair in [pair for pair in self.store.attributes if pair[0] == id_]:
            del self.store.attributes[pair]
        self.store.telemetry.pop(id_, None)

    def _credentials(self, _: Query, __: Body, id_: str) -> Any:
        self._known(self.store.devices, id_)
        device = {"entityType": "DEVICE", "id": id_}
        token = self.store.tokens[id_]
        if token.startswith("x509:"):
            return {
                "id": {"id": _id(id_)},
                "deviceId": device,
                "credentialsType": "X509_CERTIFICATE",
                "credentialsId": token,
            }
        return {"id": {"id": _id(id_)}, "deviceId": device, "credentialsType": "ACCESS_TOKEN", "credentialsId": token}

    # ---- profiles, rules, dashboards

    def _save_profile(self, _: Query, body: Body) -> Any:
        content = dict(body)
        data = dict(content.get("profileData") or {})
        alarms = data.pop("alarms", None)
        if data:
            content["profileData"] = data
        # Their models are of 4.4, which hides the alarms of a profile.
        validated(DeviceProfile, content)
        for alarm in alarms or []:
            check_profile_alarm(alarm)
        if "id" in body:
            old = self._known(self.store.profiles, body["id"]["id"])
            old.update(body)
            return old
        if any(profile["name"] == body["name"] for profile in self.store.profiles.values()):
            raise Refusal(400, "Device profile with such name already exists!")
        profile = self._new("DEVICE_PROFILE", body)
        self.store.profiles[profile["id"]["id"]] = profile
        return profile

    def _get_profile(self, _: Query, __: Body, id_: str) -> Any:
        return self._known(self.store.profiles, id_)

    def _delete_profile(self, _: Query, __: Body, id_: str) -> None:
        profile = self._known(self.store.profiles, id_)
        if any(device["type"] == profile["name"] for device in self.store.devices.values()):
            raise Refusal(400, "The device profile referenced by the devices cannot be deleted!")
        del self.store.profiles[id_]

    def _rules_of(self, query: Query, _: Body, kind: str, id_: str) -> Any:
        owner = {"entityType": kind, "id": id_}
        return _page({i: r for i, r in self.store.rules.items() if r["entityId"] == owner}, query)

    def _save_rule(self, _: Query, body: Body) -> Any:
        validated(AlarmRuleDefinition, body)
        if "id" in body:
            old = self._known(self.store.rules, body["id"]["id"])
            old.update(body)
            return old
        self._known(self.store.profiles, body["entityId"]["id"])
        rule = self._new("CALCULATED_FIELD", {**body, "configurationVersion": 1, "debugSettings": None})
        self.store.rules[rule["id"]["id"]] = rule
        return rule

    def _get_rule(self, _: Query, __: Body, id_: str) -> Any:
        return self._known(self.store.rules, id_)

    def _delete_rule(self, _: Query, __: Body, id_: str) -> None:
        self._known(self.store.rules, id_)
        del self.store.rules[id_]

    def _save_dashboard(self, _: Query, body: Body) -> Any:
        validated(Dashboard, body)
        if "id" in body:
            old = self._known(self.store.dashboards, body["id"]["id"])
            old.update(body)
            return old
        board = self._new("DASHBOARD", body)
        self.store.dashboards[board["id"]["id"]] = board
        return board

    def _list_dashboards(self, query: Query, _: Body) -> Any:
        infos = {i: {k: v for k, v in d.items() if k != "configuration"} for i, d in self.store.dashboards.items()}
        return _page(infos, query, "title")

    def _get_dashboard(self, _: Query, __: Body, id_: str) -> Any:
        return self._known(self.store.dashboards, id_)

    def _delete_dashboard(self, _: Query, __: Body, id_: str) -> None:
        self._known(self.store.dashboards, id_)
        del self.store.dashboards[id_]

    # ---- relations, attributes, telemetry

    def _relate(self, _: Query, body: Body) -> Any:
        validated(EntityRelation, body)
        for end in (body["from"], body["to"]):
            self._known(self.store.devices, end["id"])
        self.store.relations[body["from"]["id"], body["to"]["id"], body["type"]] = body
        return body

    def _relation(self, query: Query, _: Body) -> Any:
        found = self.store.relations.get((query["fromId"], query["toId"], query["relationType"]))
        if found is None or (query["fromType"], query["toType"]) != ("DEVICE", "DEVICE"):
            raise Refusal(404, "Requested item wasn't found!")
        return found

    def _unrelate(self, query: Query, _: Body) -> None:
        if self.store.relations.pop((query["fromId"], query["toId"], query["relationType"]), None) is None:
            raise Refusal(404, "Requested item wasn't found!")

    def _attributes(self, query: Query, _: Body, id_: str, scope: str | None) -> Any:
        self._known(self.store.devices, id_)
        keys = query["keys"].split(",") if "keys" in query else None
        held: dict[str, Any] = {"active": id_ in self.store.telemetry}
        for (owner, own), values in self.store.attributes.items():
            if owner == id_ and scope in (None, own):
                held.update(values)
        return [{"key": k, "value": v, "lastUpdateTs": 1} for k, v in held.items() if keys is None or k in keys]

    def _save_attributes(self, _: Query, body: Body, id_: str, scope: str) -> None:
        self._known(self.store.devices, id_)
        if scope not in ("SERVER_SCOPE", "SHARED_SCOPE"):
            raise Refusal(400, "Invalid scope")
        self.store.attributes.setdefault((id_, scope), {}).update(body)

    def _timeseries(self, query: Query, _: Body, id_: str) -> Any:
        self._known(self.store.devices, id_)
        self.pull()
        series = self.store.telemetry.get(id_, {})
        found: dict[str, Any] = {}
        for key in query["keys"].split(","):
            points = series.get(key, [])
            if "startTs" in query:
                inside = [p for p in points if int(query["startTs"]) <= p[0] < int(query["endTs"])]
                if inside:
                    found[key] = [
                        {"ts": ts, "value": str(value)} for ts, value in inside[: int(query.get("limit", 100))]
                    ]
            elif points:
                ts, value = max(points)
                found[key] = [{"ts": ts, "value": str(value)}]
            else:
                found[key] = [{"ts": 1_700_000_000_000, "value": None}]
        return found

    # ---- parts

    def _known(self, entities: dict[str, dict[str, Any]], id_: str) -> dict[str, Any]:
        if id_ not in entities:
            raise Refusal(404, "Requested item wasn't found!")
        return entities[id_]

    def _new(self, kind: str, body: Body) -> dict[str, Any]:
        id_ = str(uuid.uuid5(uuid.NAMESPACE_DNS, f"{self.port}-{next(self._ids)}"))
        return {
            **body,
            "id": {"entityType": kind, "id": id_},
            "createdTime": 1_700_000_000_000,
            "tenantId": {"entityType": "TENANT", "id": TENANT},
            "version": 1,
        }


def validated(model: Any, body: Body) -> Any:
    """Return a body that the official client's model takes whole.

    Raises:
        Refusal: the model refuses it, or would lose or change something of it.
    """
    try:
        parsed = model.from_dict(body)
    except (ValueError, KeyError, TypeError) as error:
        raise Refusal(400, f"{model.__name__}: {error}") from None
    back = json.loads(json.dumps(parsed.to_dict(), default=str))
    for where in _lost(body, back, model.__name__):
        raise Refusal(400, f"the official model does not keep {where}")
    return body


def _lost(sent: Any, kept: Any, where: str) -> Iterator[str]:
    if isinstance(sent, dict):
        for key, value in sent.items():
            if value is not None:
                yield from _lost(value, kept.get(key) if isinstance(kept, dict) else None, f"{where}.{key}")
    elif isinstance(sent, list):
        if not isinstance(kept, list) or len(kept) != len(sent):
            yield where
        else:
            for index, (a, b) in enumerate(zip(sent, kept, strict=True)):
                yield from _lost(a, b, f"{where}[{index}]")
    elif sent != kept:
        yield f"{where} ({sent!r} became {kept!r})"


def check_profile_alarm(alarm: Any) -> None:
    """Check an alarm of a device profile, the form up to 4.2.

    Raises:
        Refusal: a field is missing, unknown or of the wrong type.
    """
    known = {
        "id",
        "alarmType",
        "createRules",
        "clearRule",
        "propagate",
        "propagateToOwner",
        "propagateToTenant",
        "propagateRelationTypes",
    }
    if set(alarm) != known or not alarm["alarmType"] or not alarm["createRules"]:
        raise Refusal(400, f"alarm {alarm.get('alarmType')}: fields {sorted(set(alarm) ^ known)}")
    severities = {"CRITICAL", "MAJOR", "MINOR", "WARNING", "INDETERMINATE"}
    if not set(alarm["createRules"]) <= severities:
        raise Refusal(400, f"alarm {alarm['alarmType']}: severity")
    for rule in [*alarm["createRules"].values(), alarm["clearRule"]]:
        condition = rule["condition"]
        if set(rule) != {"condition", "schedule", "alarmDetails", "dashboardId"} or condition["spec"] != {
            "type": "SIMPLE"
        }:
            raise Refusal(400, f"alarm {alarm['alarmType']}: rule {rule}")
        for filter_ in condition["condition"]:
            kind, value = filter_["valueType"], filter_["predicate"]["value"]["defaultValue"]
            right = {"NUMERIC": (int, float), "BOOLEAN": (bool,), "STRING": (str,)}[kind]
            numeric = {"LESS", "GREATER", "LESS_OR_EQUAL", "GREATER_OR_EQUAL"}
            operations = numeric | {"EQUAL"} if kind == "NUMERIC" else {"EQUAL"}
            if (
                filter_["predicate"]["type"] != kind
                or not isinstance(value, right)
                or filter_["predicate"]["operation"] not in operations
                or filter_["key"]["type"] not in ("TIME_SERIES", "ATTRIBUTE")
            ):
                raise Refusal(400, f"alarm {alarm['alarmType']}: filter {filter_}")


@contextmanager
def failing(server: StandIn, fault: Callable[[int, str, str], str | None]) -> Iterator[None]:
    """Have a server fail; requests are counted anew from here."""
    server.requests.clear()
    server.fault = fault
    try:
        yield
    finally:
        server.fault = lambda index, method, path: None


def _page(entities: dict[str, dict[str, Any]], query: Query, searched: str = "name") -> Any:
    size, page = int(query["pageSize"]), int(query["page"])
    text = query.get("textSearch", "").lower()
    found = [entity for entity in entities.values() if text in str(entity[searched]).lower()]
    part = found[page * size : (page + 1) * size]
    return {
        "data": part,
        "totalPages": -(-len(found) // size),
        "totalElements": len(found),
        "hasNext": len(found) > (page + 1) * size,
    }


def _forbidden(*_: object) -> Any:
    raise Refusal(403, "You don't have permission to perform this operation!")


def _no_uuid(_: Query, __: Body, text: str) -> Any:
    raise Refusal(400, f"Invalid UUID string: {text}")


def _id(text: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_DNS, text))


def _is_id(text: str) -> bool:
    return re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", text) is not None


async def _answer(send: Any, status: int, body: Any, headers: list[tuple[bytes, bytes]] | None = None) -> None:
    content = b"" if body is None else json.dumps(body, default=str).encode()
    more = [(b"content-type", b"application/json"), (b"content-length", str(len(content)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": more + (headers or [])})
    await send({"type": "http.response.body", "body": content})


async def _cut(send: Any) -> None:
    """Break off in the middle of an answer."""
    headers = [(b"content-type", b"application/json"), (b"content-length", b"1000")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b'{"id":', "more_body": True})
    raise ConnectionAbortedError("a fault")
