"""Every fault on the wire: a simulated meter, a socket, and what a client sees of it."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from meterbridge.dlms import (
    AssociationOpened,
    AssociationParameters,
    AttributeDescriptor,
    ClientAssociation,
    DataAccessResult,
    DateTime,
    Discarded,
    FrameDecoder,
    HdlcLink,
    HdlcParameters,
    Link,
    LogicalName,
    RequestCompleted,
    WrapperLink,
    client_address,
    server_address,
)
from meterbridge.errors import AssociationRefused, ConfigurationError, ConnectionLost, DataAccessError, ServiceError
from meterbridge.simulator import FleetOptions, ServerOptions, SimulatedFleet
from meterbridge.simulator.faults import ControlPort, Director, FaultScript, fault_of, serve_with_faults

ENERGY = AttributeDescriptor(3, LogicalName.parse("1-0:1.8.0"), 2)
VOLTAGE = AttributeDescriptor(3, LogicalName.parse("1-0:32.7.0"), 2)
CLOCK = AttributeDescriptor(8, LogicalName.parse("0-0:1.0.0"), 2)
OBJECTS = AttributeDescriptor(15, LogicalName.parse("0-0:40.0.0"), 2)
SILENCE = 0.15
FRAMINGS = ("hdlc", "wrapper")


class Gone(Exception):
    """The connection ended."""


class Client:
    """Our own client end on a socket; `heard` is every octet of the last request's answer."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, framing: str, window: int) -> None:
        self.reader, self.writer = reader, writer
        link: Link
        if framing == "hdlc":
            parameters = HdlcParameters(window_send=window, window_receive=window)
            link = HdlcLink(client_address(1), server_address(1), parameters)
        else:
            link = WrapperLink(1, 1)
        self.association = ClientAssociation(link, AssociationParameters(b"00000000"))
        self.heard = b""
        self.discarded: list[str] = []

    async def event(self) -> object:
        """Return the next event; TimeoutError after a silence that repetition does not end."""
        while True:
            event = self.association.next_event()
            if isinstance(event, Discarded):
                self.discarded.append(event.reason)
                continue
            if event is not None:
                return event
            if sent := self.association.data_to_send():
                self.writer.write(sent)
            try:
                data = await asyncio.wait_for(self.reader.read(65_536), SILENCE)
            except TimeoutError:
                if not self.association.handle_timeout():
                    raise
                continue
            except ConnectionError:
                raise Gone from None
            if not data:
                raise Gone
            self.heard += data
            self.association.receive_data(data)

    async def open(self) -> AssociationOpened:
        self.association.open()
        event = await self.event()
        assert isinstance(event, AssociationOpened)
        return event

    async def get(self, *attributes: AttributeDescriptor) -> Any:
        self.heard = b""
        self.association.get(attributes or (ENERGY,))
        event = await self.event()
        assert isinstance(event, RequestCompleted)
        return event.results[0] if len(event.results) == 1 else event.results

    async def ask_raw(self, attribute: AttributeDescriptor = ENERGY) -> bytes:
        """Send a GET and return what comes first, not yet looked at."""
        self.association.get((attribute,))
        self.writer.write(self.association.data_to_send())
        return await self.reader.read(4096)

    def frames(self) -> list[Any]:
        decoder = FrameDecoder()
        decoder.receive_data(self.heard)
        found = []
        while (event := decoder.next_event()) is not None:
            found.append(event)
        return found


class Trouble:
    """A fleet whose faults a test changes."""

    def __init__(self, fleet: SimulatedFleet, director: Director) -> None:
        self.fleet, self.director = fleet, director

    def add(self, kind: str, **keys: Any) -> int:
        return self.director.add(fault_of({"kind": kind, **keys}))

    def applied(self, kind: str, meter: int = 0) -> int:
        return self.director.behaviours[meter].applied[kind]

    @asynccontextmanager
    async def client(self, meter: int = 0, window: int = 1) -> AsyncIterator[Client]:
        server = self.fleet.servers[meter]
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        try:
            yield Client(reader, writer, server.options.framing, window)
        finally:
            writer.transport.abort()


