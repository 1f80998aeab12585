"""Our client reads a meter whose values gurux-dlms holds, encodes and ciphers: needs nothing beside the repository."""

from __future__ import annotations

import datetime as dt
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from meterbridge.dlms import (
    AttributeDescriptor,
    Credentials,
    Keys,
    LogicalName,
    Mechanism,
    ReservedCounter,
    SecurityContext,
    SecurityPolicy,
)
from meterbridge.errors import AssociationRefused, DataAccessError, MeterError
from meterbridge.meter import DLMSClient, MeterAddress, Timeouts, load_model

pytest.importorskip("gurux_dlms")

PEER = Path(__file__).with_name("gurux_peer.py")
FRAMINGS = ("hdlc", "wrapper")
FIVE = {
    "voltage_l1": (230.1, "V"),
    "current_l1": (5.12, "A"),
    "frequency": (49.98, "Hz"),
    "active_power": (1180.0, "W"),
    "active_energy": (1234567.0, "Wh"),
}
KEYS = Keys(bytes(range(16)), bytes(range(0xD0, 0xE0)))
SECURITY = SecurityContext(b"MTB00001", KEYS)
PROFILE = LogicalName.parse("1-0:99.1.0")
FIRST_ROW = dt.datetime(2026, 1, 1)
ROWS = 300


@contextmanager
def running(port: int, framing: str, auth: str) -> Iterator[MeterAddress]:
    command = [sys.executable, str(PEER), "--port", str(port), "--framing", framing, "--auth", auth]
    process = subprocess.Popen([*command, "--rows", str(ROWS)], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("READY"), f"the meter ended with {process.poll()}"
        yield MeterAddress("127.0.0.1", port, framing)
    finally:
        process.terminate()
        process.communicate(timeout=10)


@pytest.fixture(scope="module", params=[(framing, auth) for framing in FRAMINGS for auth in ("low", "hls-gmac")])
def meter(request: pytest.FixtureRequest, free_port: Callable[[], int]) -> Iterator[MeterAddress]:
    framing, auth = request.param
    with running(free_port(), framing, auth) as address:
        if auth == "low":
            yield replace(address, password=b"00000000")
        else:
            yield replace(address, credentials=Credentials(Mechanism.HLS_GMAC, None, SECURITY))


def client(address: MeterAddress) -> DLMSClient:
    return DLMSClient(address, load_model("generic"), Timeouts(5, 5), counter=ReservedCounter(1))


async def test_it_reads_what_the_meter_holds(meter: MeterAddress) -> None:
    reader = client(meter)
    await reader.connect()
    try:
        for _ in range(3):
            readout = await reader.read_measurements(list(FIVE))
            assert readout.errors == {}
            assert {name: (value.value, value.unit) for name, value in readout.values.items()} == FIVE
        [text, missing] = await reader.get(
            [
                AttributeDescriptor(1, LogicalName.parse("0-0:96.1.0"), 2),
                AttributeDescriptor(3, LogicalName.parse("1-0:99.99.0"), 2),
            ]
        )
        assert text == b"GURUX PEER"
        assert isinstance(missing, DataAccessError)
    finally:
        await reader.disconnect()


async def test_it_reads_the_load_profile_whole_by_time_and_by_entry(meter: MeterAddress) -> None:
    reader = client(meter)
    await reader.connect()
    try:
        whole = await reader.read_profile(PROFILE)
        assert [column.unit for column in whole.columns] == [None, "Wh"]
        assert whole.period == 900
        assert len(whole.rows) == ROWS
        for number, (when, energy) in enumerate(whole.rows):
            assert when.replace(tzinfo=None) == FIRST_ROW + dt.timedelta(minutes=15 * number)
            assert energy == 1_000_000 + 25 * number
        hour = await reader.read_profile(PROFILE, FIRST_ROW, FIRST_ROW + dt.timedelta(hours=1))
        assert hour.rows == whole.rows[:5]
        entries = await reader.read_profile(PROFILE, entries=(3, 4))
        assert entries.rows == whole.rows[2:4]
    finally:
        await reader.disconnect()


@pytest.mark.parametrize("framing", FRAMINGS)
async def test_a_wrong_password_is_refused(framing: str, free_port: Callable[[], int]) -> None:
    with running(free_port(), framing, "low") as address:
        reader = client(replace(address, password=b"11111111"))
        with pytest.raises(AssociationRefused, match="authentication"):
            await reader.connect()


@pytest.mark.parametrize("policy", [SecurityPolicy.AUTHENTICATED, SecurityPolicy.ENCRYPTED])
async def test_other_policies_and_wrong_keys(policy: SecurityPolicy, free_port: Callable[[], int]) -> None:
    with running(free_port(), "wrapper", "hls-gmac") as address:
        context = replace(SECURITY, policy=policy)
        good = client(replace(address, credentials=Credentials(Mechanism.HLS_GMAC, None, context)))
        await good.connect()
        assert (await good.read_measurement("1-0:32.7.0")).value == 230.1
        await good.disconnect()
        for keys in (replace(KEYS, encryption=bytes(16)), replace(KEYS, authentication=bytes(16))):
            wrong = Credentials(Mechanism.HLS_GMAC, None, replace(context, keys=keys))
            with pytest.raises(MeterError):
                await client(replace(address, credentials=wrong)).connect()
