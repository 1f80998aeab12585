"""Inspector: gathers the facts of an installation, asks its servers, and has them judged; service running or not."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from http import HTTPStatus

import httpx
from sqlalchemy.ext.asyncio import AsyncEngine

from meterbridge.delivery import BrokerRoute, RouteBook, RouteSettings
from meterbridge.errors import ConfigurationError
from meterbridge.fleet import Verdict, choose_pinger
from meterbridge.model import Meter, MeterId
from meterbridge.operations import (
    Live,
    OutboxFact,
    Places,
    Plan,
    ProbeFact,
    Quality,
    RouteFact,
    Target,
    gather,
    plan_of,
    probe,
    quality_of,
)
from meterbridge.service.limits import open_vault, route_settings
from meterbridge.service.service import Service
from meterbridge.settings import Settings
from meterbridge.store import AccountRepository, MeterRepository

_PROBE_TIMEOUT = 3.0
_PINGS_AT_ONCE = 200


class Inspector:
    """Looks at an installation as it is now.

    Args:
        settings: of the installation.
        live: tells what only the running service knows; None where none runs.
    """

    def __init__(self, settings: Settings, live: Callable[[], Live] | None = None) -> None:
        self._settings = settings
        self._live = live
        url = settings.database.url
        self._places = Places(url, settings.outbox.path, settings.log.file)

    async def quality(self, repository: MeterRepository, engine: AsyncEngine) -> Quality:
        """Check everything against its target; takes a few seconds where a server does not answer.

        Raises:
            StoreError: the database cannot be read.
            ConfigurationError: nobody knows the gateway's token, or it cannot be decrypted.
        """
        settings = self._settings
        meters = [meter for meter in (await repository.load_meters()).meters if meter.status != "inactive"]
        account = await AccountRepository(engine, open_vault(settings.database)).load()
        routes = route_settings(
            settings.mqtt, settings.delivery, account, settings.rpc, settings.thingsboard.service_name
        )
        targets = probe_targets(meters, routes, running=self._live is not None)
        if self._live is None:
            probes, reachable = await asyncio.gather(probe(targets, _PROBE_TIMEOUT), self._ping(meters))
        else:
            probes, reachable = await probe(targets, _PROBE_TIMEOUT), {}
        facts = await gather(repository, engine, self._places, self._told(), _now(), settings.targets.window_minutes)
        if account is not None:
            probes.append(await self._ask_thingsboard(account.server))
        facts = replace(facts, probes=tuple(probes), reachable=reachable or facts.reachable)
        return await asyncio.to_thread(quality_of, facts, settings.targets)

    async def plan(self, repository: MeterRepository, engine: AsyncEngine) -> Plan:
        """Say what is wrong and what to do about it.

        Raises:
            StoreError: the database cannot be read.
        """
        targets = self._settings.targets
        facts = await gather(repository, engine, self._places, self._told(), _now(), targets.window_minutes)
        return await asyncio.to_thread(plan_of, facts, targets)

    async def _ask_thingsboard(self, server: str) -> ProbeFact:
        """Whether the REST API answers at all, whatever it says to a stranger."""
        authorities = self._settings.thingsboard.tls_ca
        try:
            trust = True if authorities is None else ssl.create_default_context(cafile=str(authorities))
            async with httpx.AsyncClient(verify=trust, timeout=_PROBE_TIMEOUT, trust_env=False) as client:
                answer = await client.get(f"{server}/")
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            return ProbeFact("ThingsBoard", server, False, f"does not answer: {str(error) or type(error).__name__}")
        broken = answer.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR
        told = f"status {answer.status_code}" if broken else "answers"
        return ProbeFact("ThingsBoard", server, not broken, told)

    def _told(self) -> Live | None:
        return None if self._live is None else self._live()

    async def _ping(self, meters: Sequence[Meter]) -> dict[MeterId, bool | None]:
        network = self._settings.network
        pinger = await choose_pinger()
        limit = asyncio.Semaphore(_PINGS_AT_ONCE)

        async def answers(meter: Meter) -> bool:
            async with limit:
                for _ in range(network.outage_after):
                    if await pinger.ping(meter.ip_address, meter.port, network.ping_timeout_s) is not None:
                        return True
            return False

        found = await asyncio.gather(*(answers(meter) for meter in meters))
        return dict(zip([meter.id for meter in meters], found, strict=True))


def probe_targets(meters: Iterable[Meter], routes: RouteSettings, *, running: bool) -> list[Target]:
    """List the servers that readings go to, each once.

    ThingsBoard is asked without a token: a second client with the same one would throw the first out.

    Args:
        meters: those that are polled.
        routes: how they are delivered.
        running: whether the service is connected, and subscribes there itself.
    """
    book = RouteBook(routes, lambda _: True)
    found: dict[tuple[str, str, int], Target] = {}
    for meter in meters:
        if not meter.tb_enabled:
            continue
        try:
            route = book.route_for(meter)
        except ConfigurationError:
            # The plan tells of a meter that is not usable.
            continue
        to, tls = route.endpoint, route.endpoint.tls
        files = () if tls is None else (str(tls.ca), *(str(f) for f in (tls.certificate, tls.key) if f is not None))
        if isinstance(route, BrokerRoute):
            target = Target(
                "broker", to.host, to.port, to.username, to.password, *files, own=len(to.subscriptions) * running
            )
        else:
            target = Target("ThingsBoard", to.host, to.port, None, None, *files)
        found[target.role, to.host, to.port] = target
    return list(found.values())


def live_of(service: Service) -> Live:
    """Return what a running service knows at this moment."""
    verdicts = service.network.verdicts if service.network is not None else {}
    known = {Verdict.FINE: True, Verdict.METER_SILENT: True, Verdict.NETWORK_GONE: False, Verdict.OWN_LINK_GONE: False}
    outbox = service.outbox_stats()
    return Live(
        service.started_at,
        {status.meter.id: str(status.state) for status in service.statuses()},
        {meter: known.get(verdict) for meter, verdict in verdicts.items()},
        tuple(
            RouteFact(
                each.route, each.meter, each.connected, each.reason, each.oldest_at, each.reconnects, each.contested
            )
            for each in service.route_stats()
        ),
        OutboxFact(outbox.rows, outbox.octets, outbox.quarantined, outbox.failing),
    )


def _now() -> int:
    return round(time.time() * 1000)
