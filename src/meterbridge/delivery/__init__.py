"""From a reading to its PUBACK: a durable outbox and the publisher that empties it."""

from meterbridge.delivery.events import (
    Connected,
    Disconnected,
    Dropped,
    Event,
    Listener,
    Quarantined,
    SetAside,
    StorageFailed,
    StorageRecovered,
)
from meterbridge.delivery.line import LineLimits
from meterbridge.delivery.outbox import Outbox, OutboxStats, Ticket
from meterbridge.delivery.outbox_file import Limits
from meterbridge.delivery.publisher import Publisher, PublisherStats
from meterbridge.delivery.routes import (
    BrokerRoute,
    Endpoint,
    Message,
    Route,
    Tls,
    Unsendable,
    broker_route_name,
    check_device_name,
)
from meterbridge.delivery.row import Kind, Row

__all__ = [
    "BrokerRoute",
    "Connected",
    "Disconnected",
    "Dropped",
    "Endpoint",
    "Event",
    "Kind",
    "Limits",
    "LineLimits",
    "Listener",
    "Message",
    "Outbox",
    "OutboxStats",
    "Publisher",
    "PublisherStats",
    "Quarantined",
    "Route",
    "Row",
    "SetAside",
    "StorageFailed",
    "StorageRecovered",
    "Ticket",
    "Tls",
    "Unsendable",
    "broker_route_name",
    "check_device_name",
]
