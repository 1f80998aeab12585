"""Both ends of a protected association: what is sent is ciphered and signed, what comes has to be as well."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace

from cryptography.hazmat.primitives.asymmetric import ec

from meterbridge.dlms.ciphering import CIPHERED_TAGS, GENERAL_DED, GENERAL_GLO, INITIATE_TAGS, CipheredApdu, cipher_apdu
from meterbridge.dlms.counters import InvocationCounter, ReceivedCounters
from meterbridge.dlms.gcm import TAG_SIZE
from meterbridge.dlms.general_ciphering import (
    GENERAL_CIPHERING,
    AgreedKey,
    GeneralCiphering,
    KeyInfo,
    WrappedKey,
    make_general_ciphering,
)
from meterbridge.dlms.security import (
    SYSTEM_TITLE_SIZE,
    Agreement,
    KeyChoice,
    KeyId,
    SecurityContext,
    SecurityControl,
    SecurityPolicy,
    Wrapping,
)
from meterbridge.dlms.signing import GENERAL_SIGNING, GeneralHeader, SignedApdu
from meterbridge.errors import ConfigurationError, RemoteProtocolError

PROTECTED_TAGS = frozenset((*CIPHERED_TAGS, GENERAL_CIPHERING, GENERAL_SIGNING))
"""First octets of APDUs under some protection."""
_MOST_LAYERS = 3
_TRANSACTION_ID_SIZE = 8
_LENGTHS = 5
_HEADER = _LENGTHS + _TRANSACTION_ID_SIZE + 2 * SYSTEM_TITLE_SIZE
_MOST_SIGNATURE = 96
_MOST_KEY_INFO = 5 + 2 * _MOST_SIGNATURE


@dataclass(slots=True)
class _Came:
    """How the last APDU was protected."""

    general: bool = False
    general_key: KeyChoice | None = None
    signed: bool = False
    transaction_id: bytes | None = None


class ApduProtection:
    """Protects what one end of an association sends, and demands the same of what it receives.

    Client and server use it alike. InitiateRequest and InitiateResponse always go with the global key, everything
    else as the context says: signed first where it is to be, then ciphered with the dedicated key where there is one.

    Args:
        context: how.
        counter: gives the invocation counter of each APDU sent; None where nothing is ciphered.
        peer_title: the partner's system title, where known beforehand; set it when the partner says it.
        received: counters the partner has used, where they outlive one association.
        random: makes transaction ids and keys of so many octets.
    """

    def __init__(
        self,
        context: SecurityContext,
        counter: InvocationCounter | None,
        peer_title: bytes = b"",
        received: ReceivedCounters | None = None,
        random: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        if context.policy and counter is None:
            raise ConfigurationError("ciphering needs an invocation counter that is kept")
        self.context = context
        self.peer_title = peer_title
        self.transaction_id: bytes | None = None
        """Of what is sent next: an answer has that of its request. None makes a new one."""
        self._counter = counter
        self._received = received or ReceivedCounters()
        self._random = random
        self._came = _Came()

    @property
    def overhead(self) -> int:
        """Most octets it adds to an APDU of up to 65,535."""
        context = self.context
        signed = 1 + _HEADER + 5 + 3 + _MOST_SIGNATURE if context.signed else 0
        if not context.policy:
            return signed
        if context.general_key is not None:
            return signed + 1 + _HEADER + _MOST_KEY_INFO + 5 + 5 + TAG_SIZE
        return signed + 1 + 4 + 5 + TAG_SIZE + (1 + SYSTEM_TITLE_SIZE)

    def answer_alike(self) -> None:
        """Protect what is sent next as what came last was, and in the same transaction: for a server."""
        came = self._came
        self.context = replace(self.context, general=came.general, general_key=came.general_key, signed=came.signed)
        self.transaction_id = came.transaction_id

    # ---- what is sent

    def protect(self, apdu: bytes) -> bytes:
        """Sign and cipher an APDU that is to be sent.

        Raises:
            LocalProtocolError: the invocation counter is exhausted.
        """
        context = self.context
        initiate = apdu[0] in INITIATE_TAGS
        if context.signed and not initiate:
            key = context.keys.signing
            if key is None:
                raise ConfigurationError("signing needs a signing key")
            apdu = SignedApdu.make(self._header(), apdu, key).encode()
        if not context.policy or self._counter is None:
            return apdu
        counter = self._counter.next_counter()
        if context.general_key is None or initiate:
            dedicated = context.keys.dedicated is not None and not initiate
            return cipher_apdu(apdu, context, counter, dedicated=dedicated)
        header, how = self._header(), context.general_key
        if isinstance(how, Wrapping):
            content_key = self._random(context.suite.key_size)
            return make_general_ciphering(apdu, context, counter, header, content_key=content_key).encode()
        ephemeral = ec.generate_private_key(context.suite.curve) if how is Agreement.ONE_PASS else None
        return make_general_ciphering(apdu, context, counter, header, how, ephemeral=ephemeral).encode()

    def _header(self) -> GeneralHeader:
        transaction_id = self.transaction_id
        if transaction_id is None:
            transaction_id = self._random(_TRANSACTION_ID_SIZE)
        return GeneralHeader(transaction_id, self.context.system_title, self.peer_title)

    # ---- what comes

    def unprotect(self, apdu: bytes) -> bytes:
        """Decipher an APDU that came, its signature verified where it has one.

        Raises:
            RemoteProtocolError: less protected than demanded, a wrong tag or signature, a counter that came before,
                another sender.
        """
        ciphered = signed = False
        self._came = _Came()
        for _ in range(_MOST_LAYERS):
            tag = apdu[0] if apdu else 0
            if tag in CIPHERED_TAGS:
                self._came.general = tag in (GENERAL_GLO, GENERAL_DED)
                apdu, ciphered = self._decipher(apdu), True
            elif tag == GENERAL_CIPHERING:
                apdu, ciphered = self._decipher_general(apdu), True
            elif tag == GENERAL_SIGNING:
                apdu, signed = self._verify(apdu), True
                self._came.signed = True
            else:
                break
        tag = apdu[0] if apdu else 0
        if self.context.policy and not ciphered:
            raise RemoteProtocolError(f"APDU 0x{tag:02X} is not ciphered, and it has to be")
        if self.context.signed and not signed and tag not in INITIATE_TAGS:
            raise RemoteProtocolError(f"APDU 0x{tag:02X} is not signed, and it has to be")
        if not apdu:
            raise RemoteProtocolError("a protected APDU of no octets")
        return apdu

    def _decipher(self, apdu: bytes) -> bytes:
        ciphered = CipheredApdu.decode(apdu)
        context = self.context
        self._demand(ciphered.control)
        if ciphered.plain_tag not in INITIATE_TAGS:
            self._demand_key(KeyId.GLOBAL_UNICAST_ENCRYPTION)
        if ciphered.system_title and self.peer_title and ciphered.system_title != self.peer_title:
            raise self._another(ciphered.system_title)
        if context.system_title in (ciphered.system_title, self.peer_title):
            raise RemoteProtocolError("the partner uses our own system title: what it sends may be our own APDUs")
        try:
            plaintext = ciphered.open(context.keys, self.peer_title)
        except ConfigurationError as error:
            # The choice of key was the partner's, not ours.
            raise RemoteProtocolError(str(error)) from None
        self._received.check(ciphered.key_name, ciphered.counter)
        return plaintext

    def _decipher_general(self, apdu: bytes) -> bytes:
        ciphered = GeneralCiphering.decode(apdu)
        context, info = self.context, ciphered.key_info
        self._demand(ciphered.control)
        if info is KeyId.GLOBAL_BROADCAST_ENCRYPTION:
            raise _broadcast()
        key = _choice(info)
        self._demand_key(key)
        self._from_partner(ciphered.header)
        try:
            plaintext = ciphered.open(context.keys)
        except ConfigurationError as error:
            raise RemoteProtocolError(str(error)) from None
        self._came.general_key = key
        self._came.transaction_id = ciphered.header.transaction_id
        # An identified key is the one that service-specific ciphering has: one counter for both.
        name = {Agreement: "agreed", Wrapping: "wrapped"}.get(type(key), "encryption")
        self._received.check(name, ciphered.counter)
        return plaintext

    def _verify(self, apdu: bytes) -> bytes:
        signed = SignedApdu.decode(apdu)
        key = self.context.keys.peer_signing
        self._from_partner(signed.header)
        if key is None:
            raise RemoteProtocolError("the APDU is signed, and the partner's public key is not known")
        self._came.transaction_id = signed.header.transaction_id
        return signed.open(key)

    def _from_partner(self, header: GeneralHeader) -> None:
        own = self.context.system_title
        if own in (header.originator, self.peer_title):
            raise RemoteProtocolError("the partner uses our own system title: what it sends may be our own APDUs")
        if not header.originator or (self.peer_title and header.originator != self.peer_title):
            raise self._another(header.originator)
        if header.recipient not in (b"", own):
            raise RemoteProtocolError(f"the APDU is for {header.recipient.hex()}, we are {own.hex()}")

    def _another(self, title: bytes) -> RemoteProtocolError:
        whose = title.hex() or "nobody"
        return RemoteProtocolError(f"the APDU is from {whose}, the partner is {self.peer_title.hex()}")

    def _demand_key(self, key: KeyChoice) -> None:
        wanted = self.context.general_key
        if isinstance(wanted, (Agreement, Wrapping)) and type(key) is not type(wanted):
            word = "an agreed" if isinstance(wanted, Agreement) else "a wrapped"
            raise RemoteProtocolError(f"the APDU is not ciphered with {word} key, and it has to be")

    def _demand(self, control: SecurityControl) -> None:
        context = self.context
        if control.suite != context.suite:
            raise RemoteProtocolError(f"the APDU is of security suite {control.suite:d}, not {context.suite:d}")
        if control.policy & context.policy != context.policy:
            raise RemoteProtocolError(
                f"the APDU is {_words(control.policy)} where {_words(context.policy)} is demanded"
            )
        if control.broadcast:
            raise _broadcast()


def _choice(info: KeyInfo | None) -> KeyChoice:
    if isinstance(info, AgreedKey):
        return info.agreement
    if isinstance(info, WrappedKey):
        return Wrapping.MASTER
    return KeyId.GLOBAL_UNICAST_ENCRYPTION


def _broadcast() -> RemoteProtocolError:
    # Every client and meter has that key: within an association it proves nothing.
    return RemoteProtocolError("the APDU is ciphered with the broadcast key, and it is not a broadcast")


def _words(policy: SecurityPolicy) -> str:
    return {
        SecurityPolicy.AUTHENTICATED: "authenticated",
        SecurityPolicy.ENCRYPTED: "encrypted",
        SecurityPolicy.BOTH: "authenticated and encrypted",
    }.get(policy, "unprotected")
