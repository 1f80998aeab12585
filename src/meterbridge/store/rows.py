"""Rows of `meters` to `model.Meter` and back, with every value checked on both ways."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from meterbridge.errors import ConfigurationError
from meterbridge.meter import counter_object_of, credentials_of
from meterbridge.meter.configured import GENERAL_KEYS, MECHANISMS, POLICIES
from meterbridge.model import Meter, MeterId
from meterbridge.store.secrets import Vault, is_encrypted

STATUSES = ("active", "inactive", "error")
FRAMINGS = ("hdlc", "wrapper", "wrapper-udp")
REFERENCINGS = ("ln", "sn")
_HEX = re.compile(r"[0-9A-Fa-f]+")
_HOST = re.compile(r"[A-Za-z0-9._:%-]+")
# What a resolver takes for an IPv4 address, never for a name.
_DIGITS_LAST = re.compile(r"(.*\.)?[0-9]+\.?")
SECRETS = (
    *("password", "tb_token", "hls_secret", "block_cipher_key", "authentication_key", "master_key"),
    *("signing_key", "agreement_key"),
)
"""Columns of `meters` that are encrypted."""
FLAGS = ("tb_enabled", "relay_allowed", "general_ciphering", "dedicated_key", "signed")
"""Columns of `meters` that are yes or no."""
_EMPTY_IS_NONE = (
    *("tb_token", "tb_device_name", "authentication", "hls_secret", "system_title", "meter_system_title"),
    *("block_cipher_key", "authentication_key", "security_policy", "signing_key", "meter_signing_key"),
    *("general_key", "master_key", "agreement_key", "meter_agreement_key", "counter_object"),
)
_PEM = ("signing_key", "meter_signing_key", "agreement_key", "meter_agreement_key")
_KEY_DIGITS = (32, 64)
_LONGEST_PEM = 10_000
FOR_NULL: Mapping[str, object] = {
    "tb_host": "127.0.0.1",
    "tb_port": 1884,
    "password": "",
    "tb_enabled": 0,
    "relay_allowed": 0,
}
"""What an old installation means by NULL, which its tables allow here."""

COLUMNS = tuple(Meter.__dataclass_fields__)
"""Columns of `meters` that configure a meter; the others record what happened to it."""


def meter_from_row(row: sa.RowMapping, vault: Vault | None = None) -> Meter:
    """Make a Meter of a row.

    Args:
        row: raw values of the columns, as the driver gives them; an old installation's may hold anything.
        vault: decrypts what is encrypted.

    Raises:
        ConfigurationError: a column holds what it must not; the sentence names column and value, never a secret.
    """
    values: dict[str, Any] = {column: row[column] for column in COLUMNS}
    for column, default in FOR_NULL.items():
        if values[column] is None:
            values[column] = default
    for column in FLAGS:
        values[column] = _flag(column, values[column])
    for column in SECRETS:
        if isinstance(values[column], str) and is_encrypted(values[column]):
            if vault is None:
                raise ConfigurationError(f"{column} is encrypted and no key was given")
            values[column] = vault.decrypt(values[column], column)
    for column in _EMPTY_IS_NONE:
        values[column] = values[column] or None
    meter = Meter(**{**values, "id": MeterId(values["id"])})
    check_meter(meter)
    return meter


def row_from_meter(meter: Meter, vault: Vault | None = None) -> dict[str, object]:
    """Make a row of a Meter, without its id; its secrets encrypted where there is a vault.

    Raises:
        ConfigurationError: as `check_meter`, or no key can be had.
    """
    check_meter(meter)
    row = {column: getattr(meter, column) for column in COLUMNS if column != "id"}
    if vault is not None:
        for column in SECRETS:
            if row[column]:
                row[column] = vault.encrypt(row[column], column)
    return row


def check_meter(meter: Meter) -> None:
    """Check every value of a meter.

    Raises:
        ConfigurationError: the first that is wrong, and what is allowed.
    """
    _text("name", meter.name, 1, 100)
    _text("ip_address", meter.ip_address, 1, 255)
    if not _HOST.fullmatch(meter.ip_address) or not _is_address_or_name(meter.ip_address):
        raise ConfigurationError(f"ip_address must be an address or a host name, not {meter.ip_address!r}")
    _text("password", meter.password, 0, 50)
    _text("model", meter.model, 1, 50)
    _one_of("status", meter.status, STATUSES)
    _one_of("framing", meter.framing, FRAMINGS)
    _whole("port", meter.port, 1, 65_535)
    # HDLC: a one-octet client address, and 14 bits for the upper and for the lower server address.
    hdlc = meter.framing == "hdlc"
    _whole("client_id", meter.client_id, 1, 127 if hdlc else 65_535)
    _whole("server_id", meter.server_id, 0, 16_383 if hdlc else 65_535)
    if meter.physical is not None:
        _whole("physical", meter.physical, 0, 16_383)
    _text("tb_host", meter.tb_host, 1, 100)
    _whole("tb_port", meter.tb_port, 1, 65_535)
    if meter.tb_token is not None:
        _text("tb_token", meter.tb_token, 1, 100)
    if meter.tb_device_name is not None:
        _text("tb_device_name", meter.tb_device_name, 1, 100)
    _check_security(meter)


def _check_security(meter: Meter) -> None:
    if meter.authentication is not None:
        _one_of("authentication", meter.authentication, tuple(MECHANISMS))
    if meter.security_policy is not None:
        _one_of("security_policy", meter.security_policy, tuple(POLICIES))
    if meter.general_key is not None:
        _one_of("general_key", meter.general_key, tuple(GENERAL_KEYS))
    _whole("security_suite", meter.security_suite, 0, 2)
    _one_of("referencing", meter.referencing, REFERENCINGS)
    for column in ("general_ciphering", "dedicated_key", "signed"):
        _flag(column, getattr(meter, column))
    for column in ("system_title", "meter_system_title"):
        _hex(column, getattr(meter, column), (16,))
    for column in ("block_cipher_key", "authentication_key", "master_key"):
        _hex(column, getattr(meter, column), _KEY_DIGITS)
    if meter.hls_secret is not None:
        _text("hls_secret", meter.hls_secret, 1, 64)
    for column in _PEM:
        pem = getattr(meter, column)
        if pem is not None and not (isinstance(pem, str) and pem.startswith("-----BEGIN") and len(pem) < _LONGEST_PEM):
            raise ConfigurationError(f"{column} must be a key in PEM")
    if meter.counter_object is not None:
        _text("counter_object", meter.counter_object, 1, 32)
        counter_object_of(meter)
    # That each fits does not say that they fit together.
    credentials_of(meter)


def _is_address_or_name(host: str) -> bool:
    if not _DIGITS_LAST.fullmatch(host):
        return True
    try:
        ipaddress.IPv4Address(host)
    except ValueError:
        return False
    return True


def _text(column: str, value: object, shortest: int, longest: int) -> None:
    shown = "" if column in SECRETS else f", not {_short(value)}"
    if not isinstance(value, str) or not shortest <= len(value) <= longest or (shortest and not value.strip()):
        raise ConfigurationError(f"{column} must be text of {shortest} to {longest} characters{shown}")
    if column not in SECRETS and not value.isprintable():
        raise ConfigurationError(f"{column} must be printable text{shown}")


def _whole(column: str, value: object, low: int, high: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise ConfigurationError(f"{column} must be a whole number from {low} to {high}, not {_short(value)}")


def _one_of(column: str, value: object, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ConfigurationError(f"{column} must be one of {', '.join(choices)}, not {_short(value)}")


def _flag(column: str, value: object) -> bool:
    if isinstance(value, int) and value in (0, 1):
        return bool(value)
    raise ConfigurationError(f"{column} must be 0 or 1, not {_short(value)}")


def _hex(column: str, value: object, digits: tuple[int, ...]) -> None:
    if value is None:
        return
    if not isinstance(value, str) or len(value) not in digits or not _HEX.fullmatch(value):
        shown = "" if column in SECRETS else f", not {_short(value)}"
        raise ConfigurationError(f"{column} must be {' or '.join(map(str, digits))} hex digits{shown}")


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
