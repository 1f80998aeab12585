"""`meterbridge get`, `set`, `call`, `profile` and `clock` against a meter that keeps what it was asked and told."""

from __future__ import annotations

import asyncio
import csv
import datetime as dt
import io
import json
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from meterbridge.cli import main
from meterbridge.dlms import Data, DataType, DateTime
from tests.integration.told_meter import (
    ToldMeter,
    array,
    capture_object,
    double_long_unsigned,
    long_unsigned,
    name,
    octets,
    place,
    scaler_unit,
    structure,
    unsigned,
)

EAST = dt.timezone(dt.timedelta(hours=2))
NOON = dt.datetime(2026, 7, 1, 12, tzinfo=EAST)


@dataclass(frozen=True, slots=True)
class Ended:
    code: int
    out: str
    err: str


Run = Callable[..., Ended]


def stamp(when: dt.datetime, status: int = 0x80) -> Data:
    return octets(DateTime.from_datetime(when, status).octets)


def told() -> ToldMeter:
    meter = ToldMeter()
    for where, value in {
        (3, "1-0:32.7.0", 1): name("1-0:32.7.0"),
        (3, "1-0:32.7.0", 2): long_unsigned(2301),
        (3, "1-0:32.7.0", 3): scaler_unit(-1, 35),
        (8, "0-0:1.0.0", 2): stamp(NOON),
        (8, "0-0:1.0.0", 4): unsigned(0x80),
        (8, "0-0:1.0.0", 8): Data(DataType.BOOLEAN, True),
        (70, "0-0:96.3.10", 3): Data(DataType.ENUM, 1),
        (71, "0-0:17.0.0", 11): structure(
            structure(name("0-0:10.0.1"), long_unsigned(1)), structure(name("0-0:10.0.1"), long_unsigned(2))
        ),
        (7, "1-0:99.1.0", 2): array(
            *(structure(stamp(NOON + dt.timedelta(minutes=15 * i)), double_long_unsigned(100 + i)) for i in range(4))
        ),
        (7, "1-0:99.1.0", 3): array(capture_object(8, "0-0:1.0.0"), capture_object(3, "1-0:1.8.0")),
        (7, "1-0:99.1.0", 4): double_long_unsigned(900),
        (7, "1-0:99.1.0", 5): Data(DataType.ENUM, 1),
        (3, "1-0:1.8.0", 3): scaler_unit(1, 30),
    }.items():
        meter.values[place(*where)] = value
    meter.returns = {place(70, "0-0:96.3.10", 1): None, place(1, "0-0:96.1.0", 1): unsigned(7)}
    # By short name: a voltage alone.
    meter.names = {
        0xFA08: array(structure(Data(DataType.LONG, 0x1000), long_unsigned(3), unsigned(0), name("1-0:32.7.0"))),
        0x1008: long_unsigned(2299),
        0x1010: scaler_unit(-1, 35),
    }
    return meter


@pytest.fixture
def meter() -> ToldMeter:
    return told()


@pytest.fixture
def run(meter: ToldMeter, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Run]:
    """Call it with a command and what follows the meter's host; the meter listens in a thread of its own."""
    listening, ended = threading.Event(), asyncio.Event()
    found: list[tuple[int, asyncio.AbstractEventLoop]] = []

    async def serve() -> None:
        async with meter.listening() as port:
            found.append((port, asyncio.get_running_loop()))
            listening.set()
            await ended.wait()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    assert listening.wait(10)
    port, loop = found[0]

    def command(verb: str, *arguments: str) -> Ended:
        monkeypatch.setattr(sys, "argv", ["meterbridge", verb, f"127.0.0.1:{port}", *arguments, "--framing", "wrapper"])
        with pytest.raises(SystemExit) as exited:
            main()
        out, err = capsys.readouterr()
        assert isinstance(exited.value.code, int)
        return Ended(exited.value.code, out, err)

    try:
        yield command
    finally:
        loop.call_soon_threadsafe(ended.set)
        thread.join(10)


def test_get_an_attribute_by_number_and_by_name(run: Run) -> None:
    for index in ("3", "scaler_unit"):
        assert run("get", f"3:1-0:32.7.0:{index}") == Ended(0, "scaler_unit:\n  scaler: -1\n  unit: V\n", "")
    assert run("get", "70:0.0.96.3.10.255:3") == Ended(0, "control_state: connected\n", "")


