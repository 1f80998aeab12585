"""What ThingsBoard asks of a device, and how it is answered. Pure: topics and octets in, values out, and back."""

from __future__ import annotations

import datetime as dt
import json
import math
from dataclasses import dataclass
from typing import Any

from meterbridge.errors import CommandRefused

GATEWAY_TOPICS = ("v1/gateway/rpc", "v1/gateway/attributes", "v1/gateway/attributes/response")
DEVICE_TOPICS = ("v1/devices/me/rpc/request/+", "v1/devices/me/attributes", "v1/devices/me/attributes/response/+")
BROKER_TOPICS = ("v1/devices/+/rpc/request/+", "v1/devices/+/attributes/shared/+")
"""What tb-gateway publishes, configured by `gateway_files`."""

SHARED_KEYS = ("pollInterval", "measurements")
"""Shared attributes that mean something to us."""
REPORTED_ERROR = "pollIntervalError"
"""Client attribute that is always told back along with them."""

_MOST_ANSWER = 65_000
_LATEST_MS = 4_102_444_800_000
# What tb-gateway writes where a request had no params.
_NO_PARAMS = "${params}"
_dumps = json.JSONEncoder(allow_nan=False, separators=(",", ":")).encode


@dataclass(frozen=True, slots=True)
class Call:
    """One server-side RPC.

    Args:
        device: whose, None for the one that the connection belongs to.
        id: by which ThingsBoard knows it; unique for the device as long as the server runs.
        method: as sent.
        params: as sent.
        answer_topic: where the answer goes.
        wrapped: whether device and id belong into the answer.
    """

    device: str | None
    id: int | str
    method: str
    params: object
    answer_topic: str
    wrapped: bool = False


@dataclass(frozen=True, slots=True)
class SharedAttributes:
    """Shared attributes of a device, or a change of some.

    Args:
        device: whose, None for the one that the connection belongs to.
        values: by name, those that mean something to us; None for one that was deleted.
    """

    device: str | None
    values: dict[str, object]


@dataclass(frozen=True, slots=True)
class ReadNow:
    """Poll once more."""


@dataclass(frozen=True, slots=True)
class GetValue:
    """Read something: a measurement's name, an OBIS code, or `CLASS:OBIS:ATTRIBUTE`."""

    what: str


@dataclass(frozen=True, slots=True)
class SyncClock:
    """Set the meter's clock to ours."""


@dataclass(frozen=True, slots=True)
class SetRelay:
    """Connect or disconnect the customer."""

    on: bool


@dataclass(frozen=True, slots=True)
class Pause:
    """Stop polling."""


@dataclass(frozen=True, slots=True)
class Resume:
    """Poll again."""


@dataclass(frozen=True, slots=True)
class Backfill:
    """Read a time of the load profile back: Unix milliseconds, the end not included."""

    start: int
    end: int


Command = ReadNow | GetValue | SyncClock | SetRelay | Pause | Resume | Backfill
CHANGING = ("syncClock", "setRelay", "pause", "resume", "backfill")
METHODS = ("readNow", "getValue", *CHANGING)


def understood(topic: str, payload: bytes) -> Call | SharedAttributes | None:
    """Tell what a message is; None for one that asks for nothing of ours.

    Raises:
        CommandRefused: it is malformed, in a way that leaves nobody to answer to.
    """
    levels = topic.split("/")
    if topic == "v1/gateway/rpc":
        return _gateway_call(payload)
    if topic == "v1/gateway/attributes":
        content = _object(payload)
        return _shared(_name(content.get("device")), content.get("data"))
    if topic == "v1/gateway/attributes/response":
        content = _object(payload)
        # Of two keys asked for, those that are not set are left out.
        return _shared(_name(content.get("device")), content.get("values"), complete=True)
    if levels[:2] != ["v1", "devices"] or len(levels) < 4:
        return None
    device = None if levels[2] == "me" else levels[2]
    if levels[3:5] == ["rpc", "request"] and len(levels) == 6:
        return _device_call(device, levels[5], payload)
    if device is not None:
        if levels[3:5] == ["attributes", "shared"] and len(levels) == 6:
            return _shared(device, {levels[5]: _loose(payload)})
    elif levels[3:] == ["attributes"]:
        return _shared(None, _object(payload))
    elif levels[3:5] == ["attributes", "response"]:
        return _shared(None, _object(payload).get("shared", {}), complete=True)
    return None