@asynccontextmanager
async def trouble(
    framing: str = "hdlc", count: int = 1, *, window: int = 1, max_information: int = 128
) -> AsyncIterator[Trouble]:
    server = ServerOptions(framing, max_information, window)
    options = FleetOptions(count=count, port=0, server=server)
    director = Director(count, seed=4)
    async with SimulatedFleet(options, director.behaviours) as fleet:
        director.start(fleet.servers)
        try:
            yield Trouble(fleet, director)
        finally:
            await director.close()


async def until(happened: Any) -> None:
    async with asyncio.timeout(5):
        while not happened():
            await asyncio.sleep(0.005)


@pytest.mark.parametrize("framing", FRAMINGS)
async def test_no_answer_is_silence_and_ends_when_it_is_taken_away(framing: str) -> None:
    async with trouble(framing) as fleet, fleet.client() as client:
        await client.open()
        number = fleet.add("no-answer")
        with pytest.raises(TimeoutError):
            await client.get()
        assert client.heard == b""
        fleet.director.remove(number)
        async with fleet.client() as other:
            client.writer.transport.abort()
            await until(lambda: fleet.fleet.servers[0].connections == 1)
            await other.open()
            assert await other.get() > 0


@pytest.mark.parametrize("framing", FRAMINGS)
async def test_slow_waits_before_and_slow_middle_within_the_answer(framing: str) -> None:
    async with trouble(framing) as fleet, fleet.client() as client:
        await client.open()
        whole = len(client.heard)
        number = fleet.add("slow", delay=[0.05, 0.06])
        started = time.monotonic()
        assert await client.get() > 0
        assert 0.05 <= time.monotonic() - started < 1
        fleet.director.remove(number)
        fleet.add("slow-middle", delay=0.08)
        client.association.get((ENERGY,))
        client.writer.write(client.association.data_to_send())
        started = time.monotonic()
        begun = await client.reader.read(4096)
        assert time.monotonic() - started < 0.08
        assert 0 < len(begun) < whole
        client.association.receive_data(begun)
        assert isinstance(await client.event(), RequestCompleted)
        assert time.monotonic() - started >= 0.07


async def test_busy_refuses_for_now() -> None:
    async with trouble() as fleet, fleet.client() as client:
        await client.open()
        number = fleet.add("busy")
        for result in await client.get(ENERGY, VOLTAGE):
            assert isinstance(result, DataAccessError)
            assert result.result == DataAccessResult.TEMPORARY_FAILURE
        fleet.director.remove(number)
        assert await client.get() > 0


@pytest.mark.parametrize("framing", FRAMINGS)
async def test_busy_may_be_an_exception_response(framing: str) -> None:
    async with trouble(framing) as fleet, fleet.client() as client:
        await client.open()
        number = fleet.add("busy", says="exception")
        with pytest.raises(ServiceError, match="not allowed"):
            await client.get()
        fleet.director.remove(number)
        assert await client.get() > 0


async def test_busy_may_be_receiver_not_ready_and_the_answer_is_there_when_it_is_over() -> None:
    async with trouble() as fleet, fleet.client() as client:
        await client.open()
        number = fleet.add("busy", says="not-ready")
        client.heard = await client.ask_raw()
        (frame,) = client.frames()
        assert frame.control & 0x0F == 0x05
        fleet.director.remove(number)
        client.association.receive_data(client.heard)
        event = await client.event()
        assert isinstance(event, RequestCompleted)
        assert event.results[0] > 0


async def test_a_wrong_frame_check_sequence_is_asked_for_again() -> None:
    async with trouble() as fleet, fleet.client() as client:
        await client.open()
        number = fleet.add("wrong-fcs")
        heard = await client.ask_raw()
        fleet.director.remove(number)
        client.association.receive_data(heard)
        assert isinstance(await client.event(), RequestCompleted)
        assert "frame check sequence wrong" in client.discarded


