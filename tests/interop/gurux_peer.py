"""A meter whose objects, encoding, ciphering and reading of AARQs are gurux-dlms's, over TCP: a process of its own.

    python gurux_peer.py --port 3333 --framing hdlc|wrapper --auth none|low|hls-gmac --rows 96

It shares no line with Meterbridge, so that a mistake of Meterbridge cannot agree with itself. Gurux's own server class
is left out: its HDLC answers SNRM with something else, and reading a profile or answering HLS fails in it. Prints READY
once it listens; takes one connection after the other, until SIGTERM.
"""

from __future__ import annotations

import argparse
import datetime as dt
import os
import secrets
import socket
import sys
from typing import Any

from gurux_dlms import GXByteBuffer
from gurux_dlms._GXAPDU import _GXAPDU
from gurux_dlms.AesGcmParameter import AesGcmParameter
from gurux_dlms.enums import Authentication, DataType, Security, Unit
from gurux_dlms.GXCiphering import GXCiphering
from gurux_dlms.GXDateTime import GXDateTime
from gurux_dlms.GXDLMS import GXDLMS
from gurux_dlms.GXDLMSException import GXDLMSException
from gurux_dlms.GXDLMSSettings import GXDLMSSettings
from gurux_dlms.GXSecure import GXSecure
from gurux_dlms.internal._GXCommon import _GXCommon
from gurux_dlms.internal._GXDataInfo import _GXDataInfo
from gurux_dlms.objects import GXDLMSCaptureObject, GXDLMSClock, GXDLMSData, GXDLMSProfileGeneric, GXDLMSRegister
from gurux_dlms.ValueEventArgs import ValueEventArgs

PASSWORD = b"00000000"
TITLE = b"GRX00001"
EK, AK = bytes(range(16)), bytes(range(0xD0, 0xE0))
FIRST_ROW = dt.datetime(2026, 1, 1)
REGISTERS = (
    ("1.0.32.7.0.255", 2301, 0.1, Unit.VOLTAGE, DataType.UINT16),
    ("1.0.31.7.0.255", 512, 0.01, Unit.CURRENT, DataType.UINT16),
    ("1.0.14.7.0.255", 4998, 0.01, Unit.FREQUENCY, DataType.UINT16),
    ("1.0.1.7.0.255", 1180, 1, Unit.ACTIVE_POWER, DataType.UINT32),
    ("1.0.1.8.0.255", 1234567, 1, Unit.ACTIVE_ENERGY, DataType.UINT32),
)


AARQ, AARE, RLRQ, GET, SET, ACTION = 0x60, 0x61, 0x62, 0xC0, 0xC1, 0xC3
MAX_PDU = 512
# GET, SET, ACTION, selective access, lists, blocks.
CONFORMANCE = bytes.fromhex("00101d")
NOT_ALLOWED = bytes.fromhex("d80101")


def tlv(tag: int, content: bytes) -> bytes:
    return bytes((tag, len(content))) + content


def rows_of(profile: Any, selector: int, parameters: Any) -> Any:
    """Return a profile of the selected rows alone: by range of time (1), or by entry (2)."""
    first, last = (parameters[1], parameters[2]) if selector == 1 else (parameters[0], parameters[1])
    part = GXDLMSProfileGeneric(profile.logicalName)
    part.captureObjects.extend(profile.captureObjects)
    if selector == 1:
        begin, end = bounds(first), bounds(last)
        part.buffer.extend(row for row in profile.buffer if begin <= row[0].value.replace(tzinfo=None) <= end)
    else:
        part.buffer.extend(profile.buffer[first - 1 : last or None])
    return part


def bounds(octets: Any) -> dt.datetime:
    fields = bytes(octets)
    hour, minute, second = (0 if field == 0xFF else field for field in fields[5:8])
    return dt.datetime(int.from_bytes(fields[:2], "big"), fields[2], fields[3], hour, minute, second)