def test_get_an_object_whole(run: Run) -> None:
    ended = run("get", "3:1-0:32.7.0", "--json")
    assert (ended.code, json.loads(ended.out)) == (
        0,
        {
            "class": 3,
            "class_name": "Register",
            "logical_name": "1.0.32.7.0.255",
            "values": {"logical_name": "1.0.32.7.0.255", "value": 2301, "scaler_unit": {"scaler": -1, "unit": "V"}},
            "errors": {},
        },
    )
    ended = run("get", "70:0-0:96.3.10")
    assert ended.code == 1
    assert "control_state: connected\n" in ended.out
    assert "output_state: (object-undefined)\n" in ended.out


def test_get_by_short_name(run: Run) -> None:
    assert run("get", "3:1-0:32.7.0:2", "--sn") == Ended(0, "value: 2299\n", "")


def test_a_structure_is_an_outline(run: Run) -> None:
    ended = run("get", "71:0-0:17.0.0:actions")
    assert ended.out.splitlines()[:3] == [
        "actions:",
        "  action_over_threshold:",
        "    script_logical_name: 0.0.10.0.1.255",
    ]


def test_what_is_not_there_is_1_in_one_line(run: Run) -> None:
    assert run("get", "3:1-0:99.99.0:2") == Ended(1, "", "meterbridge: 3:1-0:99.99.0:2: object-undefined\n")


@pytest.mark.parametrize(
    "arguments",
    [
        ("get", "nonsense"),
        ("get", "3:1-0:32.7.0:colour"),
        ("get", "4711:1-0:32.7.0"),
        ("get", "3:1-0:32.7.0:0"),
        ("get", "99999:1-0:32.7.0:2"),
        ("set", "3:1-0:32.7.0:2", "uint8:300"),
        ("set", "3:1-0:32.7.0", "uint8:3"),
        ("call", "70:0-0:96.3.10:remote_disconnect", "5"),
        ("profile", "nonsense"),
        ("profile", "1-0:99.1.0", "--from", "yesterday"),
        ("profile", "1-0:99.1.0", "--entries", "x-y"),
        ("profile", "1-0:99.1.0", "--json", "--csv"),
        ("clock", "--set", "noon"),
    ],
)
def test_mistakes_are_2_and_ask_the_meter_nothing(run: Run, meter: ToldMeter, arguments: tuple[str, ...]) -> None:
    ended = run(*arguments)
    assert (ended.code, ended.out) == (2, "")
    [line] = ended.err.splitlines()
    assert line.startswith("meterbridge: ")
    assert (meter.asked, meter.written, meter.called) == ([], [], [])


def test_set_takes_the_type_the_meter_holds_and_reads_back(run: Run, meter: ToldMeter) -> None:
    assert run("set", "3:1-0:32.7.0:2", "5") == Ended(0, "value: 5\n", "")
    assert meter.written == [(place(3, "1-0:32.7.0", 2), long_unsigned(5))]
    ended = run("set", "71:0-0:17.0.0:actions", '[["0.0.10.0.2.255", 3], ["0.0.10.0.2.255", 4]]', "--json")
    assert json.loads(ended.out)["value"]["action_under_threshold"] == {
        "script_logical_name": "0.0.10.0.2.255",
        "script_selector": 4,
    }
    assert run("set", "3:1-0:32.7.0:2", "many").code == 2


def test_set_with_a_type_looks_at_nothing_first(run: Run, meter: ToldMeter) -> None:
    assert run("set", "1:0-0:96.1.0:2", "uint32:5") == Ended(0, "value: 5\n", "")
    assert meter.written == [(place(1, "0-0:96.1.0", 2), double_long_unsigned(5))]


def test_negative_numbers_are_values_and_other_dashes_are_mistakes(run: Run, meter: ToldMeter) -> None:
    meter.values[place(1, "0-0:96.1.0", 2)] = Data(DataType.LONG, 5)
    assert run("set", "1:0-0:96.1.0:2", "-60") == Ended(0, "value: -60\n", "")
    assert run("set", "1:0-0:96.1.0:2", "-0x10", "--json").code == 0
    assert [value.value for _, value in meter.written] == [-60, -16]
    for verb, mistyped in (("set", "--jsn"), ("set", "-x"), ("call", "--jsn")):
        ended = run(verb, "70:0-0:96.3.10:1", mistyped)
        assert (ended.code, ended.out) == (2, "")
        assert ended.err.startswith(f"meterbridge: no such option: {mistyped};")
        assert ended.err.count("\n") == 1
    assert len(meter.written) == 2
    assert meter.called == []


