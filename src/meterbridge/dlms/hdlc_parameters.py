"""HDLC link parameters: proposed in SNRM, answered in UA (Green Book, data link layer for HDLC)."""

from __future__ import annotations

from dataclasses import dataclass

from meterbridge.dlms.link import LinkOpened
from meterbridge.errors import LocalProtocolError, RemoteProtocolError

DEFAULT_INFORMATION = 128
MAX_INFORMATION = 2030


@dataclass(frozen=True, slots=True)
class HdlcParameters:
    """What one end proposes in SNRM or UA.

    Args:
        max_information_send: largest information field we would send, 1..2030 octets.
        max_information_receive: largest we take.
        window_send: frames under way from us, 1..7.
        window_receive: frames under way towards us, 1..7.
    """

    max_information_send: int = DEFAULT_INFORMATION
    max_information_receive: int = DEFAULT_INFORMATION
    window_send: int = 1
    window_receive: int = 1

    def __post_init__(self) -> None:
        for name in ("max_information_send", "max_information_receive"):
            if not 16 <= getattr(self, name) <= MAX_INFORMATION:
                raise LocalProtocolError(f"{name} {getattr(self, name)} is outside 16..{MAX_INFORMATION}")
        for name in ("window_send", "window_receive"):
            if not 1 <= getattr(self, name) <= 7:
                raise LocalProtocolError(f"{name} {getattr(self, name)} is outside 1..7")

    @property
    def is_default(self) -> bool:
        """Whether these are what holds when nothing is said."""
        return self == HdlcParameters()

    def encode(self) -> bytes:
        """Return the information field of SNRM or UA."""
        content = b""
        for identifier, size in ((5, self.max_information_send), (6, self.max_information_receive)):
            content += (
                bytes((identifier, 1, size)) if size < 0x100 else bytes((identifier, 2)) + size.to_bytes(2, "big")
            )
        for identifier, window in ((7, self.window_send), (8, self.window_receive)):
            content += bytes((identifier, 4)) + window.to_bytes(4, "big")
        return b"\x81\x80" + bytes((len(content),)) + content

    @classmethod
    def decode(cls, information: bytes) -> HdlcParameters:
        """Read the information field of SNRM or UA; empty means the defaults, values out of range are brought into it.

        Raises:
            RemoteProtocolError: cut short, or not the negotiation format.
        """
        if not information:
            return cls()
        if information[:2] != b"\x81\x80" or len(information) < 3:
            raise RemoteProtocolError("link parameters in an unknown format")
        values = {5: DEFAULT_INFORMATION, 6: DEFAULT_INFORMATION, 7: 1, 8: 1}
        position, end = 3, min(3 + information[2], len(information))
        while position + 2 <= end:
            identifier, size = information[position], information[position + 1]
            octets = information[position + 2 : position + 2 + size]
            if len(octets) != size:
                raise RemoteProtocolError("link parameters cut short")
            values[identifier] = int.from_bytes(octets, "big")
            position += 2 + size
        return cls(
            min(max(values[5], 16), MAX_INFORMATION),
            min(max(values[6], 16), MAX_INFORMATION),
            min(max(values[7], 1), 7),
            min(max(values[8], 1), 7),
        )


def agreed_parameters(ours: HdlcParameters, theirs: HdlcParameters) -> LinkOpened:
    """Return what holds for us when both ends have proposed."""
    # What one end sends is bounded by what the other takes.
    return LinkOpened(
        min(ours.max_information_send, theirs.max_information_receive),
        min(ours.max_information_receive, theirs.max_information_send),
        min(ours.window_send, theirs.window_receive),
        min(ours.window_receive, theirs.window_send),
    )
