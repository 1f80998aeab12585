"""Logical names (OBIS codes) in their usual spellings."""

from __future__ import annotations

import re

_GROUPS = re.compile(
    r"(?P<a>\d{1,3})[-.](?P<b>\d{1,3})[:.](?P<c>\d{1,3})\.(?P<d>\d{1,3})\.(?P<e>\d{1,3})(?:[.*&](?P<f>\d{1,3}))?"
)
_HEX = re.compile(r"[0-9a-fA-F]{12}")


class LogicalName(bytes):
    """Six octets A to F that name a COSEM object.

    `str()` gives `1.1.32.7.0.255`, `.obis` the reduced form `1-1:32.7.0`.
    """

    __slots__ = ()

    def __new__(cls, octets: bytes) -> LogicalName:
        """Wrap six octets.

        Raises:
            ValueError: not six octets.
        """
        if len(octets) != 6:
            raise ValueError(f"a logical name has 6 octets, not {len(octets)}")
        return super().__new__(cls, octets)

    @classmethod
    def parse(cls, text: str) -> LogicalName:
        """Read `1-1:32.7.0`, `1-1:32.7.0*255`, `1.1.32.7.0.255`, `1.1.32.7.0` or twelve hex digits; F defaults to 255.

        Raises:
            ValueError: none of these spellings, or a group over 255.
        """
        text = text.strip()
        if _HEX.fullmatch(text):
            return cls(bytes.fromhex(text))
        match = _GROUPS.fullmatch(text)
        if match is None:
            raise ValueError(f"{text!r} is not a logical name such as 1-1:32.7.0 or 1.1.32.7.0.255")
        groups = [int(group) if group is not None else 255 for group in match.group("a", "b", "c", "d", "e", "f")]
        if max(groups) > 255:
            raise ValueError(f"{text!r} has a group over 255")
        return cls(bytes(groups))

    def __str__(self) -> str:
        return ".".join(map(str, self))

    def __repr__(self) -> str:
        return f"LogicalName({self})"

    @property
    def obis(self) -> str:
        """Reduced spelling, F shown only where it is not 255."""
        a, b, c, d, e, f = self
        return f"{a}-{b}:{c}.{d}.{e}" + (f"*{f}" if f != 255 else "")
