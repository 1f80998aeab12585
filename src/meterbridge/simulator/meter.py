"""A simulated meter: its COSEM objects and who may read them. No socket, no association, time is an argument."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from meterbridge.dlms import AttributeDescriptor, Conformance, Data, DataAccessResult, DataType, LogicalName
from meterbridge.dlms.axdr import encode
from meterbridge.dlms.xdlms import MethodDescriptor, data_access_error
from meterbridge.errors import ConfigurationError
from meterbridge.simulator.activity_calendar import activity_calendar
from meterbridge.simulator.associations import association_ln
from meterbridge.simulator.clock import ClockSettings, clock
from meterbridge.simulator.demand import demand_register, maximum_demand
from meterbridge.simulator.image import ImageTransfer, image_transfer
from meterbridge.simulator.load import Load
from meterbridge.simulator.objects import CosemObject, Value, octets, stored
from meterbridge.simulator.profile import load_profile
from meterbridge.simulator.registers import registers
from meterbridge.simulator.security import MeterSecurity
from meterbridge.simulator.setups import push_setup, sap_assignment, security_setup
from meterbridge.simulator.short_names import ShortNames, short_names
from meterbridge.simulator.switching import disconnect_control, disconnect_scripts, limiter

PUBLIC_CLIENT: Final = 16
CONFORMANCE: Final = (
    Conformance.GENERAL_BLOCK_TRANSFER
    | Conformance.GET
    | Conformance.SET
    | Conformance.ACTION
    | Conformance.BLOCK_TRANSFER_WITH_GET_OR_READ
    | Conformance.BLOCK_TRANSFER_WITH_SET_OR_WRITE
    | Conformance.BLOCK_TRANSFER_WITH_ACTION
    | Conformance.MULTIPLE_REFERENCES
    | Conformance.SELECTIVE_ACCESS
    | Conformance.PRIORITY_MGMT_SUPPORTED
)
"""Services the meter has with logical names."""
SHORT_NAME_CONFORMANCE: Final = (
    Conformance.READ
    | Conformance.WRITE
    | Conformance.UNCONFIRMED_WRITE
    | Conformance.PARAMETERIZED_ACCESS
    | Conformance.BLOCK_TRANSFER_WITH_GET_OR_READ
    | Conformance.BLOCK_TRANSFER_WITH_SET_OR_WRITE
    | Conformance.MULTIPLE_REFERENCES
)
"""Services the meter has with short names."""

LOGICAL_DEVICE_NAME: Final = LogicalName.parse("0-0:42.0.0")
SERIAL_NUMBER: Final = LogicalName.parse("0-0:96.1.0")
FIRMWARE: Final = LogicalName.parse("1-0:0.2.0")
CUSTOMER: Final = LogicalName.parse("0-0:96.1.1")
"""Data that may be written: up to eight thousand octets of the client's own."""
INVOCATION_COUNTER: Final = LogicalName.parse("0-0:43.1.0")


_UTC: Final = ClockSettings()


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a simulated meter is and whom it lets in.

    Args:
        serial: serial number, up to 13 digits.
        server: logical device address (SAP).
        physical: HDLC lower address; it answers to its upper address alone as well.
        client: client SAP of the management association.
        password: its LLS secret; empty asks for none. Never shown by repr.
        max_pdu: largest APDU it sends and takes, octets.
        profile_entries: rows the load profile keeps.
        firmware: version text.
        general_blocks: whether long answers come by general block transfer where the client agreed to it, in place of
            the services' own blocks.
    """

    serial: str = "1"
    server: int = 1
    physical: int = 17
    client: int = 1
    password: bytes = field(default=b"00000000", repr=False)
    max_pdu: int = 1024
    profile_entries: int = 2880
    firmware: str = "MBS 1.4.2"
    general_blocks: bool = False

    def __post_init__(self) -> None:
        if len(self.serial) > 13:
            raise ConfigurationError(f"serial number {self.serial} is longer than 13 characters")
        if not 64 <= self.max_pdu <= 0xFFFF:
            raise ConfigurationError(f"a largest PDU of {self.max_pdu} octets is outside 64..65535")

    @property
    def logical_device_name(self) -> bytes:
        """Sixteen octets: manufacturer's letters and the serial number."""
        return f"MBS{self.serial:0>13}".encode("ascii")

    @property
    def system_title(self) -> bytes:
        """Eight octets: manufacturer's letters and the end of the serial number."""
        digits = "".join(character for character in self.serial if character.isdigit()) or "0"
        return b"MBS" + (int(digits) & 0xFFFFFFFFFF).to_bytes(5, "big")


