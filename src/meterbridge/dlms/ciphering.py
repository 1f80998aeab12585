"""Ciphered APDUs: service-specific glo- and ded-, general-glo- and general-ded-ciphering (Green Book, xDLMS APDUs)."""

from __future__ import annotations

from dataclasses import dataclass, field

from meterbridge.dlms.field_reader import FieldReader, octet_string
from meterbridge.dlms.gcm import TAG_SIZE, seal, unseal
from meterbridge.dlms.security import (
    SYSTEM_TITLE_SIZE,
    Keys,
    SecurityContext,
    SecurityControl,
    SecurityPolicy,
)
from meterbridge.errors import ConfigurationError, LocalProtocolError, RemoteProtocolError

GENERAL_GLO, GENERAL_DED = 0xDB, 0xDC
INITIATE_TAGS = frozenset((0x01, 0x08))
"""InitiateRequest and InitiateResponse."""

# Plain APDU's tag to that of its ciphered form, with the global and with the dedicated key.
_LOW = (0x01, 0x05, 0x06, 0x08, 0x0C, 0x0D, 0x0E, 0x16, 0x18)
_HIGH = (0xC0, 0xC1, 0xC2, 0xC3, 0xC4, 0xC5, 0xC7)
_GLOBAL = {**{tag: tag + 0x20 for tag in _LOW}, **{tag: tag + 0x08 for tag in _HIGH}}
_DEDICATED = {**{tag: tag + 0x40 for tag in _LOW}, **{tag: tag + 0x10 for tag in _HIGH}}
_PLAIN = {
    ciphered: (tag, dedicated) for dedicated, tags in enumerate((_GLOBAL, _DEDICATED)) for tag, ciphered in tags.items()
}

CIPHERED_TAGS = frozenset((*_PLAIN, GENERAL_GLO, GENERAL_DED))
"""First octets of the APDUs that `CipheredApdu` reads."""


@dataclass(frozen=True, slots=True)
class CipheredApdu:
    """A ciphered APDU taken apart, its content still under its protection.

    Args:
        tag: first octet.
        plain_tag: first octet its content must have; None where the tag does not say.
        dedicated: whether its key is the dedicated one.
        system_title: of its sender where it is said, else empty.
        control: how it is protected.
        counter: invocation counter.
        content: ciphertext, or plaintext where only authenticated.
        authentication_tag: 12 octets, empty where not authenticated.
    """

    tag: int
    plain_tag: int | None
    dedicated: bool
    system_title: bytes
    control: SecurityControl
    counter: int
    content: bytes = field(repr=False)
    authentication_tag: bytes = field(repr=False)

    @classmethod
    def decode(cls, apdu: bytes) -> CipheredApdu:
        """Take an APDU apart.

        Raises:
            RemoteProtocolError: not a ciphered APDU, malformed, or compressed.
        """
        tag = apdu[0] if apdu else 0
        reader = FieldReader(apdu, name="a ciphered APDU")
        if tag in _PLAIN:
            plain_tag, dedicated, title = *_PLAIN[tag], b""
        elif tag in (GENERAL_GLO, GENERAL_DED):
            plain_tag, dedicated = None, tag == GENERAL_DED
            title = reader.octet_string()
            if len(title) not in (0, SYSTEM_TITLE_SIZE):
                raise RemoteProtocolError(f"a system title has 8 octets, not {len(title)}")
        else:
            raise RemoteProtocolError(f"APDU 0x{tag:02X} is not ciphered")
        octets = reader.octet_string()
        reader.end()
        control, counter, content, authentication_tag = split_protected(octets)
        return cls(tag, plain_tag, bool(dedicated), title, control, counter, content, authentication_tag)

    def open(self, keys: Keys, system_title: bytes = b"") -> bytes:
        """Return the APDU within, its tag verified wherever it has one.

        Args:
            keys: the one it is ciphered with must be among them.
            system_title: the sender's, for an APDU that does not say it.

        Raises:
            RemoteProtocolError: a wrong tag, an unknown sender, or something else within than the tag says.
            ConfigurationError: the key it needs is not there, or does not fit the suite.
        """
        name = self.key_name
        key: bytes | None = getattr(keys, name)
        if key is None:
            raise ConfigurationError(f"the APDU is ciphered with the {name} key, which is not known")
        if len(key) != self.control.suite.key_size:
            raise ConfigurationError(f"the {name} key does not fit security suite {self.control.suite:d}")
        title = self.system_title or system_title
        if not title:
            raise RemoteProtocolError("the system title of who ciphered the APDU is not known")
        plaintext = unseal(
            self.content,
            self.authentication_tag,
            self.control,
            self.counter,
            key=key,
            authentication_key=keys.authentication,
            system_title=title,
        )
        if not plaintext or (self.plain_tag is not None and plaintext[0] != self.plain_tag):
            raise RemoteProtocolError(f"what APDU 0x{self.tag:02X} holds is not what it says: wrong keys, perhaps")
        return plaintext

    @property
    def key_name(self) -> str:
        """Which of `Keys` it is ciphered with."""
        if self.dedicated:
            return "dedicated"
        return "broadcast" if self.control.broadcast else "encryption"


def split_protected(octets: bytes) -> tuple[SecurityControl, int, bytes, bytes]:
    """Take protected octets apart: security control, invocation counter, content, authentication tag.

    Raises:
        RemoteProtocolError: cut short, or a security control that is not understood.
    """
    control = SecurityControl.decode(octets[0] if octets else 0)
    end = len(octets) - (TAG_SIZE if control.policy & SecurityPolicy.AUTHENTICATED else 0)
    if end < 5:
        raise RemoteProtocolError("ciphered APDU cut short")
    return control, int.from_bytes(octets[1:5], "big"), octets[5:end], octets[end:]


def cipher_apdu(
    apdu: bytes, context: SecurityContext, counter: int, *, dedicated: bool = False, broadcast: bool = False
) -> bytes:
    """Cipher one APDU as the context says.

    Args:
        apdu: plain.
        context: policy, keys and form; an APDU without a form of its own takes the general one.
        counter: invocation counter, never used before with this key.
        dedicated: with the dedicated key.
        broadcast: with the broadcast key.

    Raises:
        LocalProtocolError: the key is missing.
    """
    keys = context.keys
    key = keys.dedicated if dedicated else keys.broadcast if broadcast else keys.encryption
    if key is None:
        raise LocalProtocolError("the key to cipher with is missing")
    protected = octet_string(
        seal(
            apdu,
            SecurityControl(context.suite, context.policy, broadcast),
            counter,
            key=key,
            authentication_key=keys.authentication,
            system_title=context.system_title,
        )
    )
    specific = (_DEDICATED if dedicated else _GLOBAL).get(apdu[0])
    if specific is None or (context.general and apdu[0] not in INITIATE_TAGS):
        return bytes((GENERAL_DED if dedicated else GENERAL_GLO,)) + octet_string(context.system_title) + protected
    return bytes((specific,)) + protected
