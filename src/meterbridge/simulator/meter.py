"""A simulated meter: its COSEM objects and who may read them. No socket, no association, time is an argument."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from meterbridge.dlms import AttributeDescriptor, Conformance, Data, DataAccessResult, DataType, LogicalName
from meterbridge.dlms.axdr import BitString, encode
from meterbridge.dlms.xdlms import data_access_error
from meterbridge.errors import ConfigurationError
from meterbridge.simulator.load import Load
from meterbridge.simulator.objects import CosemObject, Value, array, object_list, octets, structure
from meterbridge.simulator.profile import CLOCK, clock_octets, load_profile
from meterbridge.simulator.registers import registers
from meterbridge.simulator.security import MeterSecurity

PUBLIC_CLIENT: Final = 16
CONFORMANCE: Final = (
    Conformance.GET
    | Conformance.BLOCK_TRANSFER_WITH_GET_OR_READ
    | Conformance.MULTIPLE_REFERENCES
    | Conformance.SELECTIVE_ACCESS
    | Conformance.PRIORITY_MGMT_SUPPORTED
)
"""Services the meter has."""

LOGICAL_DEVICE_NAME: Final = LogicalName.parse("0-0:42.0.0")
SERIAL_NUMBER: Final = LogicalName.parse("0-0:96.1.0")
FIRMWARE: Final = LogicalName.parse("1-0:0.2.0")
ASSOCIATION: Final = LogicalName.parse("0-0:40.0.0")
SAP_ASSIGNMENT: Final = LogicalName.parse("0-0:41.0.0")
DISCONNECT_CONTROL: Final = LogicalName.parse("0-0:96.3.10")
INVOCATION_COUNTER: Final = LogicalName.parse("0-0:43.1.0")

_ANY_DATE: Final = bytes.fromhex("ffffffffffffffffff800000")
_LN_CONTEXT, _LOWEST, _LLS = (bytes.fromhex(f"60857405080{arcs}") for arcs in ("101", "200", "201"))


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a simulated meter is and whom it lets in.

    Args:
        serial: serial number, up to 13 digits.
        server: logical device address (SAP).
        physical: HDLC lower address; None answers to any.
        client: client SAP of the management association.
        password: its LLS secret; empty asks for none. Never shown by repr.
        max_pdu: largest APDU it sends and takes, octets.
        profile_entries: rows the load profile keeps.
        firmware: version text.
    """

    serial: str = "1"
    server: int = 1
    physical: int | None = None
    client: int = 1
    password: bytes = field(default=b"00000000", repr=False)
    max_pdu: int = 1024
    profile_entries: int = 2880
    firmware: str = "MBS 1.4.2"

    def __post_init__(self) -> None:
        if len(self.serial) > 13:
            raise ConfigurationError(f"serial number {self.serial} is longer than 13 characters")
        if not 64 <= self.max_pdu <= 0xFFFF:
            raise ConfigurationError(f"a largest PDU of {self.max_pdu} octets is outside 64..65535")

    @property
    def logical_device_name(self) -> bytes:
        """Sixteen octets: manufacturer's letters and the serial number."""
        return f"MBS{self.serial:0>13}".encode("ascii")


@dataclass(slots=True)
class SimulatedMeter:
    """What one meter answers when an attribute is read.

    Args:
        load: what it measures.
        identity: who it is.
        clock_offset: seconds its clock is ahead.
        connected: state of its breaker, as disconnect control shows it.
        security: what it demands of its management client beyond a password; None is nothing.
    """

    load: Load
    identity: Identity = field(default_factory=Identity)
    clock_offset: int = 0
    connected: bool = True
    security: MeterSecurity | None = None

    def read(self, attribute: AttributeDescriptor, client: int, now: float) -> Value:
        """Read one attribute as a client sees it.

        Args:
            attribute: which, with a selection where wanted.
            client: SAP of the client whose association it is.
            now: Unix time in seconds.

        Returns:
            Encoded data, or an iterator over its pieces where it is long.

        Raises:
            DataAccessError: no such object for this client, another class, not readable, or a selection that is none.
        """
        phases, public = self.load.options.phases, client == PUBLIC_CLIENT
        objects = _objects(phases, public, bool(self.identity.password), self.security is not None)
        item = objects.get(attribute.logical_name)
        if item is None:
            raise data_access_error(DataAccessResult.OBJECT_UNDEFINED)
        if item.class_id != attribute.class_id:
            raise data_access_error(DataAccessResult.OBJECT_CLASS_INCONSISTENT)
        index, selection = attribute.attribute, attribute.selection
        if index in item.selective:
            return item.selective[index][0](self, math.floor(now), selection)
        if selection is not None:
            raise data_access_error(DataAccessResult.SCOPE_OF_ACCESS_VIOLATED)
        if index == 1:
            return octets(item.logical_name)
        value = item.attributes.get(index)
        if value is None:
            raise data_access_error(DataAccessResult.READ_WRITE_DENIED)
        return value if isinstance(value, bytes) else value(self, math.floor(now))


