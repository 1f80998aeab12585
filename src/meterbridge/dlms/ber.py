"""The little of BER that ACSE needs: definite lengths, one-octet tags."""

from __future__ import annotations

from collections.abc import Iterator

from meterbridge.dlms.axdr import decode_length, encode_length
from meterbridge.errors import RemoteProtocolError


def tlv(tag: int, content: bytes) -> bytes:
    """Encode one element."""
    return bytes((tag,)) + encode_length(len(content)) + content


def elements(octets: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield (tag, content) of each element in turn.

    Raises:
        RemoteProtocolError: an element runs over the end.
    """
    position = 0
    while position < len(octets):
        tag = octets[position]
        size, position = decode_length(octets, position + 1)
        if position + size > len(octets):
            raise RemoteProtocolError(f"element 0x{tag:02X} cut short")
        yield tag, octets[position : position + size]
        position += size


def content_of(octets: bytes, tag: int) -> bytes:
    """Return the content of octets that are one element with this tag.

    Raises:
        RemoteProtocolError: another tag, or cut short.
    """
    for found, content in elements(octets):
        if found == tag:
            return content
        break
    raise RemoteProtocolError(f"element 0x{tag:02X} expected")
