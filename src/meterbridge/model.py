"""What travels between rooms: frozen values, no behaviour beyond their own arithmetic."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, NewType

MeterId = NewType("MeterId", int)
"""Primary key of the meter in the `meters` table."""


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

    @property
    def device_name(self) -> str:
        """Name of the device on the ThingsBoard side."""
        return self.tb_device_name or self.name
