"""A meter's clock: what it shows, and setting it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass

from meterbridge.dlms import AttributeDescriptor, Data, DataType, DateTime, LogicalName
from meterbridge.dlms.cosem_time import STATUS_DST
from meterbridge.errors import DataAccessError, MeterError, RemoteProtocolError
from meterbridge.meter.client import DLMSClient

CLOCK = LogicalName(b"\x00\x00\x01\x00\x00\xff")
CLOCK_CLASS, CLOCK_TIME, CLOCK_STATUS, CLOCK_DST_ENABLED = 8, 2, 4, 8


@dataclass(frozen=True, slots=True)
class ClockTime:
    """What a clock shows, and when by ours that was (Unix time)."""

    time: DateTime
    read_at: float

    def drift(self, zone: dt.tzinfo | None = None) -> float | None:
        """Seconds it is ahead of our clock; None where its time is no single instant.

        Args:
            zone: of a clock that tells no deviation; None is this machine's.
        """
        shown = self.time.to_datetime()
        if shown is None:
            return None
        if shown.tzinfo is None and zone is not None:
            shown = shown.replace(tzinfo=zone)
        return round(shown.timestamp() - self.read_at, 2)


async def read_clock(meter: DLMSClient, wall: Callable[[], float], name: LogicalName = CLOCK) -> ClockTime:
    """Read a clock's time.

    Args:
        meter: connected.
        wall: Unix time.
        name: of the clock.

    Raises:
        DataAccessError: it has no such clock, or it may not be read.
        RemoteProtocolError: what it shows is no time.
        MeterError: as `DLMSClient.get`.
    """
    before = wall()
    [value] = await meter.get([AttributeDescriptor(CLOCK_CLASS, name, CLOCK_TIME)])
    # The meter looked at its clock somewhere between question and answer.
    read_at = (before + wall()) / 2
    if isinstance(value, MeterError):
        raise value
    if isinstance(value, bytes) and len(value) == 12:
        value = DateTime(value)
    if not isinstance(value, DateTime):
        raise RemoteProtocolError(f"the clock shows {value!r}, which is no date-time")
    return ClockTime(value, read_at)


async def set_clock(meter: DLMSClient, time: DateTime, name: LogicalName = CLOCK) -> None:
    """Set a clock.

    Raises:
        DataAccessError: the meter does not let it be set.
        MeterError: as `DLMSClient.set`.
    """
    try:
        await meter.set(AttributeDescriptor(CLOCK_CLASS, name, CLOCK_TIME), Data(DataType.OCTET_STRING, time.octets))
    except DataAccessError as error:
        raise DataAccessError(f"the clock cannot be set: {error}", error.result) from None


def time_for(held: DateTime, when: dt.datetime, zone: dt.tzinfo | None = None) -> DateTime:
    """Put a time in the terms a meter keeps its own: the same deviation, the same daylight saving.

    Args:
        held: what its clock shows.
        when: a naive one is meant in the meter's own terms.
        zone: of a clock that tells no deviation; None is this machine's.
    """
    own = None if held.deviation is None else dt.timezone(dt.timedelta(minutes=-held.deviation))
    if when.tzinfo is not None:
        when = when.astimezone(own) if own is not None else when.astimezone(zone).replace(tzinfo=None)
    elif own is not None:
        when = when.replace(tzinfo=own)
    return DateTime.from_datetime(when, STATUS_DST if held.daylight_saving else 0)
