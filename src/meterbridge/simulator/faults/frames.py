"""Answers taken apart and put together again, wrongly. Pure: octets in, octets out."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from struct import Struct
from typing import Final

from meterbridge.dlms import Frame, FrameDecoder
from meterbridge.dlms.acse import AARE, RLRE
from meterbridge.dlms.hdlc import FLAG, POLL_FINAL, RNR, Control
from meterbridge.dlms.hdlc_station import LLC_RESPONSE
from meterbridge.simulator.faults.fault import Answers

_WRAPPER: Final = Struct(">HHHH")
# Control information of a rejected frame: its control field, the state variables, reason W (control field not defined).
_REJECTED: Final = b"\x00\x00\x01"


def is_hdlc(octets: bytes) -> bool:
    """Whether an answer is framed in HDLC."""
    return octets[:1] == bytes((FLAG,))


def frames(octets: bytes) -> list[Frame]:
    """Return the HDLC frames of an answer."""
    decoder = FrameDecoder()
    decoder.receive_data(octets)
    found = []
    while (event := decoder.next_event()) is not None:
        if isinstance(event, Frame):
            found.append(event)
    return found


def sort_of(octets: bytes) -> Answers:
    """Say what an answer answers."""
    if not is_hdlc(octets):
        return "association" if octets[8:9] and octets[8] in (AARE, RLRE) else "data"
    first = frames(octets)[0]
    if first.unnumbered in (Control.UA, Control.DM):
        return "link"
    apdu = first.information.removeprefix(LLC_RESPONSE)
    return "association" if apdu[:1] and apdu[0] in (AARE, RLRE) else "data"


def wrong_check_sequence(octets: bytes, bit: int) -> bytes:
    """Flip one bit, 0..15, of the last frame's check sequence."""
    damaged = bytearray(octets)
    damaged[-3 + bit // 8] ^= 1 << bit % 8
    return bytes(damaged)


def numbered(octets: bytes, step: int) -> bytes:
    """Move N(S) of every I frame by `step`."""

    def moved(frame: Frame) -> Frame:
        if not frame.is_information:
            return frame
        number = frame.send_sequence + step & 7
        return dataclasses.replace(frame, control=frame.control & 0xF1 | number << 1)

    return _each(octets, moved)


def unnumbered(octets: bytes, control: Control) -> bytes:
    """Return DM or FRMR in place of an answer."""
    first = frames(octets)[0]
    information = _REJECTED if control is Control.FRMR else b""
    return Frame(first.destination, first.source, control | POLL_FINAL, information).encode()


def not_ready(octets: bytes) -> bytes:
    """Return RNR in place of an answer, with its acknowledgement."""
    first = frames(octets)[0]
    return Frame(first.destination, first.source, first.receive_sequence << 5 | POLL_FINAL | RNR).encode()


def with_apdu(octets: bytes, apdu: bytes) -> bytes:
    """Return another APDU in place of an answer, under the answer's own addresses and numbers."""
    if not is_hdlc(octets):
        version, source, destination, _ = _WRAPPER.unpack_from(octets)
        return _WRAPPER.pack(version, source, destination, len(apdu)) + apdu
    first = frames(octets)[0]
    control = first.control | POLL_FINAL
    return Frame(first.destination, first.source, control, LLC_RESPONSE + apdu).encode()


def disguised(octets: bytes, earlier: bytes) -> bytes:
    """Return what an earlier answer said under the numbers of this one: only the invoke id tells."""
    if not is_hdlc(octets):
        return earlier
    first, old = frames(octets)[0], frames(earlier)[0]
    return Frame(first.destination, first.source, first.control | POLL_FINAL, old.information).encode()


def _each(octets: bytes, change: Callable[[Frame], Frame]) -> bytes:
    return b"".join(change(frame).encode() for frame in frames(octets))
