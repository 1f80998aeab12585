"""general-ciphering: an APDU protected between two parties, with a key identified, wrapped or agreed (Green Book)."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import TypeVar

from cryptography.hazmat.primitives.asymmetric import ec

from meterbridge.dlms.ciphering import octet_string, octet_string_at, split_protected
from meterbridge.dlms.gcm import seal, unseal
from meterbridge.dlms.key_agreement import (
    Agreement,
    agreed_key,
    signed_point,
    unwrap_key,
    verified_point,
    wrap_key,
)
from meterbridge.dlms.security import Keys, SecurityContext, SecurityControl, SecuritySuite
from meterbridge.dlms.signing import GeneralHeader
from meterbridge.errors import ConfigurationError, RemoteProtocolError

GENERAL_CIPHERING = 0xDD
_IDENTIFIED, _WRAPPED, _AGREED = 0, 1, 2
_MASTER_KEY = 0
_K = TypeVar("_K")


class KeyId(enum.IntEnum):
    """Identified key."""

    GLOBAL_UNICAST_ENCRYPTION = 0
    GLOBAL_BROADCAST_ENCRYPTION = 1


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
        header, position = GeneralHeader.decode_at(apdu, 1)
        key_info, position = _key_info_at(apdu, position)
        protected, position = octet_string_at(apdu, position)
        if position != len(apdu):
            raise RemoteProtocolError("octets behind a general-ciphering APDU")
        return cls(header, key_info, protected)

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


def _key_info_at(apdu: bytes, position: int) -> tuple[KeyInfo | None, int]:
    head = apdu[position : position + 3]
    if head[:1] == b"\x00":
        return None, position + 1
    if len(head) < 3 or head[0] != 1:
        raise RemoteProtocolError("key-info cut short")
    choice, first = head[1], head[2]
    position += 3
    if choice == _IDENTIFIED:
        if first > KeyId.GLOBAL_BROADCAST_ENCRYPTION:
            raise RemoteProtocolError(f"identified key {first} does not exist")
        return KeyId(first), position
    if choice == _WRAPPED:
        if first != _MASTER_KEY:
            raise RemoteProtocolError(f"key-encrypting key {first} does not exist")
        wrapped, position = octet_string_at(apdu, position)
        return WrappedKey(wrapped), position
    if choice == _AGREED:
        parameters, position = octet_string_at(apdu, position - 1)
        data, position = octet_string_at(apdu, position)
        if parameters not in (b"\x01", b"\x02"):
            raise RemoteProtocolError("key agreement of a kind that does not exist")
        return AgreedKey(Agreement(parameters[0]), data), position
    raise RemoteProtocolError(f"key-info with choice {choice}")
