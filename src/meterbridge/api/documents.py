"""What the API gives, for its OpenAPI document: the answers themselves are built as plain dictionaries."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict

_NOW = 1_762_857_030_123
_METER: dict[str, Any] = {
    "id": 1,
    "name": "Main",
    "ip_address": "192.0.2.10",
    "port": 3333,
    "client_id": 1,
    "server_id": 1,
    "framing": "hdlc",
    "model": "microstar",
    "status": "active",
    "has_password": True,
    "tb_enabled": True,
    "tb_host": "127.0.0.1",
    "tb_port": 1884,
    "has_tb_token": False,
    "tb_device_name": None,
    "last_seen": _NOW,
    "last_error": None,
    "error_count": 0,
    "run_state": "running",
    "link": "associated",
    "troubles": [],
}
_VALUES: dict[str, Any] = {"voltage_l1": {"value": 230.1, "unit": "V"}, "active_power": {"value": 181.5, "unit": "W"}}
_READING: dict[str, Any] = {"meter": 1, "ts": _NOW, "values": _VALUES, "errors": {}}
_ALARM: dict[str, Any] = {
    "id": 7,
    "meter": 1,
    "type": "connection_loss",
    "severity": "critical",
    "message": "3 failures in a row, the last: 192.0.2.10:3333 refused the connection: nothing listens there",
    "created_at": _NOW,
    "resolved_at": None,
    "acknowledged_at": None,
    "acknowledged_by": None,
}
_ACTION: dict[str, Any] = {
    "diagnosis": "port_closed",
    "severity": "critical",
    "what": "192.0.2.10 refuses port 3333 of Main",
    "since": _NOW,
    "meters": [1],
    "evidence": ["within 15 min: 9 × ConnectFailed"],
    "cause": "The host is there and nothing listens: a wrong port, the meter's mains or its interface is off.",
    "commands": ["nc -zv 192.0.2.10 3333", "meterbridge edit 1 --port PORT", "meterbridge test 1"],
    "check": "`meterbridge test 1` gives values.",
}
_CHECK: dict[str, Any] = {
    "name": "success_rate",
    "level": "ok",
    "measured": "99.9 %",
    "target": "≥ 99 %",
    "value": 99.9,
    "detail": "",
}


def _like(example: dict[str, Any]) -> ConfigDict:
    return ConfigDict(extra="allow", json_schema_extra={"examples": [example]})


class MeterAnswer(BaseModel):
    """A meter with its state; secrets are never in it, only whether there are any."""

    model_config = _like(_METER)

    id: int
    name: str
    ip_address: str
    port: int
    client_id: int
    server_id: int
    framing: str
    model: str
    status: str
    has_password: bool
    tb_enabled: bool
    tb_host: str
    tb_port: int
    has_tb_token: bool
    tb_device_name: str | None
    last_seen: int | None
    last_error: str | None
    error_count: int
    run_state: str | None
    link: str | None
    troubles: list[str]


class MetersAnswer(BaseModel):
    """All meters, and rows that cannot be used."""

    model_config = _like({"meters": [_METER], "problems": [{"id": 2, "name": "bad", "problem": "port must be …"}]})

    meters: list[MeterAnswer]
    problems: list[dict[str, Any]]


class ReadingAnswer(BaseModel):
    """A reading: quantities by name, and why the rest is missing; `ts` in Unix milliseconds."""

    model_config = _like(_READING)

    meter: int
    ts: int
    values: dict[str, dict[str, Any]]
    errors: dict[str, str]


class StatusAnswer(MeterAnswer):
    """A meter with counters since the service started and the newest reading."""

    model_config = _like({**_METER, "counters": {"polls": 60, "successes": 60, "failures": 0}, "reading": _READING})

    counters: dict[str, Any] | None
    reading: ReadingAnswer | None


class LinesAnswer(BaseModel):
    """Lines of the structured log, oldest first."""

    model_config = _like(
        {"lines": [{"timestamp": "2025-11-11T10:30:30Z", "level": "info", "event": "meter_connected"}]}
    )

    lines: list[dict[str, Any]]


class MetricsAnswer(BaseModel):
    """Rows of `meter_metrics`."""

    model_config = _like(
        {
            "metrics": [
                {
                    "timestamp": _NOW,
                    "meter": 1,
                    "success_rate": 100.0,
                    "mqtt_rate": 100.0,
                    "avg_latency": 80.2,
                    "reconnections": 0,
                    "hdlc_errors": 0,
                }
            ]
        }
    )

    metrics: list[dict[str, Any]]


class TestAnswer(BaseModel):
    """What a test gave."""

    model_config = _like(
        {
            "meter": 1,
            "ok": True,
            "connected": False,
            "latency_ms": 80.2,
            "firmware_version": "1.02",
            "values": _VALUES,
            "errors": {},
            "error": None,
        }
    )

    meter: int
    ok: bool
    connected: bool
    latency_ms: float | None
    firmware_version: str | None
    values: dict[str, dict[str, Any]]
    errors: dict[str, str]
    error: str | None


class BackfillAnswer(BaseModel):
    """How much of a time is still to be read back."""

    model_config = _like({"meter": 1, "from": _NOW - 3_600_000, "to": _NOW, "missing_ms": 0})

    meter: int
    missing_ms: int


class HealthAnswer(BaseModel):
    """How the meters did over a window, each and all together."""

    model_config = _like(
        {
            "since": _NOW - 3_600_000,
            "until": _NOW,
            "meters": [],
            "success_rate": 99.9,
            "mqtt_rate": 100.0,
            "avg_latency": 80.2,
            "reconnections": 1,
            "hdlc_errors": 0,
            "open_alarms": 0,
        }
    )

    since: int
    until: int
    meters: list[dict[str, Any]]
    success_rate: float | None
    mqtt_rate: float | None
    avg_latency: float | None
    reconnections: int
    hdlc_errors: int
    open_alarms: int


class QualityAnswer(BaseModel):
    """All checks, and the worst of them."""

    model_config = _like({"at": _NOW, "level": "ok", "running": True, "checks": [_CHECK]})

    at: int
    level: str
    running: bool
    checks: list[dict[str, Any]]


class PlanAnswer(BaseModel):
    """What to do, most urgent first; no actions when nothing is wrong."""

    model_config = _like({"at": _NOW, "running": True, "meters": 1, "actions": [_ACTION]})

    at: int
    running: bool
    meters: int
    actions: list[dict[str, Any]]


class OutboxAnswer(BaseModel):
    """What waits to be delivered, and over which routes."""

    model_config = _like(
        {
            "rows": 12,
            "octets": 1_440,
            "pending": 0,
            "committed": 86_400,
            "quarantined": 0,
            "dropped": 0,
            "losses": [],
            "failing": False,
            "routes": [{"route": "broker:127.0.0.1:1884", "connected": True, "reason": "", "acknowledged": 86_388}],
        }
    )

    rows: int
    octets: int
    pending: int
    committed: int
    quarantined: int
    dropped: int
    failing: bool
    routes: list[dict[str, Any]]


class AlarmsAnswer(BaseModel):
    """Alarms, oldest first; `resolved_at` is null while one is open."""

    model_config = _like({"alarms": [_ALARM]})

    alarms: list[dict[str, Any]]


class AcknowledgedAnswer(BaseModel):
    """Who has seen an alarm."""

    model_config = _like({"id": 7, "acknowledged_by": "ann"})

    id: int
    acknowledged_by: str


class FineAnswer(BaseModel):
    """All is well."""

    model_config = _like({"status": "ok"})

    status: str


def gives(model: type[BaseModel], status: int = 200) -> dict[str, Any]:
    """Return what a route is told to document its answer; the answer is not checked against it at run time."""
    responses = {status: {"model": model, "description": (model.__doc__ or "").partition("\n")[0]}}
    return {"response_model": None, "responses": responses}
