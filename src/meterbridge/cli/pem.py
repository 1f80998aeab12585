"""Keys for signatures and key agreement, from files in PEM."""

from __future__ import annotations

from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec

from meterbridge.errors import ConfigurationError
from meterbridge.meter.configured import private_key, public_key


def read_pem(path: Path) -> bytes:
    """Read a file.

    Raises:
        ConfigurationError: it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror or error}") from None


def private_key_in(path: Path | None) -> ec.EllipticCurvePrivateKey | None:
    """Read a private key; None where no file is given.

    Raises:
        ConfigurationError: not readable, or no such key without a passphrase; the message shows nothing of it.
    """
    return None if path is None else private_key(read_pem(path), str(path))


def public_key_in(path: Path | None) -> ec.EllipticCurvePublicKey | None:
    """Read a public key, or that of a certificate; None where no file is given.

    Raises:
        ConfigurationError: not readable, or no such key.
    """
    return None if path is None else public_key(read_pem(path), str(path))
