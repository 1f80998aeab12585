"""What a meter sends unasked: DataNotification, EventNotification, InformationReport (Green Book, xDLMS APDUs)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from meterbridge.dlms.axdr import Data, DataType, decode, decode_at, decode_length, encode, encode_length
from meterbridge.dlms.cosem_time import DateTime
from meterbridge.dlms.obis import LogicalName
from meterbridge.errors import LocalProtocolError, RemoteProtocolError

DATA_NOTIFICATION, EVENT_NOTIFICATION, INFORMATION_REPORT = 0x0F, 0xC2, 0x18
_DATE_TIME_SIZE = 12
_VARIABLE_NAME = 2


def _optional_date_time(apdu: bytes, position: int) -> tuple[DateTime | None, int]:
    """Read the date-time of a notification: absent (a zero length), twelve octets, or both behind a tag.

    The tag does not belong there: Kaifa and older Kamstrup meters send it.
    """
    if apdu[position : position + 2] == bytes((DataType.OCTET_STRING, _DATE_TIME_SIZE)):
        position += 1
    size, position = decode_length(apdu, position)
    if size == 0:
        return None, position
    if size != _DATE_TIME_SIZE or position + size > len(apdu):
        raise RemoteProtocolError(f"date-time of {size} octets in a notification")
    return DateTime(bytes(apdu[position : position + size])), position + size


@dataclass(frozen=True, slots=True)
class DataNotification:
    """A DataNotification: the push list of a Push Setup object as a rule.

    Args:
        long_invoke_id: long-invoke-id-and-priority, 32 bits.
        date_time: when it was sent, None where the meter does not say.
        body: the data.
        bare_descriptors: whether attribute descriptors stood in the body as bare octets, against the standard; they
            are STRUCTUREs of class, logical name and attribute in `body`.
    """

    long_invoke_id: int
    date_time: DateTime | None
    body: Data
    bare_descriptors: bool = False

    def encode(self) -> bytes:
        """Return the APDU; descriptors never bare."""
        time = b"" if self.date_time is None else self.date_time.octets
        head = bytes((DATA_NOTIFICATION,)) + self.long_invoke_id.to_bytes(4, "big")
        return head + encode_length(len(time)) + time + encode(self.body)

    @classmethod
    def decode(cls, apdu: bytes) -> DataNotification:
        """Read the APDU.

        Raises:
            RemoteProtocolError: malformed.
        """
        if len(apdu) < 7 or apdu[0] != DATA_NOTIFICATION:
            raise RemoteProtocolError("DataNotification cut short")
        invoke_id = int.from_bytes(apdu[1:5], "big")
        date_time, position = _optional_date_time(apdu, 5)
        body = apdu[position:]
        try:
            return cls(invoke_id, date_time, decode(body))
        except RemoteProtocolError:
            # Only what cannot be read as the standard has it may be read otherwise.
            bare = _decode_with_bare_descriptors(body)
            if bare is None:
                raise
            return cls(invoke_id, date_time, bare, bare_descriptors=True)


@dataclass(frozen=True, slots=True)
class EventNotification:
    """An EventNotificationRequest: one attribute, sent because something happened.

    Args:
        date_time: when, None where the meter does not say.
        class_id: COSEM interface class.
        logical_name: which object.
        attribute: index.
        value: the attribute.
    """

    date_time: DateTime | None
    class_id: int
    logical_name: LogicalName
    attribute: int
    value: Data

    def encode(self) -> bytes:
        """Return the APDU."""
        time = b"\x00" if self.date_time is None else b"\x01\x0c" + self.date_time.octets
        descriptor = self.class_id.to_bytes(2, "big") + self.logical_name + bytes((self.attribute & 0xFF,))
        return bytes((EVENT_NOTIFICATION,)) + time + descriptor + encode(self.value)

    @classmethod
    def decode(cls, apdu: bytes) -> EventNotification:
        """Read the APDU.

        Raises:
            RemoteProtocolError: malformed.
        """
        if len(apdu) < 2 or apdu[0] != EVENT_NOTIFICATION:
            raise RemoteProtocolError("EventNotification cut short")
        date_time: DateTime | None = None
        position = 2
        if apdu[1]:
            date_time, position = _optional_date_time(apdu, 2)
        if position + 9 > len(apdu):
            raise RemoteProtocolError("EventNotification cut short")
        class_id = int.from_bytes(apdu[position : position + 2], "big")
        name = LogicalName(bytes(apdu[position + 2 : position + 8]))
        return cls(date_time, class_id, name, apdu[position + 8], decode(apdu[position + 9 :]))


@dataclass(frozen=True, slots=True)
class InformationReport:
    """An InformationReport: values by short name, sent unasked.

    Args:
        time: generalized time as sent, e.g. `20260312152430Z`, or None.
        values: by the short name of the attribute, in the order sent.
    """

    time: str | None
    values: tuple[tuple[int, Data], ...]

    def encode(self) -> bytes:
        """Return the APDU.

        Raises:
            LocalProtocolError: a short name that is none.
        """
        time = b"\x00" if self.time is None else b"\x01" + encode_length(len(self.time)) + self.time.encode("ascii")
        if any(not 0 <= name <= 0xFFFF for name, _ in self.values):
            raise LocalProtocolError("a short name is outside 0..65535")
        count = encode_length(len(self.values))
        names = b"".join(bytes((_VARIABLE_NAME,)) + name.to_bytes(2, "big") for name, _ in self.values)
        return bytes((INFORMATION_REPORT,)) + time + count + names + count + b"".join(encode(d) for _, d in self.values)

    @classmethod
    def decode(cls, apdu: bytes) -> InformationReport:
        """Read the APDU.

        Raises:
            RemoteProtocolError: malformed, or variables named otherwise than by their short name.
        """
        if len(apdu) < 4 or apdu[0] != INFORMATION_REPORT:
            raise RemoteProtocolError("InformationReport cut short")
        time: str | None = None
        position = 2
        if apdu[1]:
            size, position = decode_length(apdu, 2)
            time = apdu[position : position + size].decode("latin-1")
            position += size
        count, position = decode_length(apdu, position)
        if count * 3 > len(apdu) - position:
            raise RemoteProtocolError(f"InformationReport of {count} variables in {len(apdu)} octets")
        names = []
        for _ in range(count):
            if apdu[position] != _VARIABLE_NAME:
                raise RemoteProtocolError(f"InformationReport names a variable by choice {apdu[position]}")
            names.append(int.from_bytes(apdu[position + 1 : position + 3], "big"))
            position += 3
        values, position = decode_length(apdu, position)
        if values != count:
            raise RemoteProtocolError(f"InformationReport of {count} variables has {values} values")
        data = []
        for _ in range(count):
            value, position = decode_at(apdu, position)
            data.append(value)
        if position != len(apdu):
            raise RemoteProtocolError("octets behind an InformationReport")
        return cls(time, tuple(zip(names, data, strict=True)))


Notification = DataNotification | EventNotification | InformationReport


# ---------------------------------------------------------------------------------------------------------------------
# attribute descriptors without a type, as Sagemcom and others send them

_DESCRIPTOR_SIZE = 9
_MAX_DEPTH = 8


def _descriptor_at(octets: bytes, position: int) -> Data | None:
    """A cosem-attribute-descriptor that stands bare at `position`, or None where nothing like it does."""
    part = octets[position : position + _DESCRIPTOR_SIZE]
    if len(part) < _DESCRIPTOR_SIZE or part[0] or not part[1] or not 1 <= part[8] <= 0x7F:
        return None
    members: tuple[tuple[DataType, Any], ...] = (
        (DataType.LONG_UNSIGNED, part[1]),
        (DataType.OCTET_STRING, bytes(part[2:8])),
        (DataType.INTEGER, part[8]),
    )
    return Data(DataType.STRUCTURE, tuple(Data(kind, value) for kind, value in members))


def _bare_at(octets: bytes, position: int, depth: int) -> tuple[Data, int]:
    tag = octets[position] if position < len(octets) else -1
    if tag not in (DataType.ARRAY, DataType.STRUCTURE) or depth >= _MAX_DEPTH:
        return decode_at(octets, position)
    count, position = decode_length(octets, position + 1)
    if count > len(octets) - position:
        raise RemoteProtocolError(f"{count} elements announced, {len(octets) - position} octets left")
    elements: list[Data] = []
    if tag == DataType.STRUCTURE and count == 2 and (descriptor := _descriptor_at(octets, position)) is not None:
        elements.append(descriptor)
        position += _DESCRIPTOR_SIZE
    while len(elements) < count:
        element, position = _bare_at(octets, position, depth + 1)
        elements.append(element)
    if tag == DataType.ARRAY and len({_is_pair(element) for element in elements}) > 1:
        # The elements of an array are of one type: some with and some without are octets read by chance.
        raise RemoteProtocolError("array of different elements")
    return Data(DataType(tag), tuple(elements)), position


def _is_pair(data: Data) -> bool:
    """Whether it is a descriptor with its value."""
    return data.type is DataType.STRUCTURE and len(data.value) == 2 and data.value[0].type is DataType.STRUCTURE


def _decode_with_bare_descriptors(octets: bytes) -> Data | None:
    """Read a body whose pairs begin with a descriptor that has no type; None where that does not fit either."""
    try:
        data, position = _bare_at(octets, 0, 0)
    except RemoteProtocolError:
        return None
    return data if position == len(octets) else None
