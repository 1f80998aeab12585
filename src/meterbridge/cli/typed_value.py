"""Values for a meter as people type them: with their COSEM type, or typed like what the meter holds already."""

from __future__ import annotations

import datetime as dt
import json
from typing import Any

from meterbridge.dlms import BitString, Data, DataType, Date, DateTime, LogicalName, Time
from meterbridge.dlms.axdr import encode
from meterbridge.errors import ConfigurationError, LocalProtocolError

_NAMES = {member.name.lower().replace("_", "-"): member for member in DataType} | {
    "null": DataType.NULL_DATA,
    "bool": DataType.BOOLEAN,
    "bits": DataType.BIT_STRING,
    "int8": DataType.INTEGER,
    "int16": DataType.LONG,
    "int32": DataType.DOUBLE_LONG,
    "int64": DataType.LONG64,
    "uint8": DataType.UNSIGNED,
    "uint16": DataType.LONG_UNSIGNED,
    "uint32": DataType.DOUBLE_LONG_UNSIGNED,
    "uint64": DataType.LONG64_UNSIGNED,
    "hex": DataType.OCTET_STRING,
    "octets": DataType.OCTET_STRING,
    "string": DataType.VISIBLE_STRING,
    "utf8": DataType.UTF8_STRING,
}
_INTEGERS = frozenset(
    (
        DataType.INTEGER,
        DataType.LONG,
        DataType.DOUBLE_LONG,
        DataType.LONG64,
        DataType.UNSIGNED,
        DataType.LONG_UNSIGNED,
        DataType.DOUBLE_LONG_UNSIGNED,
        DataType.LONG64_UNSIGNED,
        DataType.ENUM,
        DataType.BCD,
    )
)
_FLOATS = frozenset((DataType.FLOAT32, DataType.FLOAT64))
_TEXTS = frozenset((DataType.VISIBLE_STRING, DataType.UTF8_STRING))
_LISTS = frozenset((DataType.ARRAY, DataType.STRUCTURE))
_BOOLEANS = {"true": True, "1": True, "false": False, "0": False}
TYPED_FORM = "TYPE:VALUE such as uint16:5, octets:0000FF, text:abc, obis:1-0:1.8.0 or datetime:2026-01-31T12:00+01:00"


def typed_value(text: str) -> Data | None:
    """Read `TYPE:VALUE`; None where the text has no type in front.

    Types are those of the standard (`long-unsigned`, `octet-string`, …), short ones (`uint16`, `int8`, `hex`,
    `string`, …), and three ways to spell an octet string: `text`, `obis` and `datetime`.

    Raises:
        ConfigurationError: a value that does not fit its type.
    """
    name, colon, value = text.partition(":")
    name = name.strip().lower().replace("_", "-")
    if not colon and name not in ("null", "null-data"):
        return None
    if name == "text":
        return Data(DataType.OCTET_STRING, value.encode())
    if name == "obis":
        return Data(DataType.OCTET_STRING, _obis(value))
    if name == "datetime":
        return Data(DataType.OCTET_STRING, _date_time(value))
    kind = _NAMES.get(name)
    if kind is None or kind in _LISTS or kind is DataType.COMPACT_ARRAY:
        return None
    return _checked(_scalar(kind, value))


def value_like(present: Data, text: str) -> Data:
    """Read a value of the type that `present` has; arrays and structures as JSON.

    An octet string is taken as hex after `0x`, as a logical name or a date-time where the present one is as long and
    the text is one, as text where the present one is text, and otherwise as hex where it can be that.

    Raises:
        ConfigurationError: it does not fit that type.
    """
    if present.type in _LISTS or present.type is DataType.COMPACT_ARRAY:
        try:
            return _checked(_like(present, json.loads(text)))
        except json.JSONDecodeError:
            raise ConfigurationError(f"{text!r} is no JSON, and the attribute holds {_said(present.type)}") from None
    return _checked(_like(present, text))


def _said(kind: DataType) -> str:
    return kind.name.lower().replace("_", "-")