@pytest.mark.parametrize("framing", FRAMINGS)
async def test_garbage_before_the_answer_is_noise(framing: str) -> None:
    async with trouble(framing) as fleet, fleet.client() as client:
        await client.open()
        number = fleet.add("garbage-before", text="NEXERRORNO-1")
        assert await client.get() > 0
        assert client.heard.startswith(b"NEXERRORNO-1")
        fleet.director.remove(number)
        fleet.add("garbage-before", size=40)
        heard = await client.ask_raw()
        assert heard[40:42] == (b"\x7e\xa0" if framing == "hdlc" else b"\x00\x01")
        assert heard[:40].count(heard[:1]) < 10


@pytest.mark.parametrize("framing", FRAMINGS)
async def test_garbage_inside_breaks_the_answer(framing: str) -> None:
    async with trouble(framing) as fleet, fleet.client() as client:
        await client.open()
        assert await client.get() > 0
        sound = len(client.heard)
        fleet.add("garbage-inside", size=5)
        assert len(await client.ask_raw()) == sound + 5


@pytest.mark.parametrize("how", ["before", "instead"])
@pytest.mark.parametrize("framing", FRAMINGS)
async def test_stale_answers_are_those_of_an_earlier_request(framing: str, how: str) -> None:
    async with trouble(framing) as fleet, fleet.client() as client:
        await client.open()
        fleet.add("stale", how=how)
        assert await client.get(ENERGY) > 1000
        earlier = client.heard
        heard = await client.ask_raw(VOLTAGE)
        value = earlier[-8:-3] if framing == "hdlc" else earlier[-5:]
        assert value in heard
        assert heard.startswith(earlier) == (how == "before" or framing == "wrapper")
        client.association.receive_data(heard)
        if how == "before":
            event = await client.event()
            assert isinstance(event, RequestCompleted)
            assert 1000 < event.results[0] < 3000
        else:
            with pytest.raises(TimeoutError):
                await client.event()
            assert "answer to an earlier request" in client.discarded


@pytest.mark.parametrize("framing", FRAMINGS)
async def test_a_duplicate_is_no_second_answer(framing: str) -> None:
    async with trouble(framing) as fleet, fleet.client() as client:
        await client.open()
        fleet.add("duplicate")
        energy, voltage = await client.get(ENERGY), await client.get(VOLTAGE)
        assert energy > 10 * voltage


@pytest.mark.parametrize(("kind", "step"), [("repeated-ns", -1), ("skipped-ns", 1)])
async def test_sequence_numbers_repeat_and_skip(kind: str, step: int) -> None:
    async with trouble() as fleet, fleet.client() as client:
        await client.open()
        await client.get()
        (frame,) = client.frames()
        due = frame.send_sequence + 1 & 7
        number = fleet.add(kind)
        client.heard = await client.ask_raw()
        (frame,) = client.frames()
        assert frame.send_sequence == due + step & 7
        fleet.director.remove(number)
        client.association.receive_data(client.heard)
        event = await client.event()
        assert isinstance(event, RequestCompleted)


@pytest.mark.parametrize(("kind", "words"), [("dm", "DM"), ("frmr", "FRMR")])
async def test_the_meter_ends_the_link_and_takes_a_new_one(kind: str, words: str) -> None:
    async with trouble() as fleet, fleet.client() as client:
        await client.open()
        number = fleet.add(kind)
        with pytest.raises(ConnectionLost, match=words):
            await client.get()
        fleet.director.remove(number)
        await client.open()
        assert await client.get() > 0


async def test_a_meter_that_said_dm_answers_nothing_but_snrm() -> None:
    async with trouble() as fleet, fleet.client() as client:
        await client.open()
        number = fleet.add("dm")
        client.association.get((ENERGY,))
        request = client.association.data_to_send()
        client.writer.write(request)
        first = await client.reader.read(4096)
        fleet.director.remove(number)
        client.writer.write(request)
        assert await client.reader.read(4096) == first


