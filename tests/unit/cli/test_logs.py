"""The log is JSON, a line an event, whoever logs."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from meterbridge.cli.logs import configure_logging
from meterbridge.settings import LogSettings


@pytest.fixture(autouse=True)
def _as_it_was() -> Iterator[None]:
    root, uvicorn = logging.getLogger(), logging.getLogger("uvicorn.error")
    before, level = root.handlers[:], root.level
    # Where a server with uvicorn's own configuration ran before, its loggers keep what they hear.
    parent = logging.getLogger("uvicorn")
    kept = [(each, each.propagate, each.level) for each in (parent, uvicorn)]
    for each in (parent, uvicorn):
        each.propagate = True
    yield
    for each, propagate, quiet in kept:
        each.propagate = propagate
        each.setLevel(quiet)
    for handler in root.handlers[:]:
        if handler not in before:
            root.removeHandler(handler)
            handler.close()
    for handler in before:
        root.addHandler(handler)
    root.setLevel(level)
    structlog.reset_defaults()


def logged(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def test_every_line_is_json_also_what_libraries_log(tmp_path: Path) -> None:
    file = tmp_path / "logs" / "meterbridge.log"
    configure_logging(LogSettings(file=file), to_stdout=False)
    log = structlog.get_logger("own")
    log.info("meter_connected", meter=1, name="Zähler")
    log.debug("not at this level")
    logging.getLogger("some.library").warning('%s said "no"\nand more', "it")
    try:
        raise ValueError("wrong")
    except ValueError:
        log.exception("worker_failed")
        logging.getLogger("some.library").exception("also")
    first, second, third, fourth = logged(file)
    assert (first["event"], first["meter"], first["name"], first["level"]) == ("meter_connected", 1, "Zähler", "info")
    assert (second["event"], second["logger"], second["level"]) == (
        'it said "no"\nand more',
        "some.library",
        "warning",
    )
    assert all(line["timestamp"].endswith("Z") for line in (first, second, third, fourth))
    assert all(line["exception"].endswith("ValueError: wrong") for line in (third, fourth))


def test_of_libraries_only_what_says_something_is_kept(tmp_path: Path) -> None:
    file = tmp_path / "meterbridge.log"
    configure_logging(LogSettings(file=file), to_stdout=False)
    alembic, uvicorn = logging.getLogger("alembic.runtime.migration"), logging.getLogger("uvicorn.error")
    for text in ("Context impl %s.", "Running %s"):
        alembic.info(text, "upgrade 1 -> 2")
    uvicorn.info("Started server process [%d]", 1)
    uvicorn.warning("Invalid HTTP request received.")
    assert [line["event"] for line in logged(file)] == ["Running upgrade 1 -> 2", "Invalid HTTP request received."]
