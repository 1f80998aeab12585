"""Octets as people keep them: hex in whatever spelling, or as they are."""

from __future__ import annotations

import re

from meterbridge.errors import ConfigurationError

_COMMENT = re.compile(r"(?:#|//).*")
_PREFIX = re.compile(r"(?:0[xX]|\\x)(?=[0-9a-fA-F]{2})")
_SEPARATORS = re.compile(r"[\s:,;.|\-_'\"()\[\]{}]+")
_NOT_HEX = re.compile(r"[^0-9a-fA-F]")
_TEXT = frozenset((*b"\t\n\v\f\r", *range(0x20, 0x7F)))
_UTF8_BOM = b"\xef\xbb\xbf"
_UTF16_BOMS = (b"\xff\xfe", b"\xfe\xff")


def octets_from(content: bytes) -> bytes:
    """Return what a file holds: the octets its hex spells, or the file itself where it is no text.

    Hex may be spaced, separated, prefixed with `0x`, and commented after `#` or `//`.

    Raises:
        ConfigurationError: text that is no hex, or half an octet; the message names the line.
    """
    text = _as_text(content)
    if text is None:
        return content
    digits: list[str] = []
    for number, line in enumerate(text.splitlines(), 1):
        bare = _SEPARATORS.sub("", _PREFIX.sub("", _COMMENT.sub("", line)))
        if (wrong := _NOT_HEX.search(bare)) is not None:
            raise ConfigurationError(f"line {number} is not hex: it holds {wrong.group()!r}")
        digits.append(bare)
    joined = "".join(digits)
    if len(joined) % 2:
        raise ConfigurationError(f"{len(joined)} hex digits are no whole octets: one is missing")
    return bytes.fromhex(joined)


def _as_text(content: bytes) -> str | None:
    """The content as text, None where it is none."""
    if content.startswith(_UTF16_BOMS):
        try:
            text = content.decode("utf-16")
        except UnicodeDecodeError:
            return None
        return text if text.isascii() else None
    if content.startswith(_UTF8_BOM):
        content = content[len(_UTF8_BOM) :]
        if not content.isascii():
            # A comment may hold anything.
            try:
                return content.decode("utf-8")
            except UnicodeDecodeError:
                return None
    if all(octet in _TEXT for octet in content):
        return content.decode("ascii")
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        return None
    # Not ASCII only in its comments: a text all the same. Control characters are in none.
    plain = "".join(_COMMENT.sub("", line) for line in text.splitlines())
    return text if text.isprintable() or (plain.isascii() and all(ord(letter) in _TEXT for letter in plain)) else None
