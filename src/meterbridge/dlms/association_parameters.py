"""How an association is asked for: services proposed, sizes, credentials."""

from __future__ import annotations

from dataclasses import dataclass, field

from meterbridge.dlms.acse import Mechanism
from meterbridge.dlms.authentication import Credentials
from meterbridge.dlms.conformance import Conformance

PROPOSED_CONFORMANCE = (
    Conformance.GENERAL_BLOCK_TRANSFER
    | Conformance.GET
    | Conformance.SET
    | Conformance.ACTION
    | Conformance.SELECTIVE_ACCESS
    | Conformance.MULTIPLE_REFERENCES
    | Conformance.PRIORITY_MGMT_SUPPORTED
    | Conformance.EVENT_NOTIFICATION
    | Conformance.BLOCK_TRANSFER_WITH_GET_OR_READ
    | Conformance.BLOCK_TRANSFER_WITH_SET_OR_WRITE
    | Conformance.BLOCK_TRANSFER_WITH_ACTION
)

PROPOSED_SN_CONFORMANCE = (
    Conformance.READ
    | Conformance.WRITE
    | Conformance.UNCONFIRMED_WRITE
    | Conformance.INFORMATION_REPORT
    | Conformance.MULTIPLE_REFERENCES
    | Conformance.PARAMETERIZED_ACCESS
    | Conformance.BLOCK_TRANSFER_WITH_GET_OR_READ
    | Conformance.BLOCK_TRANSFER_WITH_SET_OR_WRITE
)


@dataclass(frozen=True, slots=True)
class AssociationParameters:
    """How the association is asked for.

    Args:
        password: LLS secret; None associates without authentication. Never shown by repr.
        conformance: services proposed; None proposes all that the referencing has.
        max_receive_pdu: largest APDU we take, octets.
        short_names: SN referencing in place of LN.
        block_window: blocks of a general block transfer we take at once, 1..63.
        credentials: HLS and ciphering, in place of the password.
    """

    password: bytes | None = field(default=None, repr=False)
    conformance: Conformance | None = None
    max_receive_pdu: int = 0xFFFF
    short_names: bool = False
    block_window: int = 8
    credentials: Credentials | None = None

    @property
    def proposed(self) -> Conformance:
        """The conformance block of the InitiateRequest."""
        if self.conformance is not None:
            return self.conformance
        return PROPOSED_SN_CONFORMANCE if self.short_names else PROPOSED_CONFORMANCE

    @property
    def identity(self) -> Credentials:
        """The credentials, also where a password is all there is."""
        if self.credentials is not None:
            return self.credentials
        return Credentials() if self.password is None else Credentials(Mechanism.LLS, self.password)
