"""HDLC frames of format type 3: encoded, and taken out of an octet stream (Green Book, data link layer for HDLC).

Frames are taken by their length field, header check and frame check, never by looking for the next flag: 0x7E is legal
inside a frame. What is no frame is reported as Discarded and the stream goes on.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

from fastcrc import crc16

from meterbridge.dlms.stream import Discarded, StreamDecoder
from meterbridge.errors import LocalProtocolError

fcs: Callable[[bytes], int] = cast(Callable[[bytes], int], crc16.ibm_sdlc)
"""CRC-16/X-25 of some octets; sent low octet first."""

FCS_RESIDUE = fcs(b"\x00" + fcs(b"\x00").to_bytes(2, "little"))
"""What `fcs` makes of any octets with their own check sequence behind them."""

FLAG = 0x7E
MAX_FRAME = 0x7FF
"""Largest value of the eleven-bit length field: octets between the flags."""
_LEAST_FRAME = 7
_FORMAT = 0xA0
_SEGMENTED = 0x08


class Control(enum.IntEnum):
    """Control fields of unnumbered frames, poll/final bit cleared."""

    SNRM = 0x83
    DISC = 0x43
    UA = 0x63
    DM = 0x0F
    FRMR = 0x87
    UI = 0x03


POLL_FINAL = 0x10
RR = 0x01
RNR = 0x05


@dataclass(frozen=True, slots=True)
class Frame:
    """One HDLC frame.

    Args:
        destination: address octets as sent, 1, 2 or 4.
        source: address octets as sent.
        control: control octet.
        information: information field, empty where there is none.
        segmented: whether more frames of the same information follow.
    """

    destination: bytes
    source: bytes
    control: int
    information: bytes = b""
    segmented: bool = False

    @property
    def final(self) -> bool:
        """Whether the poll/final bit is set."""
        return bool(self.control & POLL_FINAL)

    @property
    def is_information(self) -> bool:
        """Whether it is an I frame."""
        return not self.control & 1

    @property
    def is_supervisory(self) -> bool:
        """Whether it is RR or RNR."""
        return self.control & 3 == 1

    @property
    def unnumbered(self) -> int:
        """Control field without the poll/final bit: compare with Control."""
        return self.control & ~POLL_FINAL

    @property
    def send_sequence(self) -> int:
        """N(S) of an I frame."""
        return self.control >> 1 & 7

    @property
    def receive_sequence(self) -> int:
        """N(R) of an I, RR or RNR frame."""
        return self.control >> 5

    def encode(self) -> bytes:
        """Return the octets, flags included.

        Raises:
            LocalProtocolError: longer than a length field can say.
        """
        length = 2 + len(self.destination) + len(self.source) + 1 + 2
        if self.information:
            length += len(self.information) + 2
        if length > MAX_FRAME:
            raise LocalProtocolError(f"a frame of {length} octets does not exist, {MAX_FRAME} is the most")
        head = (_FORMAT << 8 | (_SEGMENTED << 8 if self.segmented else 0) | length).to_bytes(2, "big")
        content = head + self.destination + self.source + bytes((self.control,))
        content += fcs(content).to_bytes(2, "little")
        if self.information:
            content += self.information
            content += fcs(content).to_bytes(2, "little")
        return b"\x7e" + content + b"\x7e"


def client_address(sap: int) -> bytes:
    """Encode a client SAP as an address octet.

    Raises:
        LocalProtocolError: outside 0..127.
    """
    if not 0 <= sap <= 0x7F:
        raise LocalProtocolError(f"client SAP {sap} is outside 0..127")
    return bytes((sap << 1 | 1,))


def server_address(logical: int, physical: int | None = None, size: int | None = None) -> bytes:
    """Encode a server address: logical (upper) and, where given, physical (lower) device address.

    Args:
        logical: 0..127, or up to 16383 in four octets.
        physical: None for the one-octet form; 0..127, or up to 16383 in four octets.
        size: 1, 2 or 4 octets; None takes the shortest that holds both.

    Raises:
        LocalProtocolError: a part that does not fit, or a size that does not exist.
    """
    if size is None:
        size = 1 if physical is None and logical <= 0x7F else 2 if max(logical, physical or 0) <= 0x7F else 4
    lower = physical or 0
    most = 0x3FFF if size == 4 else 0x7F
    if size not in (1, 2, 4) or not 0 <= logical <= most or not 0 <= lower <= most or (size == 1 and lower):
        address = logical if physical is None else f"{logical}/{physical}"
        raise LocalProtocolError(f"server address {address} does not fit {size} octets")
    if size == 1:
        return bytes((logical << 1 | 1,))
    if size == 2:
        return bytes((logical << 1, lower << 1 | 1))
    return bytes((logical >> 6 & 0xFE, logical << 1 & 0xFE, lower >> 6 & 0xFE, lower << 1 & 0xFE | 1))


def address_parts(octets: bytes) -> tuple[int, int | None]:
    """Return (upper, lower) of an address as sent; lower is None in the one-octet form."""
    if len(octets) == 1:
        return octets[0] >> 1, None
    if len(octets) == 2:
        return octets[0] >> 1, octets[1] >> 1
    return (octets[0] >> 1) << 7 | octets[1] >> 1, (octets[2] >> 1) << 7 | octets[3] >> 1


def _address_end(buffer: bytes | bytearray, start: int) -> int:
    """Position behind the address at `start`; 0 when it has not 1, 2 or 4 octets, -1 when it is not all there."""
    for size in (1, 2, 3, 4):
        position = start + size - 1
        if position >= len(buffer):
            return -1
        if buffer[position] & 1:
            return 0 if size == 3 else position + 1
    return 0


class FrameDecoder(StreamDecoder[Frame]):
    """Takes frames out of an octet stream, however it is cut.

    Holds at most one incomplete frame. A flag that opens no valid frame costs itself only: the octets behind it are
    looked at again.
    """

    @property
    def idle(self) -> bool:
        """Whether it holds nothing but perhaps the flag that closed the last frame."""
        return len(self._buffer) <= 1 and not self._events

    def _parse(self) -> None:
        buffer = self._buffer
        while buffer:
            start = buffer.find(FLAG)
            if start:
                self._skip(len(buffer) if start < 0 else start)
                continue
            if len(buffer) > 1 and buffer[1] == FLAG:
                del buffer[:1]
                continue
            if len(buffer) < 3:
                break
            verdict = self._frame()
            if verdict is None:
                break
            if isinstance(verdict, Frame):
                self._report_noise()
                self._events.append(verdict)
            elif verdict:
                self._report_noise()
                self._events.append(Discarded(verdict, 1))
                del buffer[:1]
            else:
                del buffer[:1]
        if not buffer or buffer[0] == FLAG:
            self._report_noise()

    def _frame(self) -> Frame | str | None:
        """Look at the flag that stands first: a Frame (taken out), a reason for refusing, or None to wait for more."""
        buffer = self._buffer
        length = (buffer[1] & 0x07) << 8 | buffer[2]
        if buffer[1] & 0xF0 != _FORMAT or length < _LEAST_FRAME:
            return ""
        source = _address_end(buffer, 3)
        control = _address_end(buffer, source) if source > 0 else source
        if control == -1:
            return None
        header = control + 1
        if control == 0 or header > length - 1:
            return "no valid address in a frame header"
        if header + 2 > len(buffer):
            return None
        # Checked before the whole frame is there, so that a false start cannot swallow what follows it.
        if header - 1 < length - 2 and fcs(bytes(buffer[1:header])) != buffer[header] | buffer[header + 1] << 8:
            return "header check sequence wrong"
        end = 1 + length
        if len(buffer) < end:
            self._due = end - len(buffer)
            return None
        if fcs(bytes(buffer[1 : end - 2])) != buffer[end - 2] | buffer[end - 1] << 8:
            return "frame check sequence wrong"
        frame = Frame(
            bytes(buffer[3:source]),
            bytes(buffer[source:control]),
            buffer[control],
            bytes(buffer[header + 2 : end - 2]),
            bool(buffer[1] & _SEGMENTED),
        )
        del buffer[:end]
        return frame
