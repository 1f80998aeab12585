"""Scripts of faults: TOML, and single faults as the control port takes them."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from meterbridge.errors import ConfigurationError
from meterbridge.simulator.faults.catalogue import Fault
from meterbridge.simulator.faults.fault import AnyFault

_FAULT: Final[TypeAdapter[AnyFault]] = TypeAdapter(Fault)


@dataclass(frozen=True, slots=True)
class FaultScript:
    """What goes wrong.

    Args:
        faults: in the order in which they work on one answer.
        seed: makes everything random about them; None takes the fleet's.
    """

    faults: tuple[AnyFault, ...] = ()
    seed: int | None = None


def fault_of(table: Mapping[str, Any]) -> AnyFault:
    """Read one fault.

    Args:
        table: `kind` and what the kind takes.

    Raises:
        ConfigurationError: an unknown kind or key, or a value out of its range; the message names it.
    """
    try:
        return _FAULT.validate_python(table)
    except ValidationError as error:
        raise ConfigurationError(_explained(error.errors()[0], table)) from None


def _explained(error: ErrorDetails, table: Mapping[str, Any]) -> str:
    if error["type"] == "union_tag_not_found":
        return "a fault without a kind"
    if error["type"] == "union_tag_invalid":
        known = error["ctx"]["expected_tags"].replace("'", "")
        return f"kind {table['kind']!r} is none of {known}"
    # What stands first is the kind.
    _, *key = error["loc"]
    if error["type"] == "extra_forbidden":
        return f"{table['kind']}: unknown key {key[0]}"
    where = ": ".join((str(table["kind"]), *map(str, key[:1])))
    return f"{where}: {error['msg'].removeprefix('Value error, ')}"


def read_script(path: Path) -> FaultScript:
    """Read a script: `seed`, and a `[[fault]]` table for each fault.

    Raises:
        ConfigurationError: the file cannot be read or says something wrong; the message names file and fault.
    """
    try:
        document = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror or error}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: {error}") from None
    unknown = sorted(document.keys() - {"seed", "fault"})
    if unknown:
        raise ConfigurationError(f"{path}: unknown key {unknown[0]}")
    seed, tables = document.get("seed"), document.get("fault", [])
    if seed is not None and type(seed) is not int:
        raise ConfigurationError(f"{path}: seed is not a whole number")
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise ConfigurationError(f"{path}: faults are written as [[fault]] tables")
    faults = []
    for number, table in enumerate(tables, 1):
        try:
            faults.append(fault_of(table))
        except ConfigurationError as error:
            raise ConfigurationError(f"{path}: fault {number}: {error}") from None
    return FaultScript(tuple(faults), seed)
