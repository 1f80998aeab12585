"""Any APDU as named fields: by hand, from our own encoders, and broken."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meterbridge.dlms import AttributeDescriptor, BitString, Conformance, Data, DataType, LogicalName, SelectiveAccess
from meterbridge.dlms.acse import (
    Aare,
    Aarq,
    ApplicationContext,
    ConfirmedServiceError,
    InitiateRequest,
    InitiateResponse,
    Mechanism,
    Release,
)
from meterbridge.dlms.axdr import encode
from meterbridge.dlms.block_transfer import Block
from meterbridge.dlms.described import apdu_name, describe
from meterbridge.dlms.xdlms import ExceptionResponse, GetRequest, GetResponse, data_access_error
from meterbridge.errors import DataAccessError, RemoteProtocolError

ENERGY = LogicalName.parse("1-0:1.8.0")
VALUE = Data(DataType.DOUBLE_LONG_UNSIGNED, 7)
REGISTER = "0003 0100010800FF"

BY_HAND: list[tuple[str, dict[str, object]]] = [
    ("C001C1 " + REGISTER + " 02 00", {"type": "normal", "invoke_id": 1, "attributes": ["3:1-0:1.8.0:2"]}),
    ("C002C1 00000005", {"type": "next", "invoke_id": 1, "block": 5}),
    ("C401C1 00 0600000007", {"type": "normal", "invoke_id": 1, "result": VALUE}),
    ("C402C1 01 00000002 00 03 010203", {
        "type": "with-datablock", "invoke_id": 1, "last": True, "block": 2, "raw": b"\x01\x02\x03"}),
    ("C101C1 " + REGISTER + " 02 00 0600000007", {
        "type": "normal", "invoke_id": 1, "attributes": ["3:1-0:1.8.0:2"], "values": [VALUE]}),
    ("C103C1 00 00000002 01 FF", {
        "type": "with-datablock", "invoke_id": 1, "last": False, "block": 2, "raw": b"\xff"}),
    ("C104C1 01 " + REGISTER + " 02 00 01 0600000007", {
        "type": "with-list", "invoke_id": 1, "attributes": ["3:1-0:1.8.0:2"], "values": [VALUE]}),
    ("C501C1 00", {"type": "normal", "invoke_id": 1, "result": "success"}),
    ("C502C1 00000003", {"type": "datablock", "invoke_id": 1, "block": 3}),
    ("C301C1 0046 000060030AFF 01 01 0F00", {
        "type": "normal", "invoke_id": 1, "methods": ["70:0-0:96.3.10:1"], "values": [Data(DataType.INTEGER, 0)]}),
    ("C301C1 0046 000060030AFF 01 00", {"type": "normal", "invoke_id": 1, "methods": ["70:0-0:96.3.10:1"]}),
    ("C701C1 00 00", {"type": "normal", "invoke_id": 1, "result": "success"}),
    ("C701C1 00 01 00 0600000007", {"type": "normal", "invoke_id": 1, "result": "success", "value": VALUE}),
    ("0501 02 0A08", {"variables": ["0x0A08"]}),
    ("0C02 00 0600000007 00 00", {"results": [VALUE, Data(DataType.NULL_DATA)]}),
    ("0601 02 0A08 01 0600000007", {"variables": ["0x0A08"], "values": [VALUE]}),
    ("0D01 00", {"results": ["success"]}),
    ("0F00000001 00 0600000007", {"long_invoke_id": 1, "date_time": None, "body": VALUE}),
    ("C200 " + REGISTER + " 02 0600000007", {"date_time": None, "attribute": "3:1-0:1.8.0:2", "value": VALUE}),
    ("1800 01 02 0A08 01 0600000007", {"time": None, "values": {"0x0A08": VALUE}}),
]  # fmt: skip


@pytest.mark.parametrize(("octets", "fields"), BY_HAND, ids=[octets[:6] for octets, _ in BY_HAND])
def test_by_hand(octets: str, fields: dict[str, object]) -> None:
    assert describe(bytes.fromhex(octets.replace(" ", ""))) == fields


def test_from_our_own_encoders() -> None:
    selection = SelectiveAccess(2, VALUE)
    attributes = (AttributeDescriptor(3, ENERGY, 2), AttributeDescriptor(7, ENERGY, 2, selection))
    assert describe(GetRequest(4, attributes).encode())["attributes"] == [
        "3:1-0:1.8.0:2",
        "7:1-0:1.8.0:2 selector 2",
    ]
    results = describe(GetResponse(4, (encode(VALUE), data_access_error(3)), with_list=True).encode())["results"]
    assert isinstance(results, list)
    assert results[0] == VALUE
    assert isinstance(results[1], DataAccessError)
    assert describe(ExceptionResponse(1, 6, 99).encode()) == {
        "reason": "service not allowed, invocation counter error",
        "expected_invocation_counter": 99,
    }
    assert describe(ConfirmedServiceError(1, 0, 6).encode()) == {
        "reason": "initiate: application reference, deciphering error"
    }
    assert describe(Release(response=True).encode())["reason"] == 0
    assert describe(Block(2, 1, b"ab", True, False, 3).encode()) == {
        "block": 2, "acknowledged": 1, "last": True, "streaming": False, "window": 3, "raw": b"ab",
    }  # fmt: skip


def test_an_association_without_its_secrets() -> None:
    initiate = InitiateRequest(Conformance.GET | Conformance.SET, 1024, dedicated_key=b"\x11" * 16)
    aarq = Aarq(ApplicationContext.LN, initiate.encode(), Mechanism.LLS, b"00000042", b"CLIENT01")
    fields = describe(aarq.encode())
    assert fields["mechanism"] == "lls"
    assert fields["system_title"] == b"CLIENT01"
    assert fields["user_information"] == {
        "apdu": "initiate-request",
        "conformance": ["get", "set"],
        "max_receive_pdu": 1024,
        "dedicated_key": True,
    }
    assert "00000042" not in repr(fields)
    assert "1111" not in repr(fields)
    response = InitiateResponse(Conformance.GET, 512).encode()
    accepted = describe(Aare(1, 0, user_information=response).encode())
    assert accepted["result"] == "accepted"
    assert describe(Aare(1, 1, 13).encode())["result"] == "rejected for good: authentication failure"
    ciphered = describe(Aarq(ApplicationContext.LN_CIPHERED, b"\x21\x05\x30").encode())
    assert ciphered["user_information"] == {"apdu": "glo-initiate-request"}


@pytest.mark.parametrize(
    ("tag", "name"),
    [(0x0F, "data-notification"), (0xC8, "glo-get-request"), (0xD4, "ded-get-response"), (0x21, "glo-initiate-request"),
     (0x56, "ded-unconfirmed-write-request"), (0xDB, "general-glo-ciphering"), (0x7F, "apdu 0x7F")],
)  # fmt: skip
def test_names(tag: int, name: str) -> None:
    assert apdu_name(tag) == name


@given(st.sampled_from([bytes.fromhex(octets.replace(" ", "")) for octets, _ in BY_HAND]), st.data())
def test_cut_or_changed_it_is_the_senders_fault(apdu: bytes, data: st.DataObject) -> None:
    broken = bytearray(apdu)
    for _ in range(data.draw(st.integers(0, 3))):
        broken[data.draw(st.integers(0, len(broken) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(RemoteProtocolError):
        describe(bytes(broken[: data.draw(st.integers(0, len(broken)))]))


@given(st.binary(max_size=300))
def test_any_octets(octets: bytes) -> None:
    with contextlib.suppress(RemoteProtocolError):
        describe(octets)


def test_bit_strings_come_through() -> None:
    apdu = bytes.fromhex("C401C100 0408A5")
    assert describe(apdu)["result"] == Data(DataType.BIT_STRING, BitString("10100101"))


def test_the_example_of_the_documentation_runs_and_prints_what_it_says() -> None:
    page = (Path(__file__).parents[3] / "docs" / "decode.md").read_text("utf-8")
    # The listener's, which has sockets, is run by the integration tests.
    code, _ = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    output, _ = re.findall(r"```output\n(.*?)```", page, re.DOTALL)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(code, {})
    assert printed.getvalue() == output