class Meter:
    """Lets in who proves himself as it was told to demand, and answers GET, SET and ACTION."""

    def __init__(self, demanded: int, rows: int) -> None:
        self.demanded = demanded
        self.objects = {bytes(map(int, each.logicalName.split("."))): each for each in objects(rows)}
        self.counter = 1
        self.reset()

    def reset(self) -> None:
        self.settings = GXDLMSSettings(True, None)
        self.settings.setUseLogicalNameReferencing(True)
        self.cipher = GXCiphering(TITLE)
        self.cipher.blockCipherKey, self.cipher.authenticationKey = EK, AK
        self.settings.cipher = self.cipher
        self.associated = self.proven = False
        self.challenge = b""
        self.rest = b""
        self.block = 0

    def answer(self, apdu: bytes) -> bytes:
        """Answer one APDU."""
        if apdu[0] == AARQ:
            self.reset()
            return self.let_in(apdu)
        if apdu[0] == RLRQ:
            self.associated = False
            return bytes.fromhex("6303800100")
        if not self.associated:
            return NOT_ALLOWED
        secured = self.cipher.security != Security.NONE
        if secured:
            keys = AesGcmParameter(0, self.settings.sourceSystemTitle, EK, AK)
            try:
                apdu = bytes(GXCiphering.decrypt(self.settings, keys, GXByteBuffer(apdu)))
            except (ValueError, IndexError, GXDLMSException):
                return bytes.fromhex("d80105")
        answer = self.serve(apdu)
        return self.ciphered(answer, answer[0] + 8) if secured and answer[0] != NOT_ALLOWED[0] else answer

    def ciphered(self, apdu: bytes, tag: int) -> bytes:
        keys = AesGcmParameter(tag, TITLE, EK, AK)
        keys.security, keys.invocationCounter = self.cipher.security, self.counter
        self.counter += 1
        return bytes(GXCiphering.encrypt(keys, apdu))

    def let_in(self, apdu: bytes) -> bytes:
        settings = self.settings
        self.cipher.security = Security.NONE
        _GXAPDU.parsePDU(settings, self.cipher, GXByteBuffer(apdu), None)
        refused = 0
        if settings.authentication != self.demanded:
            refused = 11 if settings.authentication else 14
        elif self.demanded == Authentication.LOW and bytes(settings.password or b"") != PASSWORD:
            refused = 13
        response = b"\x08\x00\x06\x5f\x1f\x04\x00" + CONFORMANCE + MAX_PDU.to_bytes(2, "big") + b"\x00\x07"
        if self.cipher.security != Security.NONE:
            response = self.ciphered(response, 0x28)
        context = 1 if self.cipher.security == Security.NONE else 3
        hls = self.demanded > Authentication.LOW
        content = tlv(0xA1, tlv(6, bytes.fromhex("608574050801") + bytes((context,))))
        content += tlv(0xA2, tlv(2, b"\x01" if refused else b"\x00"))
        content += tlv(0xA3, tlv(0xA1, tlv(2, bytes((refused or (14 if hls else 0),)))))
        if hls and not refused:
            self.challenge = secrets.token_bytes(16)
            content += tlv(0xA4, tlv(4, TITLE)) + b"\x88\x02\x07\x80"
            content += tlv(0x89, bytes.fromhex("608574050802") + bytes((self.demanded,)))
            content += tlv(0xAA, tlv(0x80, self.challenge))
        if not refused:
            content += tlv(0xBE, tlv(4, response))
        self.associated, self.proven = not refused, not hls
        return tlv(AARE, content)

    def serve(self, apdu: bytes) -> bytes:
        if not self.proven:
            return self.prove(apdu) if apdu[:2] == b"\xc3\x01" else NOT_ALLOWED
        if apdu[0] in (SET, ACTION) and apdu[1] == 1:
            outcome = self.change(apdu)
            return bytes((apdu[0] + 4, 1, apdu[2], outcome)) + (b"\x00" if apdu[0] == ACTION else b"")
        if apdu[0] != GET:
            return bytes.fromhex("d80202")
        head = b"\xc4" + apdu[1:3]
        if apdu[1] == 1:
            result, _ = self.read(apdu, 3)
            return self.whole(head, result)
        if apdu[1] == 2:
            return self.next_block(head, int.from_bytes(apdu[3:7], "big"))
        results, position = b"", 4
        for _ in range(apdu[3]):
            result, position = self.read(apdu, position)
            results += result
        return self.whole(head, apdu[3:4] + results)

    def prove(self, apdu: bytes) -> bytes:
        proof = apdu[-17:]
        settings, counter = self.settings, int.from_bytes(proof[1:5], "big")
        expected = bytes(GXSecure.secure(settings, self.cipher, counter, self.challenge, settings.sourceSystemTitle))
        if proof != expected:
            self.associated = False
            return b"\xc7\x01" + apdu[2:3] + b"\x03\x00"
        self.proven = True
        theirs = bytes(settings.ctoSChallenge)
        answer = bytes(GXSecure.secure(settings, self.cipher, self.counter, theirs, TITLE))
        self.counter += 1
        return b"\xc7\x01" + apdu[2:3] + b"\x00\x01\x00\x09" + bytes((len(answer),)) + answer

    def change(self, apdu: bytes) -> int:
        """Have Gurux decode what is to be set, or is a method's parameter, and do it; return the result."""
        class_id, name, index = int.from_bytes(apdu[3:5], "big"), apdu[5:11], apdu[11]
        found = self.objects.get(name)
        if found is None or int(found.objectType) != class_id:
            return 4
        value = _GXCommon.getData(self.settings, GXByteBuffer(apdu[13:]), _GXDataInfo()) if apdu[13:] else None
        event = ValueEventArgs(self.settings, found, index, 0, value)
        event.value = value
        (found.setValue if apdu[0] == SET else found.invoke)(self.settings, event)
        return int(event.error)

    def read(self, apdu: bytes, position: int) -> tuple[bytes, int]:
        """Answer one attribute descriptor; return its result and the position behind it."""
        class_id, name = int.from_bytes(apdu[position : position + 2], "big"), apdu[position + 2 : position + 8]
        attribute, selected = apdu[position + 8], apdu[position + 9]
        position += 10
        selector, parameters = 0, None
        if selected:
            selector, buffer = apdu[position], GXByteBuffer(apdu[position + 1 :])
            parameters = _GXCommon.getData(self.settings, buffer, _GXDataInfo())
            position += 1 + buffer.position
        found = self.objects.get(name)
        if found is None or int(found.objectType) != class_id:
            return b"\x01\x04", position
        if selected:
            found = rows_of(found, selector, parameters)
        event = ValueEventArgs(self.settings, found, attribute, 0, None)
        value, encoded = found.getValue(self.settings, event), GXByteBuffer()
        if isinstance(value, (bytes, bytearray, GXByteBuffer)) and attribute != 1 and found is not self.text:
            encoded.set(value)  # already encoded
        else:
            GXDLMS.appendData(self.settings, found, attribute, encoded, value)
        return b"\x00" + bytes(encoded.array()), position

    @property
    def text(self) -> Any:
        return self.objects[bytes((0, 0, 96, 1, 0, 255))]

    def whole(self, head: bytes, content: bytes) -> bytes:
        if len(content) + 40 <= MAX_PDU:
            return head + content
        # A block of one result has the data alone, of several all of them.
        self.rest, self.block = content[1:] if head[1] == 1 else content, 0
        return self.next_block(head, 0)

    def next_block(self, head: bytes, number: int) -> bytes:
        if number != self.block or (number and not self.rest):
            return b"\xc4\x02" + head[2:3] + b"\x01" + number.to_bytes(4, "big") + b"\x01\x13"
        part, self.rest = self.rest[: MAX_PDU - 40], self.rest[MAX_PDU - 40 :]
        self.block += 1
        data = (bytes((len(part),)) if len(part) < 128 else b"\x82" + len(part).to_bytes(2, "big")) + part
        last = b"\x00" if self.rest else b"\x01"
        return b"\xc4\x02" + head[2:3] + last + self.block.to_bytes(4, "big") + b"\x00" + data


