"""A device that makes itself known by the server's provision key: what it sends, and what it is told. Pure."""

from __future__ import annotations

import json

from meterbridge.errors import CommandRefused

USER_NAME = "provision"
REQUEST_TOPIC = "/provision/request"
RESPONSE_TOPIC = "/provision/response"
_LONGEST_TOKEN = 100


def request(device: str, key: str, secret: str) -> bytes:
    """Encode the request for a device of this name."""
    names = {"deviceName": device, "provisionDeviceKey": key, "provisionDeviceSecret": secret}
    return json.dumps(names, separators=(",", ":")).encode()


def token(payload: bytes) -> str:
    """Return the access token that an answer gives.

    Raises:
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
        raise CommandRefused(
            "the server refuses (FAILURE): a device of this name exists already, or the profile's provision strategy"
            " does not allow it"
        )
    if status != "SUCCESS":
        raise CommandRefused(f"the server's answer has the status {str(status)[:40]!r}")
    kind, value = content.get("credentialsType"), content.get("credentialsValue")
    if kind != "ACCESS_TOKEN":
        raise CommandRefused(f"the server gives credentials of the type {str(kind)[:40]!r}, not ACCESS_TOKEN")
    if not isinstance(value, str) or not 0 < len(value) <= _LONGEST_TOKEN or not value.isprintable():
        raise CommandRefused("the server gives a token that is none")
    return value
