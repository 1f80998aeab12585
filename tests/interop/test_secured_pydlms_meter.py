"""Our client reads pydlms's simulated meter ciphered, with each mechanism, by logical and by short names."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

from meterbridge.dlms import Credentials, Keys, Mechanism, ReservedCounter, SecurityContext
from meterbridge.meter import DLMSClient, MeterAddress, Timeouts, load_model

KEYS = Keys(bytes(range(16)), bytes(range(0xD0, 0xE0)))
SECRET = b"secret of both"
CLIENTS = {1: Mechanism.HLS_GMAC, 2: Mechanism.HLS_MD5, 3: Mechanism.HLS_SHA1, 4: Mechanism.HLS_SHA256}


@pytest.fixture(scope="module", params=["hdlc", "wrapper"])
def meter(request: pytest.FixtureRequest, free_port: Callable[[], int]) -> Iterator[MeterAddress]:
    pytest.importorskip("pydlms")
    port = free_port()
    assert KEYS.encryption is not None and KEYS.authentication is not None
    command = [sys.executable, "-m", "pydlms.cli", "simulate", "--port", str(port)]
    command += ["--key", KEYS.encryption.hex(), "--auth-key", KEYS.authentication.hex()]
    for client, mechanism in CLIENTS.items():
        command += ["--client", f"{client}:{mechanism:d}:{SECRET.decode()}"]
    if request.param == "hdlc":
        command.append("--hdlc")
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        assert "listening" in process.stderr.readline()
        yield MeterAddress("127.0.0.1", port, request.param)
    finally:
        process.terminate()
        process.communicate(timeout=10)


@pytest.mark.parametrize("referencing", ["ln", "sn"])
@pytest.mark.parametrize("client", CLIENTS)
async def test_it_reads_whatever_counter_it_begins_with(meter: MeterAddress, client: int, referencing: str) -> None:
    # The meter takes counters of one system title from all its clients: every one but the first begins too low here,
    # and is told so.
    credentials = Credentials(CLIENTS[client], SECRET, SecurityContext(b"MTB00001", KEYS))
    address = MeterAddress(
        meter.host, meter.port, meter.framing, client=client, referencing=referencing, credentials=credentials
    )
    reader = DLMSClient(address, load_model("generic"), Timeouts(3, 3), counter=ReservedCounter(1))
    await reader.connect()
    try:
        energy = await reader.read_measurement("1-0:1.8.0")
        assert (energy.value, energy.unit) == (12_345_678, "Wh")
    finally:
        await reader.disconnect()
