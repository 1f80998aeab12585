"""A meter's relay: its Disconnect Control (class 70, Blue Book 4.5.8) told to connect or to disconnect."""

from __future__ import annotations

from dataclasses import dataclass

from meterbridge.dlms import AttributeDescriptor, Data, DataType, LogicalName, MethodDescriptor
from meterbridge.errors import DataAccessError, MeterError
from meterbridge.meter.client import DLMSClient

RELAY = LogicalName(b"\x00\x00\x60\x03\x0a\xff")
_CLASS, _OUTPUT_STATE, _DISCONNECT, _RECONNECT = 70, 2, 1, 2


@dataclass(frozen=True, slots=True)
class RelayState:
    """What became of a relay.

    Args:
        on: whether it conducts, as the meter says afterwards; None where it does not say.
        was_on: the same before.
    """

    on: bool | None
    was_on: bool | None


async def set_relay(meter: DLMSClient, on: bool, name: LogicalName = RELAY) -> RelayState:
    """Have a meter connect or disconnect its customer.

    The method is called once and never repeated: an answer that gets lost leaves the outcome open.

    Raises:
        DataAccessError: the meter has no such relay, or its control mode does not allow it.
        MeterError: as `DLMSClient.action`.
    """
    was_on = await _state(meter, name)
    try:
        await meter.action(MethodDescriptor(_CLASS, name, _RECONNECT if on else _DISCONNECT), Data(DataType.INTEGER, 0))
    except DataAccessError as error:
        raise DataAccessError(f"the relay cannot be switched: {error}", error.result) from None
    return RelayState(await _state(meter, name), was_on)


async def _state(meter: DLMSClient, name: LogicalName) -> bool | None:
    [value] = await meter.get([AttributeDescriptor(_CLASS, name, _OUTPUT_STATE)])
    if isinstance(value, DataAccessError):
        raise DataAccessError(f"the relay cannot be looked at: {value}", value.result)
    if isinstance(value, MeterError):
        raise value
    return value if isinstance(value, bool) else None
