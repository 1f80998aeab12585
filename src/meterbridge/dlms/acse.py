"""Association control: AARQ, AARE, RLRQ and RLRE with the xDLMS InitiateRequest and InitiateResponse they carry."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import TypeVar

from meterbridge.dlms import ber
from meterbridge.dlms.axdr import decode_length
from meterbridge.dlms.conformance import Conformance
from meterbridge.errors import RemoteProtocolError

AARQ, AARE, RLRQ, RLRE = 0x60, 0x61, 0x62, 0x63
INITIATE_REQUEST, INITIATE_RESPONSE, CONFIRMED_SERVICE_ERROR = 0x01, 0x08, 0x0E
DLMS_VERSION = 6
LN_VAA_NAME = 7
"""vaa-name of an association with logical name referencing."""

_DLMS_UA = bytes(
    (0x60, 0x85, 0x74, 0x05, 0x08)
)  # joint-iso-ccitt country(16) 756 identified-organisation(5) DLMS-UA(8)


class ApplicationContext(enum.IntEnum):
    """Last arc of the application context name."""

    LN = 1
    SN = 2
    LN_CIPHERED = 3
    SN_CIPHERED = 4


class Mechanism(enum.IntEnum):
    """Last arc of the authentication mechanism name."""

    LOWEST = 0
    LLS = 1
    HLS = 2
    HLS_MD5 = 3
    HLS_SHA1 = 4
    HLS_GMAC = 5
    HLS_SHA256 = 6
    HLS_ECDSA = 7


class AssociationResult(enum.IntEnum):
    """association-result of an AARE."""

    ACCEPTED = 0
    REJECTED_PERMANENT = 1
    REJECTED_TRANSIENT = 2


USER_DIAGNOSTICS = {
    0: "no diagnostic",
    1: "no reason given",
    2: "application context name not supported",
    3: "calling AP title not recognised",
    4: "calling AP invocation identifier not recognised",
    5: "calling AE qualifier not recognised",
    6: "calling AE invocation identifier not recognised",
    7: "called AP title not recognised",
    8: "called AP invocation identifier not recognised",
    9: "called AE qualifier not recognised",
    10: "called AE invocation identifier not recognised",
    11: "authentication mechanism name not recognised",
    12: "authentication mechanism name required",
    13: "authentication failure",
    14: "authentication required",
}
AUTHENTICATION_FAILURE = 13
AUTHENTICATION_REQUIRED = 14
ABOUT_AUTHENTICATION = frozenset((11, 12, AUTHENTICATION_FAILURE, AUTHENTICATION_REQUIRED))
"""User diagnostics that blame what we authenticated ourselves with."""
_PROVIDER_DIAGNOSTICS = {0: "no diagnostic", 1: "no reason given", 2: "no common ACSE version"}

_SERVICE_ERRORS: dict[int, tuple[str, tuple[str, ...]]] = {
    0: (
        "application reference",
        (
            "other",
            "time elapsed",
            "application unreachable",
            "application reference invalid",
            "application context unsupported",
            "provider communication error",
            "deciphering error",
        ),
    ),
    1: (
        "hardware resource",
        (
            "other",
            "memory unavailable",
            "processor resource unavailable",
            "mass storage unavailable",
            "other resource unavailable",
        ),
    ),
    2: ("VDE state", ("other", "no DLMS context", "loading data set", "status no change", "status inoperable")),
    3: ("service", ("other", "PDU size too long", "service unsupported")),
    4: ("definition", ("other", "object undefined", "object class inconsistent", "object attribute inconsistent")),
    5: (
        "access",
        ("other", "scope of access violated", "object access violated", "hardware fault", "object unavailable"),
    ),
    6: (
        "initiate",
        (
            "other",
            "DLMS version too low",
            "incompatible conformance",
            "PDU size too short",
            "refused by the VDE handler",
        ),
    ),
    7: ("load data set", ()),
    9: ("task", ()),
}
_CONFIRMED_SERVICES = {
    1: "initiate",
    2: "get status",
    3: "get name list",
    4: "get variable attribute",
    5: "read",
    6: "write",
}


@dataclass(frozen=True, slots=True)
class ConfirmedServiceError:
    """A confirmed-service-error APDU.

    Args:
        service: the CHOICE's tag: 1 initiateError, 5 read, 6 write.
        kind: ServiceError's tag: 0 application-reference, 1 hardware-resource, ….
        value: the enumerated reason within it.
    """

    service: int
    kind: int
    value: int

    @property
    def reason(self) -> str:
        """What it says, in words: `initiate: application reference, deciphering error`."""
        kind, values = _SERVICE_ERRORS.get(self.kind, (f"error {self.kind}", ()))
        value = values[self.value] if self.value < len(values) else str(self.value)
        return f"{_CONFIRMED_SERVICES.get(self.service, f'service {self.service}')}: {kind}, {value}"

    def encode(self) -> bytes:
        """Return the APDU."""
        return bytes((CONFIRMED_SERVICE_ERROR, self.service, self.kind, self.value))

    @classmethod
    def decode(cls, apdu: bytes) -> ConfirmedServiceError:
        """Read the APDU.

        Raises:
            RemoteProtocolError: cut short.
        """
        if len(apdu) < 4 or apdu[0] != CONFIRMED_SERVICE_ERROR:
            raise RemoteProtocolError("confirmed-service-error cut short")
        return cls(apdu[1], apdu[2], apdu[3])


@dataclass(frozen=True, slots=True)
class InitiateRequest:
    """What the client proposes.

    Args:
        conformance: services it would use.
        max_receive_pdu: largest APDU it takes, octets; 0 is no limit.
        dedicated_key: key of this association only, for dedicated ciphering.
        response_allowed: false only where the association is confirmed by nothing.
    """

    conformance: Conformance
    max_receive_pdu: int = 0xFFFF
    dedicated_key: bytes | None = field(default=None, repr=False)
    response_allowed: bool = True

    def encode(self) -> bytes:
        """Return the APDU."""
        key = (
            b"\x00" if self.dedicated_key is None else b"\x01" + bytes((len(self.dedicated_key),)) + self.dedicated_key
        )
        allowed = b"\x00" if self.response_allowed else b"\x01\x00"
        return (
            bytes((INITIATE_REQUEST,))
            + key
            + allowed
            + b"\x00"
            + bytes((DLMS_VERSION,))
            + self.conformance.encode()
            + self.max_receive_pdu.to_bytes(2, "big")
        )

    @classmethod
    def decode(cls, apdu: bytes) -> InitiateRequest:
        """Read the APDU.

        Raises:
            RemoteProtocolError: malformed.
        """
        try:
            if apdu[0] != INITIATE_REQUEST:
                raise RemoteProtocolError("InitiateRequest expected")
            position, key, allowed = 1, None, True
            if apdu[position]:
                size, start = decode_length(apdu, position + 1)
                key, position = bytes(apdu[start : start + size]), start + size
            else:
                position += 1
            if apdu[position]:
                allowed, position = bool(apdu[position + 1]), position + 2
            else:
                position += 1
            position += 2 if apdu[position] else 1
            position += 1
            conformance, position = _decode_conformance(apdu, position)
            return cls(conformance, int.from_bytes(_exactly(apdu, position, 2), "big"), key, allowed)
        except IndexError:
            raise RemoteProtocolError("InitiateRequest cut short") from None


@dataclass(frozen=True, slots=True)
class InitiateResponse:
    """What the server agrees to.

    Args:
        conformance: services both have.
        max_receive_pdu: largest APDU the server takes, octets.
        vaa_name: 7 with logical names, the base name of the association object with short names.
        quality_of_service: as sent, mostly absent.
        version: DLMS version.
    """

    conformance: Conformance
    max_receive_pdu: int
    vaa_name: int = LN_VAA_NAME
    quality_of_service: int | None = None
    version: int = DLMS_VERSION

    def encode(self) -> bytes:
        """Return the APDU."""
        quality = b"\x00" if self.quality_of_service is None else bytes((1, self.quality_of_service))
        return (
            bytes((INITIATE_RESPONSE,))
            + quality
            + bytes((self.version,))
            + self.conformance.encode()
            + self.max_receive_pdu.to_bytes(2, "big")
            + self.vaa_name.to_bytes(2, "big")
        )

    @classmethod
    def decode(cls, apdu: bytes) -> InitiateResponse:
        """Read the APDU.

        Raises:
            RemoteProtocolError: malformed.
        """
        try:
            if apdu[0] != INITIATE_RESPONSE:
                raise RemoteProtocolError("InitiateResponse expected")
            quality, position = (apdu[2], 3) if apdu[1] else (None, 2)
            version = apdu[position]
            conformance, position = _decode_conformance(apdu, position + 1)
            octets = _exactly(apdu, position, 4)
            return cls(
                conformance, int.from_bytes(octets[:2], "big"), int.from_bytes(octets[2:], "big"), quality, version
            )
        except IndexError:
            raise RemoteProtocolError("InitiateResponse cut short") from None


def _exactly(octets: bytes, position: int, size: int) -> bytes:
    part = bytes(octets[position : position + size])
    if len(part) != size:
        raise RemoteProtocolError("initiate APDU cut short")
    return part


def _decode_conformance(octets: bytes, position: int) -> tuple[Conformance, int]:
    # [APPLICATION 31]; some meters leave the second tag octet out.
    if octets[position] != 0x5F:
        raise RemoteProtocolError("conformance block expected")
    position += 1
    if octets[position] == 0x1F:
        position += 1
    size = octets[position]
    content = _exactly(octets, position + 1, size)
    if size != 4:
        raise RemoteProtocolError(f"conformance block of {size} octets")
    return Conformance(int.from_bytes(content[1:4], "big") & 0xFFFFFF), position + 1 + size


# ---------------------------------------------------------------------------------------------------------------------


def _object_identifier(kind: int, last: int) -> bytes:
    return _DLMS_UA + bytes((kind, last))


def _last_arc(octets: bytes, kind: int) -> int:
    # Not compared as a whole: some meters have arcs of their own before the last two, and those are what counts.
    if len(octets) < 2 or octets[-2] != kind:
        raise RemoteProtocolError(f"object identifier {octets.hex()} is none of DLMS")
    return octets[-1]


@dataclass(frozen=True, slots=True)
class Aarq:
    """An association request.

    Args:
        context: application context.
        user_information: InitiateRequest, encoded and where wanted ciphered.
        mechanism: None without authentication.
        authentication_value: LLS password or HLS challenge; never shown by repr.
        system_title: calling AP title, 8 octets, where ciphering or HLS needs it.
        calling_ae_qualifier: the client's certificate, where ECDSA sends it along.
        calling_user: calling AE invocation identifier, the user of the client.
    """

    context: ApplicationContext
    user_information: bytes = field(repr=False)
    mechanism: Mechanism | None = None
    authentication_value: bytes | None = field(default=None, repr=False)
    system_title: bytes | None = None
    calling_ae_qualifier: bytes | None = field(default=None, repr=False)
    calling_user: int | None = None

    def encode(self) -> bytes:
        """Return the APDU."""
        content = ber.tlv(0xA1, ber.tlv(0x06, _object_identifier(1, self.context)))
        if self.system_title is not None:
            content += ber.tlv(0xA6, ber.tlv(0x04, self.system_title))
        if self.calling_ae_qualifier is not None:
            content += ber.tlv(0xA7, ber.tlv(0x04, self.calling_ae_qualifier))
        if self.calling_user is not None:
            content += ber.tlv(0xA9, ber.tlv(0x02, bytes((self.calling_user,))))
        if self.mechanism is not None:
            content += ber.tlv(0x8A, b"\x07\x80")
            content += ber.tlv(0x8B, _object_identifier(2, self.mechanism))
            content += ber.tlv(0xAC, ber.tlv(0x80, self.authentication_value or b""))
        content += ber.tlv(0xBE, ber.tlv(0x04, self.user_information))
        return ber.tlv(AARQ, content)

    @classmethod
    def decode(cls, apdu: bytes) -> Aarq:
        """Read the APDU.

        Raises:
            RemoteProtocolError: malformed, or without a known context.
        """
        context = ApplicationContext.LN
        mechanism = value = title = qualifier = user = None
        information = b""
        for tag, content in ber.elements(ber.content_of(apdu, AARQ)):
            if tag == 0xA1:
                context = _known(ApplicationContext, _last_arc(ber.content_of(content, 0x06), 1))
            elif tag == 0xA6:
                title = ber.content_of(content, 0x04)
            elif tag == 0xA7:
                qualifier = ber.content_of(content, 0x04)
            elif tag == 0xA9:
                user = int.from_bytes(ber.content_of(content, 0x02), "big")
            elif tag == 0x8B:
                mechanism = _known(Mechanism, _last_arc(content, 2))
            elif tag == 0xAC:
                value = ber.content_of(content, 0x80)
            elif tag == 0xBE:
                information = ber.content_of(content, 0x04)
        return cls(context, information, mechanism, value, title, qualifier, user)


_E = TypeVar("_E", bound=enum.IntEnum)


def _known(kind: type[_E], value: int) -> _E:
    try:
        return kind(value)
    except ValueError:
        raise RemoteProtocolError(f"{kind.__name__} {value} does not exist") from None


@dataclass(frozen=True, slots=True)
class Aare:
    """The answer to an association request.

    Args:
        context: application context.
        result: AssociationResult.
        diagnostic: reason within `provider` or user diagnostics.
        user_information: InitiateResponse or confirmed-service-error, encoded and where wanted ciphered.
        provider: whether the diagnostic is the ACSE provider's.
        mechanism: as in the request, where the server names it.
        authentication_value: the server's HLS challenge.
        system_title: responding AP title.
        responding_ae_qualifier: the server's certificate.
    """

    context: int
    result: int
    diagnostic: int = 0
    user_information: bytes = field(default=b"", repr=False)
    provider: bool = False
    mechanism: int | None = None
    authentication_value: bytes | None = field(default=None, repr=False)
    system_title: bytes | None = None
    responding_ae_qualifier: bytes | None = field(default=None, repr=False)

    @property
    def reason(self) -> str:
        """Result and diagnostic in words."""
        names = _PROVIDER_DIAGNOSTICS if self.provider else USER_DIAGNOSTICS
        kind = {1: "rejected for good", 2: "rejected for now"}.get(self.result, f"result {self.result}")
        return f"{kind}: {names.get(self.diagnostic, f'diagnostic {self.diagnostic}')}"

    def encode(self) -> bytes:
        """Return the APDU."""
        content = ber.tlv(0xA1, ber.tlv(0x06, _object_identifier(1, self.context)))
        content += ber.tlv(0xA2, ber.tlv(0x02, bytes((self.result,))))
        content += ber.tlv(0xA3, ber.tlv(0xA2 if self.provider else 0xA1, ber.tlv(0x02, bytes((self.diagnostic,)))))
        if self.system_title is not None:
            content += ber.tlv(0xA4, ber.tlv(0x04, self.system_title))
        if self.responding_ae_qualifier is not None:
            content += ber.tlv(0xA5, ber.tlv(0x04, self.responding_ae_qualifier))
        if self.mechanism is not None:
            content += ber.tlv(0x88, b"\x07\x80")
            content += ber.tlv(0x89, _object_identifier(2, self.mechanism))
        if self.authentication_value is not None:
            content += ber.tlv(0xAA, ber.tlv(0x80, self.authentication_value))
        if self.user_information:
            content += ber.tlv(0xBE, ber.tlv(0x04, self.user_information))
        return ber.tlv(AARE, content)

    @classmethod
    def decode(cls, apdu: bytes) -> Aare:
        """Read the APDU; a responding title may be missing.

        Raises:
            RemoteProtocolError: malformed, or without a result.
        """
        context, result, diagnostic, provider = 0, None, 0, False
        mechanism = value = title = qualifier = None
        information = b""
        for tag, content in ber.elements(ber.content_of(apdu, AARE)):
            if tag == 0xA1:
                context = _last_arc(ber.content_of(content, 0x06), 1)
            elif tag == 0xA2:
                result = int.from_bytes(ber.content_of(content, 0x02), "big")
            elif tag == 0xA3:
                for source, reason in ber.elements(content):
                    provider = source == 0xA2
                    diagnostic = int.from_bytes(ber.content_of(reason, 0x02), "big")
            elif tag == 0xA4:
                title = ber.content_of(content, 0x04)
            elif tag == 0xA5:
                qualifier = ber.content_of(content, 0x04)
            elif tag == 0x89:
                # Nothing hangs on it, and some meters (ZIV) name it with arcs of their own.
                mechanism = content[-1] if content else None
            elif tag == 0xAA:
                value = ber.content_of(content, 0x80)
            elif tag == 0xBE:
                information = ber.content_of(content, 0x04)
        if result is None:
            raise RemoteProtocolError("AARE without a result")
        return cls(context, result, diagnostic, information, provider, mechanism, value, title, qualifier)


@dataclass(frozen=True, slots=True)
class Release:
    """RLRQ or RLRE.

    Args:
        response: whether it is the answer.
        reason: 0 normal, 1 urgent or not finished; None leaves it out.
        user_information: InitiateRequest or InitiateResponse where ciphering asks for it.
    """

    response: bool
    reason: int | None = 0
    user_information: bytes = field(default=b"", repr=False)

    def encode(self) -> bytes:
        """Return the APDU."""
        content = b"" if self.reason is None else ber.tlv(0x80, bytes((self.reason,)))
        if self.user_information:
            content += ber.tlv(0xBE, ber.tlv(0x04, self.user_information))
        return ber.tlv(RLRE if self.response else RLRQ, content)

    @classmethod
    def decode(cls, apdu: bytes) -> Release:
        """Read the APDU.

        Raises:
            RemoteProtocolError: malformed.
        """
        tag = apdu[0] if apdu else 0
        if tag not in (RLRQ, RLRE):
            raise RemoteProtocolError("release APDU expected")
        reason, information = None, b""
        for element, content in ber.elements(ber.content_of(apdu, tag)):
            if element == 0x80:
                reason = int.from_bytes(content, "big")
            elif element == 0xBE:
                information = ber.content_of(content, 0x04)
        return cls(tag == RLRE, reason, information)