@dataclass(slots=True)
class SimulatedMeter:
    """What one meter answers when an attribute is read.

    Args:
        load: what it measures.
        identity: who it is.
        clock_offset: seconds its clock is ahead.
        connected: state of its breaker, as disconnect control shows it.
        security: what it demands of its management client beyond a password; None is nothing.
        clock: where its clock is and how it keeps summer time.
        clock_invalid: whether the clock says of itself that it is wrong.
        control_mode: of disconnect control; 0 is always connected.
    """

    load: Load
    identity: Identity = field(default_factory=Identity)
    clock_offset: int = 0
    connected: bool = True
    security: MeterSecurity | None = None
    clock: ClockSettings = _UTC
    clock_invalid: bool = False
    control_mode: int = 2
    # What clients have changed.
    preset_time: tuple[float, float, float] | None = None
    demand_reset: int = 0
    period_started: int = 0
    profile_reset: int = 0
    firmware: bytes | None = None
    image: ImageTransfer = field(default_factory=ImageTransfer)
    written: dict[tuple[LogicalName, int], bytes] = field(default_factory=dict)

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
        item = self._object(attribute.class_id, attribute.logical_name, client)
        index, selection = attribute.attribute, attribute.selection
        if index in item.selective:
            return item.selective[index][0](self, math.floor(now), selection)
        if selection is not None:
            raise data_access_error(DataAccessResult.SCOPE_OF_ACCESS_VIOLATED)
        if index == 1:
            return octets(item.logical_name)
        if self.written and (kept := self.written.get((item.logical_name, index))) is not None:
            return kept
        value = item.attributes.get(index)
        if value is None:
            raise data_access_error(DataAccessResult.READ_WRITE_DENIED)
        return value if isinstance(value, bytes) else value(self, math.floor(now))

    def write(self, attribute: AttributeDescriptor, value: Data, client: int, now: float) -> None:
        """Write one attribute as a client does.

        Raises:
            DataAccessError: as `read`, not writable, or a value of another type or range.
        """
        item = self._object(attribute.class_id, attribute.logical_name, client)
        writer = item.writers.get(attribute.attribute)
        if writer is None or client == PUBLIC_CLIENT:
            raise data_access_error(DataAccessResult.READ_WRITE_DENIED)
        if attribute.selection is not None:
            raise data_access_error(DataAccessResult.SCOPE_OF_ACCESS_VIOLATED)
        writer(self, math.floor(now), value)

    def call(self, method: MethodDescriptor, parameters: Data, client: int, now: float) -> Data | None:
        """Call one method as a client does; return what it returns, None for nothing.

        Raises:
            DataAccessError: as `read`, no such method, parameters it does not take, or no in the present state.
        """
        item = self._object(method.class_id, method.logical_name, client)
        action = item.methods.get(method.method)
        if action is None or client == PUBLIC_CLIENT:
            raise data_access_error(DataAccessResult.READ_WRITE_DENIED)
        return action(self, math.floor(now), parameters)

    def resolve(self, name: int, client: int) -> AttributeDescriptor | MethodDescriptor:
        """Say which attribute or method a short name means to a client.

        Raises:
            DataAccessError: none.
        """
        return self._known(client).short_names.resolve(name)

    def lose_clock(self, shown: int, now: float) -> None:
        """Let the clock show a Unix time `shown` at `now`, and know that it is wrong."""
        self.clock_offset = shown - math.floor(now)
        self.clock_invalid = True

    def _known(self, client: int) -> _Objects:
        phases, public = self.load.options.phases, client == PUBLIC_CLIENT
        return _objects(phases, public, bool(self.identity.password), self.security is not None)

    def _object(self, class_id: int, name: LogicalName, client: int) -> CosemObject:
        known = self._known(client)
        item = known.by_name.get(name)
        if item is None:
            raise data_access_error(DataAccessResult.OBJECT_UNDEFINED)
        if item.class_id == class_id:
            return item
        # Both associations have the same logical name.
        item = known.short_names.association
        if item.class_id == class_id and item.logical_name == name:
            return item
        raise data_access_error(DataAccessResult.OBJECT_CLASS_INCONSISTENT)


@dataclass(frozen=True, slots=True)
class _Objects:
    by_name: Mapping[LogicalName, CosemObject]
    short_names: ShortNames


def _last_counter(meter: SimulatedMeter, t: int) -> bytes:
    return encode(Data(DataType.DOUBLE_LONG_UNSIGNED, 0 if meter.security is None else meter.security.last_counter))


def _read_only(item: CosemObject) -> CosemObject:
    return item._replace(writers={}, methods={})


@functools.cache
def _objects(phases: int, public: bool, secured: bool, counted: bool) -> _Objects:
    """Objects of one kind of meter as one kind of client sees them: shared by all meters of that kind."""
    objects = [
        _read_only(clock()) if public else clock(),
        CosemObject(1, 0, LOGICAL_DEVICE_NAME, {2: lambda meter, t: octets(meter.identity.logical_device_name)}),
        CosemObject(1, 0, FIRMWARE, {2: lambda meter, t: octets(meter.firmware or meter.identity.firmware.encode())}),
    ]
    if counted:
        objects.append(CosemObject(1, 0, INVOCATION_COUNTER, {2: _last_counter}))
    if not public:
        objects += [
            CosemObject(1, 0, SERIAL_NUMBER, {2: lambda meter, t: octets(meter.identity.serial.encode())}),
            CosemObject(1, 0, CUSTOMER, {2: octets(b"")}, writers={2: stored(CUSTOMER, 2, DataType.OCTET_STRING)}),
            sap_assignment(),
            security_setup(),
            push_setup(),
            disconnect_control(),
            disconnect_scripts(),
            limiter(),
            activity_calendar(),
            image_transfer(),
            load_profile(),
            demand_register(),
            maximum_demand(),
            *registers(phases),
        ]
    own = PUBLIC_CLIENT if public else None
    association = association_ln(own, secured and not public, CONFORMANCE, objects)
    by_name = {item.logical_name: item for item in (*objects, association)}
    return _Objects(by_name, short_names(objects))
