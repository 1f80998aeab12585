"""What travels between rooms: frozen values, no behaviour beyond their own arithmetic."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, NewType

MeterId = NewType("MeterId", int)
"""Primary key of the meter in the `meters` table."""
INSTALLATION = MeterId(0)
"""Stands where a meter would, for what belongs to none."""


def host_port(host: str, port: int) -> str:
    """Return `host:port` as people and URLs write it, an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


@dataclass(frozen=True, slots=True)
class Measurement:
    """One thing to read from a meter.

    Args:
        name: key under which it travels, e.g. `voltage_l1`.
        class_id: COSEM interface class, e.g. 3 for Register.
        logical_name: six dotted groups, e.g. `1.1.32.7.0.255`.
        attribute: attribute index, 2 for the value of most classes.
    """

    name: str
    class_id: int
    logical_name: str
    attribute: int = 2


class Quantity(NamedTuple):
    """A measured value with its unit. A tuple, because thousands a second are made.

    Args:
        value: scaled to `unit`; text, octets as hex and structures keep their decoded form.
        unit: symbol of the DLMS unit table (`V`, `A`, `Hz`, `W`, `Wh`), or None where the object has none.
        logical_name: where it was read, six dotted groups.
    """

    value: object
    unit: str | None
    logical_name: str


@dataclass(frozen=True, slots=True)
class Reading:
    """What one poll of one meter gave.

    Args:
        meter: whose it is.
        ts: when, Unix time in milliseconds.
        values: quantities by measurement name; what could not be read is not in it.
        errors: why, by measurement name, for what could not be read.
    """

    meter: MeterId
    ts: int
    values: Mapping[str, Quantity]
    errors: Mapping[str, str] = field(default_factory=dict)

    @property
    def why_empty(self) -> str:
        """One sentence where no object gave more than null-data; empty where one did."""
        for quantity in self.values.values():
            if quantity.value is not None:
                return ""
        reason = next((f"{name}: {error}" for name, error in self.errors.items()), "null-data only")
        return f"the meter answers, but no object gives a value ({reason})"


@dataclass(frozen=True, slots=True)
class Meter:
    """One meter as configured: how to reach it, what to ask it, where its readings go.

    Args:
        id: primary key.
        name: unique, for people, at most 100 characters.
        ip_address: host name or address.
        port: TCP port.
        client_id: client SAP (1 management, 16 public).
        server_id: logical device address of the server.
        password: LLS secret; empty means no authentication. Never shown by repr.
        status: `active`, `inactive` or `error`.
        model: catalogue entry, e.g. `generic`.
        framing: `hdlc` or `wrapper`.
        physical: HDLC lower (physical) address, or None for a one-octet server address.
        tb_enabled: whether readings are delivered.
        tb_host: MQTT host for its readings.
        tb_port: MQTT port.
        tb_token: ThingsBoard access token, None on the broker and gateway routes. Never shown by repr.
        tb_device_name: device name on the ThingsBoard side; None means `name`.
        relay_allowed: whether its relay may be switched from ThingsBoard.
        authentication: `none`, `low`, `hls-md5`, `hls-sha1`, `hls-gmac`, `hls-sha256` or `hls-ecdsa`; None is `low`
            with a password and `none` without.
        hls_secret: secret of HLS with MD5, SHA-1 and SHA-256; None takes the password. Never shown by repr.
        system_title: our own towards this meter, 16 hex digits.
        meter_system_title: the meter's, where it is known; another meter is refused.
        block_cipher_key: global unicast encryption key (EK), hex digits. Never shown by repr.
        authentication_key: global authentication key (AK), hex digits. Never shown by repr.
        security_suite: 0, 1 or 2.
        security_policy: `none`, `authenticated`, `encrypted` or `both`; None is `both` with a block cipher key.
        general_ciphering: general ciphering in place of service-specific.
        dedicated_key: whether each association has a key of its own.
        general_key: general-ciphering in place of both, with the key `identified`, `wrapped`, `one-pass` or
            `static-unified`; None or `none` is without.
        master_key: master key (KEK) that wraps others, hex digits. Never shown by repr.
        signed: whether every APDU is signed, and has to be.
        signing_key: our private key for signatures, PEM. Never shown by repr.
        meter_signing_key: the meter's public key or certificate for signatures, PEM.
        agreement_key: our private key for key agreement, PEM. Never shown by repr.
        meter_agreement_key: the meter's public key or certificate for key agreement, PEM.
        counter_object: OBIS code of the object that holds the invocation counter the meter received last; read by the
            public client before the first association. None asks only a meter that complains.
        referencing: `ln` for logical names, `sn` for short names.
    """

    id: MeterId
    name: str
    ip_address: str
    port: int = 3333
    client_id: int = 1
    server_id: int = 1
    password: str = field(default="00000000", repr=False)
    status: str = "active"
    model: str = "generic"
    framing: str = "hdlc"
    physical: int | None = None
    tb_enabled: bool = True
    tb_host: str = "127.0.0.1"
    tb_port: int = 1884
    tb_token: str | None = field(default=None, repr=False)
    tb_device_name: str | None = None
    relay_allowed: bool = False
    authentication: str | None = None
    hls_secret: str | None = field(default=None, repr=False)
    system_title: str | None = None
    meter_system_title: str | None = None
    block_cipher_key: str | None = field(default=None, repr=False)
    authentication_key: str | None = field(default=None, repr=False)
    security_suite: int = 0
    security_policy: str | None = None
    general_ciphering: bool = False
    dedicated_key: bool = False
    signing_key: str | None = field(default=None, repr=False)
    meter_signing_key: str | None = field(default=None, repr=False)
    general_key: str | None = None
    master_key: str | None = field(default=None, repr=False)
    signed: bool = False
    agreement_key: str | None = field(default=None, repr=False)
    meter_agreement_key: str | None = field(default=None, repr=False)
    counter_object: str | None = None
    referencing: str = "ln"

    @property
    def device_name(self) -> str:
        """Name of the device on the ThingsBoard side."""
        return self.tb_device_name or self.name
