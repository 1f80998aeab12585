from __future__ import annotations

import asyncio

import pytest

from meterbridge.delivery import BrokerRoute, Endpoint, Kind, Route, Row
from meterbridge.errors import DeliveryError
from meterbridge.model import MeterId
from meterbridge.thingsboard.sending import SharedSending

ONE, OTHER = (BrokerRoute(Endpoint("127.0.0.1", port, "p")) for port in (1, 2))


class Wire:
    """Remembers what went together; refuses messages of some devices; one connection at a time."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, list[str]]] = []
        self.refused: set[str] = set()
        self.go_on = asyncio.Event()
        self.go_on.set()
        self.busy = False

    async def publish(self, route: Route, rows: list[Row], timeout_s: float) -> None:
        assert not self.busy and timeout_s == 5.0
        self.busy = True
        try:
            self.sent.append((route.name, [row.device for row in rows]))
            await self.go_on.wait()
            if bad := self.refused & {row.device for row in rows}:
                raise DeliveryError(f"closed over {bad.pop()}")
        finally:
            self.busy = False


def row(device: str) -> Row:
    return Row(0, MeterId(1), "", Kind.ATTRIBUTES, device, 5, b"{}", 5)


def asked(sending: SharedSending, device: str, route: Route = ONE) -> asyncio.Task[None]:
    return asyncio.create_task(sending(route, [row(device)], 5.0))


async def test_what_comes_while_a_connection_is_in_use_goes_together_with_the_next() -> None:
    wire = Wire()
    sending = SharedSending(wire.publish)
    wire.go_on.clear()
    tasks = [asked(sending, device) for device in "abcd"] + [asked(sending, "x", OTHER)]
    await asyncio.sleep(0)
    tasks.append(asked(sending, "e"))
    await asyncio.sleep(0)
    wire.go_on.set()
    await asyncio.gather(*tasks)
    assert wire.sent == [(ONE.name, ["a"]), (ONE.name, ["b", "c", "d", "e"]), (OTHER.name, ["x"])]


async def test_one_that_is_refused_does_not_cost_the_others() -> None:
    wire = Wire()
    sending = SharedSending(wire.publish)
    wire.refused = {"c"}
    wire.go_on.clear()
    tasks = [asked(sending, device) for device in "abcd"]
    await asyncio.sleep(0)
    wire.go_on.set()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert [str(outcome) for outcome in outcomes] == ["None", "None", "closed over c", "None"]
    await asked(sending, "later")
    assert wire.sent[-1] == (ONE.name, ["later"])


async def test_who_is_cancelled_takes_nobody_along() -> None:
    wire = Wire()
    sending = SharedSending(wire.publish)
    wire.go_on.clear()
    first, second = asked(sending, "a"), asked(sending, "b")
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    wire.go_on.set()
    await second
    assert "b" in wire.sent[-1][1]


async def test_who_gives_up_before_the_turn_sends_nothing_later() -> None:
    wire = Wire()
    sending = SharedSending(wire.publish)
    wire.go_on.clear()
    first, second, third = (asked(sending, device) for device in "abc")
    await asyncio.sleep(0)
    second.cancel()
    await asyncio.sleep(0)
    wire.refused = {"c"}
    wire.go_on.set()
    await first
    with pytest.raises(DeliveryError):
        await third
    assert second.cancelled()
    assert wire.sent == [(ONE.name, ["a"]), (ONE.name, ["c"])]
