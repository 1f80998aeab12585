"""The server end, driven by our own client end without a socket: association, lists, blocks, silence and refusals."""

from __future__ import annotations

import pytest

from meterbridge.dlms import (
    AttributeDescriptor,
    Conformance,
    DataAccessResult,
    HdlcLink,
    LogicalName,
    client_address,
    server_address,
)
from meterbridge.dlms.acse import AARE, RLRE, InitiateRequest, Release
from meterbridge.dlms.xdlms import GetRequest
from meterbridge.errors import AssociationRefused, DataAccessError
from meterbridge.simulator import Faithful, Refusal
from meterbridge.simulator.association import ServerAssociation
from tests.unit.simulator.wire import BUFFER, ENERGY, FRAMINGS, MISSING, NOW, VOLTAGE, Wire, simulated


@pytest.mark.parametrize("chunk", [1, 3, 4096])
@pytest.mark.parametrize("framing", FRAMINGS)
def test_values_arrive_however_the_octets_are_cut(framing: str, chunk: int) -> None:
    wire = Wire(framing, chunk=chunk)
    wire.open()
    expected = wire.meter.load.at(NOW)
    assert wire.get(ENERGY) == (expected.energies.active_import,)
    energy, voltage, missing = wire.get(ENERGY, VOLTAGE, MISSING)
    assert (energy, voltage) == (expected.energies.active_import, round(expected.voltage[0] * 10))
    assert isinstance(missing, DataAccessError)
    assert missing.result == DataAccessResult.OBJECT_UNDEFINED


@pytest.mark.parametrize("noise", [b"\x00\xff\x55", b"NEXERRORNO-1", b"\x7e\x7e\xa0"])
@pytest.mark.parametrize("framing", FRAMINGS)
def test_leading_noise_costs_nothing(framing: str, noise: bytes) -> None:
    wire = Wire(framing)
    wire.side.receive(noise, NOW)
    wire.open()


@pytest.mark.parametrize("window", [1, 3])
@pytest.mark.parametrize("max_pdu", [64, 200, 1024, 65_535])
@pytest.mark.parametrize("framing", FRAMINGS)
def test_long_answers_come_in_blocks_segments_and_windows(framing: str, max_pdu: int, window: int) -> None:
    wire = Wire(framing, meter=simulated(max_pdu), window=window)
    wire.open()
    rows = wire.get(BUFFER)[0]
    assert isinstance(rows, list)
    assert len(rows) == 96
    assert rows[-1][1] == wire.meter.load.energies(NOW).active_import
    energy, again, missing = wire.get(ENERGY, BUFFER, MISSING)
    assert again == rows
    assert energy == rows[-1][1]
    assert isinstance(missing, DataAccessError)


@pytest.mark.parametrize("destination", [server_address(2), server_address(2, 17), server_address(1, 18)])
def test_hdlc_is_silent_for_another_server_address(destination: bytes) -> None:
    wire = Wire(address=destination)
    wire.client.open()
    assert wire.run() is None


@pytest.mark.parametrize("destination", [server_address(1), server_address(1, 17), server_address(1, 17, 4)])
def test_hdlc_takes_every_spelling_of_its_own_address(destination: bytes) -> None:
    Wire(address=destination).open()


@pytest.mark.parametrize("framing", FRAMINGS)
@pytest.mark.parametrize(
    ("client", "password", "diagnostic"), [(1, b"wrong", 13), (1, b"", 13), (1, None, 14), (5, b"00000000", 1)]
)
def test_wrong_password_or_client_is_refused(
    framing: str, client: int, password: bytes | None, diagnostic: int
) -> None:
    wire = Wire(framing, client=client, password=password)
    wire.client.open()
    with pytest.raises(AssociationRefused) as refused:
        wire.run()
    assert (refused.value.result, refused.value.diagnostic) == (1, diagnostic)


def test_a_meter_that_is_held_refuses_for_now() -> None:
    wire = Wire(claim=lambda: False)
    wire.client.open()
    with pytest.raises(AssociationRefused) as refused:
        wire.run()
    assert refused.value.result == 2


