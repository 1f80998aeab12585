"""Our client reads an independent meter with HLS-GMAC, every APDU ciphered, over HDLC and wrapper."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from meterbridge.dlms import Credentials, Keys, Mechanism, ReservedCounter, SecurityContext, SecurityPolicy
from meterbridge.errors import MeterError
from meterbridge.meter import DLMSClient, MeterAddress, Timeouts, load_model

FRAMINGS = ("hdlc", "wrapper")
POLICIES = tuple(SecurityPolicy(policy) for policy in (0x10, 0x20, 0x30))
KEYS = Keys(bytes(range(16)), bytes(range(0xD0, 0xE0)))
TITLE = b"MTB00001"
SECURITY = SecurityContext(TITLE, KEYS)


@pytest.fixture(scope="module", params=FRAMINGS)
def meter(request: pytest.FixtureRequest, shared: Path, free_port: Callable[[], int]) -> Iterator[MeterAddress]:
    pytest.importorskip("gurux_dlms")
    framing, port = request.param, free_port()
    command = [sys.executable, str(shared / "peers" / "gurux_meter.py"), "--port", str(port), "--framing", framing]
    process = subprocess.Popen([*command, "--auth", "hls-gmac", "--rows", "10"], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("READY")
        yield MeterAddress("127.0.0.1", port, framing)
    finally:
        process.terminate()
        process.wait(10)


def client(meter: MeterAddress, security: SecurityContext, **more: object) -> DLMSClient:
    credentials = replace(Credentials(Mechanism.HLS_GMAC, None, security), **more)  # type: ignore[arg-type]
    address = replace(meter, credentials=credentials)
    return DLMSClient(address, load_model("generic"), Timeouts(3, 3), counter=ReservedCounter(1))


@pytest.mark.parametrize("general", [False, True])
@pytest.mark.parametrize("policy", POLICIES)
async def test_it_reads_what_the_meter_holds(meter: MeterAddress, policy: SecurityPolicy, general: bool) -> None:
    reader = client(meter, replace(SECURITY, policy=policy, general=general))
    await reader.connect()
    try:
        for _ in range(2):
            readout = await reader.read_measurements(
                ["1-0:32.7.0", "1-0:31.7.0", "1-0:14.7.0", "1-0:1.7.0", "1-0:1.8.0"]
            )
            assert readout.errors == {}
            values = {name: quantity.value for name, quantity in readout.values.items()}
            assert values == pytest.approx(
                {"1-0:32.7.0": 230.1, "1-0:31.7.0": 5.12, "1-0:14.7.0": 49.98, "1-0:1.7.0": 1180, "1-0:1.8.0": 1234567}
            )
        assert reader.connected
    finally:
        await reader.disconnect()


async def test_a_title_that_is_known_is_held_to(meter: MeterAddress) -> None:
    reader = client(meter, SECURITY, server_title=b"OTHERTTL")
    with pytest.raises(MeterError, match="another meter"):
        await reader.connect()
    assert not reader.connected


@pytest.mark.parametrize("keys", [replace(KEYS, encryption=bytes(16)), replace(KEYS, authentication=bytes(16))])
async def test_wrong_keys_are_refused(meter: MeterAddress, keys: Keys) -> None:
    reader = client(meter, replace(SECURITY, keys=keys))
    with pytest.raises(MeterError):
        await reader.connect()
    assert not reader.connected
