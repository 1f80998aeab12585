"""Every alarm type the code can raise, found in the code: a new one cannot be forgotten."""

from __future__ import annotations

import ast
import importlib
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from types import ModuleType

import meterbridge

_RAISERS = {"raise_alarm": 1}
"""Functions that open an alarm, and which of their arguments is its type."""


def alarm_types() -> set[str]:
    """Return all of them; AssertionError where a type cannot be told from the code."""
    package = Path(meterbridge.__file__).parent
    found: set[str] = set()
    for file in sorted(package.rglob("*.py")):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        if "raise_alarm" in {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}:
            name = ".".join(("meterbridge", *file.relative_to(package).with_suffix("").parts))
            found |= set(_of_module(tree, importlib.import_module(name)))
    return found


def _of_module(tree: ast.Module, module: ModuleType) -> Iterator[str]:
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    raisers = dict(_RAISERS)
    done: set[ast.Call] = set()
    while True:
        calls = [
            (function, call, call.args[raisers[call.func.attr]])
            for function in functions
            for call in ast.walk(function)
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr in raisers
            if call not in done
        ]
        if not calls:
            return
        for function, call, argument in calls:
            done.add(call)
            parameters = [parameter.arg for parameter in function.args.args if parameter.arg != "self"]
            if isinstance(argument, ast.Name) and argument.id in parameters:
                # Passed on: whoever calls this function says which.
                raisers[function.name] = parameters.index(argument.id)
            elif isinstance(argument, ast.Name) and isinstance(constant := getattr(module, argument.id, None), str):
                yield constant
            elif isinstance(argument, ast.Attribute) and argument.attr == "trouble":
                troubles: type[StrEnum] = module.Trouble
                yield from (str(trouble) for trouble in troubles)
            else:
                # One that is told again was opened with a type that is counted where it was.
                again = isinstance(argument, ast.Name) and argument.id == "type_" and function.name == "look"
                assert again, f"{module.__name__}: {ast.unparse(call)}: its type cannot be told"
