"""A meter that agrees to GET with list and never answers one."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from meterbridge.errors import ResponseTimeout
from meterbridge.meter import DLMSClient, MeterAddress, Timeouts, load_model
from meterbridge.simulator import Faithful, FleetOptions, SimulatedFleet
from meterbridge.simulator.behaviour import Action, Send

WITH_LIST = b"\xe6\xe7\x00\xc4\x03"


class Overwhelmed(Faithful):
    """Swallows every answer to a list."""

    swallowed = 0

    def deliver(self, octets: bytes, now: float) -> Sequence[Action]:
        if WITH_LIST in octets:
            self.swallowed += 1
            return ()
        return (Send(octets),)


async def test_it_is_found_out_and_remembered_over_reconnections() -> None:
    meter = Overwhelmed()
    async with SimulatedFleet(FleetOptions(port=0), [meter]) as fleet:
        address = MeterAddress("127.0.0.1", fleet.ports[0], password=b"00000000")
        client = DLMSClient(address, load_model("microstar"), Timeouts(2.0, 0.2, retransmissions=0))
        for _ in range(2):
            await client.connect()
            with pytest.raises(ResponseTimeout):
                await client.read_measurements()
        for _ in range(3):
            await client.connect()
            readout = await client.read_measurements()
            assert len(readout.values) == 5
            assert readout.errors == {}
            await client.disconnect()
        assert meter.swallowed == 2
