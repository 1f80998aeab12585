"""Which route a meter's readings take."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from meterbridge.delivery.routes import BrokerRoute, Endpoint, Route, Subscriptions, Tls, check_device_name
from meterbridge.delivery.thingsboard_routes import DeviceRoute, GatewayRoute
from meterbridge.errors import ConfigurationError
from meterbridge.model import Meter, MeterId


@dataclass(frozen=True, slots=True)
class RouteSettings:
    """What all routes have in common.

    Args:
        gateway_token: access token of the gateway device; None means that meters without a token of their own go
            through a broker. Never shown by repr.
        device_type: device profile that the gateway route announces.
        client_id_prefix: client identifiers begin with it.
        username: at a broker that asks for one.
        password: at a broker that asks for one. Never shown by repr.
        version: 4 for MQTT 3.1.1, 5 for MQTT 5.
        tls: None for plain TCP.
        keepalive_s: seconds between pings.
        subscriptions: what each kind of route is to hear.
        gateway_at: host and port of the server that knows the gateway; None means wherever a meter's readings go.
        other_types: device profile of devices that are no meters, by name; no meter may be called so.
    """

    gateway_token: str | None = field(default=None, repr=False)
    device_type: str = "dlms-meter"
    client_id_prefix: str = "meterbridge"
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    version: int = 4
    tls: Tls | None = None
    keepalive_s: int = 60
    subscriptions: Subscriptions = field(default_factory=Subscriptions)
    gateway_at: tuple[str, int] | None = None
    other_types: Mapping[str, str] = field(default_factory=dict)


class RouteBook:
    """Chooses: a meter with a token of its own takes the device route, the others the gateway or the broker route.

    Args:
        settings: what all routes have in common.
        is_present: whether a meter is still there; a token is free again when its meter has gone.
    """

    def __init__(self, settings: RouteSettings, is_present: Callable[[MeterId], bool]) -> None:
        self._settings = settings
        self._is_present = is_present
        self._shared: dict[str, Route] = {}
        # Those of earlier settings too: rows may wait there yet.
        self._shared_names: set[str] = set()
        self._holders: dict[str, Meter] = {}
        self._keys: dict[MeterId, str] = {}
        self._names: dict[MeterId, str] = {}

    def route_for(self, meter: Meter) -> Route:
        """The route of a meter, as it is configured now.

        Raises:
            ConfigurationError: its device name fits no topic or is taken, or another meter has the same token.
        """
        check_device_name(meter.device_name)
        if meter.device_name in self._settings.other_types:
            raise ConfigurationError(
                f"Meter {meter.name!r} would be device {meter.device_name!r}, which is Meterbridge's own: give it"
                " another tb_device_name, or change thingsboard.service_name."
            )
        if meter.tb_token is None:
            self._release(meter.id)
            route = self._shared_route(meter)
        else:
            route = self._own_route(meter, meter.tb_token)
        self._names[meter.id] = route.name
        return route

    def use(self, settings: RouteSettings) -> None:
        """Take over other settings; they hold for a meter from the next time its route is asked for."""
        if settings != self._settings:
            self._settings = settings
            self._shared.clear()

    def gateway_token_for(self, meter: Meter) -> str | None:
        """The gateway's token where a meter without one of its own takes the gateway route, else None."""
        settings = self._settings
        there = settings.gateway_at is None or settings.gateway_at == (meter.tb_host, meter.tb_port)
        return settings.gateway_token if there else None

    def name_of(self, meter: MeterId) -> str:
        """Name of the route that `route_for` gave last."""
        return self._names[meter]

    def forget(self, meter: MeterId) -> str | None:
        """Free what a meter held; the name of its own route, where it had one to itself."""
        self._release(meter)
        name = self._names.pop(meter, None)
        return None if name in self._shared_names else name

    def _release(self, meter: MeterId) -> None:
        token = self._keys.pop(meter, None)
        if token is not None and self._holders[token].id == meter:
            del self._holders[token]

    def _shared_route(self, meter: Meter) -> Route:
        settings = self._settings
        heard = settings.subscriptions
        endpoint = self._endpoint(meter.tb_host, meter.tb_port, f"{meter.tb_host}-{meter.tb_port}", heard.broker)
        route: Route
        token = self.gateway_token_for(meter)
        if token is None:
            route = BrokerRoute(endpoint)
        else:
            gateway = self._endpoint(
                meter.tb_host,
                meter.tb_port,
                f"gateway-{meter.tb_host}-{meter.tb_port}",
                heard.gateway,
                token,
            )
            route = GatewayRoute(gateway, settings.device_type, settings.other_types)
        self._shared_names.add(route.name)
        return self._shared.setdefault(route.name, route)

    def _own_route(self, meter: Meter, token: str) -> Route:
        # Wherever they go: one server has many names, and ThingsBoard makes no token twice.
        holder = self._holders.get(token)
        if holder is not None and holder.id != meter.id and self._is_present(holder.id):
            raise ConfigurationError(
                f"Meters {holder.name!r} and {meter.name!r} have the same tb_token: ThingsBoard would throw each out"
                f" for the other, so {meter.name!r} is not started."
            )
        if token == self._settings.gateway_token:
            raise ConfigurationError(f"Meter {meter.name!r} has the gateway's token as its tb_token.")
        self._release(meter.id)
        self._holders[token], self._keys[meter.id] = meter, token
        heard = self._settings.subscriptions.device
        return DeviceRoute(self._endpoint(meter.tb_host, meter.tb_port, f"device-{meter.id}", heard, token), meter.id)

    def _endpoint(
        self, host: str, port: int, client: str, heard: tuple[str, ...], token: str | None = None
    ) -> Endpoint:
        settings = self._settings
        return Endpoint(
            host,
            port,
            f"{settings.client_id_prefix}-{client}",
            settings.username if token is None else token,
            settings.password if token is None else None,
            settings.version,
            settings.tls,
            settings.keepalive_s,
            heard,
        )
