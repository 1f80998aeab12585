"""Gives faults to the meters of a fleet, and does what has to happen unasked: power cuts, connections that end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from meterbridge.errors import ConfigurationError
from meterbridge.simulator.faults.catalogue import PowerCut
from meterbridge.simulator.faults.draw import Draw
from meterbridge.simulator.faults.fault import AnyFault
from meterbridge.simulator.faults.scripted import Assigned, Scripted
from meterbridge.simulator.server import MeterServer

_Y2K: Final = 946_684_800
"""2000-01-01 00:00:00 UTC: what a clock shows that lost its power."""
_SPREAD_STREAM: Final = 1


@dataclass(frozen=True, slots=True)
class Running:
    """A fault under way.

    Args:
        number: by which it is removed.
        fault: what it is.
        meters: indices of the meters that have it.
    """

    number: int
    fault: AnyFault
    meters: tuple[int, ...]


class Director:
    """Makes faults happen in a fleet.

    Args:
        count: meters of the fleet.
        seed: makes everything random: the same seed and the same requests give the same faults.
    """

    def __init__(self, count: int, seed: int) -> None:
        self.behaviours = [Scripted() for _ in range(count)]
        self._seed = seed
        self._servers: Sequence[MeterServer] = ()
        self._running: dict[int, Running] = {}
        self._numbers = 0
        self._timers: dict[tuple[int, int], asyncio.TimerHandle] = {}
        self._dark: list[set[int]] = [set() for _ in range(count)]
        self._clock_lost: set[int] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, servers: Sequence[MeterServer], faults: Iterable[AnyFault] = ()) -> None:
        """Take the servers of `behaviours` in hand and begin a script, now.

        Raises:
            ConfigurationError: a fault does not fit the fleet; the message says which.
        """
        self._servers = servers
        for number, fault in enumerate(faults, 1):
            try:
                self.add(fault)
            except ConfigurationError as error:
                raise ConfigurationError(f"fault {number}: {error}") from None

    async def close(self) -> None:
        """Withdraw every fault; meters without power stay so."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for number in tuple(self._running):
            self._withdraw(number)

    @property
    def running(self) -> list[Running]:
        """Every fault that was added and not removed, over or not."""
        return list(self._running.values())

    def add(self, fault: AnyFault) -> int:
        """Begin a fault; its times count from now. Return its number.

        Raises:
            ConfigurationError: meters beyond the fleet, or a fault of HDLC on the wrapper.
        """
        number = self._numbers + 1
        try:
            meters = fault.chosen(len(self.behaviours), self._seed + number)
        except ValueError as error:
            raise ConfigurationError(f"{fault.kind}: {error}") from None
        if fault.needs_hdlc() and any(self._servers[meter].options.framing != "hdlc" for meter in meters):
            raise ConfigurationError(f"{fault.kind}: there is no such thing on the wrapper")
        self._numbers = number
        self._running[number] = Running(number, fault, tuple(meters))
        for meter in meters:
            self._assign(number, fault, meter)
        return number

    def remove(self, number: int) -> None:
        """End a fault; power comes back where this one had cut it.

        Raises:
            ConfigurationError: no such fault.
        """
        running = self._running.get(number)
        if running is None:
            raise ConfigurationError(f"there is no fault {number}")
        self._withdraw(number)
        for meter in running.meters:
            if (timer := self._timers.pop((number, meter), None)) is not None:
                timer.cancel()
            self._restore(number, meter)

    def _withdraw(self, number: int) -> None:
        for meter in self._running.pop(number).meters:
            self.behaviours[meter].withdraw(number)

    def _assign(self, number: int, fault: AnyFault, meter: int) -> None:
        own = self._seed * 1_000_003 + meter
        spread = fault.spread * Draw(own, _SPREAD_STREAM + 2 * number).unit()
        clock = self._servers[meter].clock
        begins = clock() + fault.start + spread
        assigned = Assigned(number, fault, begins, Draw(own, 2 * number))
        self.behaviours[meter].assign(assigned)
        if isinstance(fault, PowerCut) or fault.unasked() is not None:
            self._at(0.0, assigned, meter, lambda: self._strike(assigned, meter, 0))

    # ---- in their time

    def _at(self, elapsed: float, assigned: Assigned, meter: int, what: Callable[[], None]) -> None:
        wait = max(0.0, assigned.begins + elapsed - self._servers[meter].clock())
        self._timers[assigned.number, meter] = asyncio.get_running_loop().call_later(wait, what)

    def _strike(self, assigned: Assigned, meter: int, rounds: int) -> None:
        fault = assigned.fault
        if isinstance(fault, PowerCut):
            self._cut(fault, assigned, meter, rounds)
            return
        action = fault.unasked()
        if action is not None and assigned.struck():
            self.behaviours[meter].applied[fault.kind] += 1
            self._servers[meter].act(action)
        self._next_round(assigned, meter, rounds)

    def _next_round(self, assigned: Assigned, meter: int, rounds: int) -> None:
        every = assigned.fault.every
        if every is None:
            self._timers.pop((assigned.number, meter), None)
        else:
            rounds += 1
            self._at(rounds * every, assigned, meter, lambda: self._strike(assigned, meter, rounds))

    def _cut(self, fault: PowerCut, assigned: Assigned, meter: int, rounds: int) -> None:
        self.behaviours[meter].applied[fault.kind] += 1
        self._dark[meter].add(assigned.number)
        if fault.clock == "lost":
            self._clock_lost.add(meter)
        self._servers[meter].power_off()
        if fault.duration is None:
            self._timers.pop((assigned.number, meter), None)
            return

        def over() -> None:
            self._restore(assigned.number, meter)
            self._next_round(assigned, meter, rounds)

        self._at(rounds * (fault.every or 0.0) + fault.duration, assigned, meter, over)

    def _restore(self, number: int, meter: int) -> None:
        dark = self._dark[meter]
        if number not in dark:
            return
        dark.discard(number)
        if not dark:
            task = asyncio.get_running_loop().create_task(self._power_on(meter))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _power_on(self, meter: int) -> None:
        server = self._servers[meter]
        if meter in self._clock_lost:
            self._clock_lost.discard(meter)
            server.meter.lose_clock(_Y2K, server.clock())
        await server.power_on()
        if self._dark[meter]:
            # The next cut came while the port was not free yet.
            server.power_off()
