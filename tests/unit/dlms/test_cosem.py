"""COSEM objects by name: what each class's values become."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given

from meterbridge.dlms import BitString, Conformance, Data, DataType, Date, DateTime, Time, present, present_object
from meterbridge.dlms.axdr import decode_value, encode
from meterbridge.dlms.cosem import attribute_name, class_name, cosem_class, method_name
from meterbridge.dlms.cosem.classes import described
from tests.unit.dlms.strategies import any_data

CLOCK = bytes((0, 0, 1, 0, 0, 255))
SCRIPTS = bytes((0, 0, 10, 0, 100, 255))
ENERGY = bytes((1, 0, 1, 8, 0, 255))
WHEN = bytes.fromhex("07ea0714010c1e0000ff8880")
WILD = bytes.fromhex("ffff03fe0702000000ffc400")
AT_SIX = bytes((6, 0, 0, 0))


@pytest.mark.parametrize(
    ("where", "value", "expected"),
    [
        ((3, 1), ENERGY, "1.0.1.8.0.255"),
        ((3, 2), 5, 5),
        ((3, 3), (-1, 35), {"scaler": -1, "unit": "V"}),
        ((3, 3), (0, 255), {"scaler": 0, "unit": None}),
        ((4, 5), WHEN, "2026-07-20T12:30:00+02:00"),
        ((5, 4), (3, 27), {"scaler": 3, "unit": "W"}),
        ((1, 2), b"MBS1", "MBS1"),
        ((1, 2), b"\x00\xab", "00AB"),
        ((7, 5), 2, "lifo"),
        ((7, 5), 77, 77),
        ((7, 2), [(WHEN, 5)], [["2026-07-20T12:30:00+02:00", 5]]),
        ((8, 2), DateTime(WHEN), "2026-07-20T12:30:00+02:00"),
        ((8, 4), 0x81, ["invalid_value", "daylight_saving_active"]),
        ((8, 4), 0x10, ["bit 4"]),
        ((8, 5), WILD, "****-03-last 02:00:00 +01:00"),
        ((8, 9), 1, "internal_crystal"),
        (
            (9, 2),
            [(1, [(2, 70, ENERGY, 1, 0)])],
            [
                {
                    "script_identifier": 1,
                    "actions": [
                        {
                            "service_id": "execute_method",
                            "class_id": "70 Disconnect control",
                            "logical_name": "1.0.1.8.0.255",
                            "index": 1,
                            "parameter": 0,
                        }
                    ],
                }
            ],
        ),
        ((11, 2), [(1, bytes.fromhex("07ea0c19ff"), 2)], [{"index": 1, "specialday_date": "2026-12-25", "day_id": 2}]),
        (
            (12, 2),
            [(-0x600, 12, 1, CLOCK)],
            [
                {
                    "base_name": "0xFA00",
                    "class_id": "12 Association SN",
                    "version": 1,
                    "logical_name": "0.0.1.0.0.255",
                }
            ],
        ),
        ((15, 3), (16, 1), {"client_SAP": 16, "server_SAP": 1}),
        ((15, 4), bytes.fromhex("60857405080101"), "logical_name_referencing_no_ciphering"),
        ((15, 4), (2, 16, 756, 5, 8, 1, 3), "logical_name_referencing_with_ciphering"),
        ((15, 4), bytes.fromhex("60857405090101"), "60857405090101"),
        ((15, 6), bytes.fromhex("60857405080205"), "high_level_security_using_gmac"),
        ((15, 8), 2, "associated"),
        ((17, 2), [(1, b"MBS1")], [{"SAP": 1, "logical_device_name": "MBS1"}]),
        ((18, 6), 3, "image_verification_successful"),
        (
            (20, 5),
            [(1, [(AT_SIX, SCRIPTS, 2)])],
            [
                {
                    "day_id": 1,
                    "day_schedule": [
                        {"start_time": "06:00:00", "script_logical_name": "0.0.10.0.100.255", "script_selector": 2}
                    ],
                }
            ],
        ),
        (
            (20, 3),
            [(b"1", WILD, b"2")],
            [{"season_profile_name": "1", "season_start": "****-03-last 02:00:00 +01:00", "week_name": "2"}],
        ),
        ((22, 4), [(Time(AT_SIX), Date(WHEN[:5]))], [{"time": "06:00:00", "date": "2026-07-20"}]),
        (
            (40, 3),
            (0, b"10.0.0.1:4059", 0),
            {"transport_service": "TCP", "destination": "10.0.0.1:4059", "message": "A-XDR encoded xDLMS APDU"},
        ),
        ((64, 2), 3, "authenticated_and_encrypted"),
        ((64, 2), 0b100100, ["authenticated_request", "authenticated_response"]),
        ((64, 4), b"ABC12345", "4142433132333435"),
        ((70, 3), 2, "ready_for_reconnection"),
        (
            (71, 8),
            (1, WHEN, 60),
            {
                "emergency_profile_id": 1,
                "emergency_activation_time": "2026-07-20T12:30:00+02:00",
                "emergency_duration": 60,
            },
        ),
    ],
)
def test_values_have_names(where: tuple[int, int], value: Any, expected: Any) -> None:
    shown = present(*where, value)
    assert shown == expected
    assert json.loads(json.dumps(shown)) == shown


def test_capture_objects_say_what_they_capture() -> None:
    assert present(7, 3, [(8, CLOCK, 2, 0), (3, ENERGY, 3, 0), (3, ENERGY, 0, 1)]) == [
        {
            "class_id": 8,
            "class": "Clock",
            "logical_name": "0.0.1.0.0.255",
            "attribute": 2,
            "attribute_name": "time",
            "data_index": 0,
        },
        {
            "class_id": 3,
            "class": "Register",
            "logical_name": "1.0.1.8.0.255",
            "attribute": 3,
            "attribute_name": "scaler_unit",
            "data_index": 0,
        },
        {
            "class_id": 3,
            "class": "Register",
            "logical_name": "1.0.1.8.0.255",
            "attribute": 0,
            "attribute_name": "all",
            "data_index": 1,
        },
    ]


def test_conformance_and_context() -> None:
    block = BitString(f"{int(Conformance.GET | Conformance.ACTION):024b}")
    shown = present(15, 5, (block, 1024, 512, 6, 0, b""))
    assert shown["conformance"] == ["get", "action"]
    assert (shown["max_receive_pdu_size"], shown["dlms_version_number"]) == (1024, 6)


def test_access_rights_by_version() -> None:
    rows = [(3, 0, ENERGY, ([(1, 1, None), (2, 3, None)], [(1, 1)]))]
    [old] = present(15, 2, rows, 1)
    assert old["class_id"] == "3 Register"
    assert [right["access_mode"] for right in old["access_rights"]["attribute_access"]] == [
        "read_only",
        "read_and_write",
    ]
    assert old["access_rights"]["method_access"] == [{"method_id": 1, "access_mode": "access"}]
    [new] = present(15, 2, rows, 3)
    assert new["access_rights"]["attribute_access"][1]["access_mode"] == ["read_access", "write_access"]


def test_an_object_as_a_whole() -> None:
    assert present_object(70, {2: True, 3: 1, 4: 0, 99: b"\x01"}) == {
        "output_state": True,
        "control_state": "connected",
        "control_mode": 0,
        "attribute 99": "01",
    }


def test_typed_data_is_shown_like_plain_values() -> None:
    unit = Data(DataType.STRUCTURE, (Data(DataType.INTEGER, -2), Data(DataType.ENUM, 33)))
    assert present(3, 3, unit) == present(3, 3, unit.plain()) == {"scaler": -2, "unit": "A"}


def test_names() -> None:
    assert attribute_name(3, 3) == "scaler_unit"
    assert attribute_name(3, 9) == "attribute 9"
    assert attribute_name(9999, 2) == "attribute 2"
    assert method_name(70, 2) == "remote_reconnect"
    assert method_name(8, 6) == "shift_time"
    assert method_name(70, 3) == "method 3"
    assert method_name(9999, 1) == "method 1"


def test_versions() -> None:
    def methods(version: int | None) -> int:
        known = cosem_class(64, version)
        assert known is not None
        return len(known.methods)

    assert [methods(0), methods(1), methods(7), methods(None)] == [2, 8, 8, 2]
    assert cosem_class(4711) is None


def test_every_class_described_has_a_name() -> None:
    entries = described()
    assert len({(entry.class_id, entry.version) for entry in entries}) == len(entries) >= 25
    for entry in entries:
        assert not class_name(entry.class_id).startswith("class ")
        names = [attribute.name for attribute in entry.attributes]
        assert names[0] == "logical_name"
        assert len(set(names)) == len(names)
        # What short names can name: methods begin behind the attributes.
        assert (
            entry.first_method is None
            or entry.first_method >= 8 * len(names)
            or class_name(entry.class_id) in ("Association SN",)
        )


@example(
    Data(
        DataType.ARRAY,
        (
            Data(DataType.BOOLEAN, False),
            Data(DataType.OCTET_STRING, b""),
            Data(DataType.BOOLEAN, False),
            Data(DataType.BIT_STRING, BitString("")),
        ),
    )
)
@given(any_data)
def test_whatever_a_meter_sends_is_shown(data: Data) -> None:
    plain = decode_value(encode(data))
    for entry in described():
        for index in range(1, len(entry.attributes) + 1):
            json.dumps(present(entry.class_id, index, plain, entry.version))
