"""What every fault has: whom it befalls, when, how often."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from meterbridge.dlms import AttributeDescriptor, DataAccessResult, HdlcParameters
from meterbridge.simulator.behaviour import Action, Refusal, Send
from meterbridge.simulator.faults.draw import Draw
from meterbridge.simulator.noise import hashed

Seconds = Annotated[float, Field(ge=0, le=31_536_000, allow_inf_nan=False)]
Share = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]
Answers = Literal["any", "link", "association", "data"]
"""Answers of the link (UA, DM), of the association (AARE, RLRE), to requests for data."""

_RANGES = re.compile(r"\d+(-\d+)?(\s*,\s*\d+(-\d+)?)*")
_PERCENT = re.compile(r"(\d+(?:\.\d+)?)\s*%")


class AnyFault(BaseModel):
    """One fault: the base of all kinds, and the hooks that a kind fills.

    Args:
        meters: `all`, indices within the fleet from 0 (`0-99,150`), or a share chosen by the seed (`10%`).
        start: seconds after the script began (after it was added, for one added while running).
        duration: seconds it lasts; None is for ever.
        every: it comes back every so many seconds; None is once.
        spread: each meter's start is later by a time of its own, up to so many seconds.
        chance: probability that one occasion (an answer, a connection, an association, an attribute) is struck.
        answers: which answers it strikes; None takes what is usual for the kind.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    usual_answers: ClassVar[Answers] = "any"

    kind: str
    meters: str = "all"
    start: Seconds = 0.0
    duration: Annotated[float, Field(gt=0, le=31_536_000, allow_inf_nan=False)] | None = None
    every: Annotated[float, Field(gt=0, le=31_536_000, allow_inf_nan=False)] | None = None
    spread: Seconds = 0.0
    chance: Share = 1.0
    answers: Answers | None = None

    @field_validator("meters", mode="before")
    @classmethod
    def _one_meter(cls, value: object) -> object:
        return str(value) if type(value) is int else value

    @field_validator("meters")
    @classmethod
    def _known_spelling(cls, value: str) -> str:
        percent = _PERCENT.fullmatch(value)
        if value != "all" and not _RANGES.fullmatch(value) and not (percent and float(percent[1]) <= 100):
            raise ValueError(f"{value!r} is none of all, indices such as 0-99,150, or a share such as 10%")
        return value

    @model_validator(mode="after")
    def _returns_after_it_ended(self) -> AnyFault:
        if self.every is not None and (self.duration is None or self.duration > self.every):
            raise ValueError("every needs a duration that is not longer")
        return self

    # ---- whom and when

    def chosen(self, count: int, seed: int) -> list[int]:
        """Return the indices of the meters it befalls, in a fleet of `count`.

        Raises:
            ValueError: an index beyond the fleet.
        """
        if self.meters == "all":
            return list(range(count))
        if percent := _PERCENT.fullmatch(self.meters):
            wanted = round(count * float(percent[1]) / 100)
            return sorted(sorted(range(count), key=lambda meter: hashed(seed, 0, meter))[:wanted])
        meters: set[int] = set()
        for part in self.meters.split(","):
            first, _, last = part.strip().partition("-")
            if int(last or first) >= count:
                raise ValueError(f"meter {last or first} is beyond a fleet of {count}, counted from 0")
            meters.update(range(int(first), int(last or first) + 1))
        return sorted(meters)

    def active(self, elapsed: float) -> bool:
        """Whether it is on, `elapsed` seconds after its own start."""
        if elapsed < 0:
            return False
        if self.every is not None:
            elapsed %= self.every
        return self.duration is None or elapsed < self.duration

    def strikes(self, answer: Answers) -> bool:
        """Whether it is about answers of this sort."""
        wanted = self.answers or self.usual_answers
        return wanted in ("any", answer)

    # ---- hooks: each does nothing here

    def needs_hdlc(self) -> bool:
        """Whether it means nothing on the wrapper."""
        return False

    def refuses_connection(self) -> bool:
        """Whether a TCP connection is reset at once."""
        return False

    def link_parameters(self, offered: HdlcParameters) -> HdlcParameters:
        """Return what UA offers."""
        return offered

    def refusal(self) -> Refusal | None:
        """Refuse the association."""
        return None

    def refuses_attribute(self, attribute: AttributeDescriptor) -> DataAccessResult | None:
        """Refuse an attribute."""
        return None

    def answer(self, octets: bytes, draw: Draw, earlier: bytes | None) -> Sequence[Action]:
        """Say what becomes of an answer.

        Args:
            octets: as they would go out.
            draw: where everything random comes from.
            earlier: an answer to an earlier request for data, None while there is none.
        """
        return (Send(octets),)

    def unasked(self) -> Action | None:
        """Return what is done to every connection when the fault begins, without being asked anything."""
        return None
