"""Mistakes in what was typed: exit code 2 and one clear line, before any meter is asked."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.main import get_command

from meterbridge.cli import main
from meterbridge.cli.app import app
from meterbridge.cli.exits import INCOMPLETE, REFUSED, UNREACHABLE, USAGE, exit_code
from meterbridge.cli.meter_options import host_and_port
from meterbridge.errors import (
    AssociationRefused,
    ConfigurationError,
    ConnectFailed,
    ConnectionLost,
    DataAccessError,
    MeterbridgeError,
    RemoteProtocolError,
    ResponseTimeout,
    ServiceError,
    StoreError,
)


def typed(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["meterbridge", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    assert isinstance(ended.value.code, int)
    return ended.value.code


@pytest.mark.parametrize(
    "arguments",
    [
        ("127.0.0.1:0",),
        ("127.0.0.1:99999",),
        ("127.0.0.1:port",),
        ("127.0.0.1:４３",),
        ("",),
        ("127.0.0.1", "no_such_thing"),
        ("127.0.0.1", "1-0:999.7.0"),
        ("127.0.0.1", "99999999:1-0:1.8.0:2"),
        ("127.0.0.1", "3:1-0:1.8.0:999999999999"),
        ("127.0.0.1", "--model", "nobody"),
        ("127.0.0.1", "--client", "-1"),
        ("127.0.0.1", "--client", "128"),
        ("127.0.0.1", "--server", "99999999999999999999"),
        ("127.0.0.1", "--physical", "-5"),
        ("127.0.0.1", "--physical", "17", "--framing", "wrapper"),
        ("127.0.0.1", "--physical", "17", "--framing", "wrapper-udp"),
        ("127.0.0.1", "--framing", "wrapper", "--server", "65536"),
    ],
)
def test_a_value_that_cannot_be(
    arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert typed(monkeypatch, "read", *arguments) == USAGE
    out, err = capsys.readouterr()
    assert out == ""
    [line] = err.splitlines()
    assert line.startswith("meterbridge: ")


@pytest.mark.parametrize(
    "arguments",
    [
        ("read",),
        ("read", "127.0.0.1", "--bogus"),
        ("read", "127.0.0.1", "--framing", "smoke"),
        ("read", "127.0.0.1", "--timeout", "nan"),
        ("read", "127.0.0.1", "--timeout", "-1"),
        ("read", "127.0.0.1", "--client", "one"),
        ("read", "127.0.0.1", "--window", "8"),
        ("read", "127.0.0.1", "--max-info", "15"),
        ("objects",),
        ("simulate", "--count", "0"),
        ("demo", "--duration", "0"),
        ("no-such-command",),
    ],
)
def test_an_option_that_the_parser_refuses(
    arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert typed(monkeypatch, *arguments) == USAGE
    out, err = capsys.readouterr()
    assert out == ""
    assert "Error" in err


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("meter", ("meter", 3333)),
        ("meter:4059", ("meter", 4059)),
        ("10.0.0.9:1", ("10.0.0.9", 1)),
        ("[::1]", ("::1", 3333)),
        ("[fe80::1]:65535", ("fe80::1", 65_535)),
        ("fe80::1", ("fe80::1", 3333)),
    ],
)
def test_host_and_port(text: str, expected: tuple[str, int]) -> None:
    assert host_and_port(text) == expected


@given(st.text(max_size=20))
def test_any_text_is_a_host_and_port_or_a_clear_refusal(text: str) -> None:
    try:
        host, port = host_and_port(text)
    except ConfigurationError:
        return
    assert host
    assert 1 <= port <= 65_535


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigurationError("x"), USAGE),
        (ConnectFailed("x"), UNREACHABLE),
        (ConnectionLost("x"), UNREACHABLE),
        (ResponseTimeout("x"), UNREACHABLE),
        (RemoteProtocolError("x"), UNREACHABLE),
        (AssociationRefused("x"), REFUSED),
        (ServiceError("x", "exception-response"), INCOMPLETE),
        (DataAccessError("x", 4), INCOMPLETE),
        (StoreError("x"), INCOMPLETE),
    ],
)
def test_each_error_has_its_exit_code(error: MeterbridgeError, code: int) -> None:
    assert exit_code(error) == code


def test_every_command_for_operators_speaks_json() -> None:
    group: Any = get_command(app)
    context = group.make_context("meterbridge", [], resilient_parsing=True)
    # Ones that run until they are stopped, write files, or ask a person.
    silent = {"run", "simulate", "gateway-config", "self-provision", "service", "thingsboard"}

    def without(name: str, command: Any) -> list[str]:
        if hasattr(command, "list_commands"):
            inner = [(each, command.get_command(context, each)) for each in command.list_commands(context)]
            return [found for each, sub in inner for found in without(f"{name} {each}".strip(), sub)]
        return [] if any("--json" in getattr(option, "opts", ()) for option in command.params) else [name]

    assert {name.split()[0] for name in without("", group)} <= silent
