"""From settings to what each room takes: its limits, its thresholds, whom to connect to."""

from __future__ import annotations

import os

from meterbridge.delivery import Limits, LineLimits, RouteSettings, Subscriptions, Tls
from meterbridge.errors import ConfigurationError
from meterbridge.fleet import HistoryLimits
from meterbridge.meter import BackoffSettings, BreakerSettings, PollerSettings
from meterbridge.settings import (
    DatabaseSettings,
    DeliverySettings,
    HistorySettings,
    MqttSettings,
    OutboxSettings,
    PollingSettings,
    RpcSettings,
)
from meterbridge.store import Account, Vault, key_source
from meterbridge.thingsboard import SERVICE_TYPE
from meterbridge.thingsboard.rpc import BROKER_TOPICS, DEVICE_TOPICS, GATEWAY_TOPICS


def open_vault(database: DatabaseSettings) -> Vault:
    """What encrypts and decrypts the database's secrets."""
    return Vault(key_source(database.key_file, os.environ))


def route_settings(
    mqtt: MqttSettings,
    delivery: DeliverySettings,
    account: Account | None,
    rpc: RpcSettings | None = None,
    service_name: str = "",
) -> RouteSettings:
    """Whom the routes connect to, as whom, and what they are to hear there.

    Args:
        mqtt: settings.
        delivery: settings.
        account: at ThingsBoard, for what the settings leave open; None without one.
        rpc: settings; None hears nothing.
        service_name: device of the installation itself; empty for none.

    Raises:
        ConfigurationError: the route is the gateway's and nobody knows its token.
    """
    heard = Subscriptions(GATEWAY_TOPICS, DEVICE_TOPICS, BROKER_TOPICS)
    token, at = None, None
    provisioned = account.gateway_token if account is not None else None
    if delivery.route == "gateway":
        token = delivery.gateway_token.get_secret_value() if delivery.gateway_token is not None else provisioned
        if token is None:
            raise ConfigurationError(
                'route = "gateway" needs gateway_token, or one that `meterbridge thingsboard provision` fetched'
            )
    elif delivery.route is None and account is not None:
        # Only there: to a broker the gateway's messages would be lost on nobody.
        token, at = provisioned, (account.mqtt_host, account.mqtt_port)
    return RouteSettings(
        token,
        delivery.device_type,
        mqtt.client_id_prefix,
        mqtt.username,
        mqtt.password.get_secret_value() if mqtt.password else None,
        5 if mqtt.protocol == "5" else 4,
        Tls(mqtt.tls_ca, mqtt.tls_cert, mqtt.tls_key) if mqtt.tls_ca is not None else None,
        mqtt.keepalive_s,
        heard if rpc is not None and rpc.enabled else Subscriptions(),
        at,
        {service_name: SERVICE_TYPE} if service_name else {},
    )


def line_limits(mqtt: MqttSettings, delivery: DeliverySettings) -> LineLimits:
    """Bounds and delays of each MQTT connection."""
    return LineLimits(
        mqtt.max_inflight,
        delivery.ack_timeout_s,
        backoff_first_s=mqtt.backoff_initial_s,
        backoff_max_s=mqtt.backoff_max_s,
        refusals=delivery.refusals,
        backlog_rows_per_s=delivery.backlog_rows_per_s,
    )


def poller_settings(polling: PollingSettings) -> PollerSettings:
    """Thresholds of one meter's poller."""
    return PollerSettings(
        BreakerSettings(polling.breaker_reconnections, polling.breaker_window_s, polling.breaker_pause_s),
        polling.silence_s,
        polling.hdlc_errors,
        polling.response_timeout_floor_s,
        polling.response_timeout_ceiling_s,
        polling.inactivity_timeout_s,
        2 * polling.period_s,
        max(2 * polling.period_s, polling.object_retry_max_s),
        polling.alarm_after,
        polling.authentication_retry_s,
        polling.authentication_retry_max_s,
    )


def backoff_settings(polling: PollingSettings) -> BackoffSettings:
    """Delays between attempts."""
    return BackoffSettings(polling.backoff_initial_s, polling.backoff_max_s)


def outbox_limits(settings: OutboxSettings) -> Limits:
    """Bounds of the outbox."""
    return Limits(settings.max_rows, settings.max_octets, settings.max_age_days * 86_400)


def history_limits(history: HistorySettings) -> HistoryLimits:
    """What is read back after an outage, and how gently."""
    return HistoryLimits(
        history.enabled,
        history.gap_s,
        history.max_age_days * 86_400,
        history.chunk_s,
        history.settle_s,
        history.pieces_per_s,
        history.clock_check_s,
        history.clock_drift_s,
    )
