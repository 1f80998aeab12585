"""The simulated meter's objects: types, access, load profile."""

from __future__ import annotations

import datetime as dt

import pytest

from meterbridge.dlms import (
    AttributeDescriptor,
    Data,
    DataAccessResult,
    DataType,
    DateTime,
    LogicalName,
    SelectiveAccess,
)
from meterbridge.dlms.axdr import decode, decode_value
from meterbridge.errors import ConfigurationError, DataAccessError
from meterbridge.simulator import Identity, Load, LoadOptions, SimulatedMeter

NOW = 1_764_158_400  # 2025-11-26 12:00:00 UTC
PROFILE = "1-0:99.1.0"


def meter(phases: int = 1, entries: int = 96, installed: int = NOW - 30 * 86_400) -> SimulatedMeter:
    return SimulatedMeter(
        Load(LoadOptions(seed=5, phases=phases, installed=installed)), Identity(profile_entries=entries)
    )


def octets(
    device: SimulatedMeter,
    class_id: int,
    name: str,
    attribute: int,
    *,
    client: int = 1,
    now: float = NOW,
    selection: SelectiveAccess | None = None,
) -> bytes:
    value = device.read(AttributeDescriptor(class_id, LogicalName.parse(name), attribute, selection), client, now)
    return value if isinstance(value, bytes) else b"".join(value)


def by_range(start: float, stop: float, *columns: int) -> SelectiveAccess:
    def moment(t: float) -> Data:
        return Data(DataType.OCTET_STRING, DateTime.from_datetime(dt.datetime.fromtimestamp(t, dt.UTC)).octets)

    captured = decode(octets(meter(), 7, PROFILE, 3)).value
    wanted = Data(DataType.ARRAY, tuple(captured[column] for column in columns))
    return SelectiveAccess(1, Data(DataType.STRUCTURE, (captured[0], moment(start), moment(stop), wanted)))


def by_entry(first: int, last: int, first_column: int = 1, last_column: int = 0) -> SelectiveAccess:
    entries = tuple(Data(DataType.DOUBLE_LONG_UNSIGNED, entry) for entry in (first, last))
    columns = tuple(Data(DataType.LONG_UNSIGNED, column) for column in (first_column, last_column))
    return SelectiveAccess(2, Data(DataType.STRUCTURE, entries + columns))


@pytest.mark.parametrize("channel", [0, 1])
@pytest.mark.parametrize(
    ("groups", "kind", "scaler_unit"),
    [
        ("32.7.0", DataType.LONG_UNSIGNED, (-1, 35)),
        ("31.7.0", DataType.LONG_UNSIGNED, (-2, 33)),
        ("14.7.0", DataType.LONG_UNSIGNED, (-2, 44)),
        ("13.7.0", DataType.LONG_UNSIGNED, (-3, 255)),
        ("1.7.0", DataType.DOUBLE_LONG_UNSIGNED, (-1, 27)),
        ("2.7.0", DataType.DOUBLE_LONG_UNSIGNED, (-1, 27)),
        ("16.7.0", DataType.DOUBLE_LONG, (-1, 27)),
        ("1.8.0", DataType.DOUBLE_LONG_UNSIGNED, (0, 30)),
        ("2.8.0", DataType.DOUBLE_LONG_UNSIGNED, (0, 30)),
        ("3.8.0", DataType.DOUBLE_LONG_UNSIGNED, (0, 32)),
    ],
)
def test_registers_have_type_scaler_and_unit(
    channel: int, groups: str, kind: DataType, scaler_unit: tuple[int, int]
) -> None:
    assert decode(octets(meter(), 3, f"1-{channel}:{groups}", 2)).type is kind
    assert decode_value(octets(meter(), 3, f"1-{channel}:{groups}", 3)) == scaler_unit


def test_registers_show_what_the_load_measures() -> None:
    device = meter(phases=3)
    instant = device.load.at(NOW)
    for phase, group in enumerate((32, 52, 72)):
        assert decode_value(octets(device, 3, f"1-0:{group}.7.0", 2)) == round(instant.voltage[phase] * 10)
    assert decode_value(octets(device, 3, "1-1:1.7.0", 2, now=NOW + 0.9)) == round(instant.active_import * 10)


def test_one_phase_has_no_second_voltage() -> None:
    with pytest.raises(DataAccessError) as refused:
        octets(meter(), 3, "1-0:52.7.0", 2)
    assert refused.value.result == DataAccessResult.OBJECT_UNDEFINED


@pytest.mark.parametrize(
    ("class_id", "name", "attribute", "result"),
    [
        (3, "1-0:99.99.0", 2, DataAccessResult.OBJECT_UNDEFINED),
        (4, "1-0:1.8.0", 2, DataAccessResult.OBJECT_CLASS_INCONSISTENT),
        (3, "1-0:1.8.0", 9, DataAccessResult.READ_WRITE_DENIED),
        (15, "0-0:40.0.0", 7, DataAccessResult.READ_WRITE_DENIED),
    ],
)
def test_what_is_not_there_is_refused_with_its_reason(
    class_id: int, name: str, attribute: int, result: DataAccessResult
) -> None:
    with pytest.raises(DataAccessError) as refused:
        octets(meter(), class_id, name, attribute)
    assert refused.value.result == result


