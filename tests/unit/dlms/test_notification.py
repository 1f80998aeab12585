"""DataNotification, EventNotification and InformationReport: by hand, as identities, and broken."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meterbridge.dlms import Data, DataType, DateTime, LogicalName
from meterbridge.dlms.notification import DataNotification, EventNotification, InformationReport
from meterbridge.errors import RemoteProtocolError
from tests.unit.dlms.strategies import any_data, examples, logical_names

TIME = DateTime(bytes.fromhex("07E9 0B18 01 0A1E00 00 FFC4 00"))
date_times = st.none() | st.binary(min_size=12, max_size=12).map(DateTime)
BODY = Data(DataType.STRUCTURE, (Data(DataType.DOUBLE_LONG_UNSIGNED, 948),))
BODY_OCTETS = bytes.fromhex("0201 06000003B4")

data_notifications = st.builds(DataNotification, st.integers(0, 0xFFFFFFFF), date_times, any_data)
event_notifications = st.builds(
    EventNotification, date_times, st.integers(0, 0xFFFF), logical_names, st.integers(0, 255), any_data
)
information_reports = st.builds(
    InformationReport,
    st.none() | st.text("0123456789Z", max_size=20),
    st.lists(st.tuples(st.integers(0, 0xFFFF), any_data), max_size=4).map(tuple),
)


@pytest.mark.parametrize(
    ("head", "time"),
    [
        ("0F 40000001 00", None),
        ("0F 40000001 0C 07E90B18010A1E0000FFC400", TIME),
        ("0F 40000001 090C 07E90B18010A1E0000FFC400", TIME),
    ],
    ids=["without time", "with time", "with a tag that does not belong there"],
)
def test_a_data_notification_by_hand(head: str, time: DateTime | None) -> None:
    apdu = bytes.fromhex(head) + BODY_OCTETS
    assert DataNotification.decode(apdu) == DataNotification(0x40000001, time, BODY)


def test_an_event_notification_by_hand() -> None:
    apdu = bytes.fromhex("C2 01 0C 07E90B18010A1E0000FFC400 0001 0000616200FF 02 06 00000010")
    name = LogicalName.parse("0.0.97.98.0.255")
    assert EventNotification.decode(apdu) == EventNotification(
        TIME, 1, name, 2, Data(DataType.DOUBLE_LONG_UNSIGNED, 16)
    )
    without = bytes.fromhex("C2 00 0001 0000616200FF 02 1105")
    assert EventNotification.decode(without) == EventNotification(None, 1, name, 2, Data(DataType.UNSIGNED, 5))


def test_an_information_report_by_hand() -> None:
    apdu = bytes.fromhex("18 00 02 02 0A08 02 0A10 02 1105 1201F4")
    values = ((0x0A08, Data(DataType.UNSIGNED, 5)), (0x0A10, Data(DataType.LONG_UNSIGNED, 500)))
    assert InformationReport.decode(apdu) == InformationReport(None, values)


@given(data_notifications)
@examples(0.5)
def test_a_data_notification_encoded_and_decoded_is_the_same(notification: DataNotification) -> None:
    assert DataNotification.decode(notification.encode()) == notification


@given(event_notifications)
@examples(0.5)
def test_an_event_notification_encoded_and_decoded_is_the_same(notification: EventNotification) -> None:
    assert EventNotification.decode(notification.encode()) == notification


@given(information_reports)
@examples(0.5)
def test_an_information_report_encoded_and_decoded_is_the_same(report: InformationReport) -> None:
    assert InformationReport.decode(report.encode()) == report


_APDUS = st.one_of(
    st.binary(max_size=60).map(lambda octets: b"\x0f" + octets),
    st.binary(max_size=60).map(lambda octets: b"\xc2" + octets),
    st.binary(max_size=60).map(lambda octets: b"\x18" + octets),
    st.tuples(data_notifications, st.integers(0, 80)).map(lambda pair: pair[0].encode()[: pair[1]]),
    st.tuples(event_notifications, st.integers(0, 80)).map(lambda pair: pair[0].encode()[: pair[1]]),
    st.tuples(information_reports, st.integers(0, 80)).map(lambda pair: pair[0].encode()[: pair[1]]),
)


@given(_APDUS)
def test_broken_ones_are_the_senders_fault(apdu: bytes) -> None:
    for kind in (DataNotification, EventNotification, InformationReport):
        try:
            kind.decode(apdu)
        except RemoteProtocolError as error:
            assert str(error)


# ---- descriptors that stand bare


def pair(class_id: int, name: str, attribute: int, value: str) -> str:
    return f"0202 {class_id:04X} {LogicalName.parse(name).hex()} {attribute:02X} {value}"


BARE = bytes.fromhex(
    "0F 00000001 00 0202 1601 0102" + pair(1, "0-0:96.1.0", 2, "0A04 31323334") + pair(3, "1-0:1.7.0", 2, "06 00000003")
)


def test_bare_descriptors_are_read_where_the_standard_reading_fails() -> None:
    notification = DataNotification.decode(BARE)
    assert notification.bare_descriptors
    pairs = notification.body.value[1].value
    assert [each.value[0].plain() for each in pairs] == [
        (1, LogicalName.parse("0-0:96.1.0"), 2),
        (3, LogicalName.parse("1-0:1.7.0"), 2),
    ]
    assert [each.value[1].value for each in pairs] == ["1234", 3]
    # Encoded with their types they are standard, and mean the same.
    again = DataNotification.decode(notification.encode())
    assert again.body == notification.body
    assert not again.bare_descriptors


def test_bare_descriptors_cut_short_are_never_made_up() -> None:
    refused = 0
    for cut in range(6, len(BARE)):
        try:
            notification = DataNotification.decode(BARE[:cut])
        except RemoteProtocolError:
            refused += 1
        else:
            # By chance the head of it is a standard reading, of nulls and empty arrays.
            assert not notification.bare_descriptors
    assert refused >= len(BARE) - 6 - 2
