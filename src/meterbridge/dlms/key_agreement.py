"""Keys agreed, derived and wrapped (Green Book, key agreement; NIST SP 800-56A; RFC 3394)."""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.kdf.concatkdf import ConcatKDFHash
from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap, aes_key_wrap

from meterbridge.dlms.field_reader import octet_string
from meterbridge.dlms.security import Agreement, SecuritySuite
from meterbridge.dlms.signing import point, public_key, sign, verify
from meterbridge.errors import ConfigurationError, RemoteProtocolError

# {joint-iso-ccitt(2) country(16) country-name(756) identified-organisation(5) DLMS-UA(8) cryptographic-algorithms(3) n}
_ALGORITHM = bytes((0x60, 0x85, 0x74, 0x05, 0x08, 0x03))


def derive_key(suite: SecuritySuite, shared: bytes, other_information: bytes) -> bytes:
    """Derive a key of the suite by the concatenation KDF.

    Args:
        suite: 1 or 2; gives hash, algorithm and size.
        shared: Z, the shared secret.
        other_information: PartyUInfo and PartyVInfo; the algorithm's identifier is put in front here.
    """
    algorithm = _ALGORITHM + bytes((0 if suite.key_size == 16 else 1,))
    return ConcatKDFHash(suite.digest, suite.key_size, algorithm + other_information).derive(shared)


def agreed_key(
    suite: SecuritySuite,
    agreement: Agreement,
    private: ec.EllipticCurvePrivateKey,
    public: ec.EllipticCurvePublicKey,
    *,
    originator: bytes,
    recipient: bytes,
    transaction_id: bytes,
) -> bytes:
    """Derive the key of one general-ciphering APDU.

    Args:
        suite: 1 or 2.
        agreement: scheme.
        private: the originator's ephemeral (one pass) or static key, or the recipient's static one.
        public: the other side's.
        originator, recipient: system titles, PartyUInfo and PartyVInfo.
        transaction_id: nonce of the static unified model, with its length; the one pass has none.

    Raises:
        ConfigurationError: a key of another curve than the suite's.
    """
    if {private.curve.name, public.curve.name} != {suite.curve.name}:
        raise ConfigurationError(f"the key agreement keys are not of {suite.curve.name}")
    nonce = octet_string(transaction_id) if agreement is Agreement.STATIC_UNIFIED else b""
    return derive_key(suite, private.exchange(ec.ECDH(), public), originator + nonce + recipient)


def signed_point(ephemeral: ec.EllipticCurvePublicKey, signing: ec.EllipticCurvePrivateKey) -> bytes:
    """Return what the originator of a one pass agreement sends: its ephemeral public key and the signature of it."""
    octets = point(ephemeral)
    return octets + sign(signing, octets)


def verified_point(
    suite: SecuritySuite, octets: bytes, peer_signing: ec.EllipticCurvePublicKey
) -> ec.EllipticCurvePublicKey:
    """Return the ephemeral public key that the originator signed.

    Raises:
        RemoteProtocolError: wrong size, no point of the curve, or not signed by the originator.
    """
    size = 2 * (suite.curve.key_size // 8)
    if len(octets) != 2 * size:
        raise RemoteProtocolError(f"an ephemeral key with its signature has {2 * size} octets, not {len(octets)}")
    if not verify(peer_signing, octets[:size], octets[size:]):
        raise RemoteProtocolError("the ephemeral key is not signed by who claims to have sent it")
    return public_key(suite.curve, octets[:size])


def wrap_key(master: bytes, key: bytes) -> bytes:
    """Wrap a key under the master key (AES key wrap)."""
    return aes_key_wrap(master, key)


def unwrap_key(master: bytes, wrapped: bytes) -> bytes:
    """Unwrap a key.

    Raises:
        RemoteProtocolError: it was not wrapped under this master key.
    """
    try:
        return aes_key_unwrap(master, wrapped)
    except (InvalidUnwrap, ValueError):
        raise RemoteProtocolError(
            "the wrapped key does not unwrap: changed on its way, or another master key"
        ) from None
