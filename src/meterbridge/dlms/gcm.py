"""AES-GCM as DLMS uses it: IV of system title and invocation counter, tag of 12 octets (Green Book, AES-GCM)."""

from __future__ import annotations

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from meterbridge.dlms.security import SYSTEM_TITLE_SIZE, SecurityControl, SecurityPolicy
from meterbridge.errors import ConfigurationError, RemoteProtocolError

TAG_SIZE = 12


def seal(
    plaintext: bytes,
    control: SecurityControl,
    counter: int,
    *,
    key: bytes,
    authentication_key: bytes | None,
    system_title: bytes,
    header: bytes = b"",
) -> bytes:
    """Protect octets.

    Args:
        plaintext: what is protected.
        control: how.
        counter: invocation counter, never used before with this key.
        key: encryption key.
        authentication_key: AK, needed to authenticate.
        system_title: of who sends.
        header: fields of general-ciphering that are authenticated along.

    Returns:
        security header (SC and IC), then content, then the tag where authenticated.
    """
    octet = bytes((control.encode(),))
    encryptor = _cipher(key, system_title, counter).encryptor()
    content = plaintext
    if control.policy & SecurityPolicy.AUTHENTICATED:
        encryptor.authenticate_additional_data(octet + _needed(authentication_key) + header)
        if not control.policy & SecurityPolicy.ENCRYPTED:
            encryptor.authenticate_additional_data(plaintext)
    if control.policy & SecurityPolicy.ENCRYPTED:
        content = encryptor.update(plaintext)
    encryptor.finalize()
    tag = encryptor.tag[:TAG_SIZE] if control.policy & SecurityPolicy.AUTHENTICATED else b""
    return octet + counter.to_bytes(4, "big") + content + tag


def unseal(
    content: bytes,
    tag: bytes,
    control: SecurityControl,
    counter: int,
    *,
    key: bytes,
    authentication_key: bytes | None,
    system_title: bytes,
    header: bytes = b"",
) -> bytes:
    """Take protection off, verifying the tag wherever there is one.

    Args:
        content: what stands between security header and tag.
        tag: 12 octets, empty where not authenticated.
        control, counter: of the security header.
        key, authentication_key, system_title, header: as for `seal`, the sender's.

    Raises:
        RemoteProtocolError: the tag is wrong.
        ConfigurationError: a key that does not fit.
    """
    if not control.policy & SecurityPolicy.AUTHENTICATED:
        # Without a tag GCM is counter mode: nothing to finalise, nothing to verify.
        return _cipher(key, system_title, counter).decryptor().update(content)
    decryptor = _cipher(key, system_title, counter, tag).decryptor()
    decryptor.authenticate_additional_data(bytes((control.encode(),)) + _needed(authentication_key) + header)
    if control.policy & SecurityPolicy.ENCRYPTED:
        plaintext = decryptor.update(content)
    else:
        decryptor.authenticate_additional_data(content)
        plaintext = content
    try:
        decryptor.finalize()
    except InvalidTag:
        raise RemoteProtocolError(
            f"the authentication tag of the APDU with invocation counter {counter} is wrong: "
            "it was changed on its way, or its sender has other keys"
        ) from None
    return plaintext


def _cipher(key: bytes, system_title: bytes, counter: int, tag: bytes | None = None) -> Cipher[modes.GCM]:
    if len(system_title) != SYSTEM_TITLE_SIZE:
        raise RemoteProtocolError(f"a system title has 8 octets, not {len(system_title)}")
    if len(key) not in (16, 32):
        raise ConfigurationError(f"a key of {len(key)} octets fits no security suite")
    mode = modes.GCM(system_title + counter.to_bytes(4, "big"), tag, TAG_SIZE)
    return Cipher(algorithms.AES(key), mode)


def _needed(authentication_key: bytes | None) -> bytes:
    if authentication_key is None:
        raise ConfigurationError("an authenticated APDU needs the authentication key")
    return authentication_key
