"""Every kind of fault. A new one is a class here and a line in the union at the end."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator, Field, field_validator, model_validator

from meterbridge.dlms import AttributeDescriptor, DataAccessResult, HdlcParameters, LogicalName
from meterbridge.dlms.acse import AUTHENTICATION_FAILURE, AssociationResult
from meterbridge.dlms.hdlc import Control
from meterbridge.dlms.xdlms import ExceptionResponse
from meterbridge.simulator.association import NOT_NOW
from meterbridge.simulator.behaviour import Action, Close, Forget, Mute, Refusal, Send
from meterbridge.simulator.faults import frames
from meterbridge.simulator.faults.draw import Draw
from meterbridge.simulator.faults.fault import Answers, AnyFault, Seconds


def _pair(value: object) -> object:
    return (value, value) if isinstance(value, int | float) else value


def _ordered(value: tuple[float, float]) -> tuple[float, float]:
    if value[0] > value[1]:
        raise ValueError("from is later than to")
    return value


Delay = Annotated[tuple[Seconds, Seconds], BeforeValidator(_pair), AfterValidator(_ordered)]
"""Seconds, or a list of from and to."""


def _drawn(delay: tuple[float, float], draw: Draw) -> float:
    low, high = delay
    return low + (high - low) * draw.unit()


class _OnHdlc(AnyFault):
    """What there is in HDLC only."""

    def needs_hdlc(self) -> bool:
        """It does."""
        return True


# ---------------------------------------------------------------------------------------------------------------------
# late, never, damaged


class NoAnswer(AnyFault):
    """Nothing is answered; the connection stays."""

    kind: Literal["no-answer"]

    def answer(self, octets: bytes, draw: Draw, earlier: bytes | None) -> Sequence[Action]:
        """Swallow it."""
        return ()


class Slow(AnyFault):
    """Answers come late."""

    kind: Literal["slow"]
    delay: Delay = (0.5, 0.9)

    def answer(self, octets: bytes, draw: Draw, earlier: bytes | None) -> Sequence[Action]:
        """Wait first."""
        return (Send(octets, after=_drawn(self.delay, draw)),)


class SlowMiddle(AnyFault):
    """Answers begin in time, stop in the middle, and go on late."""

    kind: Literal["slow-middle"]
    delay: Delay = (0.5, 0.9)

    def answer(self, octets: bytes, draw: Draw, earlier: bytes | None) -> Sequence[Action]:
        """Wait in the middle."""
        middle = max(1, len(octets) // 2)
        return Send(octets[:middle]), Send(octets[middle:], after=_drawn(self.delay, draw))


class Busy(AnyFault):
    """The meter says that it has no time.

    Args:
        says: `not-ready` is RNR, and the answer is there for the asking once the burst is over; `temporary-failure` is
            what every attribute gives; `exception` is an exception-response.
    """

    usual_answers: ClassVar[Answers] = "data"

    kind: Literal["busy"]
    says: Literal["not-ready", "temporary-failure", "exception"] = "temporary-failure"

    def needs_hdlc(self) -> bool:
        """RNR does."""
        return self.says == "not-ready"

    def refuses_attribute(self, attribute: AttributeDescriptor) -> DataAccessResult | None:
        """Refuse for now."""
        return DataAccessResult.TEMPORARY_FAILURE if self.says == "temporary-failure" else None

    def answer(self, octets: bytes, draw: Draw, earlier: bytes | None) -> Sequence[Action]:
        """Say so in place of the answer."""
        if self.says == "not-ready":
            return (Send(frames.not_ready(octets)),)
        if self.says == "exception":
            return (Send(frames.with_apdu(octets, ExceptionResponse(1, 1).encode())),)
        return (Send(octets),)


class WrongFcs(_OnHdlc):
    """The frame check sequence is wrong by one bit."""

    kind: Literal["wrong-fcs"]

    def answer(self, octets: bytes, draw: Draw, earlier: bytes | None) -> Sequence[Action]:
        """Damage it."""
        return (Send(frames.wrong_check_sequence(octets, draw.below(16))),)


class GarbageBefore(AnyFault):
    """Octets that belong to nothing come in front of the answer.

    Args:
        size: how many, at random.
        text: these in place of random ones.
    """

    kind: Literal["garbage-before"]
    size: Annotated[int, Field(ge=1, le=65_536)] = 16
    text: Annotated[str, Field(min_length=1, max_length=4096)] | None = None

    def answer(self, octets: bytes, draw: Draw, earlier: bytes | None) -> Sequence[Action]:
        """Put garbage in front."""
        garbage = draw.octets(self.size) if self.text is None else self.text.encode()
        return (Send(garbage + octets),)


class GarbageInside(AnyFault):
    """Octets that belong to nothing come in the middle of the answer.

    Args:
        size: how many.
    """

    kind: Literal["garbage-inside"]
    size: Annotated[int, Field(ge=1, le=65_536)] = 3

    def answer(self, octets: bytes, draw: Draw, earlier: bytes | None) -> Sequence[Action]:
        """Put garbage at a random place within."""
        place = 1 + draw.below(max(1, len(octets) - 1))
        return (Send(octets[:place] + draw.octets(self.size) + octets[place:]),)


# ---------------------------------------------------------------------------------------------------------------------
# the wrong answer


class Stale(AnyFault):
    """An answer to an earlier request comes again.

    Args:
        how: `before` the right one, as it was; or `instead` of it, under the sequence numbers of the right one, so that
            only the invoke id tells.
    """

    usual_answers: ClassVar[Answers] = "data"

    kind: Literal["stale"]
    how: Literal["before", "instead"] = "before"

    def answer(self, octets: bytes, draw: Draw, earlier: bytes | None) -> Sequence[Action]:
        """Repeat what was said before; nothing happens as long as nothing was."""
        if earlier is None:
            return (Send(octets),)
        if self.how == "instead":
            return (Send(frames.disguised(octets, earlier)),)
        return (Send(earlier + octets),)


class Duplicate(AnyFault):
    """Every answer comes twice."""

    usual_answers: ClassVar[Answers] = "data"

    kind: Literal["duplicate"]

    def answer(self, octets: bytes, draw: Draw, earlier: bytes | None) -> Sequence[Action]:
        """Say it again."""
        return Send(octets), Send(octets)


class RepeatedNs(_OnHdlc):
    """A new answer has the N(S) of the one before it."""

    usual_answers: ClassVar[Answers] = "data"

    kind: Literal["repeated-ns"]

    def answer(self, octets: bytes, draw: Draw, earlier: bytes | None) -> Sequence[Action]:
        """Number it wrongly."""
        return (Send(frames.numbered(octets, -1)),)


class SkippedNs(_OnHdlc):
    """A new answer has the N(S) of the one after it."""

    usual_answers: ClassVar[Answers] = "data"

    kind: Literal["skipped-ns"]

    def answer(self, octets: bytes, draw: Draw, earlier: bytes | None) -> Sequence[Action]:
        """Number it wrongly."""
        return (Send(frames.numbered(octets, 1)),)


# ---------------------------------------------------------------------------------------------------------------------
# the end of link or connection


class Dm(_OnHdlc):
    """The meter says in mid-association that it is disconnected, and is."""

    usual_answers: ClassVar[Answers] = "data"

    kind: Literal["dm"]

    def answer(self, octets: bytes, draw: Draw, earlier: bytes | None) -> Sequence[Action]:
        """Disconnect."""
        return Send(frames.unnumbered(octets, Control.DM)), Forget()


class Frmr(_OnHdlc):
    """The meter rejects the frame; only SNRM helps."""

    usual_answers: ClassVar[Answers] = "data"

    kind: Literal["frmr"]

    def answer(self, octets: bytes, draw: Draw, earlier: bytes | None) -> Sequence[Action]:
        """Reject."""
        return Send(frames.unnumbered(octets, Control.FRMR)), Forget()


class _Ending(AnyFault):
    """The connection ends.

    Args:
        at_once: when the fault begins, unasked; otherwise in place of an answer.
        partial: share of the answer that still goes out.
    """

    at_once: bool = False
    partial: Annotated[float, Field(ge=0, lt=1)] = 0.0

    def answer(self, octets: bytes, draw: Draw, earlier: bytes | None) -> Sequence[Action]:
        """End it, in the middle of the answer where wanted."""
        if self.at_once:
            return (Send(octets),)
        begun = octets[: int(len(octets) * self.partial)]
        return (Send(begun), self._end()) if begun else (self._end(),)

    def unasked(self) -> Action | None:
        """End every connection."""
        return self._end() if self.at_once else None

    def _end(self) -> Action:
        raise NotImplementedError


class Rst(_Ending):
    """The connection is reset."""

    kind: Literal["rst"]

    def _end(self) -> Action:
        return Close(abort=True)


class Fin(_Ending):
    """The connection is closed in good order."""

    kind: Literal["fin"]

    def _end(self) -> Action:
        return Close()


class HalfOpen(_Ending):
    """The meter is gone and nobody says so: no FIN, no RST, no answer; a new connection meets a fresh meter."""

    kind: Literal["half-open"]

    def _end(self) -> Action:
        return Mute()


# ---------------------------------------------------------------------------------------------------------------------
# refusals


class RefusedConnection(AnyFault):
    """Connections are reset as soon as they are made."""

    kind: Literal["refused-connection"]

    def refuses_connection(self) -> bool:
        """Refuse."""
        return True


class RefusedAssociation(AnyFault):
    """The AARE says no.

    Args:
        result: 1 for good, 2 for now.
        diagnostic: acse-service-user diagnostic.
    """

    kind: Literal["refused-association"]
    result: Literal[1, 2] = 1
    diagnostic: Annotated[int, Field(ge=0, le=14)] = 1

    def refusal(self) -> Refusal | None:
        """Refuse."""
        return Refusal(self.result, self.diagnostic)


class AlreadyAssociated(AnyFault):
    """The meter holds an association that nobody has any more.

    Args:
        says: `aare` refuses for now; `dm` does not even open the link.
    """

    usual_answers: ClassVar[Answers] = "link"

    kind: Literal["already-associated"]
    says: Literal["aare", "dm"] = "aare"

    def needs_hdlc(self) -> bool:
        """DM does."""
        return self.says == "dm"

    def refusal(self) -> Refusal | None:
        """Refuse for now."""
        return NOT_NOW if self.says == "aare" else None

    def answer(self, octets: bytes, draw: Draw, earlier: bytes | None) -> Sequence[Action]:
        """Refuse the link."""
        if self.says == "dm":
            return Send(frames.unnumbered(octets, Control.DM)), Forget()
        return (Send(octets),)


class WrongPassword(AnyFault):
    """The meter has another password than it had."""

    kind: Literal["wrong-password"]

    def refusal(self) -> Refusal | None:
        """Refuse for good."""
        return Refusal(AssociationResult.REJECTED_PERMANENT, AUTHENTICATION_FAILURE)


class ObjectUndefined(AnyFault):
    """Attributes are refused.

    Args:
        objects: logical names; empty is all.
        result: data-access-result, 4 object-undefined.
    """

    kind: Literal["object-undefined"]
    objects: tuple[str, ...] = ()
    result: DataAccessResult = DataAccessResult.OBJECT_UNDEFINED

    @field_validator("objects")
    @classmethod
    def _logical_names(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(str(LogicalName.parse(name)) for name in names)

    @field_validator("result")
    @classmethod
    def _no_success(cls, result: DataAccessResult) -> DataAccessResult:
        if result is DataAccessResult.SUCCESS:
            raise ValueError("0 is no refusal")
        return result

    def refuses_attribute(self, attribute: AttributeDescriptor) -> DataAccessResult | None:
        """Refuse what is named."""
        return self.result if not self.objects or str(attribute.logical_name) in self.objects else None


# ---------------------------------------------------------------------------------------------------------------------
# the meter as a whole


class PowerCut(AnyFault):
    """No power: connections are gone and new ones refused; the clock of the meter that comes back starts anew.

    Args:
        clock: `lost` starts at 2000-01-01 00:00:00 UTC, `kept` has a battery.
    """

    kind: Literal["power-cut"]
    clock: Literal["lost", "kept"] = "lost"

    @model_validator(mode="after")
    def _is_certain(self) -> PowerCut:
        if self.chance < 1:
            raise ValueError("a power cut strikes once and for certain: chance is not for it")
        return self


class _ShortFrames(_OnHdlc):
    size: Annotated[int, Field(ge=16, le=2030)] = 16

    def link_parameters(self, offered: HdlcParameters) -> HdlcParameters:
        """Offer less in one frame."""
        return dataclasses.replace(offered, max_information_send=self.size)


class Segmented(_ShortFrames):
    """Long answers come in short frames, on connections made while it lasts.

    Args:
        size: information field the meter sends at most, octets.
    """

    kind: Literal["segmented"]


class Windowed(_ShortFrames):
    """Long answers come in short frames, several at once where the client takes them.

    Args:
        size: information field the meter sends at most, octets.
        window: frames under way.
    """

    kind: Literal["windowed"]
    window: Annotated[int, Field(ge=2, le=7)] = 7

    def link_parameters(self, offered: HdlcParameters) -> HdlcParameters:
        """Offer more frames, too."""
        return dataclasses.replace(super().link_parameters(offered), window_send=self.window)


Fault = Annotated[
    NoAnswer
    | Slow
    | SlowMiddle
    | Busy
    | WrongFcs
    | GarbageBefore
    | GarbageInside
    | Stale
    | Duplicate
    | RepeatedNs
    | SkippedNs
    | Dm
    | Frmr
    | Rst
    | Fin
    | HalfOpen
    | RefusedConnection
    | RefusedAssociation
    | AlreadyAssociated
    | WrongPassword
    | ObjectUndefined
    | PowerCut
    | Segmented
    | Windowed,
    Field(discriminator="kind"),
]
"""Any of them, told apart by `kind`."""
