"""The examples of docs/dlms.md run, one after the other, and print what the page says."""

from __future__ import annotations

import asyncio
import contextlib
import io
import re
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from meterbridge.simulator import FleetOptions, MeterServer, simulated_meter

PAGE = Path(__file__).resolve().parents[2] / "docs" / "dlms.md"
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
