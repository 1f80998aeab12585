"""SET, ACTION, general block transfer and short names, driven by our own client end without a socket."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest

from meterbridge.dlms import (
    AttributeDescriptor,
    Conformance,
    Data,
    DataAccessResult,
    DataType,
    DateTime,
    LogicalName,
    SelectiveAccess,
    State,
)
from meterbridge.dlms.axdr import encode, encode_length
from meterbridge.dlms.xdlms import MethodDescriptor
from meterbridge.errors import DataAccessError, LocalProtocolError
from meterbridge.simulator import Behaviour, Faithful, Identity, Load, LoadOptions, SimulatedMeter
from meterbridge.simulator.association import ServerAssociation
from meterbridge.simulator.ln_services import LogicalNameServices
from tests.unit.simulator.wire import BUFFER, ENERGY, FRAMINGS, NOW, Wire, simulated

LN = (
    Conformance.GET
    | Conformance.SET
    | Conformance.ACTION
    | Conformance.MULTIPLE_REFERENCES
    | Conformance.BLOCK_TRANSFER_WITH_GET_OR_READ
    | Conformance.BLOCK_TRANSFER_WITH_SET_OR_WRITE
    | Conformance.BLOCK_TRANSFER_WITH_ACTION
)
"""Everything but general block transfer, which our client prefers."""


def attribute(class_id: int, name: str, index: int) -> AttributeDescriptor:
    return AttributeDescriptor(class_id, LogicalName.parse(name), index)


def method(class_id: int, name: str, index: int) -> MethodDescriptor:
    return MethodDescriptor(class_id, LogicalName.parse(name), index)


CUSTOMER = attribute(1, "0-0:96.1.1", 2)
TIME = attribute(8, "0-0:1.0.0", 2)
DISCONNECT = method(70, "0-0:96.3.10", 1)
RECONNECT = method(70, "0-0:96.3.10", 2)
OUTPUT = attribute(70, "0-0:96.3.10", 2)


def octets(value: bytes) -> Data:
    return Data(DataType.OCTET_STRING, value)


def refused(result: Any, reason: int) -> bool:
    return isinstance(result, DataAccessError) and result.result == reason


# ---------------------------------------------------------------------------------------------------------------------
# SET


@pytest.mark.parametrize("size", [0, 5, 40, 127, 128, 256, 8000])
@pytest.mark.parametrize("general", [False, True])
@pytest.mark.parametrize("framing", FRAMINGS)
def test_what_is_written_is_read_again_in_blocks_of_either_kind(framing: str, general: bool, size: int) -> None:
    wire = Wire(framing, meter=simulated(128), conformance=None if general else LN)
    wire.open()
    value = bytes(index & 0xFF for index in range(size))
    assert wire.set((CUSTOMER, octets(value))) == (None,)
    assert wire.get(CUSTOMER) == (value,)


@pytest.mark.parametrize("max_pdu", [128, 1024])
@pytest.mark.parametrize("framing", FRAMINGS)
def test_lists_are_written_one_by_one(framing: str, max_pdu: int) -> None:
    wire = Wire(framing, meter=simulated(max_pdu), conformance=LN)
    wire.open()
    zone, customer, energy, missing = wire.set(
        (attribute(8, "0-0:1.0.0", 3), Data(DataType.LONG, -60)),
        (CUSTOMER, octets(b"x" * 500)),
        (ENERGY, Data(DataType.DOUBLE_LONG_UNSIGNED, 0)),
        (attribute(1, "0-0:99.9.9", 2), octets(b"")),
    )
    assert zone is customer is None
    assert refused(energy, DataAccessResult.READ_WRITE_DENIED)
    assert refused(missing, DataAccessResult.OBJECT_UNDEFINED)
    assert wire.get(CUSTOMER) == (b"x" * 500,)
    assert wire.meter.clock.time_zone == -60


@pytest.mark.parametrize(
    ("target", "value", "reason"),
    [
        (CUSTOMER, Data(DataType.LONG, 1), DataAccessResult.TYPE_UNMATCHED),
        (CUSTOMER, octets(bytes(9000)), DataAccessResult.TYPE_UNMATCHED),
        (TIME, octets(b"short"), DataAccessResult.TYPE_UNMATCHED),
        (TIME, octets(bytes.fromhex("ffffffffffffffffff800000")), DataAccessResult.TYPE_UNMATCHED),
        (attribute(8, "0-0:1.0.0", 3), Data(DataType.LONG, 900), DataAccessResult.TYPE_UNMATCHED),
        (attribute(8, "0-0:1.0.0", 5), octets(bytes(12)), DataAccessResult.TYPE_UNMATCHED),
        (attribute(8, "0-0:1.0.0", 9), Data(DataType.ENUM, 2), DataAccessResult.READ_WRITE_DENIED),
        (attribute(3, "0-0:1.0.0", 2), octets(b""), DataAccessResult.OBJECT_CLASS_INCONSISTENT),
    ],
)
def test_what_does_not_fit_is_refused(target: AttributeDescriptor, value: Data, reason: int) -> None:
    wire = Wire()
    wire.open()
    assert refused(wire.set((target, value))[0], reason)


def test_the_public_client_writes_and_calls_nothing() -> None:
    wire = Wire(client=16, password=None)
    wire.open()
    assert refused(wire.set((TIME, octets(DateTime.from_datetime(dt.datetime(2030, 1, 1)).octets)))[0], 3)
    assert refused(wire.call((method(8, "0-0:1.0.0", 3), Data(DataType.INTEGER, 0)))[0], 3)


def test_blocks_of_a_request_out_of_turn_end_it() -> None:
    wire = Wire(conformance=LN)
    wire.open()
    association = wire.associations[0]
    block = b"\x00\x00\x00\x00\x01\x02\x09\x04"
    first = b"\xc1\x02\xc1" + CUSTOMER.encode() + block
    assert association.receive(first, NOW) == b"\xc5\x02\xc1\x00\x00\x00\x01"
    wrong = b"\xc1\x03\xc1\x01\x00\x00\x00\x03\x02ab"
    assert association.receive(wrong, NOW) == b"\xc5\x03\xc1\x13\x00\x00\x00\x03"
    assert association.receive(wrong, NOW) == b"\xc5\x03\xc1\x12\x00\x00\x00\x03"


def test_a_request_in_blocks_is_bounded() -> None:
    wire = Wire(conformance=LN)
    wire.open()
    association = wire.associations[0]
    part = bytes(900)
    answer = association.receive(b"\xc1\x02\xc1" + CUSTOMER.encode() + _block(1, part), NOW)
    number = 1
    while answer[1] == 2:
        number += 1
        answer = association.receive(b"\xc1\x03\xc1" + _block(number, part), NOW)
    assert answer[3] == DataAccessResult.LONG_SET_ABORTED
    assert 100 < number < 400


def _block(number: int, data: bytes, last: bool = False) -> bytes:
    return bytes((last,)) + number.to_bytes(4, "big") + encode_length(len(data)) + data


def test_a_busy_meter_takes_nothing() -> None:
    class Busy(Faithful):
        def refuses_attribute(self, attribute: AttributeDescriptor, now: float) -> DataAccessResult | None:
            return DataAccessResult.TEMPORARY_FAILURE

    wire = Wire(faults=Busy())
    wire.open()
    assert refused(wire.set((CUSTOMER, octets(b"x")))[0], DataAccessResult.TEMPORARY_FAILURE)


# ---------------------------------------------------------------------------------------------------------------------
# ACTION


@pytest.mark.parametrize("framing", FRAMINGS)
def test_the_breaker_opens_and_closes_by_method_and_by_script(framing: str) -> None:
    wire = Wire(framing)
    wire.open()
    zero = Data(DataType.INTEGER, 0)
    script = method(9, "0-0:10.0.106", 1)
    assert wire.call((DISCONNECT, zero)) == (None,)
    assert wire.get(OUTPUT, attribute(70, "0-0:96.3.10", 3)) == (False, 0)
    assert wire.call((RECONNECT, zero)) == (None,)
    assert wire.get(OUTPUT) == (True,)
    assert wire.call((script, Data(DataType.LONG_UNSIGNED, 1))) == (None,)
    assert wire.get(OUTPUT) == (False,)
    assert refused(wire.call((script, Data(DataType.LONG_UNSIGNED, 9)))[0], DataAccessResult.OBJECT_UNDEFINED)
    assert wire.set((attribute(70, "0-0:96.3.10", 4), Data(DataType.ENUM, 0))) == (None,)
    assert wire.get(OUTPUT) == (True,)
    assert refused(wire.call((DISCONNECT, zero))[0], DataAccessResult.READ_WRITE_DENIED)


def test_methods_are_called_in_lists_with_and_without_parameters() -> None:
    wire = Wire(conformance=LN)
    wire.open()
    missing, first, second = wire.call(
        (method(70, "0-0:96.3.10", 9), None), (DISCONNECT, None), (RECONNECT, Data(DataType.INTEGER, 0))
    )
    assert refused(missing, DataAccessResult.READ_WRITE_DENIED)
    assert first is second is None
    assert wire.meter.connected
    assert wire.call((DISCONNECT, None)) == (None,)
    assert not wire.meter.connected


class Echo(SimulatedMeter):
    """Every method gives its parameters back."""

    def call(self, method: MethodDescriptor, parameters: Data, client: int, now: float) -> Data | None:
        return parameters


@pytest.mark.parametrize("size", [1, 100, 127, 128, 3000])
@pytest.mark.parametrize("general", [False, True])
@pytest.mark.parametrize("framing", FRAMINGS)
def test_long_parameters_and_long_results_travel_in_blocks(framing: str, general: bool, size: int) -> None:
    meter = Echo(Load(LoadOptions(seed=1)), Identity(max_pdu=128, general_blocks=general))
    wire = Wire(framing, meter=meter, conformance=None if general else LN)
    wire.open()
    value = bytes(index * 7 & 0xFF for index in range(size))
    assert wire.call((DISCONNECT, octets(value))) == (value,)
    assert wire.call((DISCONNECT, octets(value)), (RECONNECT, octets(b"!"))) == (value, b"!")


@pytest.mark.parametrize("apdu", ["c30500", "c304c1", "c306c100000001", "c101c1", "c103c1", "c105c1", "c104c1ff"])
def test_a_request_cut_short_is_answered_and_survived(apdu: str) -> None:
    wire = Wire(conformance=LN)
    wire.open()
    association = wire.associations[0]
    assert association.receive(bytes.fromhex(apdu), NOW)[:1] in (b"\xd8", b"\xc7")
    assert association.open


@pytest.mark.parametrize("cut", range(1, 40))
def test_no_prefix_of_a_request_ends_the_association(cut: int) -> None:
    meter = simulated()
    services = LogicalNameServices(meter, 1, Faithful(), LN)
    assert services.answer(b"\xc1\x01\xc1" + CUSTOMER.encode() + encode(octets(b"x" * 20)), NOW, 1024)[3] == 0
    wire = Wire(meter=meter, conformance=LN)
    wire.open()
    request = b"\xc1\x01\xc1" + CUSTOMER.encode() + encode(octets(b"y" * 30))
    answer = wire.associations[0].receive(request[:cut], NOW)
    assert answer[:1] == b"\xd8"
    assert wire.get(CUSTOMER) == (b"x" * 20,)


# ---------------------------------------------------------------------------------------------------------------------
# general block transfer


@pytest.mark.parametrize("window", [1, 4])
@pytest.mark.parametrize("framing", FRAMINGS)
def test_long_answers_come_by_general_block_transfer(framing: str, window: int) -> None:
    meter = SimulatedMeter(Load(LoadOptions(seed=9)), Identity(max_pdu=200, profile_entries=96, general_blocks=True))
    wire = Wire(framing, meter=meter, window=window, max_information=256)
    wire.open()
    rows = wire.get(BUFFER)[0]
    assert isinstance(rows, list)
    assert len(rows) == 96
    answers = b"".join(wire.answers)
    assert b"\xe0" in answers
    assert b"\xc4\x02\xc1" not in answers
    assert wire.get(ENERGY) == (rows[-1][1],)
    assert wire.get(BUFFER, ENERGY)[1] == rows[-1][1]


def test_a_lost_block_is_sent_again() -> None:
    association = ServerAssociation(
        SimulatedMeter(Load(LoadOptions(seed=9)), Identity(max_pdu=200, profile_entries=96, general_blocks=True)),
        1,
        Faithful(),
    )
    wire = Wire("wrapper")
    wire.client.open()
    wire.client.next_event()
    association.receive(wire.client.data_to_send()[8:], NOW)
    first = association.respond(b"\xc0\x01\xc1" + BUFFER.encode(), NOW)
    assert [block[2:4] for block in first] == [b"\x00\x01"]
    three = association.respond(bytes.fromhex("e0830001000100"), NOW)
    assert [block[2:4] for block in three] == [b"\x00\x02", b"\x00\x03", b"\x00\x04"]
    again = association.respond(bytes.fromhex("e0830001000200"), NOW)
    assert [block[2:4] for block in again] == [b"\x00\x03", b"\x00\x04", b"\x00\x05"]
    assert again[:2] == three[1:] or again[0][8:] == three[1][8:]


@pytest.mark.parametrize("apdu", ["e0", "e0010001", "e08100010000ff00", "e0810001ffff00"])
def test_a_block_that_cannot_be_is_answered_and_survived(apdu: str) -> None:
    wire = Wire()
    wire.open()
    wire.associations[0].respond(bytes.fromhex(apdu), NOW)
    assert wire.get(ENERGY) == (wire.meter.load.energies(NOW).active_import,)


# ---------------------------------------------------------------------------------------------------------------------
# short names


@pytest.fixture(params=FRAMINGS)
def by_name(request: pytest.FixtureRequest) -> Wire:
    wire = Wire(request.param, meter=simulated(200), short_names=True)
    opened = wire.open()
    assert opened.negotiated.vaa_name == 0xFA00
    return wire


def base_names(wire: Wire) -> dict[tuple[int, str], int]:
    (listed,) = wire.read((0xFA08, None))
    return {(class_id, str(LogicalName(name))): base & 0xFFFF for base, class_id, _, name in listed}


def test_the_object_list_names_what_can_be_read(by_name: Wire) -> None:
    names = base_names(by_name)
    assert names[12, "0.0.40.0.0.255"] == 0xFA00
    assert names[17, "0.0.41.0.0.255"] == 0xFC00
    assert names[1, "0.0.42.0.0.255"] == 0xFD00
    assert len(set(names.values())) == len(names) > 40
    energy = names[3, "1.0.1.8.0.255"]
    name, value, scaler = by_name.read((energy, None), (energy + 8, None), (energy + 16, None))
    assert name == LogicalName.parse("1-0:1.8.0")
    assert value == by_name.meter.load.energies(NOW).active_import
    assert scaler == (0, 30)
    for _, base in names.items():
        assert not isinstance(by_name.read((base, None))[0], DataAccessError)


def test_access_rights_are_listed_by_base_name(by_name: Wire) -> None:
    (rights,) = by_name.read((0xFA10, None))
    clock = base_names(by_name)[8, "0.0.1.0.0.255"]
    (attributes, methods) = next((a, m) for base, a, m in rights if base & 0xFFFF == clock)
    assert [(index, mode) for index, mode, _ in attributes][:3] == [(1, 1), (2, 3), (3, 3)]
    assert [index for index, _ in methods] == [1, 2, 3, 4, 5, 6]


def test_names_without_a_meaning_are_undefined(by_name: Wire) -> None:
    energy = base_names(by_name)[3, "1.0.1.8.0.255"]
    for name in (0x0000, 0x0001, energy + 3, 0xFB00, 0xFFFF):
        assert refused(by_name.read((name, None))[0], DataAccessResult.OBJECT_UNDEFINED)


def test_variables_are_written_and_methods_called_by_name(by_name: Wire) -> None:
    names = base_names(by_name)
    customer, breaker = names[1, "0.0.96.1.1.255"] + 8, names[70, "0.0.96.3.10.255"]
    written, called, denied = by_name.write(
        (customer, None, octets(b"me")),
        (breaker + 0x20, None, Data(DataType.INTEGER, 0)),
        (names[3, "1.0.1.8.0.255"] + 8, None, Data(DataType.LONG, 0)),
    )
    assert written is called is None
    assert refused(denied, DataAccessResult.READ_WRITE_DENIED)
    assert by_name.read((customer, None), (breaker + 8, None)) == (b"me", False)


def test_selections_work_by_name(by_name: Wire) -> None:
    buffer = base_names(by_name)[7, "1.0.99.1.0.255"] + 8
    entries = tuple(Data(DataType.DOUBLE_LONG_UNSIGNED, entry) for entry in (1, 3))
    columns = tuple(Data(DataType.LONG_UNSIGNED, column) for column in (1, 0))
    selection = SelectiveAccess(2, Data(DataType.STRUCTURE, entries + columns))
    assert len(by_name.read((buffer, selection))[0]) == 3
    assert len(by_name.read((buffer, None))[0]) == 96


@pytest.mark.parametrize("size", [150, 186, 187, 188, 189, 190, 375, 376, 377, 378, 2000])
def test_what_is_too_long_is_written_in_blocks(by_name: Wire, size: int) -> None:
    names = base_names(by_name)
    customer, breaker = names[1, "0.0.96.1.1.255"] + 8, names[70, "0.0.96.3.10.255"]
    value = octets(bytes(number & 0xFF for number in range(size)))
    assert by_name.write((customer, None, value)) == (None,)
    assert by_name.read((customer, None)) == (value.value,)
    other = octets(bytes(size))
    denied = (names[3, "1.0.1.8.0.255"] + 8, None, other)
    results = by_name.write((customer, None, other), denied, (breaker + 0x20, None, Data(DataType.INTEGER, 0)))
    assert results[0] is results[2] is None
    assert refused(results[1], DataAccessResult.READ_WRITE_DENIED)
    assert by_name.read((customer, None), (breaker + 8, None)) == (other.value, False)


def test_a_read_of_too_many_names_goes_in_blocks_and_comes_in_blocks(by_name: Wire) -> None:
    voltage = base_names(by_name)[3, "1.0.32.7.0.255"]
    assert by_name.read(*[(voltage, None)] * 200) == (LogicalName.parse("1-0:32.7.0"),) * 200
    assert by_name.read((voltage, None), (7, None))[0] == LogicalName.parse("1-0:32.7.0")


def test_a_meter_that_did_not_agree_to_blocks_is_sent_none() -> None:
    services = Conformance.READ | Conformance.WRITE
    wire = Wire(meter=simulated(200), short_names=True, conformance=services)
    wire.open()
    with pytest.raises(LocalProtocolError, match="a Write of less"):
        wire.client.write(((0x1008, None, octets(bytes(300))),))
    with pytest.raises(LocalProtocolError, match="a Write of less"):
        wire.client.write(((0x1008, None, octets(bytes(300))),), confirmed=True)
    assert wire.client.state is State.READY
    assert wire.associations[0].receive(bytes.fromhex("060107000001010901aa"), NOW) == b"\x0d\x01\x01\x03"


@pytest.mark.parametrize(
    ("blocks", "reason"),
    [
        # Number 3 behind 1; number 2 without 1; no octet string; a length that is wrong; a block of Read behind one of
        # Write.
        (("060107000001010901aa", "060107000003010901aa"), 19),
        (("060107000002010901aa",), 18),
        (("060107000001010f01",), 14),
        (("060107000001010902aa",), 14),
        (("060107000001010901aa", "0501060000020101"), 18),
    ],
)
def test_request_blocks_out_of_turn_end_it(by_name: Wire, blocks: tuple[str, ...], reason: int) -> None:
    association = by_name.associations[0]
    *before, last = (bytes.fromhex(block) for block in blocks)
    for block in before:
        assert association.receive(block, NOW) == b"\x0d\x01\x02\x00\x01"
    answer = association.receive(last, NOW)
    assert answer == bytes((0x0C if last[0] == 5 else 0x0D, 1, 1, reason))
    assert by_name.read((0xFA00, None)) == (LogicalName.parse("0-0:40.0.0"),)


def test_request_blocks_without_end_are_bounded(by_name: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("meterbridge.simulator.sn_services._LONGEST_REQUEST", 100)
    association = by_name.associations[0]
    answers = [
        association.receive(bytes.fromhex("06010700") + number.to_bytes(2, "big") + b"\x01\x09\x32" + bytes(50), NOW)
        for number in (1, 2, 3)
    ]
    assert answers == [b"\x0d\x01\x02\x00\x01", b"\x0d\x01\x02\x00\x02", b"\x0d\x01\x01\x11"]


def test_an_unconfirmed_write_is_done_in_silence(by_name: Wire) -> None:
    customer = base_names(by_name)[1, "0.0.96.1.1.255"] + 8
    association = by_name.associations[0]
    assert association.receive(b"\x16\x01\x02" + customer.to_bytes(2, "big") + b"\x01\x09\x01z", NOW) == b""
    assert association.receive(b"\x16\x01\x02", NOW) == b""
    assert by_name.read((customer, None)) == (b"z",)


def test_the_client_writes_without_an_answer(by_name: Wire) -> None:
    names = base_names(by_name)
    customer, breaker = names[1, "0.0.96.1.1.255"] + 8, names[70, "0.0.96.3.10.255"]
    for value in (b"z", bytes(100)):
        by_name.answers.clear()
        several = ((customer, None, octets(value)), (breaker + 0x20, None, Data(DataType.INTEGER, 0)))
        assert by_name.write(*several, confirmed=False) == (None, None)
        # HDLC acknowledges it with nothing but RR; whether it was done is found by reading.
        assert sum(b"\x0d" in answer[9:] for answer in by_name.answers) == 0
        assert by_name.read((customer, None), (breaker + 8, None)) == (value, False)
        assert by_name.client.state is State.READY


def test_an_unconfirmed_write_that_nobody_heard_is_said_again() -> None:
    wire = Wire(short_names=True)
    wire.open()
    customer = base_names(wire)[1, "0.0.96.1.1.255"] + 8
    wire.client.write(((customer, None, octets(b"lost")),), confirmed=False)
    assert wire.client.next_event() is None
    wire.client.data_to_send()  # lost
    assert wire.client.handle_timeout()
    assert wire.results() == (None,)
    assert wire.read((customer, None)) == (b"lost",)


def test_an_unconfirmed_write_the_meter_did_not_agree_to_is_not_sent() -> None:
    wire = Wire(short_names=True, conformance=Conformance.READ | Conformance.WRITE)
    wire.open()
    with pytest.raises(LocalProtocolError, match="UnconfirmedWrite"):
        wire.client.write(((8, None, octets(b"x")),), confirmed=False)
    assert wire.client.data_to_send() == b""


@pytest.mark.parametrize("apdu", ["05", "0501", "0501ff0000", "06010201", "058400000000", "050104fa08", "c001c1"])
def test_nonsense_by_name_is_answered_and_survived(by_name: Wire, apdu: str) -> None:
    association = by_name.associations[0]
    assert association.receive(bytes.fromhex(apdu), NOW)[:1] in (b"\x0e", b"\xd8")
    assert by_name.read((0xFA00, None)) == (LogicalName.parse("0-0:40.0.0"),)


def test_behaviours_stand_between_names_too() -> None:
    class Broken(Faithful):
        def refuses_attribute(self, attribute: AttributeDescriptor, now: float) -> DataAccessResult | None:
            return DataAccessResult.HARDWARE_FAULT

    behaviour: Behaviour = Broken()
    assert isinstance(behaviour, Faithful)
    wire = Wire(short_names=True, faults=behaviour)
    wire.open()
    assert refused(wire.read((0xFD08, None))[0], DataAccessResult.HARDWARE_FAULT)
