"""The service polls meters with keys; killed at any moment it never uses an invocation counter twice."""

from __future__ import annotations

import asyncio
import itertools
import json
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from meterbridge.dlms import Keys, SecuritySuite
from meterbridge.dlms.counters import ReceivedCounters
from meterbridge.errors import ReplayedCounterError
from meterbridge.simulator import FleetOptions, SecurityOptions, ServerOptions, SimulatedFleet
from tests.acceptance.processes import Ended, environment, run, start, stop

EK, AK, KEK = bytes(range(16)), bytes(range(0xD0, 0xE0)), bytes(range(0x40, 0x50))
TITLE = "4D54423030303031"
KEYS = {"METER_KEY": "@ek", "METER_AUTH_KEY": AK.hex()}
SECURED = ("--auth", "hls-gmac", "--system-title", TITLE, "--no-tb-enabled", "--model", "microstar")
CONFIG = """[polling]
period_s = 0.1
backoff_initial_s = 0.1
backoff_max_s = 0.5
authentication_retry_s = 0.5
authentication_retry_max_s = 1
"""


class Heard(ReceivedCounters):
    """Writes down every counter that came, and how many of them were not new to the meter."""

    def __init__(self) -> None:
        super().__init__()
        self.taken: list[int] = []
        self.refused = 0

    def check(self, key: str, counter: int) -> None:
        try:
            super().check(key, counter)
        except ReplayedCounterError:
            self.refused += 1
            raise
        self.taken.append(counter)


class Seen(ReceivedCounters):
    """Writes down under which kinds of key APDUs came."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.number = 0

    def check(self, key: str, counter: int) -> None:
        super().check(key, counter)
        self.names.add(key)
        self.number += key != "encryption" or self.names == {"encryption"}


@dataclass
class Site:
    folder: Path
    heard: list[Heard]
    ports: list[int]
    variables: dict[str, str]

    async def typed(self, *arguments: str, **variables: str) -> Ended:
        given = self.variables | variables
        return await asyncio.to_thread(lambda: run(*arguments, folder=self.folder, timeout=30.0, **given))

    async def more(self, number: int) -> None:
        """Wait until every meter took so many more counters."""
        wanted = [len(heard.taken) + number for heard in self.heard]
        async with asyncio.timeout(20):
            while any(len(heard.taken) < least for heard, least in zip(self.heard, wanted, strict=True)):
                await asyncio.sleep(0.02)

    @asynccontextmanager
    async def service(self) -> AsyncIterator[subprocess.Popen[str]]:
        process = start("run", folder=self.folder, **self.variables)
        try:
            yield process
        finally:
            if process.poll() is None:
                ended = await asyncio.to_thread(stop, process)
                assert ended.code == 0, ended
                assert not any(secret in ended.out + ended.err for secret in (EK.hex(), AK.hex()))


def kill(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


@pytest.fixture
async def site(tmp_path: Path, free_port: Callable[[], int]) -> AsyncIterator[Site]:
    keys = Keys(EK, AK)
    suites = {SecuritySuite.AES_128: "hdlc", SecuritySuite.P256_AES_128: "wrapper"}
    await asyncio.to_thread((tmp_path / "meterbridge.toml").write_text, CONFIG)
    await asyncio.to_thread((tmp_path / "ek").write_text, EK.hex())
    async with AsyncExitStack() as stack:
        servers = []
        for suite, framing in suites.items():
            options = FleetOptions(
                port=0, server=ServerOptions(framing), security=SecurityOptions(keys=keys, suite=suite)
            )
            fleet = await stack.enter_async_context(SimulatedFleet(options))
            servers += fleet.servers
        heard = [Heard() for _ in servers]
        for server, ears in zip(servers, heard, strict=True):
            assert server.meter.security is not None
            server.meter.security.received = ears
        ports = [server.port for server in servers]
        yield Site(tmp_path, heard, ports, {"METERBRIDGE_API__PORT": environment()["METERBRIDGE_API__PORT"]})


async def test_no_counter_comes_twice_however_often_the_service_is_killed(site: Site) -> None:
    for suite, (port, framing) in enumerate(zip(site.ports, ("hdlc", "wrapper"), strict=True)):
        options = (*SECURED, "--suite", str(suite), "--security", "both", "--framing", framing)
        added = await site.typed("add", f"suite {suite}", "127.0.0.1", "--port", str(port), *options, **KEYS)
        assert added.code == 0, added
        assert not any(key.hex() in added.out + added.err for key in (EK, AK))
    # Without a service, `test` takes from the same counters.
    tested = await site.typed("test", "suite 0", "--json")
    assert (tested.code, json.loads(tested.out)["ok"]) == (0, True), tested
    starts = []
    for _ in range(2):
        starts.append([len(heard.taken) for heard in site.heard])
        async with site.service() as process:
            await site.more(15)
            await asyncio.to_thread(kill, process)
    async with site.service():
        await site.more(15)
        tested = await site.typed("test", "suite 1", "--json")
        assert (tested.code, json.loads(tested.out)["connected"]) == (0, False), "over the worker's own association"
        status = json.loads((await site.typed("status", "suite 1", "--json")).out)
        assert (status["has_block_cipher_key"], status["counters"]["failures"]) == (True, 0)
    assert [heard.refused for heard in site.heard] == [0, 0]
    everything = [counter for heard in site.heard for counter in heard.taken]
    assert len(everything) == len(set(everything)), "the two meters have one key: they share its counter"
    for number, heard in enumerate(site.heard):
        assert heard.taken == sorted(heard.taken)
        for before in (each[number] for each in starts if each[number]):
            assert heard.taken[before] - heard.taken[before - 1] <= 2000, "what a crash skips is bounded"
        assert all(after > before for before, after in itertools.pairwise(heard.taken))
    octets = b"".join([await asyncio.to_thread(path.read_bytes) for path in sorted((site.folder / "data").iterdir())])
    assert not any(secret in octets for secret in (EK, AK, EK.hex().encode(), AK.hex().encode()))


async def test_a_counter_that_is_behind_is_taken_from_the_meter(site: Site) -> None:
    for heard in site.heard:
        # Another head-end has used this key before, or our database was restored from a backup.
        heard.last["encryption"] = 500_000
    for suite, port in enumerate(site.ports):
        options = (*SECURED, "--suite", str(suite), "--framing", ("hdlc", "wrapper")[suite], "--port", str(port))
        more = (("--counter-object", "0-0:43.1.0"), ("--dedicated",))[suite]
        added = await site.typed("add", f"suite {suite}", "127.0.0.1", *options, *more, **KEYS)
        assert added.code == 0, added
    async with site.service():
        await site.more(5)
    assert site.heard[0].refused == 0, "its object was read by the public client beforehand"
    assert min(counter for heard in site.heard for counter in heard.taken) > 500_000


def key_pairs(folder: Path) -> tuple[Keys, Keys, dict[str, str]]:
    """Keys of client and meter for signatures and agreement; and the client's, as options."""
    a, b, c, d = (ec.generate_private_key(SecuritySuite.P256_AES_128.curve) for _ in range(4))
    shared = Keys(EK, AK, master=KEK)
    client = replace(shared, signing=a, agreement=b, peer_signing=c.public_key(), peer_agreement=d.public_key())
    meter = replace(shared, signing=c, agreement=d, peer_signing=a.public_key(), peer_agreement=b.public_key())
    options = {}
    for option, key in (("--signing-key", a), ("--agreement-key", b)):
        path = folder / f"{option[2:]}.pem"
        path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        options[option] = str(path)
    for option, key in (("--meter-signing-key", c), ("--meter-agreement-key", d)):
        path = folder / f"{option[2:]}.pem"
        path.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
        options[option] = str(path)
    return client, meter, options


