"""`python -m benchmarks.mqtt_sink PORT`: acknowledges every MQTT 3.1.1 message at QoS 1 and forgets it."""

from __future__ import annotations

import asyncio
import sys


class Sink(asyncio.Protocol):
    """One connection. Answers a read's worth of packets with one write."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport to answer on."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._left = b""

    def data_received(self, data: bytes) -> None:
        """Take whole packets, keep the rest."""
        data = self._left + data
        at, answers = 0, bytearray()
        while True:
            length = shift = 0
            here = at + 1
            while here < len(data):
                octet = data[here]
                here += 1
                length |= (octet & 0x7F) << shift
                shift += 7
                if octet < 0x80:
                    break
            else:
                break
            if here + length > len(data):
                break
            kind = data[at] >> 4
            if kind == 1:
                answers += b"\x20\x02\x00\x00"
            elif kind == 3 and data[at] & 6:
                topic = data[here] << 8 | data[here + 1]
                answers += b"\x40\x02" + data[here + 2 + topic : here + 4 + topic]
            elif kind == 12:
                answers += b"\xd0\x00"
            at = here + length
        self._left = data[at:]
        if answers:
            self._transport.write(bytes(answers))


async def _serve(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Sink, "127.0.0.1", port)
    print("READY", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1])))