def command(call: Call, now: float, zone: dt.tzinfo | None = None) -> Command:
    """Tell what a call wants done.

    Args:
        call: as it came.
        now: Unix time, seconds.
        zone: of times without one; None is this machine's.

    Raises:
        CommandRefused: an unknown method, or parameters that are not what it takes.
    """
    params = None if call.params in ("", _NO_PARAMS) else call.params
    match call.method:
        case "readNow":
            return ReadNow(*_nothing(call.method, params))
        case "syncClock":
            return SyncClock(*_nothing(call.method, params))
        case "pause":
            return Pause(*_nothing(call.method, params))
        case "resume":
            return Resume(*_nothing(call.method, params))
        case "getValue":
            return GetValue(_what(params))
        case "setRelay":
            on = _fields("setRelay", params, ("on",))["on"] if isinstance(params, dict) else params
            if not isinstance(on, bool):
                raise CommandRefused('setRelay takes {"on": true} or {"on": false}')
            return SetRelay(on)
        case "backfill":
            return _backfill(params, now, zone)
    if not call.method:
        raise CommandRefused("the request is no JSON object with a method")
    raise CommandRefused(f"there is no method {_short(call.method)}; there are {', '.join(METHODS)}")


def described(command: Command) -> tuple[str, dict[str, object]]:
    """Return a command's method and parameters, for people."""
    match command:
        case GetValue(what):
            return "getValue", {"obis": what}
        case SetRelay(on):
            return "setRelay", {"on": on}
        case Backfill(start, end):
            return "backfill", {"from": start, "to": end}
    return type(command).__name__[0].lower() + type(command).__name__[1:], {}


def answer(call: Call, body: dict[str, Any]) -> tuple[str, bytes]:
    """Return topic and payload of an answer: a method's result, or `{"error": text}`."""
    text = _encoded(call, body)
    if len(text) > _MOST_ANSWER:
        text = _encoded(call, failure(f"the answer has {len(text)} octets, more than a message takes"))
    return call.answer_topic, text


def failure(reason: str) -> dict[str, Any]:
    """The body of an answer that says why something was not done."""
    return {"error": reason}


