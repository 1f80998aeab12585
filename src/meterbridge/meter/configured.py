"""From a meter as configured to how it is reached and who we are to it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key

from meterbridge.dlms import (
    Credentials,
    Discarded,
    Keys,
    LogicalName,
    Mechanism,
    SecurityContext,
    SecurityPolicy,
    SecuritySuite,
)
from meterbridge.dlms.security import Agreement, KeyChoice, KeyId, Wrapping
from meterbridge.errors import ConfigurationError
from meterbridge.meter.address import MeterAddress, Timeouts
from meterbridge.meter.catalogue import load_model
from meterbridge.meter.client import DLMSClient
from meterbridge.meter.kept_counter import CounterKeeper
from meterbridge.model import Meter

MECHANISMS: dict[str, Mechanism | None] = {
    "none": None,
    "low": Mechanism.LLS,
    "hls-md5": Mechanism.HLS_MD5,
    "hls-sha1": Mechanism.HLS_SHA1,
    "hls-gmac": Mechanism.HLS_GMAC,
    "hls-sha256": Mechanism.HLS_SHA256,
    "hls-ecdsa": Mechanism.HLS_ECDSA,
}
"""Authentication of a meter, by the word that stands for it."""
POLICIES = {policy: SecurityPolicy[policy.upper()] for policy in ("none", "authenticated", "encrypted", "both")}
"""Protection of every APDU, by the word that stands for it."""
GENERAL_KEYS: dict[str, KeyChoice | None] = {
    "none": None,
    "identified": KeyId.GLOBAL_UNICAST_ENCRYPTION,
    "wrapped": Wrapping.MASTER,
    "one-pass": Agreement.ONE_PASS,
    "static-unified": Agreement.STATIC_UNIFIED,
}
"""Which key general-ciphering takes, by the word that stands for it; none is service-specific ciphering."""


def meter_address(meter: Meter) -> MeterAddress:
    """How a configured meter is reached, and as whom.

    Raises:
        ConfigurationError: what its authentication or its ciphering needs is missing or does not fit.
    """
    credentials = credentials_of(meter)
    return MeterAddress(
        meter.ip_address,
        meter.port,
        meter.framing,
        meter.client_id,
        meter.server_id,
        meter.physical,
        _password(meter) if credentials is None and meter.authentication != "none" else None,
        credentials=credentials,
        referencing=meter.referencing,
    )


def credentials_of(meter: Meter) -> Credentials | None:
    """What a configured meter is met with beyond a password; None where a password, or nothing, is enough.

    Raises:
        ConfigurationError: what its authentication or its ciphering needs is missing or does not fit; no message
            shows a key.
    """
    mechanism = MECHANISMS[meter.authentication or ("low" if meter.password else "none")]
    if mechanism is Mechanism.LLS and not meter.password:
        raise ConfigurationError("authentication low needs a password")
    general_key = GENERAL_KEYS[meter.general_key or "none"]
    secured = (meter.system_title, meter.block_cipher_key, meter.authentication_key, meter.dedicated_key)
    plain = meter.security_policy in (None, "none") and general_key is None and not meter.signed
    if mechanism in (None, Mechanism.LLS) and not any(secured) and plain:
        return None
    keys = Keys(
        _octets(meter.block_cipher_key),
        _octets(meter.authentication_key),
        master=_octets(meter.master_key),
        signing=_private(meter.signing_key, "signing_key"),
        agreement=_private(meter.agreement_key, "agreement_key"),
        peer_signing=_public(meter.meter_signing_key, "meter_signing_key"),
        peer_agreement=_public(meter.meter_agreement_key, "meter_agreement_key"),
    )
    policy = POLICIES[meter.security_policy or ("none" if keys.encryption is None else "both")]
    title = _octets(meter.system_title)
    if (policy or general_key is not None) and title is None:
        raise ConfigurationError("ciphering needs our own system title")
    if meter.signed and title is None:
        raise ConfigurationError("signing needs our own system title")
    if meter.general_ciphering and general_key is not None:
        raise ConfigurationError("general_ciphering and general_key exclude each other")
    context = None
    if title is not None:
        suite, general = SecuritySuite(meter.security_suite), meter.general_ciphering
        context = SecurityContext(title, keys, suite, policy, general, general_key, meter.signed)
    secret = None
    if mechanism is Mechanism.LLS:
        secret = _password(meter)
    elif mechanism is not None:
        secret = meter.hls_secret.encode() if meter.hls_secret else _password(meter)
    return Credentials(mechanism, secret, context, _octets(meter.meter_system_title) or b"", meter.dedicated_key)


def client_of(
    meter: Meter,
    timeouts: Timeouts,
    counters: CounterKeeper,
    on_discarded: Callable[[Discarded], None] | None = None,
) -> DLMSClient:
    """Make the client of a configured meter.

    Args:
        meter: which.
        timeouts: how long to wait.
        counters: keeps its invocation counter, where it needs one.
        on_discarded: told of octets and frames that were no use.

    Raises:
        ConfigurationError: as `meter_address`, or its model is none.
    """
    address, model = meter_address(meter), load_model(meter.model)
    name = counter_name(address.credentials)
    if name is None:
        return DLMSClient(address, model, timeouts, on_discarded)
    return DLMSClient(address, model, timeouts, on_discarded, counters.counter(name), counter_object_of(meter))


def counter_object_of(meter: Meter) -> LogicalName | None:
    """The object from which a configured meter's invocation counter is taken, if any.

    Raises:
        ConfigurationError: its name is no OBIS code.
    """
    if meter.counter_object is None:
        return None
    try:
        return LogicalName.parse(meter.counter_object)
    except ValueError as error:
        raise ConfigurationError(f"counter_object {error}") from None


def counter_name(credentials: Credentials | None) -> str | None:
    """Name the invocation counter that credentials share with all that have the same system title and key.

    A counter belongs to those two: meters with the same key must never see the same value under one title, and a meter
    that is removed and added again goes on where it was. The name is a digest and tells neither.

    Returns:
        64 hex digits; None where nothing is counted.
    """
    if credentials is None or credentials.security is None or not credentials.counted:
        return None
    key = credentials.keys.encryption or b""
    return hashlib.sha256(b"invocation counter" + credentials.security.system_title + key).hexdigest()


def private_key(pem: bytes, name: str) -> ec.EllipticCurvePrivateKey:
    """Read a private key for ECDSA.

    Args:
        pem: without a passphrase.
        name: of where it stands, for the message.

    Raises:
        ConfigurationError: it is none.
    """
    try:
        key = load_pem_private_key(pem, None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        # What the library says of it may quote the file.
        raise ConfigurationError(f"{name} holds no private key in PEM without a passphrase") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ConfigurationError(f"{name} holds a key that is not for ECDSA")
    return key


def public_key(pem: bytes, name: str) -> ec.EllipticCurvePublicKey:
    """Read a public key for ECDSA, or that of a certificate.

    Args:
        pem: key or certificate.
        name: of where it stands, for the message.

    Raises:
        ConfigurationError: it is none.
    """
    key: object
    try:
        if b"BEGIN CERTIFICATE" in pem:
            key = x509.load_pem_x509_certificate(pem).public_key()
        else:
            key = load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm):
        raise ConfigurationError(f"{name} holds no public key or certificate in PEM") from None
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise ConfigurationError(f"{name} holds a key that is not for ECDSA")
    return key


def _private(pem: str | None, name: str) -> ec.EllipticCurvePrivateKey | None:
    return private_key(pem.encode(), name) if pem else None


def _public(pem: str | None, name: str) -> ec.EllipticCurvePublicKey | None:
    return public_key(pem.encode(), name) if pem else None


def _password(meter: Meter) -> bytes | None:
    return meter.password.encode() or None


def _octets(digits: str | None) -> bytes | None:
    return None if digits is None else bytes.fromhex(digits)
