"""One paho client for one connection: made for an endpoint, and let go of without a word."""

from __future__ import annotations

import socket

from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from meterbridge.delivery.buffered_client import BufferedClient
from meterbridge.delivery.routes import Endpoint

UNLIMITED = 65_535
"""Most messages without PUBACK that MQTT has a number for."""
# Linux, tcp(7): the peer has closed in an orderly way, and we have not yet.
_CLOSE_WAIT = 8


def closed_by_peer(connection: object) -> bool:
    """Whether the peer has closed in an orderly way; True too where the system does not tell."""
    option: int | None = getattr(socket, "TCP_INFO", None)
    if option is None or not isinstance(connection, socket.socket):
        return True
    try:
        (state,) = connection.getsockopt(socket.IPPROTO_TCP, option, 1)
        return state == _CLOSE_WAIT
    except OSError:
        return False


def new_client(endpoint: Endpoint, connect_timeout_s: float) -> BufferedClient:
    """A client that is not connected yet.

    Args:
        endpoint: whom it will connect to.
        connect_timeout_s: for TCP and TLS.

    Raises:
        OSError, ValueError: the files of TLS cannot be used.
    """
    client = BufferedClient(
        CallbackAPIVersion.VERSION2,
        client_id=endpoint.client_id,
        protocol=MQTTProtocolVersion(endpoint.version),
        clean_session=True if endpoint.version == MQTTProtocolVersion.MQTTv311 else None,
    )
    client.connect_timeout = connect_timeout_s
    # 0 is without a bound: the line has one of its own, and paho looks through all that is in flight for each PUBACK.
    client.max_inflight_messages_set(0)
    if endpoint.username is not None:
        client.username_pw_set(endpoint.username, endpoint.password)
    if endpoint.tls is not None:
        tls = endpoint.tls
        client.tls_set(
            None if tls.ca is None else str(tls.ca),
            None if tls.certificate is None else str(tls.certificate),
            None if tls.key is None else str(tls.key),
        )
    return client


def abandon(client: BufferedClient) -> None:
    """Drop a connection without a word."""
    client.on_disconnect = None
    client.on_acknowledged = None
    client.on_socket_close = None
    connection = client.socket()
    if connection is not None:
        connection.close()
