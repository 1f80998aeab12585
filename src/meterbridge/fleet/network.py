"""NetworkMonitor: pings every meter, and tells a network that is gone from a meter that is silent."""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

import icmplib

from meterbridge.fleet.alarms import AlarmDesk
from meterbridge.model import Meter, MeterId
from meterbridge.store import NetworkMetrics, Severity

NETWORK_OUTAGE = "network_outage"
OWN_LINK = "own_link"


class Verdict(enum.StrEnum):
    """What is to be thought of a meter's network."""

    UNKNOWN = "unknown"
    """Nothing is known yet."""
    FINE = "fine"
    METER_SILENT = "meter silent"
    """It can be reached, and yet gives no readings."""
    NETWORK_GONE = "network gone"
    OWN_LINK_GONE = "own link gone"
    """No meter can be reached: the fault is most likely on our side."""


class Reachability:
    """One meter's pings: outage after so many unanswered in a row, recovery with the first answer. Pure.

    Args:
        outage_after: pings.
    """

    def __init__(self, outage_after: int) -> None:
        self._outage_after = outage_after
        self._missed = 0
        self.reachable: bool | None = None
        self.sent = 0
        self.received = 0
        self.latencies: list[float] = []

    def answered(self, latency: float | None) -> None:
        """Take in an answer.

        Args:
            latency: seconds; None where the sign of life was no ping.
        """
        self.sent += 1
        self.received += 1
        if latency is not None:
            self.latencies.append(latency)
        self._missed = 0
        self.reachable = True

    def missed(self) -> None:
        """Take in that no answer came."""
        self.sent += 1
        self._missed += 1
        if self._missed >= self._outage_after:
            self.reachable = False

    def metrics(self, meter: MeterId, timestamp: int) -> NetworkMetrics | None:
        """Return what was counted since the last call, None for nothing; times in milliseconds."""
        if not self.sent:
            return None
        values = [latency * 1000 for latency in self.latencies]
        row = NetworkMetrics(
            timestamp,
            meter,
            self.sent,
            self.received,
            min(values) if values else None,
            sum(values) / len(values) if values else None,
            max(values) if values else None,
        )
        self.sent = self.received = 0
        self.latencies = []
        return row


def verdicts(reachable: Mapping[MeterId, bool | None], reading: Collection[MeterId]) -> dict[MeterId, Verdict]:
    """Tell what is the matter from which meters can be reached and which give readings. Pure.

    Args:
        reachable: by meter; None where nothing is known yet. Whoever gives readings counts as reachable.
        reading: meters that gave a reading of late.

    Returns:
        A verdict for each meter. The own link is blamed when none of at least two can be reached or read: one alone
        may be to blame itself.
    """
    states = {meter: True if meter in reading else state for meter, state in reachable.items()}
    own_link = len(states) > 1 and all(state is False for state in states.values())
    found: dict[MeterId, Verdict] = {}
    for meter, state in states.items():
        if own_link:
            found[meter] = Verdict.OWN_LINK_GONE
        elif state is None:
            found[meter] = Verdict.UNKNOWN
        elif not state:
            found[meter] = Verdict.NETWORK_GONE
        else:
            found[meter] = Verdict.FINE if meter in reading else Verdict.METER_SILENT
    return found


class Pinger(Protocol):
    """Asks whether something is there."""

    @property
    def touches_meter(self) -> bool:
        """Whether a ping takes the meter's one connection: then a meter in use is not pinged."""

    async def ping(self, host: str, port: int, timeout: float) -> float | None:
        """Return how long the answer took, seconds, or None without one."""


class IcmpPinger:
    """ICMP echo without privileges."""

    touches_meter = False

    async def ping(self, host: str, port: int, timeout: float) -> float | None:
        """Send one echo request; the port does not matter."""
        try:
            answer = await icmplib.async_ping(host, count=1, timeout=timeout, privileged=False)
        except (icmplib.ICMPLibError, OSError):
            return None
        return answer.avg_rtt / 1000 if answer.is_alive else None


class TcpPinger:
    """A TCP connection that is closed at once; a refusal is an answer too: somebody is there to refuse."""

    touches_meter = True

    async def ping(self, host: str, port: int, timeout: float) -> float | None:
        """Connect and close."""
        loop = asyncio.get_running_loop()
        started = loop.time()
        try:
            async with asyncio.timeout(timeout):
                _, writer = await asyncio.open_connection(host, port)
        except ConnectionRefusedError:
            return loop.time() - started
        except (TimeoutError, OSError, UnicodeError):
            return None
        writer.transport.abort()
        return loop.time() - started