def test_what_may_not_be_written(run: Run, meter: ToldMeter) -> None:
    meter.writable = False
    assert run("set", "3:1-0:32.7.0:2", "5") == Ended(1, "", "meterbridge: 3:1-0:32.7.0:2: read-write-denied\n")


def test_call(run: Run, meter: ToldMeter) -> None:
    breaker = place(70, "0-0:96.3.10", 1)
    assert run("call", "70:0-0:96.3.10:remote_disconnect") == Ended(0, "remote_disconnect: done\n", "")
    assert run("call", "70:0-0:96.3.10:1", "none").code == 0
    assert run("call", "70:0-0:96.3.10:1", "uint8:3").code == 0
    assert meter.called == [(breaker, Data(DataType.INTEGER, 0)), (breaker, None), (breaker, unsigned(3))]
    assert json.loads(run("call", "1:0-0:96.1.0:1", "--json").out)["returned"] == 7
    assert run("call", "70:0-0:96.3.10:2").err == "meterbridge: 70:0-0:96.3.10:2: object-undefined\n"


def test_profile(run: Run, meter: ToldMeter) -> None:
    content = json.loads(run("profile", "1-0:99.1.0", "--json").out)
    assert content["rows"][0] == ["2026-07-01T12:00:00+02:00", 1000]
    assert [(column["name"], column["unit"]) for column in content["columns"]] == [
        ("clock", None),
        ("active_energy", "Wh"),
    ]
    rows = list(csv.reader(io.StringIO(run("profile", "1-0:99.1.0", "--csv", "--entries", "2-").out)))
    assert rows[:2] == [["clock", "active_energy (Wh)"], ["2026-07-01T12:00:00+02:00", "1000"]]
    selection = meter.asked[-1].selection
    assert selection is not None
    assert selection.parameters.plain() == (2, 0, 1, 0)
    ended = run("profile", "1-0:99.1.0", "--from", "2026-07-01T12:10", "--to", "2026-07-01T12:30")
    assert [line for line in ended.out.splitlines() if "12:15" in line or "12:30" in line]
    assert "12:00" not in ended.out
    assert "12:45" not in ended.out
    assert run("profile", "1-0:99.1.0", "--from", "2026-07-01T10:45Z", "--to", "now", "--csv").out.count("\n") == 2


def test_clock(run: Run) -> None:
    content = json.loads(run("clock", "--json").out)
    drift = content.pop("drift")
    assert content == {
        "time": "2026-07-01T12:00:00+02:00",
        "deviation": -120,
        "daylight_saving": True,
        "daylight_savings_enabled": True,
        "status": ["daylight_saving_active"],
    }
    assert drift == pytest.approx(NOON.timestamp() - dt.datetime.now(dt.UTC).timestamp(), abs=60)
    assert "active, changes by itself" in run("clock").out


def test_the_clock_is_set_to_ours_in_the_terms_of_the_meter(run: Run, meter: ToldMeter) -> None:
    ended = run("clock", "--set", "now", "--json")
    assert ended.code == 0
    assert abs(json.loads(ended.out)["drift"]) < 60
    [(where, value)] = meter.written
    assert where == place(8, "0-0:1.0.0", 2)
    written = DateTime(value.value)
    assert (value.type, written.deviation, written.daylight_saving) == (DataType.OCTET_STRING, -120, True)


@pytest.mark.parametrize(
    ("typed", "expected"),
    [("2026-01-31T12:00", "2026-01-31T12:00:00+02:00"), ("2026-01-31T12:00Z", "2026-01-31T14:00:00+02:00")],
)
def test_the_clock_is_set_to_a_time(run: Run, typed: str, expected: str) -> None:
    assert json.loads(run("clock", "--set", typed, "--json").out)["time"] == expected


def test_a_clock_that_may_not_be_set(run: Run, meter: ToldMeter) -> None:
    meter.writable = False
    ended = run("clock", "--set", "now")
    assert ended == Ended(1, "", "meterbridge: the clock cannot be set: read-write-denied\n")
