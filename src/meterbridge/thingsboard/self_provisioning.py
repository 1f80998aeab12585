"""A device that makes itself known by the server's provision key: what it sends, and what it is told. Pure."""

from __future__ import annotations

import json

from meterbridge.errors import CommandRefused

USER_NAME = "provision"
REQUEST_TOPIC = "/provision/request"
RESPONSE_TOPIC = "/provision/response"
_LONGEST_TOKEN = 100


class DeviceRefused(CommandRefused):
    """The server makes no device of this name: most likely there is one."""


def request(device: str, key: str, secret: str, token: str | None) -> bytes:
    """Encode the request for a device of this name, and its access token; the server chooses one where it is None."""
    names = {"deviceName": device, "provisionDeviceKey": key, "provisionDeviceSecret": secret}
    if token is not None:
        names |= {"credentialsType": "ACCESS_TOKEN", "token": token}
    return json.dumps(names, separators=(",", ":")).encode()


def token(payload: bytes) -> str:
    """Return the access token that an answer gives.

    Raises:
        DeviceRefused: there is a device of this name already, or may not be one.
        CommandRefused: the server refuses, or gives something else; never holds the token.
    """
    try:
        content = json.loads(payload)
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        raise CommandRefused("the server's answer is no JSON object")
    status = content.get("status")
    if status == "NOT_FOUND":
        raise CommandRefused("the server knows no device profile with this provision key and secret (NOT_FOUND)")
    if status == "FAILURE":
        raise DeviceRefused(
            "the server refuses (FAILURE): a device of this name exists already (delete it there, or give its token to"
            " `meterbridge edit` in METER_TB_TOKEN), or the profile's provision strategy does not allow it"
        )
    if status != "SUCCESS":
        raise CommandRefused(f"the server's answer has the status {str(status)[:40]!r}")
    kind, value = content.get("credentialsType"), content.get("credentialsValue")
    if kind != "ACCESS_TOKEN":
        raise CommandRefused(f"the server gives credentials of the type {str(kind)[:40]!r}, not ACCESS_TOKEN")
    if not isinstance(value, str) or not 0 < len(value) <= _LONGEST_TOKEN or not value.isprintable():
        raise CommandRefused("the server gives a token that is none")
    return value
