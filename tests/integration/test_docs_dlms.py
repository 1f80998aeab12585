"""The examples of docs/dlms.md run, one after the other, and print what the page says; its commands do as well."""

from __future__ import annotations

import asyncio
import contextlib
import io
import re
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from meterbridge.cli import main
from meterbridge.dlms import Keys
from meterbridge.simulator import FleetOptions, MeterServer, SecurityOptions, ServerOptions, simulated_meter

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGE = DOCS / "dlms.md"
EXAMPLE = re.compile(r"```python\n(?P<code>.*?)```\n(?:\s*```text\n(?P<output>.*?)```)?", re.DOTALL)


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """A simulated meter in a thread of its own."""
    listening = threading.Event()
    found: list[tuple[int, asyncio.AbstractEventLoop, asyncio.Event]] = []

    async def serve() -> None:
        server = MeterServer(simulated_meter(FleetOptions(), 0))
        await server.start("127.0.0.1", 0)
        ended = asyncio.Event()
        found.append((server.port, asyncio.get_running_loop(), ended))
        listening.set()
        await ended.wait()
        await server.close()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    assert listening.wait(10)
    number, loop, ended = found[0]
    yield number
    loop.call_soon_threadsafe(ended.set)
    thread.join(10)


def test_the_examples_run_and_print_what_the_page_says(port: int) -> None:
    examples = list(EXAMPLE.finditer(PAGE.read_text("utf-8")))
    assert len(examples) >= 5
    names: dict[str, object] = {}
    for example in examples:
        printed = io.StringIO()
        code = example["code"].replace("3333", str(port))
        with contextlib.redirect_stdout(printed):
            exec(compile(code, str(PAGE), "exec"), names)
        assert printed.getvalue(), code
        assert "failed" not in printed.getvalue()
        if example["output"] is not None:
            assert printed.getvalue() == example["output"], code


def test_the_commands_do_what_the_page_shows(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    _, _, section = PAGE.read_text("utf-8").partition("## On the command line\n")
    lines = [line.partition("#")[0].split() for line in section.splitlines() if line.startswith("meterbridge ")]
    assert {words[1] for words in lines} == {"get", "set", "call", "profile", "clock"}
    for words in lines:
        typed = [f"127.0.0.1:{port}" if word == "METER" else word for word in words]
        monkeypatch.setattr(sys, "argv", typed)
        printed, complained = io.StringIO(), io.StringIO()
        with (
            contextlib.redirect_stdout(printed),
            contextlib.redirect_stderr(complained),
            pytest.raises(SystemExit) as ended,
        ):
            main()
        assert (ended.value.code, complained.getvalue()) == (0, ""), words
        assert printed.getvalue(), words


def test_the_listener_of_the_decode_page_hears_what_is_pushed() -> None:
    page = (DOCS / "decode.md").read_text("utf-8")
    _, code = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    _, output = re.findall(r"```output\n(.*?)```", page, re.DOTALL)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, "decode.md", "exec"), {})
    assert printed.getvalue() == output


def test_octets_are_ciphered_and_opened_as_the_security_page_shows() -> None:
    _, code = EXAMPLE.findall((DOCS / "security.md").read_text("utf-8"))
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code[0], "security.md", "exec"), {})
    assert printed.getvalue() == code[1]


async def test_the_example_of_the_security_page_reads_a_meter_that_ciphers(tmp_path: Path) -> None:
    example, _ = EXAMPLE.finditer((DOCS / "security.md").read_text("utf-8"))
    keys = Keys(bytes(range(16)), bytes(range(16, 32)))
    meter = simulated_meter(FleetOptions(security=SecurityOptions(keys=keys)), 0)
    server = MeterServer(meter, ServerOptions("wrapper"))
    await server.start("127.0.0.1", 0)
    names: dict[str, Any] = {
        "system_title": b"MTB00001",
        "encryption_key": keys.encryption,
        "authentication_key": keys.authentication,
        "path": tmp_path / "counter",
    }
    code = example["code"].replace('"192.0.2.7", 4059', f'"127.0.0.1", {server.port}')
    exec(compile(code, "security.md", "exec"), names)
    client = names["client"]
    try:
        await client.connect()
        assert (await client.read_measurement("1-0:32.7.0")).unit == "V"
        await client.disconnect()
    finally:
        await server.close()
