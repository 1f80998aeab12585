"""The real tb-gateway between Mosquitto and the endpoint, on the files that `meterbridge gateway-config` writes.

METERBRIDGE_SOAK=1 kills it eight times instead of twice.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.processes import run
from tests.broker import Mosquitto
from tests.conftest import ROOT
from tests.integration.delivery_recorder import Recorder
from tests.integration.delivery_site import Site, lost, out_of_order, tell
from tests.integration.test_delivery import until

SOAK = bool(os.environ.get("METERBRIDGE_SOAK"))
KILLS = 8 if SOAK else 2
PROGRAM = ROOT / ".venv-gateway" / "bin" / "thingsboard-gateway"

pytestmark = [
    pytest.mark.skipif(
        not PROGRAM.exists(), reason="needs thingsboard-gateway in .venv-gateway; `make test` puts it there"
    ),
    pytest.mark.timeout(300 if SOAK else 180),
    pytest.mark.xdist_group("delivery"),
]


class Gateway:
    """A thingsboard-gateway process of the test's own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        environment = {**os.environ, "TB_GW_CONFIG_DIR": f"{self.folder}/", "TB_GW_LOGS_PATH": f"{self.folder}/logs"}
        with (self.folder / "out.log").open("ab") as out:
            self._process = subprocess.Popen(
                [PROGRAM], cwd=self.folder, env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=out
            )

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


@pytest.fixture
async def recorder(free_port: Callable[[], int]) -> AsyncIterator[Recorder]:
    recorder = Recorder(free_port())
    await recorder.start()
    yield recorder
    await recorder.stop()


@pytest.fixture
def gateway(tmp_path: Path, recorder: Recorder, mosquitto: Mosquitto) -> Iterator[Gateway]:
    folder = tmp_path / "gateway"
    done = run(
        "gateway-config", str(folder), "--token", "GW_TOKEN", "--port", str(recorder.port),
        "--broker-port", str(mosquitto.port),
    )  # fmt: skip
    assert done.code == 0, done
    gateway = Gateway(folder)
    yield gateway
    gateway.kill()


async def test_each_reading_arrives_under_its_own_device_through_the_real_gateway(
    tmp_path: Path, recorder: Recorder, mosquitto: Mosquitto, gateway: Gateway, free_port: Callable[[], int]
) -> None:
    gateway.start()
    # It subscribes before the first reading is there.
    await until(lambda: b"SUBSCRIBE" in mosquitto.log.read_bytes() or recorder.connections > 0, 60)
    await asyncio.sleep(3.0)
    async with Site(tmp_path, 10, mosquitto.port, free_port) as site:
        site.start()
        await until(lambda: len(recorder.readings()) == 10, 60)
        await asyncio.sleep(5.0)
        assert await asyncio.to_thread(site.stop) == 0
        committed = site.committed()
        await until(lambda: not lost(committed, recorder.readings()), 40)
    arrived = recorder.readings()
    assert set(arrived) == {f"m{number}" for number in range(10)}
    assert lost(arrived, committed) == {}
    assert out_of_order(arrived) == []
    described = [json.loads(p) for topic, p in recorder.messages if topic == "v1/gateway/attributes"]
    assert {device for message in described for device in message} >= {*arrived, "Meterbridge service"}