def test_a_script_stands_between() -> None:
    class Scripted(Faithful):
        def refuses_association(self, client: int, now: float) -> Refusal | None:
            return Refusal(2, 1) if client == 1 else None

        def refuses_attribute(self, attribute: AttributeDescriptor, now: float) -> DataAccessResult | None:
            return DataAccessResult.HARDWARE_FAULT

    wire = Wire(faults=Scripted())
    wire.client.open()
    with pytest.raises(AssociationRefused):
        wire.run()
    public = Wire(client=16, password=None, faults=Scripted())
    public.open()
    (result,) = public.get(AttributeDescriptor(1, LogicalName.parse("0-0:42.0.0"), 2))
    assert isinstance(result, DataAccessError)
    assert result.result == DataAccessResult.HARDWARE_FAULT


def test_conformance_is_what_both_have() -> None:
    opened = Wire(conformance=Conformance.GET | Conformance.DATA_NOTIFICATION).open()
    assert opened.negotiated.conformance == Conformance.GET


def test_release_and_disconnect_end_the_association() -> None:
    wire = Wire()
    wire.open()
    wire.client.release()
    wire.run()
    assert [association.open for association in wire.associations] == [False]
    wire.open()
    assert [association.open for association in wire.associations] == [True]


def test_another_client_on_the_same_line_waits_for_the_first_to_go() -> None:
    wire = Wire()
    wire.open()
    link = HdlcLink(client_address(16), server_address(1))
    link.connect()
    assert wire.side.receive(link.data_to_send(), NOW)[5:6] == b"\x1f"  # DM
    wire.client.release()
    wire.run()
    link.disconnect()
    link.data_to_send()
    second = Wire(client=16, password=None)
    second.side = wire.side
    second.open()


def apdus(max_pdu: int = 1024, conformance: Conformance | None = None) -> ServerAssociation:
    association = ServerAssociation(simulated(max_pdu), 16, Faithful())
    wanted = Conformance(0xFFFFFF >> 1) if conformance is None else conformance
    initiate = InitiateRequest(wanted, 0).encode()
    aarq = bytes.fromhex("a109060760857405080101be") + bytes((len(initiate) + 2, 4, len(initiate))) + initiate
    answer = association.receive(bytes((0x60, len(aarq))) + aarq, NOW)
    assert answer[0] == AARE
    return association


LIST = AttributeDescriptor(15, LogicalName.parse("0-0:40.0.0"), 2)


def test_no_get_without_an_association() -> None:
    association = ServerAssociation(simulated(), 16, Faithful())
    assert association.receive(GetRequest(1, (LIST,)).encode(), NOW) == b"\xd8\x01\x01"


@pytest.mark.parametrize(
    "apdu", [b"", b"\xc0", b"\xc0\x01\xc1\x00\x0f", b"\xc0\x03\xc1\x84\xff\xff\xff\xff", b"\xff\x00"]
)
def test_nonsense_is_answered_and_survived(apdu: bytes) -> None:
    association = apdus()
    assert association.receive(apdu, NOW)[0] == 0xD8
    assert association.receive(GetRequest(1, (LIST,)).encode(), NOW)[0] == 0xC4


def test_invoke_id_and_priority_come_back() -> None:
    request = bytearray(GetRequest(7, (LIST,)).encode())
    request[2] = 0x47
    assert apdus().receive(bytes(request), NOW)[2] == 0x47


def test_blocks_out_of_turn_end_the_transfer() -> None:
    association = apdus(max_pdu=64)
    first = association.receive(GetRequest(1, (LIST,)).encode(), NOW)
    assert len(first) <= 64
    assert association.receive(GetRequest(1, (), 5).encode(), NOW)[-2:] == b"\x01\x13"
    assert association.receive(GetRequest(1, (), 1).encode(), NOW)[-2:] == b"\x01\x10"


def test_without_block_transfer_a_long_answer_is_refused() -> None:
    association = apdus(max_pdu=64, conformance=Conformance.GET)
    assert association.receive(GetRequest(1, (LIST,)).encode(), NOW) == b"\xd8\x01\x04"


def test_what_was_not_agreed_is_not_supported() -> None:
    association = apdus(conformance=Conformance.GET)
    for tag in (0xC1, 0xC3, 0xD9, 0xE0):
        assert association.respond(bytes((tag, 1, 0xC1)) + bytes(12), NOW) == [b"\xd8\x01\x02"]


def test_release_is_answered() -> None:
    association = apdus()
    assert association.receive(Release(response=False).encode(), NOW)[0] == RLRE
    assert not association.open
