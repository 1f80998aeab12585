"""One meter: its connection, its catalogue entry, its polling."""

from meterbridge.meter.address import MeterAddress, Timeouts
from meterbridge.meter.backfill import HistoryPiece, ProfileHistory
from meterbridge.meter.catalogue import MeterModel, load_model, model_names, parse_model
from meterbridge.meter.catalogue.push import load_layouts
from meterbridge.meter.client import DLMSClient, ObjectListElement
from meterbridge.meter.clock import ClockTime, read_clock, set_clock, time_for
from meterbridge.meter.configured import client_of, counter_object_of, credentials_of, meter_address
from meterbridge.meter.coverage import Coverage, Interval
from meterbridge.meter.kept_counter import CounterKeeper, CounterStore, Stretch
from meterbridge.meter.plan import Readout
from meterbridge.meter.policy import Backoff, BackoffSettings, BreakerSettings
from meterbridge.meter.poller import (
    DLMSProductionPoller,
    Failed,
    Gate,
    Polled,
    PollerEvent,
    PollerSettings,
    PollerState,
    PollOutcome,
    Recovered,
    Stray,
    Tripped,
    Trouble,
    Waiting,
)
from meterbridge.meter.profile import ProfileColumn, ProfileTable
from meterbridge.meter.push import Closed, ListenLimits, Pushed, PushListener
from meterbridge.meter.relay import RelayState, set_relay

__all__ = [
    "Backoff",
    "BackoffSettings",
    "BreakerSettings",
    "ClockTime",
    "Closed",
    "CounterKeeper",
    "CounterStore",
    "Coverage",
    "DLMSClient",
    "DLMSProductionPoller",
    "Failed",
    "Gate",
    "HistoryPiece",
    "Interval",
    "ListenLimits",
    "MeterAddress",
    "MeterModel",
    "ObjectListElement",
    "PollOutcome",
    "Polled",
    "PollerEvent",
    "PollerSettings",
    "PollerState",
    "ProfileColumn",
    "ProfileHistory",
    "ProfileTable",
    "PushListener",
    "Pushed",
    "Readout",
    "Recovered",
    "RelayState",
    "Stray",
    "Stretch",
    "Timeouts",
    "Tripped",
    "Trouble",
    "Waiting",
    "client_of",
    "counter_object_of",
    "credentials_of",
    "load_layouts",
    "load_model",
    "meter_address",
    "model_names",
    "parse_model",
    "read_clock",
    "set_clock",
    "set_relay",
    "time_for",
]
