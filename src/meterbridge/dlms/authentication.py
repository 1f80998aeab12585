"""Client side of how an association is secured: what the AARQ says, what the AARE must say, and passes 3 and 4."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from meterbridge.dlms.acse import Aare, Aarq, ApplicationContext, InitiateRequest, Mechanism
from meterbridge.dlms.conformance import Conformance
from meterbridge.dlms.counters import InvocationCounter
from meterbridge.dlms.hls import HLS, Handshake, challenge_size, check_challenge, check_mechanism
from meterbridge.dlms.protection import PROTECTED_TAGS, ApduProtection
from meterbridge.dlms.security import SYSTEM_TITLE_SIZE, Keys, SecurityContext, SecuritySuite
from meterbridge.errors import AssociationRefused, AuthenticationFailed, ConfigurationError, RemoteProtocolError


@dataclass(frozen=True, slots=True)
class Credentials:
    """Who we are to the meter, and how we and it prove it.

    Args:
        mechanism: None associates without authentication.
        secret: LLS password, or HLS secret of MD5, SHA-1 and SHA-256. Never shown by repr.
        security: system title, keys and policy; its policy NONE authenticates without ciphering.
        server_title: the meter's system title, where it is known; a meter that says another one is refused.
        dedicated: cipher with a key made for each association, once it is agreed.

    Raises:
        ConfigurationError: something the mechanism needs is missing.
    """

    mechanism: Mechanism | None = None
    secret: bytes | None = field(default=None, repr=False)
    security: SecurityContext | None = None
    server_title: bytes = b""
    dedicated: bool = False

    def __post_init__(self) -> None:
        security = self.security
        if self.mechanism is not None:
            check_mechanism(
                self.mechanism,
                secret=self.secret,
                keys=self.keys,
                system_title=security.system_title if security else None,
                suite=security.suite if security else SecuritySuite.AES_128,
            )
        if self.server_title and len(self.server_title) != SYSTEM_TITLE_SIZE:
            raise ConfigurationError(f"the meter's system title has 8 octets, not {len(self.server_title)}")
        if self.dedicated and not self.ciphered:
            raise ConfigurationError("a dedicated key needs ciphering")
        if self.dedicated and security is not None and security.general_key is not None:
            raise ConfigurationError("a dedicated key and general-ciphering exclude each other")

    @property
    def keys(self) -> Keys:
        """The keys, or none of them."""
        return self.security.keys if self.security else Keys()

    @property
    def ciphered(self) -> bool:
        """Whether APDUs are ciphered."""
        return self.security is not None and bool(self.security.policy)

    @property
    def protected(self) -> bool:
        """Whether APDUs are ciphered or signed."""
        return self.security is not None and (self.ciphered or self.security.signed)

    @property
    def counted(self) -> bool:
        """Whether an invocation counter is needed."""
        return self.ciphered or self.mechanism is Mechanism.HLS_GMAC


class ClientAuthentication:
    """One attempt at an association.

    Args:
        credentials: who we are.
        counter: gives invocation counters; needed where the credentials say so.
        random: makes challenges and dedicated keys of so many octets.

    Raises:
        ConfigurationError: no counter where one is needed.
    """

    def __init__(
        self,
        credentials: Credentials,
        counter: InvocationCounter | None = None,
        random: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        if credentials.counted and counter is None:
            raise ConfigurationError("ciphering and GMAC need an invocation counter that is kept")
        self._credentials = credentials
        self._counter = counter
        self._challenge: bytes | None = None
        self._handshake: Handshake | None = None
        self._dedicated: bytes | None = None
        self.protection: ApduProtection | None = None
        """Ciphering of this association; None without."""
        security = credentials.security
        if credentials.mechanism in HLS:
            self._challenge = random(challenge_size(credentials.mechanism))
        if security is not None and credentials.protected:
            if credentials.dedicated:
                self._dedicated = random(security.suite.key_size)
                security = replace(security, keys=replace(security.keys, dedicated=self._dedicated))
            self.protection = ApduProtection(security, counter, credentials.server_title)

    @property
    def needs_proof(self) -> bool:
        """Whether passes 3 and 4 are still due."""
        return self._handshake is not None

    def request(self, conformance: Conformance, max_receive_pdu: int, *, short_names: bool) -> bytes:
        """Return the AARQ."""
        credentials, security = self._credentials, self._credentials.security
        if security is not None and (security.general or security.general_key is not None or security.signed):
            conformance |= Conformance.GENERAL_PROTECTION
        initiate = InitiateRequest(conformance, max_receive_pdu, self._dedicated).encode()
        if self.protection is None or not credentials.ciphered:
            context = ApplicationContext.SN if short_names else ApplicationContext.LN
        else:
            initiate = self.protection.protect(initiate)
            context = ApplicationContext.SN_CIPHERED if short_names else ApplicationContext.LN_CIPHERED
        value = credentials.secret if self._challenge is None else self._challenge
        title = security.system_title if security else None
        return Aarq(context, initiate, credentials.mechanism, value, title).encode()

    def accept(self, aare: Aare) -> bytes:
        """Take an AARE that accepts; return its user information, deciphered.

        Raises:
            AssociationRefused: it comes from another meter, or wants less security than we do.
            RemoteProtocolError: no challenge, or a title, tag or counter that is wrong.
        """
        credentials = self._credentials
        title = aare.system_title or b""
        if credentials.server_title and title not in (b"", credentials.server_title):
            raise AssociationRefused(
                f"the meter's system title is {title.hex()}, not {credentials.server_title.hex()}: it is another meter"
            )
        title = title or credentials.server_title
        information = aare.user_information
        if self.protection is not None:
            self.protection.peer_title = title
        if self.protection is not None and credentials.ciphered:
            information = self.protection.unprotect(information)
        elif information[:1] and information[0] in PROTECTED_TAGS:
            raise RemoteProtocolError("the meter ciphers its answer to a request that was not ciphered")
        if self._challenge is not None and credentials.mechanism is not None:
            security = credentials.security
            self._handshake = Handshake(
                credentials.mechanism,
                self._challenge,
                check_challenge(credentials.mechanism, aare.authentication_value),
                security.system_title if security else b"",
                title,
                credentials.secret or b"",
                credentials.keys,
                security.suite if security else SecuritySuite.AES_128,
            )
        return information

    def proof(self) -> bytes:
        """Return what reply_to_HLS_authentication takes, f(StoC)."""
        handshake, counter = self._handshake, self._counter
        if handshake is None:
            raise ConfigurationError("there is no challenge to answer")
        return handshake.answer(counter.next_counter if counter is not None else lambda: 0)

    def check(self, answer: object) -> None:
        """Take what reply_to_HLS_authentication returned, f(CtoS).

        Raises:
            AuthenticationFailed: the meter does not prove itself.
        """
        handshake, self._handshake = self._handshake, None
        if handshake is None or not isinstance(answer, bytes) or not handshake.verify(answer):
            raise AuthenticationFailed("the meter did not prove itself: it has other keys, or is not the meter")
