from __future__ import annotations

import contextlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meterbridge.dlms import AttributeDescriptor, Conformance, Data
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
from meterbridge.dlms.axdr import decode_value_at, encode
from meterbridge.dlms.xdlms import (
    ExceptionResponse,
    GetRequest,
    GetResponse,
    data_access_error,
    decode_results,
    encode_results,
)
from meterbridge.errors import DataAccessError, RemoteProtocolError
from tests.unit.dlms.strategies import any_data, attribute_descriptors, examples

_octet = st.integers(0, 255)
_word = st.integers(0, 0xFFFF)
_title = st.none() | st.binary(min_size=8, max_size=8)
_octets = st.binary(max_size=300)
_conformance = st.integers(0, 0xFFFFFF).map(Conformance)

APDUS: dict[str, st.SearchStrategy[object]] = {
    "aarq": st.builds(
        Aarq,
        st.sampled_from(ApplicationContext),
        _octets,
        st.none(),
        st.none(),
        _title,
        st.none() | _octets,
        st.none() | _octet,
    ),
    "aarq with a mechanism": st.builds(
        Aarq,
        st.sampled_from(ApplicationContext),
        _octets,
        st.sampled_from(Mechanism),
        _octets,
        _title,
        st.none() | _octets,
        st.none() | _octet,
    ),
    "aare": st.builds(
        Aare,
        st.integers(1, 4),
        _octet,
        _octet,
        _octets,
        st.booleans(),
        st.none() | st.integers(0, 7),
        st.none() | _octets,
        _title,
        st.none() | _octets,
    ),
    "release": st.builds(Release, st.booleans(), st.none() | _octet, _octets),
    "initiate request": st.builds(
        InitiateRequest, _conformance, _word, st.none() | st.binary(min_size=16, max_size=32), st.booleans()
    ),
    "initiate response": st.builds(InitiateResponse, _conformance, _word, _word, st.none() | _octet, _octet),
    "confirmed service error": st.builds(ConfirmedServiceError, _octet, _octet, _octet),
    "exception response": st.builds(ExceptionResponse, _octet, _octet, st.none() | st.integers(0, 0xFFFFFFFF)),
    "get request": st.builds(GetRequest, st.integers(0, 15), st.tuples(attribute_descriptors)),
    "get request next": st.builds(GetRequest, st.integers(0, 15), st.just(()), st.integers(0, 0xFFFFFFFF)),
    "get request with list": st.builds(
        GetRequest,
        st.integers(0, 15),
        st.lists(attribute_descriptors, min_size=1, max_size=5).map(tuple),
        st.none(),
        st.just(True),
    ),
}
DECODERS: dict[str, Callable[[bytes], object]] = {
    "aarq": Aarq.decode,
    "aare": Aare.decode,
    "release": Release.decode,
    "initiate request": InitiateRequest.decode,
    "initiate response": InitiateResponse.decode,
    "confirmed service error": ConfirmedServiceError.decode,
    "exception response": ExceptionResponse.decode,
    "get request": GetRequest.decode,
}


def decoder_of(name: str) -> Callable[[bytes], object]:
    return next(decode for start, decode in DECODERS.items() if name.startswith(start))


@pytest.mark.parametrize("name", APDUS)
@examples(0.5)
@given(data=st.data())
def test_apdus_survive_the_wire(name: str, data: st.DataObject) -> None:
    apdu = data.draw(APDUS[name])
    assert decoder_of(name)(apdu.encode()) == apdu  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", APDUS)
@examples(0.3)
@given(data=st.data())
def test_damaged_and_cut_apdus_raise_nothing_else(name: str, data: st.DataObject) -> None:
    octets = bytearray(data.draw(APDUS[name]).encode())  # type: ignore[attr-defined]
    for _ in range(data.draw(st.integers(0, 3))):
        octets[data.draw(st.integers(0, len(octets) - 1))] = data.draw(_octet)
    with contextlib.suppress(RemoteProtocolError):
        decoder_of(name)(bytes(octets[: data.draw(st.integers(0, len(octets)))]))


@pytest.mark.parametrize("name", DECODERS)
@pytest.mark.parametrize("tag", [0x60, 0x61, 0x62, 0x63, 0x01, 0x08, 0x0E, 0xD8, 0xC0, None])
@examples(0.3)
@given(octets=st.binary(max_size=60))
def test_arbitrary_octets_raise_nothing_else(name: str, tag: int | None, octets: bytes) -> None:
    whole = octets if tag is None else bytes((tag, len(octets))) + octets
    with contextlib.suppress(RemoteProtocolError):
        DECODERS[name](whole)


