"""ECDSA as DLMS uses it, raw r and s, and general-signing (Green Book, digital signature and General-Signing)."""

from __future__ import annotations

from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

from meterbridge.dlms.field_reader import FieldReader, octet_string
from meterbridge.errors import RemoteProtocolError

GENERAL_SIGNING = 0xDF


def sign(key: ec.EllipticCurvePrivateKey, octets: bytes) -> bytes:
    """Return r and s, 32 octets each with P-256, 48 with P-384."""
    size = key.key_size // 8
    r, s = decode_dss_signature(key.sign(octets, ec.ECDSA(_digest(key.key_size))))
    return r.to_bytes(size, "big") + s.to_bytes(size, "big")


def verify(key: ec.EllipticCurvePublicKey, octets: bytes, signature: bytes) -> bool:
    """Whether r and s are this key's signature of the octets."""
    size = key.key_size // 8
    if len(signature) != 2 * size:
        return False
    r, s = int.from_bytes(signature[:size], "big"), int.from_bytes(signature[size:], "big")
    try:
        key.verify(encode_dss_signature(r, s), octets, ec.ECDSA(_digest(key.key_size)))
    except InvalidSignature:
        return False
    return True


def _digest(bits: int) -> hashes.HashAlgorithm:
    return hashes.SHA384() if bits > 256 else hashes.SHA256()


def point(key: ec.EllipticCurvePublicKey) -> bytes:
    """Return a public key as DLMS sends it: x and y, without the 04 in front."""
    size = key.key_size // 8
    numbers = key.public_numbers()
    return numbers.x.to_bytes(size, "big") + numbers.y.to_bytes(size, "big")


def public_key(curve: ec.EllipticCurve, octets: bytes) -> ec.EllipticCurvePublicKey:
    """Take a public key from x and y.

    Raises:
        RemoteProtocolError: no point of the curve.
    """
    try:
        return ec.EllipticCurvePublicKey.from_encoded_point(curve, b"\x04" + octets)
    except ValueError:
        raise RemoteProtocolError(f"{len(octets)} octets that are no public key of {curve.name}") from None


@dataclass(frozen=True, slots=True)
class GeneralHeader:
    """What stands in front of general-ciphering's and general-signing's content.

    Args:
        transaction_id: of the exchange.
        originator: system title of who protected the APDU.
        recipient: system title of whom it is for.
        date_time: 12 octets of a COSEM date-time, or none.
        other_information: whatever the parties agreed.
    """

    transaction_id: bytes = b""
    originator: bytes = b""
    recipient: bytes = b""
    date_time: bytes = b""
    other_information: bytes = b""

    def encode(self) -> bytes:
        """Return the five octet strings, each with its length."""
        return b"".join(
            map(
                octet_string,
                (self.transaction_id, self.originator, self.recipient, self.date_time, self.other_information),
            )
        )

    @classmethod
    def read(cls, reader: FieldReader) -> GeneralHeader:
        """Read the five octet strings.

        Raises:
            RemoteProtocolError: cut short.
        """
        return cls(*(reader.octet_string() for _ in range(5)))


@dataclass(frozen=True, slots=True)
class SignedApdu:
    """A general-signing APDU.

    Args:
        header: who signed it, for whom.
        content: the APDU within.
        signature: r and s.
    """

    header: GeneralHeader
    content: bytes
    signature: bytes

    @classmethod
    def decode(cls, apdu: bytes) -> SignedApdu:
        """Read the APDU; nothing is verified yet.

        Raises:
            RemoteProtocolError: malformed.
        """
        if not apdu or apdu[0] != GENERAL_SIGNING:
            raise RemoteProtocolError("general-signing APDU expected")
        reader = FieldReader(apdu, name="a general-signing APDU")
        signed = cls(GeneralHeader.read(reader), reader.octet_string(), reader.octet_string())
        reader.end()
        return signed

    @classmethod
    def make(
        cls, header: GeneralHeader, content: bytes, key: ec.EllipticCurvePrivateKey, *, length_signed: bool = False
    ) -> SignedApdu:
        """Sign an APDU; the arguments are as for `open`."""
        return cls(header, content, sign(key, _signed(header, content, length_signed)))

    def encode(self) -> bytes:
        """Return the APDU."""
        return (
            bytes((GENERAL_SIGNING,)) + self.header.encode() + octet_string(self.content) + octet_string(self.signature)
        )

    def open(self, key: ec.EllipticCurvePublicKey, *, length_signed: bool = False) -> bytes:
        """Return the content, its signature verified.

        Args:
            key: public key of the originator.
            length_signed: the content is signed with its length in front. Readings differ and no published example
                decides; most stacks sign the bare content.

        Raises:
            RemoteProtocolError: the signature is not the originator's.
        """
        if not verify(key, _signed(self.header, self.content, length_signed), self.signature):
            raise RemoteProtocolError(
                f"the signature of {self.header.originator.hex() or 'an unnamed originator'} is wrong: "
                "the APDU was changed on its way, or its sender has another key"
            )
        return self.content


def _signed(header: GeneralHeader, content: bytes, length_signed: bool) -> bytes:
    return header.encode() + (octet_string(content) if length_signed else content)
