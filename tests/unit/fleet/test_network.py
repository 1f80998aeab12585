from __future__ import annotations

import asyncio

import pytest

from meterbridge.fleet import AlarmDesk, NetworkLimits, NetworkMonitor, Reachability, TcpPinger, Verdict, verdicts
from meterbridge.model import Meter, MeterId
from tests.unit.fleet.fakes import meter

M1, M2, M3 = MeterId(1), MeterId(2), MeterId(3)


def test_an_outage_is_so_many_pings_in_a_row_and_one_answer_ends_it() -> None:
    reach = Reachability(3)
    seen = []
    for answered in (True, False, False, True, False, False, False, False, True):
        reach.answered(0.010) if answered else reach.missed()
        seen.append(reach.reachable)
    assert seen == [True] * 6 + [False, False, True]
    reach.answered(0.030)
    row = reach.metrics(M1, 5)
    assert row is not None
    assert (row.sent, row.received) == (10, 4)
    assert (row.latency_min, row.latency_avg, row.latency_max) == pytest.approx((10.0, 15.0, 30.0))
    assert reach.metrics(M1, 6) is None


def test_network_meter_and_own_link_are_told_apart() -> None:
    assert verdicts({M1: True, M2: True, M3: False}, {M1}) == {
        M1: Verdict.FINE,
        M2: Verdict.METER_SILENT,
        M3: Verdict.NETWORK_GONE,
    }
    assert set(verdicts({M1: False, M2: False}, ()).values()) == {Verdict.OWN_LINK_GONE}
    assert verdicts({M1: False, M2: False}, {M2}) == {M1: Verdict.NETWORK_GONE, M2: Verdict.FINE}
    assert verdicts({M1: False}, ()) == {M1: Verdict.NETWORK_GONE}, "one meter alone may be to blame itself"
    assert verdicts({M1: None, M2: False}, ()) == {M1: Verdict.UNKNOWN, M2: Verdict.NETWORK_GONE}


class FakePinger:
    def __init__(self, touches_meter: bool = False) -> None:
        self.touches_meter = touches_meter
        self.gone: set[str] = set()
        self.asked: list[tuple[str, int]] = []
        self.under_way = self.most = 0

    async def ping(self, host: str, port: int, timeout: float) -> float | None:
        self.asked.append((host, port))
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        await asyncio.sleep(0)
        self.under_way -= 1
        return None if host in self.gone else 0.001


def _monitor(
    pinger: FakePinger, meters: list[Meter], reading: set[MeterId], at_once: int = 200
) -> tuple[NetworkMonitor, AlarmDesk]:
    desk = AlarmDesk(lambda: 0.0)
    limits = NetworkLimits(outage_after=2, at_once=at_once)
    return NetworkMonitor(lambda: meters, lambda: reading, desk, limits, pinger), desk


async def test_outage_and_recovery_are_one_alarm_each() -> None:
    pinger = FakePinger()
    meters = [meter(1, ip_address="192.0.2.1"), meter(2, ip_address="192.0.2.2")]
    monitor, desk = _monitor(pinger, meters, set())
    await monitor.round()
    pinger.gone = {"192.0.2.1"}
    for _ in range(5):
        await monitor.round()
    assert set(desk.open) == {(M1, "network_outage")}
    pinger.gone = {"192.0.2.1", "192.0.2.2"}
    for _ in range(3):
        await monitor.round()
    assert (None, "own_link") in desk.open
    assert (M2, "network_outage") not in desk.open, "our own link is one alarm, not thousands"
    pinger.gone = set()
    await monitor.round()
    assert desk.open == {}
    assert desk.counters.opened == desk.counters.resolved == 2
    assert [row.sent for row in monitor.metrics(1)] == [10, 10]


async def test_meters_behind_one_address_are_one_ping_and_many_are_bounded() -> None:
    pinger = FakePinger()
    monitor, _ = _monitor(pinger, [meter(n) for n in range(1, 1001)], set())
    await monitor.round()
    assert pinger.asked == [("127.0.0.1", 0)]
    pinger = FakePinger()
    monitor, _ = _monitor(pinger, [meter(n, ip_address=f"10.0.{n // 250}.{n % 250}") for n in range(1000)], set(), 50)
    await monitor.round()
    assert len(pinger.asked) == 1000
    assert pinger.most <= 50


async def test_a_tcp_ping_leaves_a_meter_that_gives_readings_alone() -> None:
    pinger = FakePinger(touches_meter=True)
    monitor, _ = _monitor(pinger, [meter(1), meter(2, port=4000)], {M1})
    await monitor.round()
    assert pinger.asked == [("127.0.0.1", 4000)]
    assert monitor.verdicts == {M1: Verdict.FINE, M2: Verdict.METER_SILENT}


async def test_a_removed_meter_is_forgotten() -> None:
    meters = [meter(1), meter(2)]
    monitor, _ = _monitor(FakePinger(), meters, set())
    await monitor.round()
    meters.pop()
    await monitor.round()
    assert set(monitor.verdicts) == {M1}


async def test_a_refused_connection_is_an_answer_too() -> None:
    server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    assert await TcpPinger().ping("127.0.0.1", port, 1.0) is not None
    server.close()
    await server.wait_closed()
    assert await TcpPinger().ping("127.0.0.1", port, 1.0) is not None
    assert await TcpPinger().ping("no such host", port, 1.0) is None
