"""Options that several commands share, as the fields of one dataclass."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import fields
from typing import Any, TypeVar

_T = TypeVar("_T")


def with_options(group: type, argument: str) -> Callable[[Callable[..., _T]], Callable[..., _T]]:
    """Give a command the fields of a dataclass as options; it gets them together, under the argument's name.

    Args:
        group: its fields are annotated as Typer wants options, and have defaults.
        argument: of the command, for the whole group.
    """
    options = inspect.signature(group, eval_str=True).parameters.values()
    names = [each.name for each in fields(group)]

    def given_to(command: Callable[..., _T]) -> Callable[..., _T]:
        own = inspect.signature(command, eval_str=True)

        @functools.wraps(command)
        def run(**arguments: Any) -> _T:
            together = group(**{name: arguments.pop(name) for name in names})
            return command(**arguments, **{argument: together})

        kept = [each for each in own.parameters.values() if each.name != argument]
        # Its own arguments, then the group, then how all commands are told of settings and JSON.
        last = [each for each in kept if each.name in ("config", "as_json")]
        first = [each for each in kept if each not in last]
        parameters = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in (*first, *options, *last)]
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {each.name: each.annotation for each in parameters}
        return run

    return given_to
