"""A meter that behaves as its faults say. No socket, time is an argument."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from meterbridge.dlms import AttributeDescriptor, DataAccessResult, HdlcParameters
from meterbridge.simulator.behaviour import Action, Refusal, Send
from meterbridge.simulator.faults.draw import Draw
from meterbridge.simulator.faults.fault import AnyFault
from meterbridge.simulator.faults.frames import sort_of


@dataclass(frozen=True, slots=True)
class Assigned:
    """A fault that one meter has.

    Args:
        number: of the fault, the same for all meters that have it.
        fault: what it is.
        begins: Unix time of this meter's own start of it.
        draw: chance of this meter and this fault.
    """

    number: int
    fault: AnyFault
    begins: float
    draw: Draw

    def occurs(self, now: float) -> bool:
        """Whether it is on, and this occasion is struck."""
        return self.fault.active(now - self.begins) and self.struck()

    def struck(self) -> bool:
        """Whether chance has it that this occasion is struck."""
        return self.fault.chance >= 1 or self.draw.unit() < self.fault.chance


class Scripted:
    """Behaviour of one meter: whatever faults it has at the time, in their order."""

    __slots__ = ("_assigned", "_earlier", "_latest", "applied")

    def __init__(self) -> None:
        self._assigned: tuple[Assigned, ...] = ()
        self._earlier: bytes | None = None
        self._latest: bytes | None = None
        self.applied: Counter[str] = Counter()
        """How often each kind has changed something."""

    @property
    def assigned(self) -> tuple[Assigned, ...]:
        """The faults it has, on at the moment or not."""
        return self._assigned

    def assign(self, assigned: Assigned) -> None:
        """Give it one more fault."""
        self._assigned = (*self._assigned, assigned)

    def withdraw(self, number: int) -> None:
        """Take a fault away."""
        self._assigned = tuple(assigned for assigned in self._assigned if assigned.number != number)

    # ---- Behaviour

    def accepts_connection(self, now: float) -> bool:
        """See Behaviour."""
        for assigned in self._assigned:
            if assigned.fault.refuses_connection() and assigned.occurs(now):
                self.applied[assigned.fault.kind] += 1
                return False
        return True

    def link_parameters(self, offered: HdlcParameters, now: float) -> HdlcParameters:
        """See Behaviour."""
        for assigned in self._assigned:
            changed = assigned.fault.link_parameters(offered)
            if changed != offered and assigned.occurs(now):
                self.applied[assigned.fault.kind] += 1
                offered = changed
        return offered

    def refuses_association(self, client: int, now: float) -> Refusal | None:
        """See Behaviour."""
        for assigned in self._assigned:
            refusal = assigned.fault.refusal()
            if refusal is not None and assigned.occurs(now):
                self.applied[assigned.fault.kind] += 1
                return refusal
        return None

    def refuses_attribute(self, attribute: AttributeDescriptor, now: float) -> DataAccessResult | None:
        """See Behaviour."""
        for assigned in self._assigned:
            result = assigned.fault.refuses_attribute(attribute)
            if result is not None and assigned.occurs(now):
                self.applied[assigned.fault.kind] += 1
                return result
        return None

    def deliver(self, octets: bytes, now: float) -> Sequence[Action]:
        """See Behaviour."""
        if not self._assigned:
            return (Send(octets),)
        sort = sort_of(octets)
        if sort == "data" and octets != self._latest:
            self._earlier, self._latest = self._latest, octets
        actions: list[Action] = [Send(octets)]
        for assigned in self._assigned:
            fault = assigned.fault
            if not fault.strikes(sort) or not assigned.occurs(now):
                continue
            changed = [new for action in actions for new in self._changed(assigned, action)]
            if changed != actions:
                self.applied[fault.kind] += 1
            actions = changed
        return actions

    def _changed(self, assigned: Assigned, action: Action) -> Iterator[Action]:
        if not isinstance(action, Send):
            yield action
            return
        wait = action.after
        for new in assigned.fault.answer(action.octets, assigned.draw, self._earlier):
            yield dataclasses.replace(new, after=new.after + wait) if wait else new
            wait = 0.0