def test_every_listed_attribute_can_be_read_and_no_other() -> None:
    device = meter(phases=3)
    for client, least in ((1, 40), (16, 4)):
        listed = decode_value(octets(device, 15, "0-0:40.0.0", 2, client=client))
        assert len(listed) >= least
        for class_id, _, name, (attributes, _) in listed:
            for index, mode, _ in attributes:
                if mode:
                    decode(octets(device, class_id, str(LogicalName(name)), index, client=client))
                else:
                    with pytest.raises(DataAccessError):
                        octets(device, class_id, str(LogicalName(name)), index, client=client)


def test_the_public_client_sees_clock_names_and_association_only() -> None:
    listed = decode_value(octets(meter(), 15, "0-0:40.0.0", 2, client=16))
    names = {str(LogicalName(name)) for _, _, name, _ in listed}
    assert names == {"0.0.1.0.0.255", "0.0.42.0.0.255", "1.0.0.2.0.255", "0.0.40.0.0.255"}


def test_a_clock_can_be_wrong() -> None:
    device = meter()
    device.clock_offset = -3600
    shown = DateTime(decode_value(octets(device, 8, "0-0:1.0.0", 2))).to_datetime()
    assert shown is not None
    assert shown.timestamp() == NOW - 3600


def test_the_profile_grows_to_its_depth_and_then_rolls() -> None:
    device = meter(entries=96, installed=NOW - 10 * 900)
    assert decode_value(octets(device, 7, PROFILE, 7)) == 10
    assert decode_value(octets(device, 7, PROFILE, 7, now=NOW + 900)) == 11
    later = NOW + 10 * 86_400
    rows = decode_value(octets(device, 7, PROFILE, 2, now=later))
    assert len(rows) == decode_value(octets(device, 7, PROFILE, 7, now=later)) == 96
    times = [DateTime(row[0]).to_datetime() for row in rows]
    assert [t.timestamp() for t in times if t] == [later - 900 * back for back in range(95, -1, -1)]


def test_a_row_stays_as_it_was_captured() -> None:
    device = meter()
    rows = {row[0]: row for row in decode_value(octets(device, 7, PROFILE, 2))}
    later = decode_value(octets(device, 7, PROFILE, 2, now=NOW + 7200 + 17))
    known = [row for row in later if row[0] in rows]
    assert len(known) == 88
    assert all(rows[row[0]] == row for row in known)


def test_rows_by_range_include_both_ends() -> None:
    rows = decode_value(octets(meter(), 7, PROFILE, 2, selection=by_range(NOW - 3600, NOW - 1800)))
    assert [DateTime(row[0]).to_datetime() for row in rows] == [
        dt.datetime.fromtimestamp(NOW - back, dt.UTC) for back in (3600, 2700, 1800)
    ]


@pytest.mark.parametrize(
    ("start", "stop", "count"),
    [
        (NOW - 3599, NOW - 1801, 1),
        (NOW - 10**8, NOW + 10**8, 96),
        (NOW + 1, NOW + 5000, 0),
        (NOW - 10**8, NOW - 10**7, 0),
        (NOW - 100, NOW - 50, 0),
        (NOW, NOW - 3600, 0),
    ],
)
def test_rows_by_range_are_those_within(start: int, stop: int, count: int) -> None:
    assert len(decode_value(octets(meter(), 7, PROFILE, 2, selection=by_range(start, stop)))) == count


def test_columns_may_be_selected() -> None:
    whole = decode_value(octets(meter(), 7, PROFILE, 2))
    chosen = decode_value(octets(meter(), 7, PROFILE, 2, selection=by_range(NOW - 900, NOW, 0, 2)))
    assert chosen == [(row[0], row[2]) for row in whole[-2:]]
    assert decode_value(octets(meter(), 7, PROFILE, 2, selection=by_entry(2, 3, 2, 3))) == [
        row[1:3] for row in whole[1:3]
    ]
    assert decode_value(octets(meter(), 7, PROFILE, 2, selection=by_entry(95, 0))) == whole[94:]


@pytest.mark.parametrize(
    ("selection", "result"),
    [
        (SelectiveAccess(3, Data(DataType.NULL_DATA)), DataAccessResult.SCOPE_OF_ACCESS_VIOLATED),
        (SelectiveAccess(1, Data(DataType.NULL_DATA)), DataAccessResult.TYPE_UNMATCHED),
        (by_entry(0, 5), DataAccessResult.TYPE_UNMATCHED),
    ],
)
def test_a_selection_that_is_none_is_refused(selection: SelectiveAccess, result: DataAccessResult) -> None:
    with pytest.raises(DataAccessError) as refused:
        octets(meter(), 7, PROFILE, 2, selection=selection)
    assert refused.value.result == result


def test_an_identity_tells_no_password_and_refuses_nonsense() -> None:
    assert "00000000" not in repr(Identity()) + repr(meter())
    with pytest.raises(ConfigurationError):
        Identity(max_pdu=10)