async def test_keys_of_one_apdu_and_signatures(site: Site) -> None:
    _, theirs, pairs = await asyncio.to_thread(key_pairs, site.folder)
    suite = SecuritySuite.P256_AES_128
    options = FleetOptions(
        count=4, port=0, server=ServerOptions("wrapper"), security=SecurityOptions(keys=theirs, suite=suite)
    )
    given = [word for pair in pairs.items() for word in pair]
    keys = {**KEYS, "METER_MASTER_KEY": KEK.hex()}
    async with SimulatedFleet(options) as fleet:
        came = {word: Seen() for word in ("identified", "wrapped", "one-pass", "static-unified")}
        for (word, seen), server in zip(came.items(), fleet.servers, strict=True):
            assert server.meter.security is not None
            server.meter.security.received = seen
            more = ("--suite", "1", "--framing", "wrapper", "--general-ciphering", word, "--signed", *given)
            added = await site.typed("add", word, "127.0.0.1", "--port", str(server.port), *SECURED, *more, **keys)
            assert added.code == 0, added
            assert "PRIVATE" not in added.out + added.err
        async with site.service():
            async with asyncio.timeout(30):
                while any(seen.number < 5 for seen in came.values()):
                    await asyncio.sleep(0.05)
            status = json.loads((await site.typed("status", "one-pass", "--json")).out)
        assert status["counters"]["failures"] == 0
        assert (status["has_agreement_key"], status["has_master_key"], status["signed"]) == (True, True, True)
        names = {word: seen.names for word, seen in came.items()}
    assert names == {
        "identified": {"encryption"},
        "wrapped": {"encryption", "wrapped"},
        "one-pass": {"encryption", "agreed"},
        "static-unified": {"encryption", "agreed"},
    }, "InitiateRequest goes with the global key, everything else with that of the option"
    octets = b"".join([await asyncio.to_thread(path.read_bytes) for path in sorted((site.folder / "data").iterdir())])
    assert not any(secret in octets for secret in (KEK, KEK.hex().encode(), b"PRIVATE KEY"))


async def test_wrong_keys_are_an_alarm_and_new_ones_end_it(site: Site) -> None:
    options = (*SECURED, "--port", str(site.ports[0]))
    wrong = {"METER_KEY": AK.hex(), "METER_AUTH_KEY": EK.hex()}
    assert (await site.typed("add", "Main", "127.0.0.1", *options, **wrong)).code == 0
    async with site.service() as process:
        assert process.stdout is not None
        while "authentication_failure" not in await asyncio.to_thread(process.stdout.readline):
            pass
        status = json.loads((await site.typed("status", "Main", "--json")).out)
        assert status["troubles"] == ["authentication_failure"]
        assert (await site.typed("edit", "Main", **KEYS)).code == 0
        async with asyncio.timeout(20):
            while len(site.heard[0].taken) < 5:
                await asyncio.sleep(0.05)
        assert json.loads((await site.typed("status", "Main", "--json")).out)["troubles"] == []
        (await site.typed("edit", "Main", "--key", "0123")).refused_in_one_line(2)
        (await site.typed("edit", "Main", "--key", "")).refused_in_one_line(2)
        (await site.typed("edit", "Main", "--signing-key", "no-such-file")).refused_in_one_line(2)
