"""`get`, `set`, `call`, `profile` and `clock` against a meter whose values gurux-dlms encodes and decodes."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from meterbridge.cli import main
from tests.interop.test_gurux_peer import KEYS, running

pytest.importorskip("gurux_dlms")

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module", params=[("hdlc", "low"), ("wrapper", "hls-gmac")])
def options(request: pytest.FixtureRequest, free_port: Callable[[], int]) -> Iterator[tuple[str, ...]]:
    framing, auth = request.param
    assert KEYS.encryption is not None
    assert KEYS.authentication is not None
    keys = ("--system-title", "4D54423030303031", "--key", KEYS.encryption.hex())
    secured = (*keys, "--auth-key", KEYS.authentication.hex()) if auth == "hls-gmac" else ()
    with running(free_port(), framing, auth) as address:
        yield f"127.0.0.1:{address.port}", "--framing", framing, "--auth", auth, *secured


@pytest.fixture
def run(
    options: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> Run:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))

    def command(verb: str, *arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["meterbridge", verb, options[0], *arguments, *options[1:]])
        with pytest.raises(SystemExit) as exited:
            main()
        out, err = capsys.readouterr()
        assert isinstance(exited.value.code, int)
        return exited.value.code, out, err

    return command


def test_an_object_is_read_whole(run: Run) -> None:
    code, out, err = run("get", "8:0-0:1.0.0", "--json")
    assert (code, err) == (0, "")
    values = json.loads(out)["values"]
    assert values["time"].startswith("2026-01-01T00:00:00")
    assert values["daylight_savings_begin"].startswith("2026-03-29T02:00")


def test_the_clock_is_set(run: Run) -> None:
    code, out, err = run("clock", "--set", "now", "--json")
    assert (code, err) == (0, "")
    # The meter says what it was told: it stood in January.
    assert abs(json.loads(out)["drift"]) < 60


def test_values_are_written_with_a_type_and_like_the_present_one(run: Run) -> None:
    assert run("set", "1:0-0:96.1.0:2", "A-17") == (0, "value: A-17\n", "")
    assert run("set", "8:0-0:1.0.0:time_zone", "-60") == (0, "time_zone: -60\n", "")
    assert run("set", "3:1-0:1.8.0:2", "uint32:77") == (0, "value: 77\n", "")
    assert run("set", "1:0-0:96.99.0:2", "uint8:1")[0] == 1


def test_a_method_is_called(run: Run) -> None:
    assert run("call", "7:1-0:99.1.0:reset") == (0, "reset: done\n", "")
    assert run("call", "3:1-0:1.8.0:9") == (1, "", "meterbridge: 3:1-0:1.8.0:9: read-write-denied\n")


def test_a_clock_that_is_months_behind_says_by_how_many_seconds(run: Run) -> None:
    code, out, _ = run("clock")
    assert code == 0
    assert re.search(r"^drift: +\d{6,}(\.\d+)? s behind$", out, re.MULTILINE)


def test_a_profile_that_is_none_is_named(run: Run) -> None:
    assert run("profile", "1-0:99.9.0") == (1, "", "meterbridge: 1.0.99.9.0.255: object-undefined\n")


def test_the_profile_as_csv(run: Run) -> None:
    code, out, _ = run("profile", "1-0:99.1.0", "--entries", "1-2", "--csv")
    assert code == 0
    assert out.splitlines()[0] == "clock,active_energy (Wh)"
    assert [line.split(",")[1] for line in out.splitlines()[1:]] == ["1000000", "1000025"]
