"""What every data link below the application layer looks like, whatever its framing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from meterbridge.dlms.stream import Discarded


@dataclass(frozen=True, slots=True)
class LinkOpened:
    """The link is up: APDUs may be sent.

    Args:
        max_information_send: octets the peer takes in one frame.
        max_information_receive: octets we take in one frame.
        window_send: frames that may be under way unacknowledged, from us.
        window_receive: the same, towards us.
    """

    max_information_send: int
    max_information_receive: int
    window_send: int = 1
    window_receive: int = 1


@dataclass(frozen=True, slots=True)
class LinkClosed:
    """The link is down.

    Args:
        reason: why.
        requested: whether we had asked for it.
    """

    reason: str
    requested: bool = False


@dataclass(frozen=True, slots=True)
class ApduReceived:
    """A whole APDU arrived, its LLC header taken off."""

    apdu: bytes


LinkEvent = LinkOpened | LinkClosed | ApduReceived | Discarded


class Link(Protocol):
    """A sans-IO data link: octets in, events out; octets to send are collected for the caller to write."""

    def connect(self) -> None:
        """Ask for the link; LinkOpened follows, at once where the framing needs no handshake."""

    def send(self, apdu: bytes, *more: bytes) -> None:
        """Send an APDU, in as many frames as it takes; and more that belong to it, as blocks do."""

    def send_unanswered(self, apdu: bytes) -> None:
        """Send an APDU that nothing answers; `delivered` once it has arrived."""

    @property
    def delivered(self) -> bool:
        """Whether all that was sent has arrived, as far as the link can tell."""

    def go_on(self) -> None:
        """The peer has more to send without being answered: let it."""

    def disconnect(self) -> None:
        """Ask for the link's end; LinkClosed follows, at once where the framing needs no handshake."""

    def receive_data(self, data: bytes) -> None:
        """Take octets from the peer in."""

    def next_event(self) -> LinkEvent | None:
        """Return the next event, or None when more octets are needed."""

    def data_to_send(self) -> bytes:
        """Return the octets that are due to the peer, and forget them."""

    def handle_timeout(self) -> bool:
        """Nothing came in time: repeat what may have been lost. False when there is nothing left to try."""

    def resynchronise(self) -> int:
        """Forget octets of a frame that never became whole; return how many."""