@pytest.mark.parametrize("framing", FRAMINGS)
@pytest.mark.parametrize("kind", ["rst", "fin"])
@pytest.mark.parametrize("partial", [0.0, 0.5])
async def test_the_connection_ends(framing: str, kind: str, partial: float) -> None:
    async with trouble(framing) as fleet, fleet.client() as client:
        await client.open()
        fleet.add(kind, partial=partial)
        client.association.get((ENERGY,))
        client.writer.write(client.association.data_to_send())
        if kind == "fin":
            assert bool(await client.reader.read()) == bool(partial)
        else:
            with pytest.raises(ConnectionResetError):
                while await client.reader.read(4096):
                    pass
                pytest.fail("closed in good order")
        await until(lambda: not fleet.fleet.servers[0].connections)


@pytest.mark.parametrize("kind", ["rst", "fin"])
async def test_the_connection_may_end_unasked(kind: str) -> None:
    async with trouble() as fleet, fleet.client() as client:
        await client.open()
        fleet.add(kind, at_once=True, start=0.05)
        async with asyncio.timeout(5):
            if kind == "fin":
                assert await client.reader.read() == b""
            else:
                with pytest.raises(ConnectionResetError):
                    await client.reader.read()


@pytest.mark.parametrize("at_once", [False, True])
@pytest.mark.parametrize("framing", FRAMINGS)
async def test_half_open_says_nothing_and_the_meter_takes_another_client(framing: str, at_once: bool) -> None:
    async with trouble(framing) as fleet, fleet.client() as client:
        await client.open()
        number = fleet.add("half-open", at_once=at_once)
        await until(lambda: not at_once or fleet.applied("half-open"))
        with pytest.raises(TimeoutError):
            await client.get()
        fleet.director.remove(number)
        async with fleet.client() as other:
            await other.open()
            assert await other.get() > 0
            with pytest.raises(TimeoutError):
                await client.event()
            client.writer.transport.abort()
            await until(lambda: fleet.fleet.servers[0].connections == 1)


async def test_a_refused_connection_is_reset() -> None:
    async with trouble() as fleet:
        number = fleet.add("refused-connection")
        async with fleet.client() as client:
            with pytest.raises(Gone):
                await client.open()
        fleet.director.remove(number)
        async with fleet.client() as client:
            await client.open()


@pytest.mark.parametrize("framing", FRAMINGS)
@pytest.mark.parametrize(
    ("fault", "result", "diagnostic"),
    [
        ({"kind": "refused-association"}, 1, 1),
        ({"kind": "refused-association", "result": 2, "diagnostic": 3}, 2, 3),
        ({"kind": "already-associated"}, 2, 1),
        ({"kind": "wrong-password"}, 1, 13),
    ],
)
async def test_associations_are_refused(framing: str, fault: dict[str, Any], result: int, diagnostic: int) -> None:
    async with trouble(framing) as fleet:
        number = fleet.add(**fault)
        async with fleet.client() as client:
            with pytest.raises(AssociationRefused) as refused:
                await client.open()
            assert (refused.value.result, refused.value.diagnostic) == (result, diagnostic)
        fleet.director.remove(number)
        async with fleet.client() as client:
            await client.open()


async def test_an_association_nobody_has_may_hold_the_link() -> None:
    async with trouble() as fleet:
        number = fleet.add("already-associated", says="dm")
        async with fleet.client() as client:
            with pytest.raises((AssociationRefused, ConnectionLost), match="DM"):
                await client.open()
        fleet.director.remove(number)
        async with fleet.client() as client:
            await client.open()


