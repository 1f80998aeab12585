"""The service as a process, killed, cut off and starved: what was on disk arrives, in order. Lost 0.

METERBRIDGE_SOAK=1 takes the long forms.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import signal
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from tests.broker import Mosquitto
from tests.integration.delivery_proxy import Proxy
from tests.integration.delivery_recorder import Recorder
from tests.integration.delivery_site import Site, lost, out_of_order, tell
from tests.integration.test_delivery import Subscriber, until

SOAK = bool(os.environ.get("METERBRIDGE_SOAK"))
SEED = int(os.environ.get("METERBRIDGE_SEED") or 20251113)
TOKEN = "GW_TOKEN"

pytestmark = [pytest.mark.timeout(300 if SOAK else 150), pytest.mark.xdist_group("delivery")]


@pytest.fixture
async def recorder(free_port: Callable[[], int]) -> AsyncIterator[Recorder]:
    recorder = Recorder(free_port())
    await recorder.start()
    yield recorder
    await recorder.stop()


def count(readings: dict[str, list[int]]) -> int:
    return sum(map(len, readings.values()))


async def grows(recorder: Recorder, by: int = 1) -> None:
    before = len(recorder.messages)
    await until(lambda: len(recorder.messages) >= before + by, 30)


async def drained(site: Site, seconds: float = 60.0) -> None:
    """Wait until the service is over its backlog; then end it in order, which delivers what is left."""
    await until(lambda: site.waiting() < 200, seconds)
    assert await asyncio.to_thread(site.stop) == 0
    assert site.waiting() == 0


def report(what: str, committed: dict[str, list[int]], recorder: Recorder) -> None:
    """Say what it came to; a reading that came again came as it was."""
    again, others = recorder.duplicates()
    arrived = recorder.readings()
    missing = sum(map(len, lost(committed, arrived).values()))
    order = len(out_of_order(arrived))
    tell(
        f"{what}: {count(committed)} committed, {missing} lost, {again} came again, {others} of them changed,"
        f" {order} meters out of order"
    )
    assert (missing, others) == (0, 0)


@pytest.mark.parametrize("token", [None, TOKEN], ids=["broker", "gateway"])
async def test_a_service_killed_twenty_times_while_fifty_meters_run_loses_nothing(
    tmp_path: Path, recorder: Recorder, free_port: Callable[[], int], token: str | None
) -> None:
    rng = random.Random(SEED)
    print(f"seed {SEED}")
    kills = 20 if SOAK or token else 5
    async with Site(tmp_path, 50, recorder.port, free_port, token) as site:
        for _ in range(kills):
            site.start()
            await grows(recorder, 2)
            await asyncio.sleep(rng.uniform(0.0, 0.6))
            await asyncio.to_thread(site.kill)
        site.start()
        await grows(recorder, 5)
        await drained(site)
        committed = site.committed()
    arrived = recorder.readings()
    assert len(committed) == 50
    assert count(committed) > 50 * kills / 2
    assert lost(committed, arrived) == {}
    assert out_of_order(arrived) == []
    # Nothing was made up on the way, and each payload of one (device, ts) is the same.
    assert lost(arrived, committed) == {}
    report(f"{kills} times SIGKILL, 50 meters, {token or 'broker'}", committed, recorder)


async def test_thingsboard_down_for_long_loses_nothing(
    tmp_path: Path, recorder: Recorder, free_port: Callable[[], int]
) -> None:
    """Ten minutes at one poll a second are 600 readings a meter; here they come twenty times as fast."""
    settings = "backlog_rows_per_s = 2000.0\n"
    async with Site(tmp_path, 20, recorder.port, free_port, TOKEN, settings) as site:
        file = site.folder / "meterbridge.toml"
        file.write_text(file.read_text().replace("period_s = 0.5", "period_s = 0.05"))
        site.start()
        await grows(recorder)
        await recorder.stop()
        await until(lambda: site.waiting() >= (12_000 if SOAK else 4_000), 120)
        await recorder.start()
        await grows(recorder)
        await drained(site)
        committed = site.committed()
    report("ThingsBoard away", committed, recorder)


@pytest.mark.parametrize("frozen_s", [30.0 if SOAK else 4.0])
async def test_a_broker_frozen_killed_and_restarted_loses_nothing(
    tmp_path: Path, mosquitto: Mosquitto, free_port: Callable[[], int], frozen_s: float
) -> None:
    # At QoS 1 the broker hands on 20 at a time and loses the rest of a burst that it has acknowledged; and a subscriber
    # whose PUBACKs meet a closed socket lets go of what it has not read. At QoS 0 it writes each before its PUBACK.
    configuration = tmp_path / "mosquitto.conf"
    configuration.write_text(mosquitto.configuration.read_text() + "queue_qos0_messages true\n")
    with Subscriber(mosquitto, qos=0) as subscriber:
        mosquitto.stop()
        mosquitto.use(configuration)
        mosquitto.start()
        await until(lambda: subscriber.connected.is_set())
        async with Site(tmp_path, 20, mosquitto.port, free_port) as site:
            site.start()
            await until(lambda: len(subscriber.messages) > 100, 30)
            os.kill(mosquitto.pid, signal.SIGSTOP)
            try:
                await asyncio.sleep(frozen_s)
            finally:
                os.kill(mosquitto.pid, signal.SIGCONT)
            seen = len(subscriber.messages)
            await until(lambda: len(subscriber.messages) > seen + 100, 30)
            # What it had acknowledged it had handed on as well; docs/delivery.md says what a broker loses that had not.
            mosquitto.stop(kill=True)
            await asyncio.sleep(1.0)
            mosquitto.start()
            seen = len(subscriber.messages)
            await until(lambda: len(subscriber.messages) > seen + 100, 30)
            await drained(site)
            committed = site.committed()
            await until(lambda: not lost(committed, _recorded(subscriber).readings()), 20)
        recorded = _recorded(subscriber)
    report(f"broker frozen {frozen_s:g} s, killed, restarted", committed, recorded)
    assert out_of_order(recorded.readings()) == []


def _recorded(subscriber: Subscriber) -> Recorder:
    recorder = Recorder(0)
    recorder.messages, recorder.senders = list(subscriber.messages), [""] * len(subscriber.messages)
    return recorder


@pytest.mark.parametrize("token", [None, TOKEN], ids=["broker", "gateway"])
async def test_connections_cut_in_mid_message_and_pubacks_withheld_lose_nothing(
    tmp_path: Path, recorder: Recorder, free_port: Callable[[], int], token: str | None
) -> None:
    rng = random.Random(SEED)
    print(f"seed {SEED}")
    async with Proxy(free_port(), recorder.port) as proxy, Site(tmp_path, 20, proxy.port, free_port, token) as site:
        site.start()
        await grows(recorder)
        for _ in range(60 if SOAK else 8):
            proxy.cut_after(rng.randrange(1, 20_000))
            await asyncio.sleep(rng.uniform(0.1, 0.6))
        proxy.cut_after(None)
        proxy.withhold = True
        await asyncio.sleep(3.0)
        proxy.withhold = False
        await grows(recorder, 20)
        await drained(site)
        committed = site.committed()
    assert proxy.cuts >= 3
    report(f"{proxy.cuts} connections cut, PUBACKs withheld, {token or 'broker'}", committed, recorder)
    assert out_of_order(recorder.readings()) == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of two megabytes."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if (
        os.geteuid()
        or subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)], capture_output=True, check=False
        ).returncode
    ):
        pytest.skip("only root may mount a small disk; a bound on pages stands for it in test_delivery_routes")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(ballast: Path) -> None:
    with ballast.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"\0" * 4096)
        except OSError:
            pass


async def test_a_disk_that_is_full_at_the_start_keeps_nobody_from_polling_and_delivering(
    tmp_path: Path, small_disk: Path, recorder: Recorder, free_port: Callable[[], int]
) -> None:
    site = Site(tmp_path, 20, recorder.port, free_port, TOKEN, data=small_disk)
    async with site:
        # What an earlier run has left behind.
        await recorder.stop()
        site.start()
        await until(lambda: site.waiting() > 100, 30)
        assert await asyncio.to_thread(site.stop) == 0
        earlier = site.committed()
        await recorder.start()
        ballast = small_disk / "ballast"
        fill(ballast)
        site.start()
        await until(lambda: count(recorder.readings()) > 200, 30)
        assert lost(earlier, recorder.readings()), "nobody can read it as long as the disk is full"
        ballast.unlink()
        await until(lambda: not lost(earlier, recorder.readings()), 30)
        await drained(site)
        committed = site.committed()
    report("disk full at the start", committed, recorder)


async def test_a_full_disk_stops_neither_polling_nor_publishing_and_ends_without_a_restart(
    tmp_path: Path, small_disk: Path, recorder: Recorder, free_port: Callable[[], int]
) -> None:
    site = Site(tmp_path, 20, recorder.port, free_port, TOKEN, data=small_disk)
    async with site:
        site.start()
        await grows(recorder, 5)
        ballast = small_disk / "ballast"
        fill(ballast)
        log = tmp_path / "logs" / "meterbridge.log"
        await until(lambda: "StorageFailed" in log.read_text(), 60)
        # From memory now.
        seen = count(recorder.readings())
        await until(lambda: count(recorder.readings()) > seen + 200, 30)
        ballast.unlink()
        await until(lambda: "StorageRecovered" in log.read_text(), 30)
        committed = count(site.committed())
        await until(lambda: count(site.committed()) > committed + 100, 30)
        await drained(site)
        committed_all = site.committed()
    report("disk full in between", committed_all, recorder)
    # All that was polled arrived, also what never was on disk: no gap of more than a few periods.
    for times in recorder.readings().values():
        assert max(b - a for a, b in itertools.pairwise(times)) < 5_000
