from __future__ import annotations

import json
from pathlib import Path

from meterbridge.settings import RpcSettings
from meterbridge.thingsboard import GatewaySettings, gateway_files, rpc


def test_tb_gateway_hands_on_what_we_hear_and_waits_for_our_answer() -> None:
    connector = json.loads(gateway_files(GatewaySettings(Path("/g"), "TOKEN"))["mqtt.json"])
    [call] = connector["requestsMapping"]["serverSideRpc"]
    topic = call["requestTopicExpression"].replace("${deviceName}", "m0").replace("${requestId}", "3")
    payload = call["valueExpression"].replace("${method}", '"pause"').replace("${params}", "{}")
    found = rpc.understood(topic, payload.encode())
    assert isinstance(found, rpc.Call)
    assert found.answer_topic == call["responseTopicExpression"].replace("${deviceName}", "m0").replace(
        "${requestId}", "3"
    )
    assert call["responseTimeout"] > 1000 * RpcSettings().timeout_s
    [update] = connector["requestsMapping"]["attributeUpdates"]
    topic = update["topicExpression"].replace("${deviceName}", "m0").replace("${attributeKey}", "pollInterval")
    assert rpc.understood(topic, b"5") == rpc.SharedAttributes("m0", {"pollInterval": 5})
