"""The push listener on loopback: TCP and UDP, many at once, noise, silence, floods; and the command as a process."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from meterbridge.dlms.push_decoder import Decoded, KeyRing
from meterbridge.dlms.reception import Framing, Refused
from meterbridge.errors import ConfigurationError
from meterbridge.meter.catalogue.push import load_layouts
from meterbridge.meter.push import Closed, ListenLimits, Pushed, PushListener
from tests.unit.dlms import pushes
from tests.unit.dlms.arrivals import NOISE
from tests.unit.dlms.pushes import KEYS, TITLE, ciphered, in_blocks, in_hdlc, in_mbus, in_wrapper, notification

PLAIN = notification(pushes.AIDON, pushes.TIME)
HDLC = b"".join(in_hdlc(PLAIN))


@asynccontextmanager
async def listening(
    keys: KeyRing | None = None,
    limits: ListenLimits | None = None,
    framing: Framing | None = None,
    *,
    udp: bool = False,
) -> AsyncIterator[PushListener]:
    listener = PushListener(keys, load_layouts(), framing, limits)
    await listener.start("127.0.0.1", 0, udp=udp)
    try:
        yield listener
    finally:
        await listener.close()


async def take(listener: PushListener, count: int) -> list[Pushed]:
    async with asyncio.timeout(10):
        return [await listener.next_event() for _ in range(count)]


async def send(listener: PushListener, octets: bytes) -> asyncio.StreamWriter:
    _, writer = await asyncio.open_connection("127.0.0.1", listener.port)
    writer.write(octets)
    await writer.drain()
    return writer


def power(pushed: Pushed) -> object:
    assert isinstance(pushed.event, Decoded)
    return pushed.event.values["1-0:1.7.0"].value


@pytest.mark.parametrize(
    "octets",
    [HDLC, in_wrapper([PLAIN]), b"".join(in_mbus(PLAIN, 40)), b"".join(in_blocks(PLAIN, 40)), NOISE + HDLC],
    ids=["hdlc", "wrapper", "mbus", "blocks", "noise first"],
)
async def test_a_push_over_tcp_whatever_its_framing(octets: bytes) -> None:
    async with listening() as listener:
        writer = await send(listener, octets)
        events = await take(listener, 1)
        if isinstance(events[0].event, Refused):
            assert events[0].event.reason.startswith("noise")
            events = await take(listener, 1)
        assert power(events[0]) == 1362
        assert events[0].peer.startswith("127.0.0.1:")
        # The connection stays open for the next.
        writer.write(octets.removeprefix(NOISE))
        assert power((await take(listener, 1))[0]) == 1362
        writer.close()
        [closed] = await take(listener, 1)
        assert closed.event == Closed("closed by the meter", by_us=False)


async def test_many_meters_at_once_in_pieces() -> None:
    async with listening() as listener:
        writers = [await send(listener, HDLC[:index]) for index in range(1, 101)]
        for index, writer in enumerate(writers, 1):
            writer.write(HDLC[index:])
        events = await take(listener, 100)
        assert [power(event) for event in events] == [1362] * 100
        assert len({event.peer for event in events}) == 100
        for writer in writers:
            writer.close()


async def test_over_udp_wrapped_bare_and_in_blocks() -> None:
    async with listening(udp=True) as listener:
        with (
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as meter,
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other,
        ):
            meter.connect(("127.0.0.1", listener.port))
            other.connect(("127.0.0.1", listener.port))
            meter.send(in_wrapper([PLAIN]))
            assert power((await take(listener, 1))[0]) == 1362
            other.send(PLAIN)
            [bare] = await take(listener, 1)
            assert power(bare) == 1362
            assert isinstance(bare.event, Decoded)
            assert bare.event.framing is Framing.RAW
            meter.send(NOISE)
            [noise] = await take(listener, 1)
            assert isinstance(noise.event, Refused)
            meter.send(in_wrapper([PLAIN]))
            assert power((await take(listener, 1))[0]) == 1362


async def test_segments_in_several_datagrams_come_together() -> None:
    async with listening(udp=True) as listener:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as meter:
            meter.connect(("127.0.0.1", listener.port))
            for frame in in_mbus(PLAIN, 40):
                meter.send(frame)
            assert power((await take(listener, 1))[0]) == 1362


async def test_ciphered_pushes_are_opened_and_a_replay_over_another_connection_is_refused() -> None:
    octets = b"".join(in_hdlc(ciphered(PLAIN, 41)))
    async with listening(KeyRing({TITLE: KEYS})) as listener:
        first = await send(listener, octets)
        [opened] = await take(listener, 1)
        assert power(opened) == 1362
        second = await send(listener, octets)
        [replayed] = await take(listener, 1)
        assert isinstance(replayed.event, Decoded)
        assert replayed.event.error == "invocation counter 41 after 41: an APDU said again is not taken"
        assert replayed.event.values == {}
        first.close()
        second.close()


async def test_a_silent_connection_is_closed() -> None:
    async with listening(limits=ListenLimits(idle=0.1)) as listener:
        writer = await send(listener, HDLC[:20])
        events = [event.event for event in await take(listener, 2)]
        assert isinstance(events[0], Refused)
        assert events[1] == Closed("silent for 0.1 s", by_us=True)
        writer.close()


async def test_too_many_connections_are_turned_away_and_room_is_used_again() -> None:
    async with listening(limits=ListenLimits(connections=2)) as listener:
        first, second = await send(listener, HDLC), await send(listener, HDLC)
        assert [power(event) for event in await take(listener, 2)] == [1362] * 2
        third = await send(listener, b"")
        [turned_away] = await take(listener, 1)
        assert turned_away.event == Closed("more than 2 connections", by_us=True)
        first.close()
        await take(listener, 1)
        fourth = await send(listener, HDLC)
        assert power((await take(listener, 1))[0]) == 1362
        for writer in (second, third, fourth):
            writer.close()


async def test_endless_noise_is_cut_off() -> None:
    async with listening(limits=ListenLimits(useless=20_000)) as listener:
        _, writer = await asyncio.open_connection("127.0.0.1", listener.port)
        closed = None
        while closed is None:
            writer.write(bytes(range(0x80, 0xC0)) * 16)
            await asyncio.sleep(0)
            if listener._events:
                event = (await take(listener, 1))[0].event
                closed = event if isinstance(event, Closed) else None
        assert "octets without an APDU" in closed.reason
        writer.close()


async def test_what_is_not_taken_holds_the_sender_back_and_nothing_is_lost() -> None:
    limits = ListenLimits(waiting=10)
    async with listening(limits=limits) as listener:
        many = 2000
        _, writer = await asyncio.open_connection("127.0.0.1", listener.port)
        writer.write(HDLC * many)
        events = await take(listener, 1)
        assert len(listener._events) <= limits.waiting
        events += await take(listener, many - 1)
        assert [power(event) for event in events] == [1362] * many
        writer.close()


async def test_datagrams_that_nobody_takes_are_dropped_and_counted() -> None:
    async with listening(limits=ListenLimits(waiting=3), udp=True) as listener:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as meter:
            meter.connect(("127.0.0.1", listener.port))
            for _ in range(10):
                meter.send(in_wrapper([PLAIN]))
            async with asyncio.timeout(5):
                while listener.dropped < 7:
                    await asyncio.sleep(0.005)
            assert len(await take(listener, 3)) == 3


async def test_a_port_that_is_taken_is_one_clear_line() -> None:
    async with listening() as listener:
        with pytest.raises(ConfigurationError, match=rf"port {listener.port} on 127.0.0.1 cannot be listened on: "):
            await PushListener().start("127.0.0.1", listener.port)


# ---- the command

Start = Callable[..., Awaitable[tuple[asyncio.subprocess.Process, int]]]


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    running: list[asyncio.subprocess.Process] = []

    async def begin(*arguments: str) -> tuple[asyncio.subprocess.Process, int]:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "meterbridge", "listen", "--port", "0", *arguments,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        running.append(process)
        assert process.stderr is not None
        async with asyncio.timeout(20):
            line = (await process.stderr.readline()).decode()
        assert line.startswith("listening on 127.0.0.1:"), line
        return process, int(line.split(":")[1].split()[0])

    yield begin
    for process in running:
        if process.returncode is None:
            process.kill()
            await process.wait()


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
async def test_the_command_prints_each_reading_and_ends_cleanly(
    start: Start, tmp_path: Path, stop: signal.Signals
) -> None:
    keys = tmp_path / "keys"
    keys.write_text(f"{TITLE.hex()} {(KEYS.encryption or b'').hex()} {(KEYS.authentication or b'').hex()}\n")
    process, port = await start("--json", "--keys", str(keys))
    assert process.stdout is not None
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"".join(in_hdlc(ciphered(PLAIN, 5))))
    async with asyncio.timeout(10):
        line = json.loads(await process.stdout.readline())
    assert line["values"]["1-0:1.7.0"] == {"value": 1362, "unit": "W"}
    assert (line["system_title"], line["invocation_counter"]) == (TITLE.hex().upper(), 5)
    assert line["peer"].startswith("127.0.0.1:")
    process.send_signal(stop)
    async with asyncio.timeout(10):
        out, err = await process.communicate()
    assert process.returncode == 0
    assert b"Traceback" not in out + err
    writer.close()


async def test_the_command_over_udp_for_people(start: Start) -> None:
    process, port = await start("--udp")
    assert process.stdout is not None
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as meter:
        meter.connect(("127.0.0.1", port))
        meter.send(in_wrapper([PLAIN]))
        async with asyncio.timeout(10):
            head = (await process.stdout.readline()).decode()
    assert "data-notification  wrapper at 0  2025-11-24T10:30:00+01:00" in head
    process.send_signal(signal.SIGINT)
    async with asyncio.timeout(10):
        await process.communicate()
    assert process.returncode == 0
