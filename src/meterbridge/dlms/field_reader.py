"""An APDU's fields, one after the other: octets, numbers, octet strings with their length."""

from __future__ import annotations

from dataclasses import dataclass

from meterbridge.dlms.axdr import decode_length, encode_length
from meterbridge.errors import RemoteProtocolError


@dataclass(slots=True)
class FieldReader:
    """Reads one field after the other; running over the end is the sender's fault.

    Args:
        octets: the APDU.
        position: of the next field.
        name: what is read, for errors.
    """

    octets: bytes
    position: int = 1
    name: str = "APDU"

    def take(self, size: int) -> bytes:
        """Return the next `size` octets.

        Raises:
            RemoteProtocolError: there are fewer.
        """
        part = bytes(self.octets[self.position : self.position + size])
        if len(part) != size:
            raise RemoteProtocolError(f"{self.name} cut short")
        self.position += size
        return part

    def uint(self, size: int = 1) -> int:
        """Return the unsigned number in the next `size` octets; raises as `take`."""
        return int.from_bytes(self.take(size), "big")

    def octet_string(self) -> bytes:
        """Return the next octet string; raises as `take`."""
        size, self.position = decode_length(self.octets, self.position)
        return self.take(size)

    def end(self) -> None:
        """Nothing may stand behind the last field.

        Raises:
            RemoteProtocolError: something does.
        """
        left = len(self.octets) - self.position
        if left:
            raise RemoteProtocolError(f"{left} octets behind {self.name}")


def octet_string(octets: bytes) -> bytes:
    """Put the length in front."""
    return encode_length(len(octets)) + octets
