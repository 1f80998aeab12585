"""A ThingsBoard with both sides, REST and MQTT, beside an installation with simulated meters."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from typer.testing import CliRunner

from meterbridge.cli.app import app
from meterbridge.cli.exits import exit_code
from meterbridge.errors import MeterbridgeError
from meterbridge.model import Meter, MeterId
from meterbridge.simulator import FleetOptions, SimulatedFleet
from meterbridge.store import KeySource, MeterRepository, Vault, open_database
from tests.acceptance.processes import Ended, run
from tests.integration.delivery_recorder import Recorder
from tests.integration.thingsboard_stand_in import PASSWORD, USER, StandIn


class ThingsBoardSite:
    """Server, its MQTT side, and a folder with meters m1, m2 … in its database."""

    def __init__(self, folder: Path, server: StandIn, mqtt: Recorder, fleet: SimulatedFleet, api_port: int) -> None:
        self.folder = folder
        self.server = server
        self.mqtt = mqtt
        self.fleet = fleet
        self.api_port = api_port
        self.outputs: list[str] = []
        self._taken = 0
        server.pull = self.pull

    @property
    def variables(self) -> dict[str, str]:
        return {"METERBRIDGE_API__PORT": str(self.api_port)}

    async def command(self, *arguments: str, **variables: str) -> Ended:
        """Run `meterbridge thingsboard …` inside this process, which costs less; what it printed is kept."""
        return await self.other_command("thingsboard", *arguments, **variables)

    async def other_command(self, *arguments: str, **variables: str) -> Ended:
        """Run `meterbridge …` likewise."""
        config = str(self.folder / "meterbridge.toml")
        done = await asyncio.to_thread(invoke, [*arguments, "--config", config], {**self.variables, **variables})
        self.outputs += [done.out, done.err]
        return done

    async def typed(self, *arguments: str, within_s: float = 90.0, **variables: str) -> Ended:
        """Run `meterbridge thingsboard …` as a process; what it printed is kept."""
        done = await asyncio.to_thread(
            run, "thingsboard", *arguments, folder=self.folder, timeout=within_s, **self.variables, **variables
        )
        self.outputs += [done.out, done.err]
        return done

    async def login(self) -> Ended:
        return await self.command(
            "login", self.server.url, "--user", USER, "--mqtt-port", str(self.mqtt.port), THINGSBOARD_PASSWORD=PASSWORD
        )

    def pull(self) -> None:
        """Take over what came over MQTT: by token on the device route, from the gateway, or out of a broker's topic."""
        new = list(zip(self.mqtt.messages, self.mqtt.senders, strict=True))[self._taken :]
        self._taken += len(new)
        for (topic, payload), sender in new:
            if not topic.endswith("/telemetry"):
                continue
            content = json.loads(payload)
            if topic == "v1/gateway/telemetry":
                assert self.server.device_of(sender) == "Meterbridge"
                for device, points in content.items():
                    self.server.arrived(device, points)
            elif topic == "v1/devices/me/telemetry":
                device = self.server.device_of(sender)
                assert device is not None
                self.server.arrived(device, content)
            else:
                self.server.arrived(topic.split("/")[2], content)

    def attributes(self, device: str) -> dict[str, object]:
        """Newest value of each client attribute that was sent for a device."""
        held: dict[str, object] = {}
        for (topic, payload), sender in zip(self.mqtt.messages, self.mqtt.senders, strict=True):
            content = json.loads(payload)
            if topic == "v1/gateway/attributes":
                held.update(content.get(device, {}))
            elif (topic == "v1/devices/me/attributes" and self.server.device_of(sender) == device) or (
                topic == f"v1/devices/{device}/attributes"
            ):
                held.update(content)
        return held

    async def meters(self) -> dict[str, Meter]:
        """Rows by name, secrets in the clear."""
        engine = await open_database(f"sqlite+aiosqlite:///{self.folder}/data/admin.db")
        try:
            vault = Vault(KeySource(self.folder / "data" / "secrets.key", writable=True))
            return {meter.name: meter for meter in await MeterRepository(engine, vault).list_meters()}
        finally:
            await engine.dispose()


def invoke(arguments: list[str], variables: dict[str, str]) -> Ended:
    """Run `meterbridge …` inside this process, and end it as `main` does."""
    result = CliRunner().invoke(app, arguments, env=variables)
    error = result.exception
    if isinstance(error, MeterbridgeError):
        return Ended(exit_code(error), result.stdout, f"{result.stderr}meterbridge: {error}\n")
    if error is not None and not isinstance(error, SystemExit):
        raise error
    return Ended(result.exit_code, result.stdout, result.stderr)


@asynccontextmanager
async def thingsboard_site(
    folder: Path, free_port: Callable[[], int], meters: int = 2, broker_port: int = 1
) -> AsyncIterator[ThingsBoardSite]:
    """Start all of it.

    Args:
        folder: of the installation.
        free_port: gives ports.
        meters: how many.
        broker_port: where their readings go before they are provisioned.
    """
    fleet = SimulatedFleet(FleetOptions(meters, port=0))
    mqtt = Recorder(free_port())
    (folder / "data").mkdir()
    (folder / "meterbridge.toml").write_text(
        f'[database]\nurl = "sqlite+aiosqlite:///{folder}/data/admin.db"\nkey_file = "{folder}/data/secrets.key"\n'
        f'[outbox]\npath = "{folder}/data/outbox.db"\n'
        "[mqtt]\nbackoff_initial_s = 0.2\nbackoff_max_s = 1.0\n[polling]\nbackoff_initial_s = 0.1\nperiod_s = 0.5\n"
        "[thingsboard]\nseen_timeout_s = 20\nrequest_retry_s = 0.02\n"
    )
    async with StandIn(free_port()) as server, fleet:
        await mqtt.start()
        try:
            engine = await open_database(f"sqlite+aiosqlite:///{folder}/data/admin.db")
            repository = MeterRepository(engine)
            for number, port in enumerate(fleet.ports, 1):
                await repository.add(
                    Meter(MeterId(0), f"m{number}", "127.0.0.1", port, model="microstar", tb_port=broker_port)
                )
            await engine.dispose()
            yield ThingsBoardSite(folder, server, mqtt, fleet, free_port())
        finally:
            await mqtt.stop()