def _like(present: Data, value: Any) -> Data:
    kind = present.type
    if kind is DataType.STRUCTURE:
        members = list(value.values()) if isinstance(value, dict) else value
        if not isinstance(members, list) or len(members) != len(present.value):
            raise ConfigurationError(f"the structure has {len(present.value)} members, given is {json.dumps(value)}")
        return Data(kind, tuple(_like(old, new) for old, new in zip(present.value, members, strict=True)))
    if kind is DataType.ARRAY:
        if not isinstance(value, list):
            raise ConfigurationError(f"the attribute holds an array, given is {json.dumps(value)}")
        if value and not present.value:
            raise ConfigurationError("the array is empty, so what its elements are is not known")
        return Data(kind, tuple(_like(present.value[0], element) for element in value))
    if kind is DataType.COMPACT_ARRAY:
        raise ConfigurationError("compact arrays cannot be written from here")
    text = json.dumps(value) if isinstance(value, (bool, int, float, list, dict)) else value
    if value is None:
        return Data(DataType.NULL_DATA)
    typed = typed_value(text) if kind is DataType.NULL_DATA else None
    if typed is not None:
        return typed
    if kind is DataType.NULL_DATA:
        raise ConfigurationError(f"the attribute holds null-data, so {text!r} has no type: say {TYPED_FORM}")
    if kind is DataType.OCTET_STRING:
        return Data(kind, _octets_like(present.value, text))
    return _scalar(kind, text)


def _octets_like(present: bytes, text: str) -> bytes:
    if text.lower().startswith("0x"):
        return _hex(text[2:])
    for size, read in ((6, _obis), (12, _date_time)):
        if len(present) == size:
            try:
                return read(text)
            except ConfigurationError:
                pass
    if present and all(0x20 <= octet < 0x7F for octet in present):
        return text.encode()
    try:
        return _hex(text)
    except ConfigurationError:
        return text.encode()


def _scalar(kind: DataType, text: str) -> Data:
    text = text if kind in _TEXTS else text.strip()
    try:
        if kind in (DataType.NULL_DATA, DataType.DONT_CARE):
            return Data(kind)
        if kind is DataType.BOOLEAN:
            return Data(kind, _BOOLEANS[text.lower()])
        if kind in _INTEGERS:
            return Data(kind, int(text, 0))
        if kind in _FLOATS:
            return Data(kind, float(text))
        if kind in _TEXTS:
            return Data(kind, text)
        if kind is DataType.BIT_STRING:
            if set(text) - {"0", "1"}:
                raise ValueError
            return Data(kind, BitString(text))
        if kind is DataType.DATE_TIME:
            return Data(kind, DateTime(_date_time(text)))
        if kind is DataType.DATE:
            return Data(kind, Date(_date_time(text)[:5]))
        if kind is DataType.TIME:
            moment = dt.time.fromisoformat(text)
            return Data(kind, Time(bytes((moment.hour, moment.minute, moment.second, moment.microsecond // 10_000))))
    except (KeyError, ValueError):
        raise ConfigurationError(f"{text!r} is no {_said(kind)}") from None
    return Data(kind, _hex(text))


def _hex(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        raise ConfigurationError(f"{text!r} is not hexadecimal") from None


def _obis(text: str) -> bytes:
    try:
        return bytes(LogicalName.parse(text))
    except ValueError as error:
        raise ConfigurationError(str(error)) from None


def _date_time(text: str) -> bytes:
    return DateTime.from_datetime(moment(text)).octets


def moment(text: str) -> dt.datetime:
    """Read an ISO 8601 date or date-time, naive where it says no zone.

    Raises:
        ConfigurationError: it is none.
    """
    try:
        return dt.datetime.fromisoformat(text.strip())
    except ValueError:
        raise ConfigurationError(
            f"{text!r} is no date and time such as 2026-01-31T12:00 or 2026-01-31T12:00+01:00"
        ) from None


def _checked(data: Data) -> Data:
    try:
        encode(data)
    except LocalProtocolError as error:
        raise ConfigurationError(str(error)) from None
    return data
