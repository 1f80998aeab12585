"""Passwords and tokens at rest: AES-256-GCM under keys that live in a file, never in the database."""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from meterbridge.errors import ConfigurationError

CREDENTIAL = "meterbridge.key"
"""Name of the systemd credential that holds the keys, where there is one."""
_MARK = "enc:1:"
_KEY_OCTETS = 32
_NONCE_OCTETS = 12
_HEADER = "# Keys of Meterbridge's database, newest first. Keep a copy apart from the database's backups.\n"


@dataclass(frozen=True, slots=True)
class KeySource:
    """Where keys are kept.

    Args:
        file: one key a line, base64 of 32 octets, the newest first; `#` begins a comment.
        writable: whether the file is ours to make and rotate; a systemd credential is not.
    """

    file: Path
    writable: bool


def key_source(file: Path, environment: Mapping[str, str]) -> KeySource:
    """Choose the systemd credential where the service was given one, else the file of the settings."""
    folder = environment.get("CREDENTIALS_DIRECTORY")
    if folder and (credential := Path(folder) / CREDENTIAL).is_file():
        return KeySource(credential, writable=False)
    return KeySource(file, writable=True)


class Vault:
    """Encrypts and decrypts what the database must not show.

    The key file is read when first needed, made with mode 600 when first something is encrypted, and read again when
    it changed: a service goes on while another process rotates its keys. Every method raises ConfigurationError where
    the keys cannot be had; no message holds a key or what is encrypted.

    Args:
        source: where the keys are.
    """

    def __init__(self, source: KeySource) -> None:
        self._source = source
        self._keys: dict[str, AESGCM] = {}
        self._stamp: tuple[int, int, int] | None = None

    def __repr__(self) -> str:
        return f"Vault({self._source.file})"

    def encrypt(self, text: str, context: str) -> str:
        """Encrypt under the newest key.

        Args:
            text: the secret.
            context: what it is, e.g. the column; the same must be given to decrypt.
        """
        self._have_a_key(True)
        name, key = next(iter(self._keys.items()))
        nonce = os.urandom(_NONCE_OCTETS)
        sealed = nonce + key.encrypt(nonce, text.encode(), context.encode())
        return f"{_MARK}{name}:{base64.urlsafe_b64encode(sealed).decode()}"

    def decrypt(self, stored: str, context: str) -> str:
        """Return the secret; text that was never encrypted is returned as it is.

        Raises:
            ConfigurationError: the key is not there any more, or the text was tampered with.
        """
        if not is_encrypted(stored):
            return stored
        self._refresh()
        name, _, body = stored.removeprefix(_MARK).partition(":")
        key = self._keys.get(name)
        if key is None:
            raise ConfigurationError(f"{context} is encrypted with a key that {self._source.file} does not hold")
        try:
            sealed = base64.urlsafe_b64decode(body)
            return key.decrypt(sealed[:_NONCE_OCTETS], sealed[_NONCE_OCTETS:], context.encode()).decode()
        except (InvalidTag, ValueError):
            raise ConfigurationError(f"{context} is encrypted but was changed in the database") from None

    def is_current(self, stored: str) -> bool:
        """Whether text is encrypted, and with the newest key."""
        self._refresh()
        newest = next(iter(self._keys), None)
        return newest is not None and stored.startswith(f"{_MARK}{newest}:")

    def derive(self, purpose: str, *, make_key: bool) -> str:
        """Return a secret for a purpose, 22 letters, digits, - and _.

        The same key and purpose give the same secret, and nothing about the key can be told from it.

        Args:
            purpose: what it is for.
            make_key: whether to make a key where there is none; not where the service may have it as a credential.
        """
        self._have_a_key(make_key)
        key = base64.b64decode(self._lines()[0])
        derived = HKDF(hashes.SHA256(), 16, salt=None, info=b"meterbridge " + purpose.encode()).derive(key)
        return base64.urlsafe_b64encode(derived).rstrip(b"=").decode()

    def begin_rotation(self) -> None:
        """Put a new key before the others. A credential is not ours to write: its owner puts the new key there."""
        if self._source.writable:
            self._refresh()
            if not self._keys and self._source.file.exists():
                # Emptied on purpose: the keys in use are elsewhere, in a credential.
                raise ConfigurationError(f"key file {self._source.file} holds no key")
            self._write([_new_key(), *self._lines()])
            self._refresh()

    def end_rotation(self) -> None:
        """Forget all keys but the newest: nothing may be encrypted with the others any more."""
        if self._source.writable:
            self._write(self._lines()[:1])
            self._refresh()

    def _have_a_key(self, make: bool) -> None:
        self._refresh()
        if not self._keys and make and self._source.writable:
            self._write([_new_key()], only_if_missing=True)
            self._refresh()
        if not self._keys:
            raise ConfigurationError(f"key file {self._source.file} holds no key")

    def _refresh(self) -> None:
        try:
            found = self._source.file.stat()
        except FileNotFoundError:
            self._keys, self._stamp = {}, None
            return
        except OSError as error:
            raise self._trouble(error) from None
        stamp = (found.st_ino, found.st_mtime_ns, found.st_size)
        if stamp == self._stamp:
            return
        if self._source.writable and found.st_mode & 0o077:
            raise ConfigurationError(f"key file {self._source.file} may be read by others: chmod 600 it")
        keys: dict[str, AESGCM] = {}
        for line in self._lines():
            try:
                key = base64.b64decode(line, validate=True)
            except binascii.Error:
                key = b""
            if len(key) != _KEY_OCTETS:
                raise ConfigurationError(f"key file {self._source.file} holds a line that is no key")
            keys[hashlib.sha256(key).hexdigest()[:8]] = AESGCM(key)
        self._keys, self._stamp = keys, stamp

    def _lines(self) -> list[str]:
        try:
            text = self._source.file.read_text(encoding="ascii", errors="replace")
        except FileNotFoundError:
            return []
        except OSError as error:
            raise self._trouble(error) from None
        return [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]

    def _write(self, lines: list[str], *, only_if_missing: bool = False) -> None:
        """Replace the file at once, on disk before anything relies on it; another process's first key is kept."""
        file = self._source.file
        fresh = file.with_name(f"{file.name}.{os.getpid()}.new")
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            fresh.unlink(missing_ok=True)
            descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w", encoding="ascii") as out:
                out.write(_HEADER + "".join(f"{line}\n" for line in lines))
                out.flush()
                os.fsync(out.fileno())
            if only_if_missing:
                try:
                    os.link(fresh, file)
                except FileExistsError:
                    return
                finally:
                    fresh.unlink()
            else:
                fresh.replace(file)
            folder = os.open(file.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError as error:
            raise self._trouble(error) from None

    def _trouble(self, error: OSError) -> ConfigurationError:
        return ConfigurationError(f"key file {self._source.file}: {error.strerror}")


def is_encrypted(stored: str) -> bool:
    """Whether text of the database is encrypted."""
    return stored.startswith(_MARK)


def _new_key() -> str:
    return base64.b64encode(os.urandom(_KEY_OCTETS)).decode()