def objects(rows: int) -> list[Any]:
    clock = GXDLMSClock("0.0.1.0.0.255")
    clock.time = GXDateTime(FIRST_ROW)
    # Without them Gurux cannot encode the clock.
    clock.begin, clock.end = GXDateTime(dt.datetime(2026, 3, 29, 2)), GXDateTime(dt.datetime(2026, 10, 25, 3))
    registers = []
    for name, value, scaler, unit, kind in REGISTERS:
        register = GXDLMSRegister(name)
        register.value, register.scaler, register.unit = value, scaler, unit
        register.setDataType(2, kind)
        registers.append(register)
    text = GXDLMSData("0.0.96.1.0.255")
    text.value = bytearray(b"GURUX PEER")
    text.setDataType(2, DataType.OCTET_STRING)
    profile = GXDLMSProfileGeneric("1.0.99.1.0.255")
    profile.capturePeriod = 900
    profile.profileEntries = rows
    profile.captureObjects.append((clock, GXDLMSCaptureObject(2, 0)))
    profile.captureObjects.append((registers[-1], GXDLMSCaptureObject(2, 0)))
    for row in range(rows):
        profile.buffer.append([GXDateTime(FIRST_ROW + dt.timedelta(minutes=15 * row)), 1_000_000 + 25 * row])
    profile.entriesInUse = rows
    return [clock, *registers, text, profile]


# ---- the frames around them


