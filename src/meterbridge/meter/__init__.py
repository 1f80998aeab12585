"""One meter: its connection, its catalogue entry, its polling."""

from meterbridge.meter.catalogue import MeterModel, load_model, model_names, parse_model
from meterbridge.meter.client import DLMSClient, MeterAddress, ObjectListElement, Readout, Timeouts
from meterbridge.meter.policy import Backoff, BackoffSettings
from meterbridge.meter.poller import DLMSProductionPoller, Failed, Polled, PollOutcome, Waiting

__all__ = [
    "Backoff",
    "BackoffSettings",
    "DLMSClient",
    "DLMSProductionPoller",
    "Failed",
    "MeterAddress",
    "MeterModel",
    "ObjectListElement",
    "PollOutcome",
    "Polled",
    "Readout",
    "Timeouts",
    "Waiting",
    "load_model",
    "model_names",
    "parse_model",
]
