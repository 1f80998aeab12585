"""APDUs of any length over a link: whole, or in general blocks where the meter takes no APDU that long."""

from __future__ import annotations

from meterbridge.dlms.block_transfer import GENERAL_BLOCK_TRANSFER, MAX_WINDOW, Block, BlockTransfer
from meterbridge.dlms.link import Link, LinkOpened

_WHOLE_APDU = 0xFFFF
"""Octets in one frame from which on a link has no frames smaller than an APDU."""


class ApduCarrier:
    """Sends APDUs over a link and puts those together that come in blocks.

    Args:
        link: below it.
        window: blocks of a general block transfer we take at once, 1..63.
    """

    __slots__ = ("_at_once", "_blocks_agreed", "_link", "_max_pdu", "_transfer", "_window")

    def __init__(self, link: Link, window: int) -> None:
        self._link = link
        self._window = window
        self._transfer: BlockTransfer | None = None
        self._max_pdu = 0
        self._blocks_agreed = False
        self._at_once = 1

    def linked(self, opened: LinkOpened) -> None:
        """The link is up."""
        # On HDLC a window of one frame waits after each of them: blocks that wait as well cost no more, and meters
        # that have no windows at all understand them.
        many = opened.max_information_send >= _WHOLE_APDU or opened.window_send > 1
        self._at_once = MAX_WINDOW if many else 1
        self.agreed(0, blocks=False)

    def agreed(self, max_pdu: int, *, blocks: bool) -> None:
        """Both ends agreed to the largest APDU the meter takes, 0 for any, and whether to general block transfer."""
        self._transfer = None
        self._max_pdu = max_pdu
        self._blocks_agreed = blocks

    @property
    def most(self) -> int:
        """Octets an APDU may have; 0 where there is no limit, or blocks carry any."""
        return 0 if self._blocks_agreed else self._max_pdu

    def send(self, apdu: bytes) -> None:
        """Send an APDU.

        Raises:
            LocalProtocolError: as the link, or not even a block fits.
        """
        if self._blocks_agreed and 0 < self._max_pdu < len(apdu):
            self._transfer = self._new_transfer()
            self._link.send(*self._transfer.send(apdu))
        else:
            self._transfer = None
            self._link.send(apdu)

    def send_unanswered(self, apdu: bytes) -> None:
        """Send an APDU that nothing answers; raises as `send`."""
        self._transfer = None
        self._link.send_unanswered(apdu)

    def receive(self, apdu: bytes, *, awaited: bool) -> bytes | None:
        """Take what arrived; return it, or the whole APDU with its last block, None before that.

        Args:
            apdu: at least one octet.
            awaited: whether an answer is due.

        Raises:
            RemoteProtocolError: as `BlockTransfer.receive`.
        """
        if apdu[0] != GENERAL_BLOCK_TRANSFER:
            return apdu
        transfer = self._transfer
        if transfer is None:
            if not awaited and Block.decode(apdu).number != 1:
                return None  # said again, behind an APDU that is complete
            transfer = self._transfer = self._new_transfer()
        due, whole = transfer.receive(apdu)
        if whole is not None:
            self._transfer = None
        if due:
            self._link.send(*due)
        elif transfer.streaming:
            self._link.go_on()
        return whole

    def _new_transfer(self) -> BlockTransfer:
        return BlockTransfer(self._window, self._max_pdu, self._at_once)