def check(octets: bytes) -> bytes:
    """CRC-16/X-25, bit by bit."""
    crc = 0xFFFF
    for octet in octets:
        crc ^= octet
        for _ in range(8):
            crc = crc >> 1 ^ (0x8408 if crc & 1 else 0)
    return (crc ^ 0xFFFF).to_bytes(2, "little")


class Wrapper:
    """Eight octets before each APDU."""

    def __init__(self, meter: Meter) -> None:
        self.meter = meter
        self.waiting = b""

    def receive(self, data: bytes) -> bytes:
        self.waiting += data
        out = b""
        while len(self.waiting) >= 8 and len(self.waiting) >= 8 + int.from_bytes(self.waiting[6:8], "big"):
            end = 8 + int.from_bytes(self.waiting[6:8], "big")
            client, server = self.waiting[2:4], self.waiting[4:6]
            answer = self.meter.answer(self.waiting[8:end])
            if answer:
                out += b"\x00\x01" + server + client + len(answer).to_bytes(2, "big") + answer
            self.waiting = self.waiting[end:]
        return out


class Hdlc:
    """Frames of at most 128 octets of information, a window of one, addresses of any length."""

    size = 128

    def __init__(self, meter: Meter) -> None:
        self.meter = meter
        self.waiting = b""
        self.ask = b""
        self.answer = b""
        self.sent = self.heard = 0

    def receive(self, data: bytes) -> bytes:
        self.waiting += data
        out = b""
        while (start := self.waiting.find(b"\x7e")) >= 0:
            self.waiting = self.waiting[start:].lstrip(b"\x7e")
            if len(self.waiting) < 2:
                break
            length = (self.waiting[0] & 7) << 8 | self.waiting[1]
            if len(self.waiting) < length + 1:
                break
            out += self.frame(self.waiting[:length])
            self.waiting = self.waiting[length:]
        return out

    def frame(self, octets: bytes) -> bytes:
        if check(octets[:-2]) != octets[-2:]:
            return b""
        places = [place for place, octet in enumerate(octets[2:], 2) if octet & 1][:2]
        server, client, control = (
            octets[2 : places[0] + 1],
            octets[places[0] + 1 : places[1] + 1],
            octets[places[1] + 1],
        )
        information = octets[places[1] + 4 : -2]

        def made(control: int, information: bytes = b"", more: bool = False) -> bytes:
            length = 5 + len(client) + len(server) + (len(information) + 2 if information else 0)
            content = (
                bytes((0xA0 | (8 if more else 0) | length >> 8, length & 0xFF)) + client + server + bytes((control,))
            )
            content += check(content)
            if information:
                content += information
                content += check(content)
            return b"\x7e" + content + b"\x7e"

        def part() -> bytes:
            more = len(self.answer) > self.size
            out = made(self.heard << 5 | 0x10 | self.sent << 1, self.answer[: self.size], more)
            self.answer = self.answer[self.size :]
            self.sent = self.sent + 1 & 7
            return out

        if control & 0xEF == 0x83:
            self.sent = self.heard = 0
            self.ask = self.answer = b""
            self.meter.reset()
            return made(0x73, bytes.fromhex("8180140501800601800704000000010804 00000001"))
        if control & 0xEF == 0x43:
            return made(0x73)
        if control & 1:
            return part() if self.answer else made(self.heard << 5 | 0x11)
        self.heard = self.heard + 1 & 7
        self.ask += information
        if octets[0] & 8:
            return made(self.heard << 5 | 0x11)
        apdu, self.ask = self.ask[3:], b""
        self.answer = b"\xe6\xe7\x00" + self.meter.answer(apdu)
        return part()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--framing", choices=("hdlc", "wrapper"), default="hdlc")
    parser.add_argument("--auth", choices=("none", "low", "hls-gmac"), default="low")
    parser.add_argument("--rows", type=int, default=96)
    options = parser.parse_args()
    demanded = {"none": Authentication.NONE, "low": Authentication.LOW, "hls-gmac": Authentication.HIGH_GMAC}
    with socket.create_server(("127.0.0.1", options.port)) as listening:
        print("READY", flush=True)
        # Gurux tells what it does on standard output, where nobody reads any more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        while True:
            connection, _ = listening.accept()
            meter = Meter(demanded[options.auth], options.rows)
            link = (Hdlc if options.framing == "hdlc" else Wrapper)(meter)
            with connection:
                while data := connection.recv(4096):
                    connection.sendall(link.receive(data))


if __name__ == "__main__":
    main()
