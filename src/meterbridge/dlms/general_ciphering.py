"""general-ciphering: an APDU protected between two parties, with a key identified, wrapped or agreed (Green Book)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeVar

from cryptography.hazmat.primitives.asymmetric import ec

from meterbridge.dlms.ciphering import split_protected
from meterbridge.dlms.field_reader import FieldReader, octet_string
from meterbridge.dlms.gcm import seal, unseal
from meterbridge.dlms.key_agreement import (
    agreed_key,
    signed_point,
    unwrap_key,
    verified_point,
    wrap_key,
)
from meterbridge.dlms.security import Agreement, KeyId, Keys, SecurityContext, SecurityControl, SecuritySuite
from meterbridge.dlms.signing import GeneralHeader
from meterbridge.errors import ConfigurationError, RemoteProtocolError

GENERAL_CIPHERING = 0xDD
_IDENTIFIED, _WRAPPED, _AGREED = 0, 1, 2
_MASTER_KEY = 0
_K = TypeVar("_K")


@dataclass(frozen=True, slots=True)
class WrappedKey:
    """A key of its own, wrapped under the master key."""

    wrapped: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class AgreedKey:
    """A key that both derive.

    Args:
        agreement: scheme.
        data: ephemeral public key and signature with One-Pass Diffie-Hellman, empty else.
    """

    agreement: Agreement
    data: bytes = b""


KeyInfo = KeyId | WrappedKey | AgreedKey
"""How the recipient finds the key."""


@dataclass(frozen=True, slots=True)
class GeneralCiphering:
    """A general-ciphering APDU, its content still under its protection.

    Args:
        header: who protected it, for whom.
        key_info: which key; None where both know.
        protected: security header, content and authentication tag.
    """

    header: GeneralHeader
    key_info: KeyInfo | None
    protected: bytes = field(repr=False)

    def encode(self) -> bytes:
        """Return the APDU."""
        return (
            bytes((GENERAL_CIPHERING,))
            + self.header.encode()
            + _encode_key_info(self.key_info)
            + octet_string(self.protected)
        )

    @classmethod
    def decode(cls, apdu: bytes) -> GeneralCiphering:
        """Take an APDU apart.

        Raises:
            RemoteProtocolError: malformed.
        """
        if not apdu or apdu[0] != GENERAL_CIPHERING:
            raise RemoteProtocolError("general-ciphering APDU expected")
        reader = FieldReader(apdu, name="a general-ciphering APDU")
        ciphered = cls(GeneralHeader.read(reader), _key_info(reader), reader.octet_string())
        reader.end()
        return ciphered

    @property
    def control(self) -> SecurityControl:
        """How it is protected."""
        return split_protected(self.protected)[0]

    @property
    def counter(self) -> int:
        """Invocation counter."""
        return split_protected(self.protected)[1]

    def open(self, keys: Keys, *, header_authenticated: bool = True) -> bytes:
        """Return the APDU within, its tag verified wherever it has one.

        Args:
            keys: the recipient's, with the public keys of the originator.
            header_authenticated: as for `make`.

        Raises:
            RemoteProtocolError: a wrong tag, signature or wrapped key.
            ConfigurationError: a key it needs is not there.
        """
        control, counter, content, tag = split_protected(self.protected)
        return unseal(
            content,
            tag,
            control,
            counter,
            key=self._key(keys, control.suite),
            authentication_key=keys.authentication,
            system_title=self.header.originator,
            header=self.header.encode() if header_authenticated else b"",
        )

    def _key(self, keys: Keys, suite: SecuritySuite) -> bytes:
        info = self.key_info
        if isinstance(info, WrappedKey):
            key = unwrap_key(_there(keys.master, "master"), info.wrapped)
        elif isinstance(info, AgreedKey):
            own = _there(keys.agreement, "agreement")
            if suite is SecuritySuite.AES_128:
                raise RemoteProtocolError("security suite 0 has no key agreement")
            if info.agreement is Agreement.ONE_PASS:
                peer = verified_point(suite, info.data, _there(keys.peer_signing, "peer signing"))
            else:
                peer = _there(keys.peer_agreement, "peer agreement")
            key = _agreed(suite, info.agreement, own, peer, self.header)
        elif info is KeyId.GLOBAL_BROADCAST_ENCRYPTION:
            key = _there(keys.broadcast, "broadcast")
        else:
            key = _there(keys.encryption, "encryption")
        if len(key) != suite.key_size:
            raise RemoteProtocolError(f"the key does not fit security suite {suite:d}")
        return key


def make_general_ciphering(
    apdu: bytes,
    context: SecurityContext,
    counter: int,
    header: GeneralHeader,
    how: KeyId | Agreement | WrappedKey | None = None,
    *,
    content_key: bytes | None = None,
    ephemeral: ec.EllipticCurvePrivateKey | None = None,
    header_authenticated: bool = True,
) -> GeneralCiphering:
    """Protect an APDU for one recipient.

    Args:
        apdu: plain.
        context: suite, policy and keys; its system title must be the header's originator.
        counter: invocation counter, never used before with this key.
        header: who for whom.
        how: which key; None says nothing and takes the global unicast encryption key.
        content_key: the key that is wrapped, where a key is to be wrapped under the master key; `how` is then ignored.
        ephemeral: private key made for this APDU alone, for One-Pass Diffie-Hellman.
        header_authenticated: the header's fields, each with its length, are authenticated along, as the Green Book
            says; stacks that leave them out are met as well.

    Raises:
        ConfigurationError: a key that is needed is missing, or the title is another.
    """
    if header.originator != context.system_title:
        raise ConfigurationError("the originator of general-ciphering is not our own system title")
    keys, suite = context.keys, context.suite
    info: KeyInfo | None
    if content_key is not None:
        key, info = content_key, WrappedKey(wrap_key(_there(keys.master, "master"), content_key))
    elif how is Agreement.ONE_PASS:
        private = _there(ephemeral, "ephemeral")
        info = AgreedKey(how, signed_point(private.public_key(), _there(keys.signing, "signing")))
        key = _agreed(suite, how, private, _there(keys.peer_agreement, "peer agreement"), header)
    elif how is Agreement.STATIC_UNIFIED:
        info = AgreedKey(how)
        own, peer = _there(keys.agreement, "agreement"), _there(keys.peer_agreement, "peer agreement")
        key = _agreed(suite, how, own, peer, header)
    elif isinstance(how, WrappedKey):
        info = how
        key = unwrap_key(_there(keys.master, "master"), how.wrapped)
    else:
        info = how
        broadcast = how is KeyId.GLOBAL_BROADCAST_ENCRYPTION
        key = _there(keys.broadcast, "broadcast") if broadcast else _there(keys.encryption, "encryption")
    protected = seal(
        apdu,
        SecurityControl(suite, context.policy, how is KeyId.GLOBAL_BROADCAST_ENCRYPTION),
        counter,
        key=key,
        authentication_key=keys.authentication,
        system_title=header.originator,
        header=header.encode() if header_authenticated else b"",
    )
    return GeneralCiphering(header, info, protected)


def _agreed(
    suite: SecuritySuite,
    agreement: Agreement,
    own: ec.EllipticCurvePrivateKey,
    peer: ec.EllipticCurvePublicKey,
    header: GeneralHeader,
) -> bytes:
    return agreed_key(
        suite,
        agreement,
        own,
        peer,
        originator=header.originator,
        recipient=header.recipient,
        transaction_id=header.transaction_id,
    )


def _there(key: _K | None, name: str) -> _K:
    if key is None:
        raise ConfigurationError(f"general-ciphering needs the {name} key, which is not known")
    return key


def _encode_key_info(info: KeyInfo | None) -> bytes:
    if info is None:
        return b"\x00"
    if isinstance(info, WrappedKey):
        return bytes((1, _WRAPPED, _MASTER_KEY)) + octet_string(info.wrapped)
    if isinstance(info, AgreedKey):
        return bytes((1, _AGREED, 1, info.agreement)) + octet_string(info.data)
    return bytes((1, _IDENTIFIED, info))


def _key_info(reader: FieldReader) -> KeyInfo | None:
    present = reader.uint()
    if not present:
        return None
    choice = reader.uint()
    if present == 1 and choice == _IDENTIFIED:
        identified = reader.uint()
        if identified > KeyId.GLOBAL_BROADCAST_ENCRYPTION:
            raise RemoteProtocolError(f"identified key {identified} does not exist")
        return KeyId(identified)
    if present == 1 and choice == _WRAPPED:
        master = reader.uint()
        if master != _MASTER_KEY:
            raise RemoteProtocolError(f"key-encrypting key {master} does not exist")
        return WrappedKey(reader.octet_string())
    if present == 1 and choice == _AGREED:
        parameters = reader.octet_string()
        if parameters not in (b"\x01", b"\x02"):
            raise RemoteProtocolError("key agreement of a kind that does not exist")
        return AgreedKey(Agreement(parameters[0]), reader.octet_string())
    raise RemoteProtocolError(f"key-info with choice {choice}")
