"""High level security: how client and server prove to each other that they have the keys (Green Book, HLS)."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from dataclasses import dataclass, field

from meterbridge.dlms.acse import Mechanism
from meterbridge.dlms.gcm import TAG_SIZE, seal
from meterbridge.dlms.security import SYSTEM_TITLE_SIZE, Keys, SecurityControl, SecurityPolicy, SecuritySuite
from meterbridge.dlms.signing import sign, verify
from meterbridge.errors import ConfigurationError, RemoteProtocolError

MAX_CHALLENGE = 64
_LEAST_CHALLENGE = {Mechanism.HLS_ECDSA: 32}
_GMAC_ANSWER = 1 + 4 + TAG_SIZE
HLS = frozenset(mechanism for mechanism in Mechanism if mechanism >= Mechanism.HLS)
_HASHES: dict[Mechanism, Callable[[bytes], bytes]] = {
    # What the mechanisms are called says what they use; nobody chooses MD5 or SHA-1 here.
    Mechanism.HLS_MD5: lambda octets: hashlib.md5(octets, usedforsecurity=False).digest(),
    Mechanism.HLS_SHA1: lambda octets: hashlib.sha1(octets, usedforsecurity=False).digest(),
    Mechanism.HLS_SHA256: lambda octets: hashlib.sha256(octets).digest(),
}


def challenge_size(mechanism: Mechanism) -> int:
    """Octets of a challenge we make."""
    return max(16, _LEAST_CHALLENGE.get(mechanism, 0))


def check_challenge(mechanism: Mechanism, challenge: bytes | None) -> bytes:
    """Return a challenge that came, if it is one.

    Raises:
        RemoteProtocolError: missing, shorter than 8 (ECDSA 32) or longer than 64 octets.
    """
    least = _LEAST_CHALLENGE.get(mechanism, 8)
    if challenge is None or not least <= len(challenge) <= MAX_CHALLENGE:
        size = 0 if challenge is None else len(challenge)
        raise RemoteProtocolError(f"a challenge has {least} to {MAX_CHALLENGE} octets, not {size}")
    return challenge


def check_mechanism(
    mechanism: Mechanism, *, secret: bytes | None, keys: Keys, system_title: bytes | None, suite: SecuritySuite
) -> None:
    """Check that what a mechanism needs is there.

    Raises:
        ConfigurationError: it is not, or the mechanism is the manufacturer's own.
    """
    if mechanism is Mechanism.HLS:
        raise ConfigurationError("HLS mechanism 2 is each manufacturer's own and not known here")
    needed: dict[str, object] = {}
    if mechanism is Mechanism.LLS or mechanism in _HASHES:
        needed["a secret (password)"] = secret
    if mechanism in (Mechanism.HLS_GMAC, Mechanism.HLS_SHA256, Mechanism.HLS_ECDSA):
        needed["a system title"] = system_title
    if mechanism is Mechanism.HLS_GMAC:
        needed["an encryption key"] = keys.encryption
        needed["an authentication key"] = keys.authentication
    if mechanism is Mechanism.HLS_ECDSA:
        if suite is SecuritySuite.AES_128:
            raise ConfigurationError("HLS with ECDSA needs security suite 1 or 2")
        needed["our signing key"] = keys.signing
        needed["the meter's public signing key"] = keys.peer_signing
    for name, value in needed.items():
        if value is None:
            raise ConfigurationError(f"authentication {mechanism.name.lower().replace('_', '-')} needs {name}")


@dataclass(frozen=True, slots=True)
class Handshake:
    """One end's view of passes 3 and 4; both ends use it, each as its own.

    Args:
        mechanism: HLS with MD5, SHA-1, GMAC, SHA-256 or ECDSA.
        own_challenge: what we sent; CtoS at the client.
        peer_challenge: what came; StoC at the client.
        own_title: our system title.
        peer_title: the partner's, empty where it said none.
        secret: HLS secret of MD5, SHA-1 and SHA-256.
        keys: encryption and authentication key of GMAC, signing keys of ECDSA.
        suite: security suite.

    Raises:
        RemoteProtocolError: a challenge that is none or is our own said back, or a title that is needed and missing.
    """

    mechanism: Mechanism
    own_challenge: bytes = field(repr=False)
    peer_challenge: bytes = field(repr=False)
    own_title: bytes = b""
    peer_title: bytes = b""
    secret: bytes = field(default=b"", repr=False)
    keys: Keys = field(default_factory=Keys, repr=False)
    suite: SecuritySuite = SecuritySuite.AES_128

    def __post_init__(self) -> None:
        check_challenge(self.mechanism, self.peer_challenge)
        if hmac.compare_digest(self.own_challenge, self.peer_challenge):
            raise RemoteProtocolError("the partner's challenge is our own: it could answer with what we say")
        if self.mechanism in (Mechanism.HLS_GMAC, Mechanism.HLS_SHA256, Mechanism.HLS_ECDSA):
            if len(self.peer_title) != SYSTEM_TITLE_SIZE:
                raise RemoteProtocolError("the partner said no system title, and its authentication needs one")
            if self.mechanism is Mechanism.HLS_GMAC and self.peer_title == self.own_title:
                raise RemoteProtocolError("the partner's system title is our own")

    def answer(self, next_counter: Callable[[], int]) -> bytes:
        """Return what proves us to the partner: f(StoC) at the client, f(CtoS) at the server.

        Args:
            next_counter: gives an invocation counter; asked with GMAC only.

        Raises:
            ConfigurationError: the key is missing.
        """
        if self.mechanism is Mechanism.HLS_GMAC:
            control = SecurityControl(self.suite, SecurityPolicy.AUTHENTICATED)
            return self._gmac(control, next_counter(), self.own_title, self.peer_challenge)
        if self.mechanism is Mechanism.HLS_ECDSA:
            if self.keys.signing is None:
                raise ConfigurationError("authentication with ECDSA needs our signing key")
            return sign(self.keys.signing, self._signed(self.own_title, self.peer_title, own=True))
        return self._hash(own=True)

    def verify(self, octets: bytes) -> bool:
        """Whether what the partner said proves it."""
        if self.mechanism is Mechanism.HLS_GMAC:
            if len(octets) != _GMAC_ANSWER:
                return False
            control = SecurityControl(self.suite, SecurityPolicy.AUTHENTICATED)
            counter = int.from_bytes(octets[1:5], "big")
            return hmac.compare_digest(octets, self._gmac(control, counter, self.peer_title, self.own_challenge))
        if self.mechanism is Mechanism.HLS_ECDSA:
            key = self.keys.peer_signing
            return key is not None and verify(key, self._signed(self.peer_title, self.own_title, own=False), octets)
        return hmac.compare_digest(octets, self._hash(own=False))

    def _gmac(self, control: SecurityControl, counter: int, title: bytes, challenge: bytes) -> bytes:
        if self.keys.encryption is None:
            raise ConfigurationError("authentication with GMAC needs the encryption key")
        sealed = seal(
            challenge,
            control,
            counter,
            key=self.keys.encryption,
            authentication_key=self.keys.authentication,
            system_title=title,
        )
        # The challenge itself is known to the partner and not sent back.
        return sealed[:5] + sealed[-TAG_SIZE:]

    def _hash(self, *, own: bool) -> bytes:
        try:
            digest = _HASHES[self.mechanism]
        except KeyError:
            raise ConfigurationError(f"{self.mechanism.name} has no passes 3 and 4 that are known here") from None
        if self.mechanism is Mechanism.HLS_SHA256:
            titles = (self.own_title, self.peer_title) if own else (self.peer_title, self.own_title)
            return digest(self.secret + self._signed(*titles, own=own))
        return digest((self.peer_challenge if own else self.own_challenge) + self.secret)

    def _signed(self, first: bytes, second: bytes, *, own: bool) -> bytes:
        challenges = (self.peer_challenge, self.own_challenge)
        return b"".join((first, second, *(challenges if own else reversed(challenges))))
