"""Straight to ThingsBoard: many meters under a gateway's token, or one meter under its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from meterbridge.delivery.packing import MAX_PAYLOAD, by_device, in_a_row, merged, quoted
from meterbridge.delivery.routes import Endpoint, Message, Unsendable
from meterbridge.delivery.row import Kind, Row
from meterbridge.model import MeterId

_Pack = Callable[[Sequence[Row]], list[Message]]


class GatewayRoute:
    """ThingsBoard's gateway API: one token, many devices a message.

    Args:
        endpoint: the server, its user name the gateway device's token.
        device_type: device profile that new devices get.
        other_types: that of devices that are no meters, by name.
    """

    greets = True
    meter: MeterId | None = None

    def __init__(self, endpoint: Endpoint, device_type: str, other_types: Mapping[str, str] | None = None) -> None:
        self.endpoint = endpoint
        self.name = gateway_route_name(endpoint.host, endpoint.port)
        self._type = quoted(device_type)
        self._other_types = {device: quoted(type_) for device, type_ in (other_types or {}).items()}
        self._names: dict[str, bytes] = {}

    def pack(self, rows: Sequence[Row]) -> list[Message | Unsendable]:
        """As few messages as the bound allows; telemetry in order, attributes in order."""
        return _packed(
            rows,
            lambda readings: by_device("v1/gateway/telemetry", readings, self._names),
            lambda described: merged("v1/gateway/attributes", described, self._names),
        )

    def hello(self, device: str) -> Message:
        """`v1/gateway/connect`."""
        type_ = self._other_types.get(device, self._type)
        return Message("v1/gateway/connect", b'{"device":%b,"type":%b}' % (quoted(device), type_), ())

    def farewell(self, device: str) -> Message | None:
        """`v1/gateway/disconnect`."""
        self._names.pop(device, None)
        return Message("v1/gateway/disconnect", b'{"device":%b}' % quoted(device), ())


class DeviceRoute:
    """ThingsBoard's device API: a connection of the meter's own, with its own token.

    Args:
        endpoint: the server, its user name the device's token.
        meter: whose.
    """

    greets = False

    def __init__(self, endpoint: Endpoint, meter: MeterId) -> None:
        self.endpoint = endpoint
        self.meter: MeterId | None = meter
        self.name = device_route_name(endpoint.host, endpoint.port, meter)

    def pack(self, rows: Sequence[Row]) -> list[Message | Unsendable]:
        """A live reading by itself, a backlog as arrays."""
        return _packed(
            rows,
            lambda readings: in_a_row("v1/devices/me/telemetry", readings),
            lambda described: [Message("v1/devices/me/attributes", row.payload, (row,)) for row in described],
        )

    def hello(self, device: str) -> Message:
        """Never asked for."""
        raise NotImplementedError

    def farewell(self, device: str) -> Message | None:
        """The end of the connection says it."""
        return None


def _packed(rows: Sequence[Row], telemetry: _Pack, attributes: _Pack) -> list[Message | Unsendable]:
    packed: list[Message | Unsendable] = []
    readings: list[Row] = []
    described: list[Row] = []
    for row in rows:
        if len(row.payload) + len(row.device) * 4 > MAX_PAYLOAD:
            packed.append(Unsendable((row,), f"{len(row.payload)} octets are more than ThingsBoard takes in a message"))
        elif row.kind == Kind.TELEMETRY:
            readings.append(row)
        else:
            described.append(row)
    packed += attributes(described)
    packed += telemetry(readings)
    return packed


def gateway_route_name(host: str, port: int) -> str:
    """Name under which the rows for a gateway lie in the outbox."""
    return f"gateway:{host}:{port}"


def device_route_name(host: str, port: int, meter: MeterId) -> str:
    """Name under which the rows of a meter with a token of its own lie in the outbox; the token is not in it."""
    return f"device:{host}:{port}:{meter}"