async def test_what_a_killed_gateway_loses_is_its_own_and_the_gateway_route_loses_nothing(
    tmp_path: Path,
    recorder: Recorder,
    mosquitto: Mosquitto,
    gateway: Gateway,
    free_port: Callable[[], int],
    record_property: Callable[[str, object], None],
) -> None:
    gateway.start()
    await until(lambda: recorder.connections > 0, 60)
    await asyncio.sleep(3.0)
    (tmp_path / "broker").mkdir()
    (tmp_path / "direct").mkdir()
    async with (
        Site(tmp_path / "broker", 10, mosquitto.port, free_port) as through,
        Site(tmp_path / "direct", 10, recorder.port, free_port, "GW_DIRECT") as direct,
    ):
        through.start()
        direct.start()
        await until(lambda: len(_of(recorder, "GW_TOKEN")) == 10 and len(_of(recorder, "GW_DIRECT")) == 10, 60)
        for _ in range(KILLS):
            await asyncio.sleep(2.0)
            # Both sides meet the same: their client of ThingsBoard dies with what it had on its way.
            gateway.kill()
            await asyncio.to_thread(direct.kill)
            recorder.cut()
            await asyncio.sleep(0.5)
            gateway.start()
            direct.start()
        await asyncio.sleep(6.0)
        assert await asyncio.to_thread(through.stop) == 0
        assert await asyncio.to_thread(direct.stop) == 0
        await asyncio.sleep(10.0)
        of_gateway = lost(through.committed(), _of(recorder, "GW_TOKEN"))
        of_us = lost(direct.committed(), _of(recorder, "GW_DIRECT"))
        total = sum(map(len, through.committed().values()))
    missing = sum(map(len, of_gateway.values()))
    record_property("lost_by_tb_gateway", f"{missing} of {total}")
    ours = sum(map(len, direct.committed().values()))
    tell(f"killed {KILLS} times: tb-gateway lost {missing} of {total}, the gateway route {of_us or 0} of {ours}")
    assert of_us == {}
    # Not through our fault: all of it had been acknowledged by Mosquitto.
    assert through.waiting() == 0


async def test_thingsboard_asks_back_through_the_real_gateway(
    tmp_path: Path, recorder: Recorder, mosquitto: Mosquitto, gateway: Gateway, free_port: Callable[[], int]
) -> None:
    gateway.start()
    await until(lambda: recorder.connections > 0, 60)
    await asyncio.sleep(3.0)
    async with Site(tmp_path, 2, mosquitto.port, free_port, settings="[rpc]\nallow_relay = true\n") as site:
        site.allow_relay("m0")
        site.start()
        await until(lambda: len(recorder.readings()) == 2, 60)
        number = 0

        async def call(method: object, params: object, device: str = "m0") -> Any:
            nonlocal number
            number += 1
            asked = {"device": device, "data": {"id": number, "method": method, "params": params}}
            recorder.send("GW_TOKEN", "v1/gateway/rpc", json.dumps(asked).encode())

            def answers() -> list[Any]:
                replies = [json.loads(payload) for topic, payload in recorder.messages if topic == "v1/gateway/rpc"]
                return [reply["data"] for reply in replies if (reply["device"], reply["id"]) == (device, number)]

            await until(lambda: len(answers()) > 0, 20)
            return answers()[0]

        assert 200 < (await call("readNow", {}))["values"]["voltage_l1"] < 260
        assert 200 < (await call("getValue", "voltage_l1"))["value"] < 260
        assert await call("setRelay", {"on": False}) == {"on": False, "changed": True}
        assert not site.conducts(0)
        assert await call("setRelay", True) == {"on": True, "changed": True}
        assert site.conducts(0)
        # An apostrophe in an answer is one that tb-gateway would break.
        refused = await call("getValue", "ba'na\"nas")
        assert "is no measurement of model microstar" in refused["error"]
        assert "no method" in (await call("v1/devices/+/#", None))["error"]
        assert "takes no parameters" in (await call("pause", "${method}"))["error"]
        assert (await call("setRelay", True, "m1"))["error"].startswith("setRelay is not allowed for m1")
        update = {"device": "m0", "data": {"pollInterval": 2, "measurements": "voltage_l1, current_l1", "other": 1}}
        recorder.send("GW_TOKEN", "v1/gateway/attributes", json.dumps(update).encode())

        def told() -> dict[str, object]:
            found: dict[str, object] = {}
            for topic, payload in recorder.messages:
                if topic == "v1/gateway/attributes":
                    found.update(json.loads(payload).get("m0", {}))
            return found

        await until(lambda: told().get("measurements") == "voltage_l1,current_l1", 20)
        await until(lambda: told()["pollInterval"] == 2, 20)
        assert await asyncio.to_thread(site.stop) == 0


def _of(recorder: Recorder, token: str) -> dict[str, list[int]]:
    own = Recorder(0)
    pairs = [
        (message, sender)
        for message, sender in zip(recorder.messages, recorder.senders, strict=True)
        if sender == token
    ]
    own.messages, own.senders = [message for message, _ in pairs], [sender for _, sender in pairs]
    return own.readings()