_results = st.lists(any_data | st.integers(1, 255), max_size=6)


@examples(0.5)
@given(_results)
def test_results_survive_the_wire(results: list[object]) -> None:
    encoded = tuple(encode(r) if isinstance(r, Data) else data_access_error(int(str(r))) for r in results)
    found = decode_results(encode_results(encoded), 0, len(results), decode_value_at)
    for wanted, got in zip(results, found, strict=True):
        if isinstance(wanted, Data):
            assert got == wanted.plain()
        else:
            assert isinstance(got, DataAccessError)
            assert got.result == wanted
    assert GetResponse(3, encoded, with_list=True).encode()[3:] == encode_results(encoded)
    if encoded:
        with pytest.raises(RemoteProtocolError):
            decode_results(encode_results(encoded), 0, len(results) + 1, decode_value_at)
        with pytest.raises(RemoteProtocolError):
            decode_results(encode_results(encoded) + b"\x00", 0, len(results), decode_value_at)


# ---- octets written by hand


def test_an_aarq_with_a_password_by_hand() -> None:
    initiate = InitiateRequest(Conformance(0x001E1D), 0xFFFF)
    assert initiate.encode().hex() == "01000000065f1f0400001e1dffff"
    request = Aarq(ApplicationContext.LN, initiate.encode(), Mechanism.LLS, b"00000000")
    assert request.encode().hex() == (
        "6036"
        "a109060760857405080101"
        "8a020780"
        "8b0760857405080201"
        "ac0a80083030303030303030"
        "be10040e01000000065f1f0400001e1dffff"
    )


def test_an_aare_by_hand() -> None:
    aare = Aare.decode(
        bytes.fromhex(
            "6129 a109060760857405080101 a203020100 a305a103020100 be10040e0800065f1f040000501d01f40007".replace(
                " ", ""
            )
        )
    )
    assert (aare.context, aare.result, aare.diagnostic) == (1, 0, 0)
    negotiated = InitiateResponse.decode(aare.user_information)
    assert negotiated.max_receive_pdu == 500
    assert negotiated.vaa_name == 7
    assert Conformance.BLOCK_TRANSFER_WITH_GET_OR_READ in negotiated.conformance
    assert Conformance.MULTIPLE_REFERENCES not in negotiated.conformance


@pytest.mark.parametrize(
    ("apdu", "reason"),
    [
        ("0e010600", "initiate: initiate, other"),
        ("0e060006", "application reference, deciphering error"),
        ("0e05ffff", "read: error 255, 255"),
        ("0e7f0405", "service 127: definition, 5"),
    ],
)
def test_service_errors_are_named(apdu: str, reason: str) -> None:
    assert reason in ConfirmedServiceError.decode(bytes.fromhex(apdu)).reason


@pytest.mark.parametrize(
    ("apdu", "reason", "counter"),
    [
        ("d80101", "service not allowed, operation not possible", None),
        ("d80202", "service unknown, service not supported", None),
        ("d80206 00000102", "service unknown, invocation counter error", 258),
        ("d8ffff", "state error 255, service error 255", None),
    ],
)
def test_exceptions_are_named(apdu: str, reason: str, counter: int | None) -> None:
    exception = ExceptionResponse.decode(bytes.fromhex(apdu))
    assert (exception.reason, exception.invocation_counter) == (reason, counter)


@pytest.mark.parametrize(
    "octets",
    ["0800065f1f03000000000007", "0800065f1f0500000000000000", "0800065f1f00", "08", "0800", "0800065e1f0400000000"],
)
def test_an_initiate_response_that_is_none(octets: str) -> None:
    with pytest.raises(RemoteProtocolError):
        InitiateResponse.decode(bytes.fromhex(octets))


def test_secrets_are_not_shown() -> None:
    request = Aarq(ApplicationContext.LN, b"", Mechanism.LLS, b"hunter22", None, b"certificate")
    assert "hunter22" not in repr(request)
    assert "certificate" not in repr(request)
    assert "k" * 16 not in repr(InitiateRequest(Conformance.GET, dedicated_key=b"k" * 16))


def test_an_attribute_prints_as_it_is_typed() -> None:
    [attribute] = GetRequest.decode(bytes.fromhex("c001c1 0003 0100200700ff 02 00")).attributes
    assert isinstance(attribute, AttributeDescriptor)
    assert str(attribute) == "3:1-0:32.7.0:2"
