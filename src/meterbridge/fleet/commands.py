"""CommandDesk: commands for meters, one at a time for each meter, each answered within its time and done once."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import structlog

from meterbridge.errors import MeterbridgeError
from meterbridge.model import MeterId

_log = structlog.get_logger(__name__)

Body = dict[str, object]
Answer = Callable[[Body], None]
"""Takes what a command gave, or why it gave nothing; must return at once."""

# How long a command is known when it comes again: a server that counts its requests anew takes longer to be back.
_REMEMBERED = 60.0
_MOST_REMEMBERED = 64


@dataclass(frozen=True, slots=True)
class CommandLimits:
    """Bounds of the commands for one meter.

    Args:
        timeout: seconds until each is answered, whatever happens.
        waiting: how many may wait for their turn.
    """

    timeout: float = 8.0
    waiting: int = 8


@dataclass(slots=True)
class Command:
    """One command.

    Args:
        key: by which it is known when it comes again.
        content: what it wants: another under the same key is another command.
        work: does it; is told by when it must have begun, monotonic seconds.
        answer: takes the outcome.
        once: whether it changes something, so that it must not be done again.
    """

    key: int | str
    content: str
    work: Callable[[float], Awaitable[Body]]
    answer: Answer
    once: bool


@dataclass(slots=True)
class _Job:
    command: Command
    by: float
    timer: asyncio.TimerHandle | None = None
    begun: bool = False
    answered: bool = False
    final: Body | None = None
    at: float = 0.0


@dataclass(slots=True)
class _Lane:
    waiting: deque[_Job] = field(default_factory=deque)
    known: dict[int | str, _Job] = field(default_factory=dict)
    task: asyncio.Task[None] | None = None


class CommandDesk:
    """Takes commands and has them done. Belongs to one event loop.

    Args:
        limits: bounds.
        failure: makes a body of a reason.
        monotonic: seconds.
    """

    def __init__(self, limits: CommandLimits, failure: Callable[[str], Body], monotonic: Callable[[], float]) -> None:
        self._limits = limits
        self._failure = failure
        self._monotonic = monotonic
        self._lanes: dict[MeterId, _Lane] = {}

    def submit(self, meter: MeterId, command: Command) -> None:
        """Take a command; its answer comes later, or at once where it is refused."""
        now = self._monotonic()
        lane = self._lanes.setdefault(meter, _Lane())
        _forget(lane, now - _REMEMBERED)
        known = lane.known.get(command.key)
        if known is not None and known.command.content == command.content:
            # It came twice. Whoever asked first is answered when it is done; the answer may have been lost since.
            if known.final is not None:
                command.answer(known.final)
            return
        if len(lane.waiting) >= self._limits.waiting:
            command.answer(self._failure(f"{len(lane.waiting)} commands wait for this meter already"))
            return
        job = lane.known[command.key] = _Job(command, now + self._limits.timeout)
        job.timer = asyncio.get_running_loop().call_later(self._limits.timeout, self._expire, job)
        lane.waiting.append(job)
        if lane.task is None:
            self._start(meter, lane)

    async def stop(self) -> None:
        """Begin nothing more, and break off what is under way."""
        tasks = [lane.task for lane in self._lanes.values() if lane.task is not None]
        for lane in self._lanes.values():
            for job in lane.waiting:
                self._settle(job, self._failure("the service is being stopped"))
            lane.waiting.clear()
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        for lane in self._lanes.values():
            for job in lane.known.values():
                if job.timer is not None:
                    job.timer.cancel()

    def _start(self, meter: MeterId, lane: _Lane) -> None:
        lane.task = asyncio.create_task(self._run(lane), name=f"commands of meter {meter}")
        lane.task.add_done_callback(lambda task: self._ended(meter, lane, task))

    def _ended(self, meter: MeterId, lane: _Lane, task: asyncio.Task[None]) -> None:
        lane.task = None
        if task.cancelled():
            return
        if error := task.exception():
            _log.error("command_failed", meter=meter, exc_info=error)
        if lane.waiting:
            self._start(meter, lane)

    async def _run(self, lane: _Lane) -> None:
        while lane.waiting:
            job = lane.waiting.popleft()
            if self._monotonic() >= job.by:
                # Answered by its timer; not done, so it may come again.
                del lane.known[job.command.key]
                continue
            job.begun = True
            body = self._failure("it failed for a reason that only the log knows")
            try:
                body = await job.command.work(job.by)
            except MeterbridgeError as error:
                body = self._failure(str(error))
            finally:
                self._settle(job, body)
                if not job.command.once:
                    lane.known.pop(job.command.key, None)

    def _settle(self, job: _Job, body: Body) -> None:
        job.final, job.at = body, self._monotonic()
        if job.timer is not None:
            job.timer.cancel()
        self._tell(job, body)

    def _expire(self, job: _Job) -> None:
        state = "it is under way and may still be done" if job.begun else "nothing was done, the meter was busy"
        self._tell(job, self._failure(f"not done within {self._limits.timeout:g} s: {state}"))

    def _tell(self, job: _Job, body: Body) -> None:
        if not job.answered:
            job.answered = True
            job.command.answer(body)


def _forget(lane: _Lane, before: float) -> None:
    finished = [key for key, job in lane.known.items() if job.final is not None]
    spare = len(lane.known) - _MOST_REMEMBERED
    for number, key in enumerate(finished):
        if number < spare or lane.known[key].at < before:
            del lane.known[key]
