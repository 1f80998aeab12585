"""Configuration of tb-gateway 3.8 and of its Mosquitto, with the settings that lose least. Pure: text comes out.

Why each setting is as it is was found by running them; docs/delivery.md says what still can be lost.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

from meterbridge.thingsboard.rpc import SHARED_KEYS

_FOR_EVER = 4_294_967_295
# Longer than we take for an answer, or for saying that there is none.
_RPC_TIMEOUT_MS = 15_000


@dataclass(frozen=True, slots=True)
class GatewaySettings:
    """What differs from one installation to the next.

    Args:
        folder: absolute; of the files themselves, the gateway's storage and Mosquitto's.
        token: access token of the gateway device. Never shown by repr.
        thingsboard_host: ThingsBoard.
        thingsboard_port: its MQTT port.
        broker_host: address Mosquitto listens on.
        broker_port: its port.
        device_type: device profile of new devices.
        broker_user: account Mosquitto runs under where root starts it; it has to be able to write its storage.
    """

    folder: Path
    token: str = field(repr=False)
    thingsboard_host: str = "127.0.0.1"
    thingsboard_port: int = 1883
    broker_host: str = "127.0.0.1"
    broker_port: int = 1884
    device_type: str = "dlms-meter"
    broker_user: str = "mosquitto"


def gateway_files(settings: GatewaySettings) -> dict[str, str]:
    """Return the text of each file by its name: tb_gateway.json, mqtt.json, logs.json and mosquitto.conf."""
    return {
        "tb_gateway.json": _json(_gateway(settings)),
        "mqtt.json": _json(_connector(settings)),
        "logs.json": _json(_logs(settings)),
        "mosquitto.conf": _mosquitto(settings),
    }


def _json(content: object) -> str:
    return json.dumps(content, indent=2) + "\n"


def _gateway(settings: GatewaySettings) -> object:
    return {
        "thingsboard": {
            "host": settings.thingsboard_host,
            "port": settings.thingsboard_port,
            "remoteShell": False,
            "remoteConfiguration": False,
            "statistics": {"enable": False},
            "deviceFiltering": {"enable": False},
            "maxPayloadSizeBytes": 8196,
            "minPackSendDelayMS": 50,
            "checkConnectorsConfigurationInSeconds": 60,
            "handleDeviceRenaming": False,
            "security": {"type": "accessToken", "accessToken": settings.token},
            "qos": 1,
            # With any other strategy a wildcard drops everything, or repetitions of a value.
            "reportStrategy": {"type": "ON_RECEIVED"},
        },
        # `memory` loses all at a crash, `file` deletes what it has not read.
        "storage": {
            "type": "sqlite",
            "data_file_path": f"{settings.folder / 'storage'}/",
            "messages_ttl_check_in_hours": 1,
            "messages_ttl_in_days": 30,
            # The shipped 10 makes 143 messages a second.
            "max_read_records_count": 1000,
            "size_limit": 1024,
            "max_db_amount": 10,
        },
        "grpc": {"enabled": False},
        "connectors": [{"type": "mqtt", "name": "meters", "configuration": "mqtt.json"}],
    }


def _connector(settings: GatewaySettings) -> object:
    return {
        "broker": {
            "host": settings.broker_host,
            "port": settings.broker_port,
            "clientId": "tb-gateway-meters",
            "version": 5,
            # A lasting session: what arrives while the gateway is down waits in Mosquitto.
            "cleanSession": False,
            "cleanStart": False,
            "sessionExpiryInterval": _FOR_EVER,
            "maxNumberOfWorkers": 1,
            "maxMessageNumberPerWorker": 100,
            "security": {"type": "anonymous"},
        },
        "dataMapping": [
            _mapping(settings, "telemetry", "timeseries"),
            _mapping(settings, "attributes", "attributes"),
        ],
        "requestsMapping": {
            "connectRequests": [],
            "disconnectRequests": [],
            "attributeRequests": [],
            "attributeUpdates": [
                {
                    "deviceNameFilter": ".*",
                    "attributeFilter": f"^({'|'.join(SHARED_KEYS)})$",
                    "topicExpression": "v1/devices/${deviceName}/attributes/shared/${attributeKey}",
                    "valueExpression": "${attributeValue}",
                    # Mosquitto keeps the newest: whoever connects later has it too.
                    "retain": True,
                    "qos": 1,
                }
            ],
            "serverSideRpc": [
                {
                    "deviceNameFilter": ".*",
                    "methodFilter": ".*",
                    # The method may be anything, so it is no level of the topic.
                    "requestTopicExpression": "v1/devices/${deviceName}/rpc/request/${requestId}",
                    "valueExpression": '{"method": ${method}, "params": ${params}}',
                    "responseTopicExpression": "v1/devices/${deviceName}/rpc/response/${requestId}",
                    "responseTopicQoS": 1,
                    "responseTimeout": _RPC_TIMEOUT_MS,
                    "qos": 1,
                }
            ],
        },
    }


def _mapping(settings: GatewaySettings, kind: str, target: str) -> object:
    return {
        "topicFilter": f"v1/devices/+/{kind}",
        "subscriptionQos": 1,
        "converter": {
            "type": "json",
            "deviceInfo": {
                "deviceNameExpressionSource": "topic",
                "deviceNameExpression": f"(?<=v1/devices/)(.*?)(?=/{kind})",
                "deviceProfileExpressionSource": "constant",
                "deviceProfileExpression": settings.device_type,
            },
            "sendDataOnlyOnChange": False,
            "timeout": 60_000,
            "attributes": ["*"] if target == "attributes" else [],
            "timeseries": ["*"] if target == "timeseries" else [],
        },
    }


def _logs(settings: GatewaySettings) -> object:
    file = {
        "class": "thingsboard_gateway.tb_utility.tb_rotating_file_handler.TimedRotatingFileHandler",
        "formatter": "LogFormatter",
        "backupCount": 7,
        "interval": 1,
        "when": "D",
        "encoding": "utf-8",
    }
    names = ("service", "connector", "converter", "storage", "database", "tb_connection", "extension")
    handlers = {f"{name}Handler": {**file, "filename": f"{settings.folder / 'logs' / name}.log"} for name in names}
    console = {"class": "logging.StreamHandler", "formatter": "LogFormatter", "level": "WARNING"}
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "LogFormatter": {
                "class": "logging.Formatter",
                "format": "%(asctime)s - |%(levelname)s| - [%(filename)s] - %(name)s - %(lineno)d - %(message)s",
                "datefmt": "%Y-%m-%d %H:%M:%S",
            }
        },
        "handlers": {"consoleHandler": console, **handlers},
        "loggers": {
            name: {"handlers": [f"{name}Handler", "consoleHandler"], "level": "INFO", "propagate": False}
            for name in names
        },
        "root": {"level": "WARNING", "handlers": ["consoleHandler"]},
        "ts": 1,
    }


def _mosquitto(settings: GatewaySettings) -> str:
    return f"""# Between Meterbridge and tb-gateway, on this machine only.
listener {settings.broker_port} {settings.broker_host}
allow_anonymous true

# Started by root it becomes this user, who can write the storage below: else all that waits is lost with a restart.
user {settings.broker_user}

# Sessions and queued messages survive a restart; written this often, in seconds, for a crash.
persistence true
persistence_location {settings.folder / "mosquitto"}/
autosave_interval 10

# What tb-gateway has not taken waits without a bound on messages, but not beyond the disk's patience.
max_queued_messages 0
max_queued_bytes 1073741824
max_inflight_messages 100
"""
