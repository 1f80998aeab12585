"""`meterbridge read`, `objects` and `simulate` as processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.acceptance.processes import COMMAND, environment, run, start, stop

FIVE = {"voltage_l1": "V", "current_l1": "A", "frequency": "Hz", "active_power": "W", "active_energy": "Wh"}


def simulated(port: int, *options: str) -> Iterator[str]:
    process = start("simulate", "--port", str(port), *options)
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == f"READY {port}-{port}\n"
        yield f"127.0.0.1:{port}"
    finally:
        ended = stop(process)
    assert (ended.code, ended.err) == (0, "")


@pytest.fixture(scope="module")
def hdlc(free_port: Callable[[], int]) -> Iterator[str]:
    yield from simulated(free_port())


@pytest.fixture(scope="module")
def wrapper(free_port: Callable[[], int]) -> Iterator[str]:
    yield from simulated(free_port(), "--framing", "wrapper")


def test_json_has_exactly_the_promised_shape(hdlc: str) -> None:
    ended = run("read", hdlc, "--json")
    assert (ended.code, ended.err) == (0, "")
    content = json.loads(ended.out)
    assert list(content) == ["ts", "values", "errors"]
    assert abs(content["ts"] - time.time() * 1000) < 60_000
    assert content["errors"] == {}
    assert {name: value["unit"] for name, value in content["values"].items()} == FIVE
    for value in content["values"].values():
        assert list(value) == ["value", "unit", "logical_name"]
        assert isinstance(value["value"], float)
    assert content["values"]["voltage_l1"]["logical_name"] == "1.0.32.7.0.255"


def test_names_obis_codes_and_attributes(hdlc: str) -> None:
    names = ["voltage_l1", "1-1:32.7.0", "1.0.1.8.0.255", "8:0-0:1.0.0:2", "3:1-0:32.7.0:3", "7:1-0:99.1.0:7"]
    values = json.loads(run("read", hdlc, *names, "--json").out)["values"]
    assert list(values) == names
    assert values["1-1:32.7.0"]["unit"] == "V"
    assert values["1.0.1.8.0.255"]["unit"] == "Wh"
    assert values["8:0-0:1.0.0:2"]["value"].startswith("20")
    assert values["3:1-0:32.7.0:3"] == {"value": [-1, 35], "unit": None, "logical_name": "1.0.32.7.0.255"}
    assert isinstance(values["7:1-0:99.1.0:7"]["value"], int)


def test_what_is_undefined_costs_only_itself(hdlc: str) -> None:
    ended = run("read", hdlc, "voltage_l1", "3:1-0:99.99.0:2", "--json")
    assert ended.code == 1
    content = json.loads(ended.out)
    assert (list(content["values"]), content["errors"]) == (["voltage_l1"], {"3:1-0:99.99.0:2": "object-undefined"})


def test_over_wrapper_and_with_a_physical_address(hdlc: str, wrapper: str) -> None:
    for arguments in (
        (wrapper, "--framing", "wrapper"),
        (hdlc, "--physical", "17"),
        (hdlc, "--window", "7"),
        (hdlc, "--model", "microstar"),
    ):
        ended = run("read", *arguments, "--json")
        assert (ended.code, len(json.loads(ended.out)["values"])) == (0, 5), ended


def test_the_public_client_needs_no_password_and_sees_less(hdlc: str) -> None:
    ended = run("read", hdlc, "--client", "16", "logical_device_name", "voltage_l1", "--json")
    content = json.loads(ended.out)
    assert (ended.code, list(content["values"]), list(content["errors"])) == (
        1,
        ["logical_device_name"],
        ["voltage_l1"],
    )


def test_a_table_in_a_pipe_has_no_colours(hdlc: str) -> None:
    ended = run("read", hdlc, "voltage_l1", "3:1-0:99.99.0:2")
    assert (ended.code, ended.err) == (1, "")
    assert "voltage_l1" in ended.out
    assert "object-undefined" in ended.out
    assert "\x1b" not in ended.out


def test_objects_are_listed(hdlc: str) -> None:
    rows = json.loads(run("objects", hdlc, "--json").out)
    [voltage] = [row for row in rows if row["logical_name"] == "1.0.32.7.0.255"]
    assert voltage == {
        "class": 3,
        "class_name": "Register",
        "version": 0,
        "logical_name": "1.0.32.7.0.255",
        "attributes": {"1": 1, "2": 1, "3": 1},
        "methods": {},
    }
    ended = run("objects", hdlc)
    assert ended.code == 0
    assert "1-0:32.7.0" in ended.out


@pytest.mark.parametrize("secret", ["s3cret-x", "пароль-x"])
def test_a_password_from_the_environment_is_used_and_never_shown(hdlc: str, secret: str) -> None:
    wrong = run("read", hdlc, METER_PASSWORD=secret)
    assert secret not in wrong.refused_in_one_line(4 if secret.isascii() else 2)
    assert run("read", hdlc, "clock", "--json", METER_PASSWORD="00000000").code == 0


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--password", "s3cret-x"), "authentication failure"),
        (("--auth", "none"), "authentication required"),
        (("--client", "2"), "refused"),
    ],
)
def test_refused_is_4(hdlc: str, options: tuple[str, ...], says: str) -> None:
    line = run("read", hdlc, *options).refused_in_one_line(4)
    assert says in line
    assert "s3cret-x" not in line


@pytest.mark.parametrize("command", ["read", "objects"])
def test_silent_is_3_and_names_the_address(hdlc: str, command: str) -> None:
    line = run(command, hdlc, "--server", "77", "--timeout", "0.1").refused_in_one_line(3)
    assert f"{hdlc}, client 1, server 77" in line


def test_unreachable_is_3(free_port: Callable[[], int]) -> None:
    port = free_port()
    assert f"127.0.0.1:{port}" in run("read", f"127.0.0.1:{port}").refused_in_one_line(3)


def test_a_port_in_use_is_named(hdlc: str) -> None:
    port = hdlc.rpartition(":")[2]
    assert port in run("simulate", "--port", port).refused_in_one_line(2)


def test_an_output_nobody_takes_is_no_traceback(hdlc: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as gone:
        done = subprocess.run(
            [*COMMAND, "objects", hdlc, "--json"], stdout=gone, stderr=subprocess.PIPE, env=environment(), check=False
        )
    assert b"Traceback" not in done.stderr
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [*COMMAND, "read", hdlc], stdout=full, stderr=subprocess.PIPE, env=environment(), check=False
        )
    assert done.returncode != 0
    assert b"Traceback" not in done.stderr
    assert b"No space left" in done.stderr


def test_interrupted_while_a_meter_is_silent(hdlc: str) -> None:
    process = start("read", hdlc, "--server", "77", "--timeout", "60")
    time.sleep(1.5)
    ended = stop(process, signal.SIGINT)
    assert ended.code == 130
    assert "Traceback" not in ended.err
