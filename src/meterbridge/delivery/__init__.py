"""From a reading to its PUBACK: a durable outbox and the publisher that empties it."""

from meterbridge.delivery import inspection
from meterbridge.delivery.alarms import DeliveryAlarms
from meterbridge.delivery.asking import ask, lets_in
from meterbridge.delivery.choice import RouteBook, RouteSettings
from meterbridge.delivery.conversation import Heard, Saying
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
    Stranded,
    SubscriptionRefused,
)
from meterbridge.delivery.line import LineLimits
from meterbridge.delivery.moving import Homes
from meterbridge.delivery.once import publish_once
from meterbridge.delivery.outbox import Outbox, OutboxStats, Page
from meterbridge.delivery.outbox_file import Limits, Loss, damaged_files
from meterbridge.delivery.publisher import Publisher, PublisherStats
from meterbridge.delivery.rehoming import rehome
from meterbridge.delivery.routes import (
    BrokerRoute,
    Endpoint,
    Message,
    Route,
    Subscriptions,
    Tls,
    Unsendable,
    broker_route_name,
    check_device_name,
)
from meterbridge.delivery.row import Kind, Row
from meterbridge.delivery.thingsboard_routes import DeviceRoute, GatewayRoute, device_route_name, gateway_route_name
from meterbridge.delivery.ticket import Ticket

__all__ = [
    "BrokerRoute",
    "Connected",
    "DeliveryAlarms",
    "DeviceRoute",
    "Disconnected",
    "Dropped",
    "Endpoint",
    "Event",
    "GatewayRoute",
    "Heard",
    "Homes",
    "Kind",
    "Limits",
    "LineLimits",
    "Listener",
    "Loss",
    "Message",
    "Outbox",
    "OutboxStats",
    "Page",
    "Publisher",
    "PublisherStats",
    "Quarantined",
    "Route",
    "RouteBook",
    "RouteSettings",
    "Row",
    "Saying",
    "SetAside",
    "StorageFailed",
    "StorageRecovered",
    "Stranded",
    "SubscriptionRefused",
    "Subscriptions",
    "Ticket",
    "Tls",
    "Unsendable",
    "ask",
    "broker_route_name",
    "check_device_name",
    "damaged_files",
    "device_route_name",
    "gateway_route_name",
    "inspection",
    "lets_in",
    "publish_once",
    "rehome",
]