def _clock() -> CosemObject:
    return CosemObject(
        8,
        0,
        CLOCK,
        {
            2: lambda meter, t: octets(clock_octets(t + meter.clock_offset)),
            3: encode(Data(DataType.LONG, 0)),
            4: encode(Data(DataType.UNSIGNED, 0)),
            5: octets(_ANY_DATE),
            6: octets(_ANY_DATE),
            7: encode(Data(DataType.INTEGER, 60)),
            8: encode(Data(DataType.BOOLEAN, False)),
            9: encode(Data(DataType.ENUM, 1)),
        },
    )


def _last_counter(meter: SimulatedMeter, t: int) -> bytes:
    return encode(Data(DataType.DOUBLE_LONG_UNSIGNED, 0 if meter.security is None else meter.security.last_counter))


def _disconnect_control() -> CosemObject:
    return CosemObject(
        70,
        0,
        DISCONNECT_CONTROL,
        {
            2: lambda meter, t: encode(Data(DataType.BOOLEAN, meter.connected)),
            3: lambda meter, t: encode(Data(DataType.ENUM, 1 if meter.connected else 0)),
            4: encode(Data(DataType.ENUM, 0)),
        },
    )


def _sap_assignment() -> CosemObject:
    def sap_list(meter: SimulatedMeter, t: int) -> bytes:
        server = Data(DataType.LONG_UNSIGNED, meter.identity.server)
        name = Data(DataType.OCTET_STRING, meter.identity.logical_device_name)
        return encode(array((structure(server, name),)))

    return CosemObject(17, 0, SAP_ASSIGNMENT, {2: sap_list})


def _association(public: bool, secured: bool, others: list[CosemObject]) -> CosemObject:
    def partners(meter: SimulatedMeter, t: int) -> bytes:
        client = PUBLIC_CLIENT if public else meter.identity.client
        return encode(structure(Data(DataType.INTEGER, client), Data(DataType.LONG_UNSIGNED, meter.identity.server)))

    def context(meter: SimulatedMeter, t: int) -> bytes:
        size = Data(DataType.LONG_UNSIGNED, meter.identity.max_pdu)
        return encode(
            structure(
                Data(DataType.BIT_STRING, BitString(f"{int(CONFORMANCE):024b}")),
                size,
                size,
                Data(DataType.UNSIGNED, 6),
                Data(DataType.INTEGER, 0),
                Data(DataType.OCTET_STRING, b""),
            )
        )

    item = CosemObject(
        15,
        1,
        ASSOCIATION,
        {
            2: b"",
            3: partners,
            4: octets(_LN_CONTEXT),
            5: context,
            6: octets(_LOWEST if public or not secured else _LLS),
            8: encode(Data(DataType.ENUM, 2)),
            9: octets(bytes(6)),
        },
        hidden=(7,),
    )
    # The list names this object too.
    return item._replace(attributes={**item.attributes, 2: object_list([*others, item])})


@functools.cache
def _objects(phases: int, public: bool, secured: bool, counted: bool) -> Mapping[LogicalName, CosemObject]:
    """Objects of one kind of meter as one kind of client sees them: shared by all meters of that kind."""
    objects = [
        _clock(),
        CosemObject(1, 0, LOGICAL_DEVICE_NAME, {2: lambda meter, t: octets(meter.identity.logical_device_name)}),
        CosemObject(1, 0, FIRMWARE, {2: lambda meter, t: octets(meter.identity.firmware.encode())}),
    ]
    if counted:
        objects.append(CosemObject(1, 0, INVOCATION_COUNTER, {2: _last_counter}))
    if not public:
        objects += [
            CosemObject(1, 0, SERIAL_NUMBER, {2: lambda meter, t: octets(meter.identity.serial.encode())}),
            _sap_assignment(),
            _disconnect_control(),
            load_profile(),
            *registers(phases),
        ]
    objects.append(_association(public, secured, objects))
    return {item.logical_name: item for item in objects}