async def test_objects_are_undefined_by_name_or_all() -> None:
    async with trouble() as fleet, fleet.client() as client:
        await client.open()
        number = fleet.add("object-undefined", objects=["1-0:1.8.0"])
        energy, voltage = await client.get(ENERGY, VOLTAGE)
        assert isinstance(energy, DataAccessError)
        assert energy.result == DataAccessResult.OBJECT_UNDEFINED
        assert voltage > 1000
        fleet.director.remove(number)
        fleet.add("object-undefined", result=1)
        (energy, voltage) = await client.get(ENERGY, VOLTAGE)
        assert energy.result == voltage.result == DataAccessResult.HARDWARE_FAULT


async def test_a_power_cut_takes_sockets_listener_and_clock() -> None:
    async with trouble(count=2) as fleet, fleet.client() as client, fleet.client(meter=1) as spared:
        await client.open()
        await spared.open()
        server = fleet.fleet.servers[0]
        fleet.add("power-cut", duration=0.3, meters="0")
        with pytest.raises(ConnectionResetError):
            await client.reader.read()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", server.port)
        assert not server.powered
        assert await spared.get() > 0
        await until(lambda: server.powered)
        async with fleet.client() as back:
            await back.open()
            shown = DateTime(await back.get(CLOCK)).to_datetime()
            assert shown is not None
            assert dt.timedelta() <= shown - dt.datetime(2000, 1, 1, tzinfo=dt.UTC) < dt.timedelta(seconds=30)
        assert fleet.fleet.servers[1].meter.clock_offset == 0


async def test_power_cuts_return_and_a_battery_keeps_the_clock() -> None:
    async with trouble() as fleet:
        server = fleet.fleet.servers[0]
        fleet.add("power-cut", duration=0.05, every=0.1, clock="kept")
        for _ in range(3):
            await until(lambda: not server.powered)
            await until(lambda: server.powered)
        assert fleet.applied("power-cut") >= 3
        assert server.meter.clock_offset == 0


async def test_power_without_end_comes_back_when_the_fault_is_removed() -> None:
    async with trouble() as fleet:
        server = fleet.fleet.servers[0]
        first, second = fleet.add("power-cut"), fleet.add("power-cut", duration=100)
        await until(lambda: not server.powered)
        await until(lambda: fleet.applied("power-cut") == 2)
        fleet.director.remove(first)
        await asyncio.sleep(0)
        assert not server.powered
        fleet.director.remove(second)
        await until(lambda: server.powered)
        async with fleet.client() as client:
            await client.open()


async def test_answers_are_segmented() -> None:
    async with trouble() as fleet:
        fleet.add("segmented", size=20)
        async with fleet.client() as client:
            opened = await client.open()
            assert opened.link.max_information_receive == 20
            assert len(await client.get(OBJECTS)) > 20
            frames = client.frames()
            assert max(len(frame.information) for frame in frames) == 20
            assert frames[0].segmented


async def test_answers_are_segmented_and_windowed() -> None:
    async with trouble() as fleet:
        fleet.add("windowed", size=32, window=4)
        async with fleet.client(window=7) as client:
            opened = await client.open()
            assert opened.link.window_receive == 4
            assert len(await client.get(OBJECTS)) > 20
            numbered = [frame for frame in client.frames() if frame.is_information]
            assert [frame.final for frame in numbered[:4]] == [False, False, False, True]


async def test_faults_of_hdlc_are_refused_on_the_wrapper() -> None:
    async with trouble("wrapper") as fleet:
        for keys in ({"kind": "wrong-fcs"}, {"kind": "busy", "says": "not-ready"}):
            with pytest.raises(ConfigurationError, match="no such thing on the wrapper"):
                fleet.add(**keys)
        with pytest.raises(ConfigurationError, match="meter 3 is beyond a fleet of 1"):
            fleet.add("rst", meters="0-3")
        assert fleet.director.running == []


async def test_two_faults_work_together() -> None:
    async with trouble() as fleet, fleet.client() as client:
        await client.open()
        fleet.add("slow", delay=0.05)
        fleet.add("garbage-before", text="noise")
        started = time.monotonic()
        assert await client.get() > 0
        assert client.heard.startswith(b"noise")
        assert time.monotonic() - started >= 0.05


