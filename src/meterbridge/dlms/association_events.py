"""What an association tells its caller."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from meterbridge.dlms.acse import InitiateResponse
from meterbridge.dlms.link import LinkOpened
from meterbridge.dlms.stream import Discarded


@dataclass(frozen=True, slots=True)
class AssociationOpened:
    """The meter accepted.

    Args:
        negotiated: conformance and PDU size both agree to.
        link: link parameters both agree to.
    """

    negotiated: InitiateResponse
    link: LinkOpened


class RequestCompleted(NamedTuple):
    """A request was answered in full.

    Args:
        results: in the order asked; a DataAccessError stands where the meter refused one.
    """

    results: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Notified:
    """The meter sent an APDU unasked: a DataNotification, EventNotification or InformationReport, deciphered."""

    apdu: bytes


@dataclass(frozen=True, slots=True)
class AssociationClosed:
    """Association and link are over.

    Args:
        reason: why.
        requested: whether we had asked for it.
    """

    reason: str
    requested: bool


AssociationEvent = AssociationOpened | RequestCompleted | AssociationClosed | Notified | Discarded
