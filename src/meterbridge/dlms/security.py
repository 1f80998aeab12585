"""What ciphering hangs on: suite, policy, security control, keys (Green Book, application layer security)."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field, fields

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from meterbridge.errors import ConfigurationError, RemoteProtocolError

SYSTEM_TITLE_SIZE = 8


class SecuritySuite(enum.IntEnum):
    """Which algorithms are used together."""

    AES_128 = 0
    P256_AES_128 = 1
    P384_AES_256 = 2

    @property
    def key_size(self) -> int:
        """Octets of a symmetric key."""
        return 32 if self is SecuritySuite.P384_AES_256 else 16

    @property
    def curve(self) -> ec.EllipticCurve:
        """Curve of signatures and key agreement.

        Raises:
            ConfigurationError: suite 0, which has none.
        """
        if self is SecuritySuite.AES_128:
            raise ConfigurationError("security suite 0 has neither signatures nor key agreement")
        return ec.SECP256R1() if self is SecuritySuite.P256_AES_128 else ec.SECP384R1()

    @property
    def digest(self) -> hashes.HashAlgorithm:
        """Hash of signatures and key derivation."""
        return hashes.SHA384() if self is SecuritySuite.P384_AES_256 else hashes.SHA256()


class SecurityPolicy(enum.IntFlag):
    """How APDUs are protected; the bits stand in the security control octet as they are."""

    NONE = 0
    AUTHENTICATED = 0x10
    ENCRYPTED = 0x20
    BOTH = 0x30


class KeyId(enum.IntEnum):
    """Identified key of general-ciphering."""

    GLOBAL_UNICAST_ENCRYPTION = 0
    GLOBAL_BROADCAST_ENCRYPTION = 1


class Agreement(enum.IntEnum):
    """Key agreement schemes of general-ciphering, as key-parameters names them."""

    ONE_PASS = 1
    """One-Pass Diffie-Hellman C(1e, 1s)."""
    STATIC_UNIFIED = 2
    """Static Unified Model C(0e, 2s)."""


class Wrapping(enum.Enum):
    """Key that wraps others, for general-ciphering with a key made for one APDU."""

    MASTER = "master"


KeyChoice = KeyId | Agreement | Wrapping
"""Which key general-ciphering takes."""
_BROADCAST, _COMPRESSED, _SUITE = 0x40, 0x80, 0x0F


@dataclass(frozen=True, slots=True)
class SecurityControl:
    """The security control octet.

    Args:
        suite: security suite.
        policy: protection of this APDU.
        broadcast: whether the key is the broadcast key in place of the unicast one.
    """

    suite: SecuritySuite
    policy: SecurityPolicy
    broadcast: bool = False

    def encode(self) -> int:
        """Return the octet."""
        return self.suite | self.policy | (_BROADCAST if self.broadcast else 0)

    @classmethod
    def decode(cls, octet: int) -> SecurityControl:
        """Read the octet.

        Raises:
            RemoteProtocolError: a suite that does not exist, no protection at all, or compression.
        """
        if octet & _COMPRESSED:
            raise RemoteProtocolError("a compressed APDU is not understood")
        try:
            suite = SecuritySuite(octet & _SUITE)
        except ValueError:
            raise RemoteProtocolError(f"security suite {octet & _SUITE} does not exist") from None
        policy = SecurityPolicy(octet & SecurityPolicy.BOTH)
        if not policy:
            raise RemoteProtocolError("a ciphered APDU that is neither authenticated nor encrypted")
        return cls(suite, policy, bool(octet & _BROADCAST))


@dataclass(frozen=True, slots=True, repr=False)
class Keys:
    """Keys of one partner; repr says which there are, never what they are.

    Args:
        encryption: global unicast encryption key (EK, GUEK).
        authentication: global authentication key (AK, GAK).
        dedicated: dedicated key of one association.
        broadcast: global broadcast encryption key.
        master: master key (KEK), which wraps others.
        signing: our own private key for signatures.
        agreement: our own private key for key agreement.
        peer_signing: the partner's public key for signatures.
        peer_agreement: the partner's public key for key agreement.
    """

    encryption: bytes | None = None
    authentication: bytes | None = None
    dedicated: bytes | None = None
    broadcast: bytes | None = None
    master: bytes | None = None
    signing: ec.EllipticCurvePrivateKey | None = None
    agreement: ec.EllipticCurvePrivateKey | None = None
    peer_signing: ec.EllipticCurvePublicKey | None = None
    peer_agreement: ec.EllipticCurvePublicKey | None = None

    def __repr__(self) -> str:
        return f"Keys({', '.join(key.name for key in fields(self) if getattr(self, key.name) is not None)})"

    def check(self, suite: SecuritySuite) -> None:
        """Check that every key fits the suite.

        Raises:
            ConfigurationError: one does not; its name is said.
        """
        size = suite.key_size
        for name in ("encryption", "authentication", "dedicated", "broadcast", "master"):
            key: bytes | None = getattr(self, name)
            # With suite 2 an authentication key of 128 bits is met as well: it is no cipher's key.
            if key is not None and len(key) != size and not (name == "authentication" and len(key) == 16):
                raise ConfigurationError(f"the {name} key has {len(key)} octets, security suite {suite:d} takes {size}")
        for name in ("signing", "agreement", "peer_signing", "peer_agreement"):
            pair: ec.EllipticCurvePrivateKey | ec.EllipticCurvePublicKey | None = getattr(self, name)
            if pair is not None and pair.curve.name != suite.curve.name:
                raise ConfigurationError(
                    f"the {name.replace('_', ' ')} key is of {pair.curve.name}, "
                    f"security suite {suite:d} takes {suite.curve.name}"
                )


@dataclass(frozen=True, slots=True)
class SecurityContext:
    """How one end protects what it sends and what it demands of what it gets.

    Args:
        system_title: our own, 8 octets.
        keys: of this partner.
        suite: security suite.
        policy: protection of what is sent, and least protection of what is received.
        general: general-glo-ciphering and general-ded-ciphering in place of the service-specific APDUs.
        general_key: general-ciphering in place of both, with this key; one that is agreed or wrapped is demanded of
            the partner as well. InitiateRequest and InitiateResponse stay with the global key.
        signed: what is sent is signed, and what is received has to be.

    Raises:
        ConfigurationError: title or keys do not fit, or one is missing.
    """

    system_title: bytes
    keys: Keys = field(repr=False)
    suite: SecuritySuite = SecuritySuite.AES_128
    policy: SecurityPolicy = SecurityPolicy.BOTH
    general: bool = False
    general_key: KeyChoice | None = None
    signed: bool = False

    def __post_init__(self) -> None:
        if len(self.system_title) != SYSTEM_TITLE_SIZE:
            raise ConfigurationError(f"a system title has 8 octets, not {len(self.system_title)}")
        self.keys.check(self.suite)
        if self.policy and self.keys.encryption is None:
            raise ConfigurationError("ciphering needs an encryption key")
        if self.policy & SecurityPolicy.AUTHENTICATED and self.keys.authentication is None:
            raise ConfigurationError("authenticated APDUs need an authentication key")
        if self.signed:
            self._need("signing", "signing", "peer_signing")
        if self.general_key is not None:
            self._check_general_key(self.general_key)

    def _check_general_key(self, key: KeyChoice) -> None:
        if not self.policy:
            raise ConfigurationError("general-ciphering needs a policy that authenticates or encrypts")
        if key is KeyId.GLOBAL_BROADCAST_ENCRYPTION:
            raise ConfigurationError("an association has no broadcast key")
        if key is Wrapping.MASTER and self.keys.master is None:
            raise ConfigurationError("a wrapped key needs the master key")
        if key is Agreement.STATIC_UNIFIED:
            self._need("a key agreed by the static unified model", "agreement", "peer_agreement")
        elif key is Agreement.ONE_PASS:
            # Either end makes ephemeral keys: ours are signed by us, the partner's by it.
            names = ("signing", "peer_agreement", "agreement", "peer_signing")
            self._need("a key agreed by one-pass Diffie-Hellman", *names)

    def _need(self, what: str, *names: str) -> None:
        if self.suite is SecuritySuite.AES_128:
            raise ConfigurationError(f"{what} needs security suite 1 or 2")
        for name in names:
            if getattr(self.keys, name) is None:
                raise ConfigurationError(f"{what} needs the {name.replace('_', ' ')} key")
