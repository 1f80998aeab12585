"""Which route a meter takes, and tokens that two meters share."""

from __future__ import annotations

from dataclasses import replace

import pytest

from meterbridge.delivery import BrokerRoute, DeviceRoute, GatewayRoute, RouteBook, RouteSettings
from meterbridge.errors import ConfigurationError
from meterbridge.model import Meter, MeterId

ONE = Meter(MeterId(1), "one", "10.0.0.1")
TWO = Meter(MeterId(2), "two", "10.0.0.2")


def book(present: set[int] | None = None, **settings: str) -> RouteBook:
    return RouteBook(RouteSettings(**settings), lambda meter: present is None or meter in present)  # type: ignore[arg-type]


def test_a_token_decides_then_the_settings() -> None:
    broker = book().route_for(ONE)
    gateway = book(gateway_token="GW").route_for(ONE)
    own = book(gateway_token="GW", username="u", password="p").route_for(replace(ONE, tb_token="T"))
    assert isinstance(broker, BrokerRoute)
    assert isinstance(gateway, GatewayRoute)
    assert isinstance(own, DeviceRoute)
    assert (broker.name, gateway.name) == ("broker:127.0.0.1:1884", "gateway:127.0.0.1:1884")
    assert (own.name, own.endpoint.username, own.endpoint.password) == ("device:127.0.0.1:1884:1", "T", None)
    assert gateway.endpoint.username == "GW"
    assert "GW" not in gateway.name + repr(gateway.endpoint)


def test_meters_of_one_server_share_a_route() -> None:
    it = book()
    assert it.route_for(ONE) is it.route_for(TWO)
    assert it.route_for(replace(TWO, tb_port=1999)) is not it.route_for(ONE)


def test_a_shared_token_is_refused_with_both_names_until_it_is_free() -> None:
    present = {1, 2}
    it = book(present)
    it.route_for(replace(ONE, tb_token="T"))
    it.route_for(replace(ONE, tb_token="T"))
    with pytest.raises(ConfigurationError, match=r"'one' and 'two'") as caught:
        it.route_for(replace(TWO, tb_token="T"))
    assert "'T'" not in str(caught.value)
    with pytest.raises(ConfigurationError, match=r"'one' and 'two'"):
        it.route_for(replace(TWO, tb_token="T", tb_host="another.name.of.the.same.server"))
    it.route_for(replace(ONE, tb_token="other"))
    it.route_for(replace(TWO, tb_token="T"))
    present.discard(2)
    it.route_for(replace(ONE, tb_token="T"))


def test_the_gateways_token_is_no_meters() -> None:
    with pytest.raises(ConfigurationError, match="gateway's token"):
        book(gateway_token="GW").route_for(replace(ONE, tb_token="GW"))


def test_what_a_meter_held_is_free_when_it_is_forgotten() -> None:
    it = book()
    own = it.route_for(replace(ONE, tb_token="T"))
    shared = it.route_for(TWO)
    assert (it.name_of(ONE.id), it.name_of(TWO.id)) == (own.name, shared.name)
    assert it.forget(ONE.id) == own.name
    assert it.forget(TWO.id) is None
    it.route_for(replace(TWO, tb_token="T"))