async def choose_pinger() -> IcmpPinger | TcpPinger:
    """Return ICMP where the system allows it without privileges, TCP otherwise."""
    try:
        await icmplib.async_ping("127.0.0.1", count=1, timeout=1, privileged=False)
    except (icmplib.SocketPermissionError, icmplib.SocketUnavailableError, OSError):
        return TcpPinger()
    except icmplib.ICMPLibError:
        return IcmpPinger()
    return IcmpPinger()


@dataclass(frozen=True, slots=True)
class NetworkLimits:
    """How meters are pinged.

    Args:
        interval: seconds between two pings of a meter.
        timeout: longest wait for an answer, seconds.
        outage_after: unanswered pings in a row that make an outage.
        at_once: pings under way at most.
    """

    interval: float = 10.0
    timeout: float = 2.0
    outage_after: int = 3
    at_once: int = 200


class NetworkMonitor:
    """Pings every meter for ever.

    Meters behind one address are asked with one ICMP ping; a TCP ping is one per meter, and only of meters that
    give no readings: a reading is the better sign of life, and a meter has but one connection to give.

    Args:
        meters: the meters to ping now.
        reading: ids of those that gave a reading within the last interval.
        desk: takes outages.
        limits: how.
        pinger: asks.
    """

    def __init__(
        self,
        meters: Callable[[], Iterable[Meter]],
        reading: Callable[[], Collection[MeterId]],
        desk: AlarmDesk,
        limits: NetworkLimits,
        pinger: Pinger,
    ) -> None:
        self._meters = meters
        self._reading = reading
        self._desk = desk
        self._limits = limits
        self._pinger = pinger
        self._known: dict[MeterId, Reachability] = {}
        self.verdicts: dict[MeterId, Verdict] = {}

    async def run(self) -> None:
        """Ping until cancelled, each meter once an interval, spread over it."""
        loop = asyncio.get_running_loop()
        while True:
            started = loop.time()
            await self.round(spread=self._limits.interval / 2)
            await asyncio.sleep(max(0.1, self._limits.interval - (loop.time() - started)))

    async def round(self, spread: float = 0.0) -> None:
        """Ping every meter once.

        Args:
            spread: seconds over which the pings are begun.
        """
        meters = {meter.id: meter for meter in self._meters()}
        for gone in set(self._known) - set(meters):
            del self._known[gone]
            self.verdicts.pop(gone, None)
        targets: dict[tuple[str, int], list[MeterId]] = {}
        reading = self._reading()
        for meter in meters.values():
            if self._pinger.touches_meter and meter.id in reading:
                self._reachability(meter.id).answered(None)
                continue
            port = meter.port if self._pinger.touches_meter else 0
            targets.setdefault((meter.ip_address, port), []).append(meter.id)
        limit = asyncio.Semaphore(self._limits.at_once)
        async with asyncio.TaskGroup() as group:
            for (host, port), ids in targets.items():
                await limit.acquire()
                group.create_task(self._ping(host, port, ids, limit))
                if spread:
                    await asyncio.sleep(spread / len(targets))
        self._judge(meters)

    def metrics(self, timestamp: int) -> list[NetworkMetrics]:
        """Return a row for each meter that was pinged since the last call."""
        rows = (known.metrics(meter, timestamp) for meter, known in self._known.items())
        return [row for row in rows if row is not None]

    def _reachability(self, meter: MeterId) -> Reachability:
        known = self._known.get(meter)
        if known is None:
            known = self._known[meter] = Reachability(self._limits.outage_after)
        return known

    async def _ping(self, host: str, port: int, ids: list[MeterId], limit: asyncio.Semaphore) -> None:
        try:
            latency = await self._pinger.ping(host, port, self._limits.timeout)
        finally:
            limit.release()
        for meter in ids:
            known = self._reachability(meter)
            if latency is None:
                known.missed()
            else:
                known.answered(latency)

    def _judge(self, meters: Mapping[MeterId, Meter]) -> None:
        reachable = {meter: self._reachability(meter).reachable for meter in meters}
        self.verdicts = verdicts(reachable, self._reading())
        if Verdict.OWN_LINK_GONE in self.verdicts.values():
            # One alarm: thousands of outages would hide what is the matter.
            self._desk.raise_alarm(
                None, OWN_LINK, Severity.CRITICAL, f"none of {len(meters)} meters can be reached: our own link"
            )
            return
        self._desk.resolve(None, OWN_LINK)
        for meter, verdict in self.verdicts.items():
            if verdict is Verdict.NETWORK_GONE:
                self._desk.raise_alarm(
                    meter, NETWORK_OUTAGE, Severity.CRITICAL, f"{meters[meter].ip_address} does not answer pings"
                )
            else:
                self._desk.resolve(meter, NETWORK_OUTAGE)
