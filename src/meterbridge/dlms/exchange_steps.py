"""What an exchange is: it gives the APDUs to send and takes those that answer, until it is done."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from meterbridge.errors import LocalProtocolError


@dataclass(frozen=True, slots=True)
class Ask:
    """The exchange goes on with this APDU."""

    apdu: bytes


@dataclass(frozen=True, slots=True)
class Done:
    """The exchange is over."""

    results: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Ignored:
    """The APDU answers something else."""

    reason: str


Step = Ask | Done | Ignored
MayGoOn = Callable[[], bool]
"""Asked before each further data block: whether it may be asked for now."""


class Exchange(Protocol):
    """One request and its answer."""

    @property
    def unanswered(self) -> Done | None:
        """What it ends with once it is sent, None where an answer is due."""

    def start(self, invoke_id: int, max_pdu: int) -> bytes:
        """Return the first APDU.

        Args:
            invoke_id: 0..15.
            max_pdu: largest APDU the peer takes, octets.

        Raises:
            LocalProtocolError: it cannot be said in that many octets.
        """

    def receive(self, apdu: bytes) -> Step:
        """Take an APDU of the peer.

        Raises:
            RemoteProtocolError: it is no answer to what was asked.
        """


class Answered:
    """What every service has but the unconfirmed one."""

    @property
    def unanswered(self) -> Done | None:
        """See Exchange."""
        return None


def check_size(apdu: bytes, max_pdu: int, remedy: str) -> None:
    """Check that a request fits one APDU of up to `max_pdu` octets; 0 is without a limit.

    Raises:
        LocalProtocolError: it does not; `remedy` says what would.
    """
    if max_pdu and len(apdu) > max_pdu:
        raise LocalProtocolError(f"a request of {len(apdu)} octets where the meter takes {max_pdu}: try {remedy}")
