"""How a meter treats its clients: the place where a script of faults stands between a meter and the wire."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from meterbridge.dlms import AttributeDescriptor, DataAccessResult, HdlcParameters


@dataclass(frozen=True, slots=True)
class Send:
    """Put octets on the wire.

    Args:
        octets: as they go out, flags and all.
        after: seconds to wait first, counted from the action before.
    """

    octets: bytes
    after: float = 0.0


@dataclass(frozen=True, slots=True)
class Close:
    """End the TCP connection.

    Args:
        abort: RST in place of FIN.
        after: seconds to wait first, counted from the action before.
    """

    abort: bool = False
    after: float = 0.0


@dataclass(frozen=True, slots=True)
class Forget:
    """Drop link and association, the TCP connection stays: the next frame meets a meter that knows nothing of it.

    Args:
        after: seconds to wait first, counted from the action before.
    """

    after: float = 0.0


@dataclass(frozen=True, slots=True)
class Mute:
    """Leave the connection half open: the meter is gone, neither FIN nor RST says so, nothing is answered any more.

    Args:
        after: seconds to wait first, counted from the action before.
    """

    after: float = 0.0


Action = Send | Close | Forget | Mute


@dataclass(frozen=True, slots=True)
class Refusal:
    """An association refused.

    Args:
        result: association-result of the AARE.
        diagnostic: its acse-service-user diagnostic.
    """

    result: int
    diagnostic: int


class Behaviour(Protocol):
    """Asked by the server before everything a client could notice."""

    def accepts_connection(self, now: float) -> bool:
        """Whether a TCP connection is kept; otherwise it is reset at once."""

    def link_parameters(self, offered: HdlcParameters, now: float) -> HdlcParameters:
        """Say what UA offers on a new connection in place of what the meter would."""

    def refuses_association(self, client: int, now: float) -> Refusal | None:
        """Refuse an association the meter would allow, or None."""

    def refuses_attribute(self, attribute: AttributeDescriptor, now: float) -> DataAccessResult | None:
        """Refuse an attribute the meter would give, or None."""

    def deliver(self, octets: bytes, now: float) -> Sequence[Action]:
        """Say what becomes of octets that answer one arrival; nothing means silence."""


class Faithful:
    """A meter in good health."""

    def accepts_connection(self, now: float) -> bool:
        """Keep every connection."""
        return True

    def link_parameters(self, offered: HdlcParameters, now: float) -> HdlcParameters:
        """Offer what the meter has."""
        return offered

    def refuses_association(self, client: int, now: float) -> Refusal | None:
        """Refuse nobody."""
        return None

    def refuses_attribute(self, attribute: AttributeDescriptor, now: float) -> DataAccessResult | None:
        """Refuse nothing."""
        return None

    def deliver(self, octets: bytes, now: float) -> Sequence[Action]:
        """Send at once."""
        return (Send(octets),)
