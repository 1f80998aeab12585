"""A meter in a process of its own that answers from a table: it costs as little as an answer can.

An answer depends on nothing but the request's octets (sequence numbers and invoke id are in them), so each is made
once, with our encoder, and kept.

    python -m benchmarks.canned_meter hdlc|wrapper   prints `PORT n`, ends with its standard input
"""

from __future__ import annotations

import asyncio
import os
import sys
from struct import Struct
from typing import cast

import uvloop

from meterbridge.dlms.acse import RLRE, Aare, InitiateResponse
from meterbridge.dlms.conformance import Conformance
from meterbridge.dlms.hdlc import POLL_FINAL, RR, Control, Frame, FrameDecoder
from meterbridge.dlms.xdlms import GetRequest, GetResponse

_WRAPPER = Struct(">HHHH")
_ACCEPTED = Aare(1, 0, 0, InitiateResponse(Conformance.GET | Conformance.MULTIPLE_REFERENCES, 1024).encode()).encode()
_SCALER_UNIT = bytes.fromhex("02020fff1623")
_VALUES = {
    bytes((1, 0, 32, 7, 0, 255)): b"\x12\x08\xfd",
    bytes((1, 0, 31, 7, 0, 255)): b"\x12\x02\x00",
    bytes((1, 0, 14, 7, 0, 255)): b"\x12\x13\x86",
    bytes((1, 0, 1, 7, 0, 255)): b"\x06\x00\x00\x04\x9c",
    bytes((1, 0, 1, 8, 0, 255)): b"\x06\x00\x12\xd6\x87",
}


def answer(apdu: bytes) -> bytes:
    """Answer one APDU."""
    if apdu[0] == 0x60:
        return _ACCEPTED
    if apdu[0] == 0x62:
        return bytes((RLRE, 3, 0x80, 1, 0))
    request = GetRequest.decode(apdu)
    results = tuple(
        _SCALER_UNIT if attribute.attribute == 3 else _VALUES[attribute.logical_name]
        for attribute in request.attributes
    )
    return GetResponse(request.invoke_id, results, request.with_list).encode()


def hdlc_answer(octets: bytes) -> bytes:
    """Answer one frame."""
    decoder = FrameDecoder()
    decoder.receive_data(octets)
    frame = decoder.next_event()
    if not isinstance(frame, Frame):
        return b""

    def reply(control: int, information: bytes = b"") -> bytes:
        return Frame(frame.source, frame.destination, control, information).encode()

    if frame.unnumbered in (Control.SNRM, Control.DISC):
        return reply(Control.UA | POLL_FINAL)
    due = frame.send_sequence + 1 & 7
    if frame.is_supervisory:
        return reply(due << 5 | POLL_FINAL | RR)
    control = due << 5 | POLL_FINAL | frame.receive_sequence << 1
    return reply(control, b"\xe6\xe7\x00" + answer(frame.information[3:]))


def wrapper_answer(octets: bytes) -> bytes:
    """Answer one wrapper."""
    _, source, destination, _ = _WRAPPER.unpack_from(octets)
    apdu = answer(octets[8:])
    return _WRAPPER.pack(1, destination, source, len(apdu)) + apdu


class _Connection(asyncio.Protocol):
    def __init__(self, framing: str, known: dict[bytes, bytes]) -> None:
        self._answer = hdlc_answer if framing == "hdlc" else wrapper_answer
        self._known = known

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        answered = self._known.get(data)
        if answered is None:
            answered = self._known[data] = self._answer(data)
        self._transport.write(answered)


async def _serve(framing: str) -> None:
    loop = asyncio.get_running_loop()
    known: dict[bytes, bytes] = {}
    server = await loop.create_server(lambda: _Connection(framing, known), "127.0.0.1", 0, backlog=1024)

    def spin() -> None:
        # Never asleep: waking it up would be charged to whoever sends, and most to whoever is quickest.
        loop.call_soon(spin)

    spin()
    print("PORT", server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    # The last core, so that what is measured has the first to itself.
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    uvloop.run(_serve(sys.argv[1]))
