"""M-Bus long frames and the DLMS transport segments in them, for reception (IEC 13757, data link and transport layer).

Frames are taken by their two equal length octets and their checksum; what is no frame is reported as Discarded and the
stream goes on.
"""

from __future__ import annotations

from dataclasses import dataclass

from meterbridge.dlms.stream import Discarded, StreamDecoder
from meterbridge.errors import LocalProtocolError

START = 0x68
STOP = 0x16
SEND_USER_DATA = 0x53
"""Control field of SND-UD, FCB set: what pushes come in."""
BROADCAST = 0xFF
MAX_USER_DATA = 252
"""Most octets behind the CI field of one frame."""
_HEAD = 4
_LEAST_LENGTH = 3
_FINAL = 0x10
_SEQUENCE = 0x0F
_LAST_TRANSPORT_CI = 0x1F


@dataclass(frozen=True, slots=True)
class LongFrame:
    """One M-Bus long frame.

    Args:
        control: C field.
        address: A field, primary address; 0xFF is everybody.
        information: CI field.
        data: user data, at most 252 octets.
    """

    control: int
    address: int
    information: int
    data: bytes = b""

    @property
    def is_transport(self) -> bool:
        """Whether it carries a DLMS transport segment."""
        return self.information <= _LAST_TRANSPORT_CI

    @property
    def final(self) -> bool:
        """Whether its segment is the last of an APDU (FIN)."""
        return bool(self.information & _FINAL)

    @property
    def sequence(self) -> int:
        """Number of its segment, 0..15, from 0 in each APDU."""
        return self.information & _SEQUENCE

    def encode(self) -> bytes:
        """Return the octets.

        Raises:
            LocalProtocolError: more user data than one frame takes.
        """
        if len(self.data) > MAX_USER_DATA:
            raise LocalProtocolError(f"an M-Bus frame does not take {len(self.data)} octets, {MAX_USER_DATA} at most")
        content = bytes((self.control, self.address, self.information)) + self.data
        length = len(content)
        return bytes((START, length, length, START)) + content + bytes((sum(content) & 0xFF, STOP))


def transport_frames(
    apdu: bytes, source: int, destination: int, address: int = BROADCAST, size: int = MAX_USER_DATA - 2
) -> list[LongFrame]:
    """Cut an APDU into long frames with transport segments.

    Args:
        apdu: whole.
        source: STSAP, 0..255.
        destination: DTSAP, 0..255.
        address: A field.
        size: octets of the APDU in each frame, 1..250.

    Raises:
        LocalProtocolError: more than sixteen segments, or a size out of range.
    """
    if not 1 <= size <= MAX_USER_DATA - 2:
        raise LocalProtocolError(f"a segment of {size} octets is outside 1..{MAX_USER_DATA - 2}")
    parts = [apdu[start : start + size] for start in range(0, len(apdu), size)] or [b""]
    if len(parts) > _SEQUENCE + 1:
        raise LocalProtocolError(f"an APDU of {len(apdu)} octets does not fit sixteen segments of {size}")
    return [
        LongFrame(
            SEND_USER_DATA,
            address,
            sequence | (_FINAL if sequence == len(parts) - 1 else 0),
            bytes((source, destination)) + part,
        )
        for sequence, part in enumerate(parts)
    ]


class LongFrameDecoder(StreamDecoder[LongFrame]):
    """Takes M-Bus long frames out of an octet stream, however it is cut.

    Holds at most one incomplete frame of 261 octets. A start octet that opens no valid frame costs itself only: the
    octets behind it are looked at again.
    """

    def _parse(self) -> None:
        buffer = self._buffer
        while buffer:
            start = buffer.find(START)
            if start:
                self._skip(len(buffer) if start < 0 else start)
                continue
            if len(buffer) < _HEAD:
                # What stands there must look like a head as far as it goes.
                if len(buffer) > 1 and (buffer[1] < _LEAST_LENGTH or (len(buffer) > 2 and buffer[2] != buffer[1])):
                    self._skip(1)
                    continue
                break
            length = buffer[1]
            if buffer[2] != length or buffer[3] != START or length < _LEAST_LENGTH:
                self._skip(1)
                continue
            end = _HEAD + length
            if len(buffer) < end + 2:
                self._due = end + 2 - len(buffer)
                break
            self._report_noise()
            content = bytes(buffer[_HEAD:end])
            if sum(content) & 0xFF != buffer[end] or buffer[end + 1] != STOP:
                self._events.append(Discarded("M-Bus checksum or stop octet wrong", 1))
                del buffer[:1]
                continue
            self._events.append(LongFrame(content[0], content[1], content[2], content[3:]))
            del buffer[: end + 2]
        if not buffer:
            self._report_noise()
