"""Requests by short name that go in blocks: octet by octet, and what a meter may answer in the middle."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meterbridge.dlms import Data, DataType, SelectiveAccess
from meterbridge.dlms.exchange_steps import Ask, Done, Ignored
from meterbridge.dlms.short_name_exchange import ReadExchange, WriteExchange
from meterbridge.errors import DataAccessError, LocalProtocolError, RemoteProtocolError

NAME = 0xFD08
ALL = ("0D 01 02 0001", "0D 01 02 0002", "0D 01 02 0003")
"""Acknowledgements of every block but the last."""
Writes = tuple[tuple[int, SelectiveAccess | None, Data], ...]


def octets(value: bytes) -> Writes:
    return ((NAME, None, Data(DataType.OCTET_STRING, value)),)


def begun(max_pdu: int = 16) -> WriteExchange:
    exchange = WriteExchange(octets(b"abcdefghi"))
    assert exchange.start(0, max_pdu) == bytes.fromhex("06 01 07 00 0001 01 09 05 01 02 FD 08 01")
    return exchange


def test_a_write_as_it_stands_on_the_wire() -> None:
    exchange = begun()
    # The whole is 01 02 FD08 01 09 09 616263646566676869: the request without its tag, five octets a block.
    second = exchange.receive(bytes.fromhex("0D 01 02 0001"))
    assert second == Ask(bytes.fromhex("06 01 07 00 0002 01 09 05 09 09 61 62 63"))
    third = exchange.receive(bytes.fromhex("0D 01 02 0002"))
    assert third == Ask(bytes.fromhex("06 01 07 00 0003 01 09 05 64 65 66 67 68"))
    last = exchange.receive(bytes.fromhex("0D 01 02 0003"))
    assert last == Ask(bytes.fromhex("06 01 07 01 0004 01 09 01 69"))
    assert exchange.receive(bytes.fromhex("0D 01 00")) == Done((None,))


def test_a_read_as_it_stands_on_the_wire() -> None:
    exchange = ReadExchange([(0x1008, None), (0x2008, None), (0x3008, None), (0x4008, None), (0x5008, None)])
    # No octet string around the block, as Write has it; and 03 where Write-Response says 02.
    assert exchange.start(0, 16) == bytes.fromhex("05 01 06 00 0001 05 05 02 10 08 02")
    second = exchange.receive(bytes.fromhex("0C 01 03 0001"))
    assert second == Ask(bytes.fromhex("05 01 06 00 0002 05 20 08 02 30 08"))
    third = exchange.receive(bytes.fromhex("0C 01 03 0002"))
    assert third == Ask(bytes.fromhex("05 01 06 00 0003 05 02 40 08 02 50"))
    assert exchange.receive(bytes.fromhex("0C 01 03 0003")) == Ask(bytes.fromhex("05 01 06 01 0004 01 08"))
    # The answer may come in blocks as well, and they are asked for by number.
    asked = exchange.receive(bytes.fromhex("0C 01 02 00 0001 05 05 00 11 01 00"))
    assert asked == Ask(bytes.fromhex("05 01 05 0001"))
    rest = bytes.fromhex("0C 01 02 01 0002 0A 11 02 00 11 03 00 11 04 01 04")
    done = exchange.receive(rest)
    assert isinstance(done, Done)
    assert done.results[:4] == (1, 2, 3, 4)
    assert str(done.results[4]) == "object-undefined"


def test_a_refusal_in_the_middle_is_that_of_all() -> None:
    step = begun().receive(bytes.fromhex("0D 01 01 11"))
    assert isinstance(step, Done)
    assert [str(result) for result in step.results] == ["long-set-aborted"]
    exchange = ReadExchange([(NAME, None)] * 9)
    exchange.start(0, 16)
    step = exchange.receive(bytes.fromhex("0C 01 01 13"))
    assert isinstance(step, Done)
    assert [str(result) for result in step.results] == ["data-block-number-invalid"] * 9
    assert all(isinstance(result, DataAccessError) for result in step.results)


def test_an_acknowledgement_said_again_is_no_other() -> None:
    exchange = begun()
    first = bytes.fromhex("0D 01 02 0001")
    assert isinstance(exchange.receive(first), Ask)
    assert isinstance(exchange.receive(first), Ignored)
    assert isinstance(exchange.receive(bytes.fromhex("0D 01 02 0002")), Ask)


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        (("0D 01 02 0002",), "data block 2 acknowledged, 1 was sent"),
        (("0D 01 02 0001 00",), "of a wrong length"),
        (("0D 01 02 00",), "of a wrong length"),
        (("0D 01 00",), "before the whole request"),
        (("0D 02 00 00",), "before the whole request"),
        (("0D 01",), "cut short"),
        ((*ALL, "0D 01 02 0004"), "data block 4 acknowledged"),
        ((*ALL, "0D 02 00 00"), "2 results for 1 names"),
        ((*ALL, "0D 01 03"), "choice 3"),
    ],
)
def test_what_is_no_answer_breaks_the_protocol(answers: tuple[str, ...], words: str) -> None:
    exchange = begun()
    *before, last = (bytes.fromhex(answer) for answer in answers)
    for answer in before:
        assert isinstance(exchange.receive(answer), Ask)
    with pytest.raises(RemoteProtocolError, match=words):
        exchange.receive(last)


@pytest.mark.parametrize("answer", ["0C 01 00 11 05", "0C 01 02 01 0001 02 00 11"])
def test_a_read_answered_before_it_was_asked(answer: str) -> None:
    exchange = ReadExchange([(NAME, None)] * 9)
    exchange.start(0, 16)
    with pytest.raises(RemoteProtocolError, match="before the whole request"):
        exchange.receive(bytes.fromhex(answer))


def test_what_no_number_of_blocks_holds_is_refused_before_it_is_sent() -> None:
    with pytest.raises(LocalProtocolError, match="too small for a data block"):
        WriteExchange(octets(bytes(20))).start(0, 11)
    with pytest.raises(LocalProtocolError, match="does not fit 65535 data blocks"):
        WriteExchange(octets(bytes(70_000))).start(0, 12)
    for exchange in (WriteExchange(octets(bytes(20)), False), WriteExchange(octets(bytes(20)), blocks=False)):
        with pytest.raises(LocalProtocolError, match="try a Write of less"):
            exchange.start(0, 16)
    assert WriteExchange(octets(bytes(20))).start(0, 0)[:3] == bytes.fromhex("06 01 02")


@given(st.binary(max_size=1500), st.integers(12, 700))
def test_the_blocks_together_are_the_request(value: bytes, max_pdu: int) -> None:
    whole = WriteExchange(octets(value)).start(0, 0)
    exchange = WriteExchange(octets(value))
    apdu, together, number = exchange.start(0, max_pdu), b"", 0
    while apdu[2] == 7:
        number += 1
        assert len(apdu) <= max_pdu
        assert int.from_bytes(apdu[4:6], "big") == number
        size = apdu[8]
        start = 9
        if size & 0x80:
            start += size & 0x7F
            size = int.from_bytes(apdu[9:start], "big")
        assert len(apdu) == start + size
        together += apdu[start:]
        if apdu[3]:
            break
        step = exchange.receive(b"\x0d\x01\x02" + apdu[4:6])
        assert isinstance(step, Ask)
        apdu = step.apdu
    assert (apdu if number == 0 else b"\x06" + together) == whole
    assert (number == 0) == (len(whole) <= max_pdu)
