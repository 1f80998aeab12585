"""Objects of a simulated meter that say how it is set up: SAP assignment, security setup, push setup."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from meterbridge.dlms import Data, DataType, LogicalName
from meterbridge.dlms.axdr import encode
from meterbridge.simulator.clock import CLOCK
from meterbridge.simulator.objects import CosemObject, array, octets, stored, structure

if TYPE_CHECKING:
    from meterbridge.simulator.meter import SimulatedMeter

SAP_ASSIGNMENT: Final = LogicalName.parse("0-0:41.0.0")
SECURITY_SETUP: Final = LogicalName.parse("0-0:43.0.0")
PUSH_SETUP: Final = LogicalName.parse("0-0:25.9.0")
_PUSHED: Final = ((8, CLOCK), (3, LogicalName.parse("1-0:1.8.0")), (3, LogicalName.parse("1-0:2.8.0")))
_TCP, _A_XDR = 0, 0


def sap_assignment() -> CosemObject:
    """Make the SAP Assignment: one logical device."""

    def sap_list(meter: SimulatedMeter, t: int) -> bytes:
        server = Data(DataType.LONG_UNSIGNED, meter.identity.server)
        name = Data(DataType.OCTET_STRING, meter.identity.logical_device_name)
        return encode(array((structure(server, name),)))

    return CosemObject(17, 0, SAP_ASSIGNMENT, {2: sap_list})


def security_setup() -> CosemObject:
    """Make the Security Setup, version 0, of a meter that has no security."""
    return CosemObject(
        64,
        0,
        SECURITY_SETUP,
        {
            2: encode(Data(DataType.ENUM, 0)),
            3: encode(Data(DataType.ENUM, 0)),
            4: octets(b""),
            5: lambda meter, t: octets(meter.identity.system_title),
        },
    )


def push_setup() -> CosemObject:
    """Make the Push Setup, version 0: it is set, and nothing is pushed."""
    pushed = array(
        structure(
            Data(DataType.LONG_UNSIGNED, class_id),
            Data(DataType.OCTET_STRING, name),
            Data(DataType.INTEGER, 2),
            Data(DataType.LONG_UNSIGNED, 0),
        )
        for class_id, name in _PUSHED
    )
    destination = structure(
        Data(DataType.ENUM, _TCP), Data(DataType.OCTET_STRING, b"127.0.0.1:4059"), Data(DataType.ENUM, _A_XDR)
    )
    attributes = {
        2: pushed,
        3: destination,
        4: array(()),
        5: Data(DataType.LONG_UNSIGNED, 0),
        6: Data(DataType.UNSIGNED, 0),
        7: Data(DataType.LONG_UNSIGNED, 0),
    }
    return CosemObject(
        40,
        0,
        PUSH_SETUP,
        {index: encode(value) for index, value in attributes.items()},
        writers={index: stored(PUSH_SETUP, index, value.type) for index, value in attributes.items()},
    )
