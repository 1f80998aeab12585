"""The rules of diagnosis: read from `rules.toml`, checked when they are read."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, field_validator

from meterbridge.operations.symptoms import Symptom

Text = Annotated[str, Field(min_length=1)]


class Rule(BaseModel):
    """What to think of a symptom, and what to do about it.

    Args:
        diagnosis: stable name, for programs.
        symptom: kind of symptom it is for.
        when: alternatives, each regular expressions by word that must all be found; empty fits all of its kind.
        what: what is wrong, a template filled with the symptom's words; `cause`, `commands` and `check` likewise.
        cause: the probable one.
        commands: to be typed, in order.
        check: how to see that it worked.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    diagnosis: Annotated[str, Field(pattern=r"^[a-z_]+$")]
    symptom: Text
    when: tuple[Mapping[str, str], ...] = ()
    what: Text
    cause: Text
    commands: Annotated[tuple[Text, ...], Field(min_length=1)]
    check: Text

    @field_validator("when")
    @classmethod
    def _compiles(cls, when: tuple[Mapping[str, str], ...]) -> tuple[Mapping[str, str], ...]:
        for alternative in when:
            for pattern in alternative.values():
                re.compile(pattern)
        return when

    def fits(self, symptom: Symptom) -> bool:
        """Whether it gives the diagnosis of a symptom."""
        if symptom.kind != self.symptom:
            return False
        return not self.when or any(
            all(re.search(pattern, symptom.words[word]) for word, pattern in alternative.items())
            for alternative in self.when
        )


@cache
def rules() -> tuple[Rule, ...]:
    """Return all rules, in their order."""
    text = resources.files(__package__).joinpath("rules.toml").read_text(encoding="utf-8")
    return tuple(Rule(**rule) for rule in tomllib.loads(text)["rule"])
