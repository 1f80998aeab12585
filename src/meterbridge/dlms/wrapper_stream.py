"""Wrapper headers of whoever sends: for a listener, which knows no wPorts beforehand (Green Book, wrapper)."""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct

from meterbridge.dlms.stream import StreamDecoder

_HEADER = Struct(">HHHH")
_VERSION = b"\x00\x01"


@dataclass(frozen=True, slots=True)
class WrapperFrame:
    """One APDU with its wrapper header.

    Args:
        source: wPort of the sender.
        destination: wPort it is for.
        apdu: what it carries.
    """

    source: int
    destination: int
    apdu: bytes

    def encode(self) -> bytes:
        """Return header and APDU."""
        return _HEADER.pack(1, self.source, self.destination, len(self.apdu)) + self.apdu


class WrapperDecoder(StreamDecoder[WrapperFrame]):
    """Takes wrapper frames out of an octet stream, however it is cut.

    The header has no check sequence: after noise, a frame is taken where version, length and the first octet of the
    APDU are believable. Holds at most one incomplete frame.

    Args:
        tags: first octets an APDU may have.
        max_apdu: longer ones are refused, octets.
    """

    _noise_reason = "noise outside of a wrapper"

    def __init__(self, tags: frozenset[int], max_apdu: int = 0xFFFF) -> None:
        super().__init__()
        self._tags = tags
        self._max_apdu = max_apdu

    def _parse(self) -> None:
        buffer = self._buffer
        start = 0
        while start < len(buffer):
            found = buffer.find(_VERSION, start)
            if found < 0:
                # The last octet may be the first of a version.
                found = len(buffer) - (buffer[-1] == 0)
            self._noise += found - start
            start = found
            if len(buffer) - start < _HEADER.size + 1:
                break
            _, source, destination, length = _HEADER.unpack_from(buffer, start)
            body = start + _HEADER.size
            if not 0 < length <= self._max_apdu or buffer[body] not in self._tags:
                self._noise += 1
                start += 1
                continue
            if len(buffer) < body + length:
                self._due = body + length - len(buffer)
                break
            self._report_noise()
            self._events.append(WrapperFrame(source, destination, bytes(buffer[body : body + length])))
            start = body + length
        del buffer[:start]
        if not buffer:
            self._report_noise()
