"""A meter over the wrapper that answers what it was told, by logical or by short name, and keeps what it was asked."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from meterbridge.dlms import AttributeDescriptor, Conformance, Data, DataType, LogicalName, MethodDescriptor
from meterbridge.dlms.acse import AARQ, RLRQ, Aare, Aarq, ApplicationContext, InitiateResponse, Release
from meterbridge.dlms.axdr import decode, decode_at, encode, encode_length
from meterbridge.dlms.xdlms import GetRequest, SelectiveAccess
from meterbridge.meter import DLMSClient, MeterAddress, Timeouts, load_model

_HEADER = struct.Struct(">4H")
_UNDEFINED = 4
Place = tuple[int, str, int]


def place(class_id: int, obis: str, attribute: int) -> Place:
    return class_id, str(LogicalName.parse(obis)), attribute


@dataclass
class ToldMeter:
    """What it holds and what it was asked.

    Args:
        values: by class, logical name and attribute, or by short name.
        writable: whether SET and Write are taken.
        returns: what methods return, by class, logical name and index; others do not exist.
        asked: attributes read, in order, with their selections.
        written: what was written, in order.
        called: methods called with their parameters, in order.
    """

    values: dict[Place, Data] = field(default_factory=dict)
    names: dict[int, Data] = field(default_factory=dict)
    writable: bool = True
    returns: dict[Place, Data | None] = field(default_factory=dict)
    asked: list[AttributeDescriptor] = field(default_factory=list)
    selections: list[SelectiveAccess | None] = field(default_factory=list)
    written: list[tuple[Place | int, Data]] = field(default_factory=list)
    called: list[tuple[Place, Data | None]] = field(default_factory=list)

    def answer(self, apdu: bytes) -> bytes:
        tag = apdu[0]
        if tag == AARQ:
            context = Aarq.decode(apdu).context
            services = Conformance.GET | Conformance.SET | Conformance.ACTION | Conformance.SELECTIVE_ACCESS
            if context == ApplicationContext.SN:
                services = Conformance.READ | Conformance.WRITE | Conformance.PARAMETERIZED_ACCESS
            response = InitiateResponse(services | Conformance.MULTIPLE_REFERENCES, 0xFFFF).encode()
            return Aare(context, 0, 0, response).encode()
        if tag == RLRQ:
            return Release(response=True).encode()
        return {0xC0: self._get, 0xC1: self._set, 0xC3: self._action, 5: self._read, 6: self._write}[tag](apdu)

    def _get(self, apdu: bytes) -> bytes:
        request = GetRequest.decode(apdu)
        self.asked += request.attributes
        results = []
        for asked in request.attributes:
            value = self.values.get((asked.class_id, str(asked.logical_name), asked.attribute))
            results.append(bytes((1, _UNDEFINED)) if value is None else b"\x00" + encode(value))
        head = bytes((0xC4, 3 if request.with_list else 1, apdu[2]))
        return head + (encode_length(len(results)) if request.with_list else b"") + b"".join(results)

    def _set(self, apdu: bytes) -> bytes:
        asked, position = AttributeDescriptor.decode_at(apdu, 3)
        where = (asked.class_id, str(asked.logical_name), asked.attribute)
        value = decode(apdu[position:])
        self.written.append((where, value))
        if not self.writable:
            return bytes((0xC5, 1, apdu[2], 3))
        self.values[where] = value
        return bytes((0xC5, 1, apdu[2], 0))

    def _action(self, apdu: bytes) -> bytes:
        class_id, name = int.from_bytes(apdu[3:5], "big"), LogicalName(apdu[5:11])
        where = (class_id, str(name), MethodDescriptor(class_id, name, apdu[11]).method)
        self.called.append((where, decode(apdu[13:]) if apdu[12] else None))
        if where not in self.returns:
            return bytes((0xC7, 1, apdu[2], _UNDEFINED, 0))
        returned = self.returns[where]
        return bytes((0xC7, 1, apdu[2], 0)) + (b"\x00" if returned is None else b"\x01\x00" + encode(returned))

    def _names(self, apdu: bytes) -> tuple[list[int], int]:
        names = []
        position = 2
        for _ in range(apdu[1]):
            names.append(int.from_bytes(apdu[position + 1 : position + 3], "big"))
            selection = None
            selected, position = apdu[position] == 4, position + 3
            if selected:
                selector = apdu[position]
                parameters, position = decode_at(apdu, position + 1)
                selection = SelectiveAccess(selector, parameters)
            self.selections.append(selection)
        return names, position

    def _read(self, apdu: bytes) -> bytes:
        names, _ = self._names(apdu)
        values = [self.names.get(name) for name in names]
        results = [bytes((1, _UNDEFINED)) if value is None else b"\x00" + encode(value) for value in values]
        return bytes((0x0C, len(results))) + b"".join(results)

    def _write(self, apdu: bytes) -> bytes:
        [name], position = self._names(apdu)
        value = decode(apdu[position + 1 :])
        self.written.append((name, value))
        if not self.writable:
            return bytes((0x0D, 1, 1, 3))
        self.names[name] = value
        return bytes((0x0D, 1, 0))

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                version, source, target, size = _HEADER.unpack(await reader.readexactly(_HEADER.size))
                answer = self.answer(await reader.readexactly(size))
                writer.write(_HEADER.pack(version, target, source, len(answer)) + answer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[int]:
        """Listen on loopback; the port."""
        server = await asyncio.start_server(self.serve, "127.0.0.1", 0)
        try:
            yield server.sockets[0].getsockname()[1]
        finally:
            server.close()

    @asynccontextmanager
    async def connected(self, referencing: str = "ln") -> AsyncIterator[DLMSClient]:
        """Our client, associated with it."""
        async with self.listening() as port:
            address = MeterAddress("127.0.0.1", port, "wrapper", referencing=referencing)
            client = DLMSClient(address, load_model("generic"), Timeouts(response=5))
            await client.connect()
            try:
                yield client
            finally:
                await client.disconnect()


def structure(*members: Data) -> Data:
    return Data(DataType.STRUCTURE, members)


def array(*elements: Data) -> Data:
    return Data(DataType.ARRAY, elements)


def octets(value: bytes) -> Data:
    return Data(DataType.OCTET_STRING, value)


def name(obis: str) -> Data:
    return octets(bytes(LogicalName.parse(obis)))


def unsigned(value: int) -> Data:
    return Data(DataType.UNSIGNED, value)


def long_unsigned(value: int) -> Data:
    return Data(DataType.LONG_UNSIGNED, value)


def double_long_unsigned(value: int) -> Data:
    return Data(DataType.DOUBLE_LONG_UNSIGNED, value)


def scaler_unit(scaler: int, unit: int) -> Data:
    return structure(Data(DataType.INTEGER, scaler), Data(DataType.ENUM, unit))


def capture_object(class_id: int, obis: str, attribute: int = 2, data_index: int = 0) -> Data:
    return structure(long_unsigned(class_id), name(obis), Data(DataType.INTEGER, attribute), long_unsigned(data_index))