# ---------------------------------------------------------------------------------------------------------------------
# the control port


async def ask(port: int, *requests: object) -> list[dict[str, Any]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    answers = []
    for request in requests:
        line = request if isinstance(request, bytes) else json.dumps(request).encode()
        writer.write(line + b"\n")
        answers.append(json.loads(await reader.readline()))
    writer.close()
    return answers


@asynccontextmanager
async def serving(script: FaultScript, count: int = 3) -> AsyncIterator[tuple[SimulatedFleet, ControlPort]]:
    ready: asyncio.Future[tuple[SimulatedFleet, ControlPort | None]] = asyncio.get_running_loop().create_future()
    options = FleetOptions(count=count, port=0)
    task = asyncio.create_task(serve_with_faults(options, script, 0, lambda *both: ready.set_result(both)))
    try:
        async with asyncio.timeout(5):
            fleet, control = await ready
        assert control is not None
        yield fleet, control
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert task.cancelled()


async def test_faults_are_changed_while_meters_run() -> None:
    script = FaultScript((fault_of({"kind": "slow", "meters": "0", "delay": 0.0}),))
    async with serving(script) as (fleet, control):
        added, faults, meters, removed, cleared, none = await ask(
            control.port,
            {"do": "add", "fault": {"kind": "power-cut", "meters": "1-2"}},
            {"do": "faults"},
            {"do": "meters"},
            {"do": "remove", "fault": 2},
            {"do": "clear"},
            {"do": "faults"},
        )
        assert added == {"ok": True, "fault": 2}
        assert [(f["fault"], f["kind"], f["meters"]) for f in faults["faults"]] == [
            (1, "slow", [0]),
            (2, "power-cut", [1, 2]),
        ]
        assert [(m["meter"], m["port"], m["active"]) for m in meters["meters"]] == [
            (0, fleet.ports[0], [1]),
            (1, fleet.ports[1], [2]),
            (2, fleet.ports[2], [2]),
        ]
        assert removed["ok"]
        assert cleared["ok"]
        assert none == {"ok": True, "faults": []}


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        (b"{", "a request is one line of JSON"),
        (b"[" * 20_000, "a request is one line of JSON"),
        ([], "a request is a JSON object"),
        ({"do": "explode"}, "do is none of add, remove, clear, faults, meters"),
        ({"do": "add"}, "fault is a JSON object with a kind"),
        ({"do": "add", "fault": {"kind": "rst", "meters": "9"}}, "rst: meter 9 is beyond a fleet of 3"),
        ({"do": "remove", "fault": 7}, "there is no fault 7"),
        ({"do": "remove", "fault": "x"}, "fault is the number that add gave"),
    ],
)
async def test_wrong_requests_are_answered_and_the_port_goes_on(request_: object, error: str) -> None:
    async with serving(FaultScript()) as (_, control):
        wrong, right = await ask(control.port, request_, {"do": "faults"})
        assert not wrong["ok"]
        assert error in wrong["error"]
        assert right["ok"]


async def test_a_line_without_end_costs_its_connection_only() -> None:
    async with serving(FaultScript()) as (_, control):
        reader, writer = await asyncio.open_connection("127.0.0.1", control.port)
        writer.write(b"x" * 200_000)
        async with asyncio.timeout(5):
            with pytest.raises((ConnectionError, EOFError)):
                while True:
                    await reader.readexactly(1)
        writer.close()
        (answer,) = await ask(control.port, {"do": "faults"})
        assert answer["ok"]


async def test_a_script_that_does_not_fit_the_fleet_stops_the_start() -> None:
    script = FaultScript((fault_of({"kind": "fin"}), fault_of({"kind": "rst", "meters": 5})))
    with pytest.raises(ConfigurationError, match="fault 2: rst: meter 5 is beyond a fleet of 2"):
        await serve_with_faults(FleetOptions(count=2, port=0), script)