def plain(value: object) -> object:
    """A read value as JSON can hold it: what it cannot is written as text."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return bytes(value).hex() if isinstance(value, (bytes, bytearray)) else str(value)


def asks_for_shared(device: str | None, number: int) -> tuple[str, bytes]:
    """Return topic and payload of a request for the shared attributes of a device.

    Args:
        device: name, on the gateway API; None on the device API.
        number: tells answers apart.
    """
    if device is None:
        return f"v1/devices/me/attributes/request/{number}", _bytes({"sharedKeys": ",".join(SHARED_KEYS)})
    body = {"id": number, "device": device, "client": False, "keys": list(SHARED_KEYS)}
    return "v1/gateway/attributes/request", _bytes(body)


# ---- requests


def _gateway_call(payload: bytes) -> Call | None:
    content = _object(payload)
    data = content.get("data")
    if not isinstance(data, dict) or "id" not in data:
        raise CommandRefused("an RPC without data or id")
    number = data["id"]
    if not isinstance(number, (int, str)) or isinstance(number, bool) or len(str(number)) > 64:
        raise CommandRefused("an RPC with an id that is neither a number nor a short text")
    device = _name(content.get("device"))
    return Call(device, number, _method(data), data.get("params"), "v1/gateway/rpc", wrapped=True)


def _device_call(device: str | None, number: str, payload: bytes) -> Call:
    topic = f"v1/devices/{device or 'me'}/rpc/response/{number}"
    try:
        content = _object(payload)
    except CommandRefused:
        # Who asks is known, so he is told.
        return Call(device, number, "", None, topic)
    return Call(device, number, _method(content), content.get("params"), topic)


def _method(content: dict[str, Any]) -> str:
    method = content.get("method")
    return method if isinstance(method, str) else ""


def _shared(device: str | None, values: object, *, complete: bool = False) -> SharedAttributes:
    if not isinstance(values, dict):
        raise CommandRefused("shared attributes that are no JSON object")
    if REPORTED_ERROR in values:
        # What we told ourselves, sent back by a plain broker: it would nail down what is merely configured.
        return SharedAttributes(device, {})
    found: dict[str, object] = dict.fromkeys(SHARED_KEYS) if complete else {}
    deleted = values.get("deleted")
    if isinstance(deleted, list):
        found.update({key: None for key in SHARED_KEYS if key in deleted})
    found.update({key: values[key] for key in SHARED_KEYS if key in values})
    return SharedAttributes(device, found)


def _name(device: object) -> str:
    if not isinstance(device, str) or not device:
        raise CommandRefused("a message that names no device")
    return device


def _object(payload: bytes) -> dict[str, Any]:
    content = _loaded(payload)
    if not isinstance(content, dict):
        raise CommandRefused("a message that is no JSON object")
    return content


def _loaded(payload: bytes) -> object:
    try:
        return json.loads(payload, parse_constant=_no_number)
    except (ValueError, RecursionError):
        # Nested too deeply is not JSON of anybody's either.
        raise CommandRefused("a message that is no JSON") from None


def _no_number(text: str) -> float:
    raise ValueError(text)


def _loose(payload: bytes) -> object:
    """A single attribute, as tb-gateway writes it: text has no quotes."""
    try:
        return _loaded(payload)
    except CommandRefused:
        return payload.decode("utf-8", "replace")


# ---- parameters


def _nothing(method: str, params: object) -> tuple[()]:
    if params is not None and params != {}:
        raise CommandRefused(f"{method} takes no parameters")
    return ()


def _fields(method: str, params: object, known: tuple[str, ...]) -> dict[str, Any]:
    if not isinstance(params, dict):
        raise CommandRefused(f"{method} takes an object with {', '.join(known)}")
    unknown = sorted(str(key) for key in params if key not in known)
    if unknown:
        raise CommandRefused(f"{method} takes {', '.join(known)}, not {_short(unknown[0])}")
    return {key: params.get(key) for key in known}


def _what(params: object) -> str:
    if isinstance(params, str):
        return _text(params)
    fields = _fields("getValue", params, ("obis", "class", "attribute"))
    obis, class_id, attribute = _text(fields["obis"]), fields["class"], fields["attribute"]
    if class_id is None and attribute is None:
        return obis
    if not _whole(class_id) or not _whole(2 if attribute is None else attribute):
        raise CommandRefused("getValue takes class and attribute as whole numbers, attribute only along with class")
    return f"{class_id}:{obis}:{2 if attribute is None else attribute}"


def _text(value: object) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= 100:
        raise CommandRefused('getValue takes {"obis": "1-0:1.8.0"}, CLASS:OBIS:ATTRIBUTE or a measurement there')
    return value


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _backfill(params: object, now: float, zone: dt.tzinfo | None) -> Backfill:
    fields = _fields("backfill", params, ("from", "to"))
    if fields["to"] is None:
        fields["to"] = int(now * 1000)
    start, end = _instant(fields["from"], zone), _instant(fields["to"], zone)
    if start >= end:
        raise CommandRefused("backfill ends before it begins")
    return Backfill(start, end)


def _instant(value: object, zone: dt.tzinfo | None) -> int:
    if isinstance(value, str):
        try:
            when = dt.datetime.fromisoformat(value.strip())
            if when.tzinfo is None and zone is not None:
                when = when.replace(tzinfo=zone)
            value = round(when.timestamp() * 1000)
        except (ValueError, OverflowError):
            value = None
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _LATEST_MS:
        return value
    raise CommandRefused("backfill takes from and to as Unix milliseconds or as times such as 2026-01-31T12:00+01:00")


def _short(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:37] + "...")


# ---- answers


def _encoded(call: Call, body: dict[str, Any]) -> bytes:
    return _bytes({"device": call.device, "id": call.id, "data": body} if call.wrapped else body)


def _bytes(body: object) -> bytes:
    # tb-gateway makes a quote of every apostrophe before it reads an answer.
    return _dumps(body).replace("'", "\\u0027").encode()
