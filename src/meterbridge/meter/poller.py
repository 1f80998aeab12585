"""DLMSProductionPoller: one meter polled for ever, whatever it does."""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Protocol, TypeVar

from meterbridge.dlms import Discarded
from meterbridge.errors import (
    AssociationRefused,
    AuthenticationFailed,
    CommandRefused,
    ConnectionLost,
    DataAccessError,
    LocalProtocolError,
    MeterError,
    ResponseTimeout,
    ServiceError,
)
from meterbridge.meter.client import DLMSClient
from meterbridge.meter.plan import Readout
from meterbridge.meter.policy import (
    AdaptiveTimeout,
    Backoff,
    BreakerSettings,
    CircuitBreaker,
    LinkTrip,
    LinkWatchdog,
    ObjectBackoff,
    RefusedAuthentication,
    SilenceWatchdog,
    StuckAssociation,
)
from meterbridge.model import MeterId, Reading

_T = TypeVar("_T")
_FIRMWARE = "firmware_version"
# A new time-out is handed to the client when it differs by more than this part of the old one.
_TIMEOUT_STEP = 0.05


@dataclass(frozen=True, slots=True)
class Polled:
    """The meter was read.

    Args:
        reading: what it gave: values, errors, or both.
        latency: from the request to the whole answer, seconds.
        connected: whether this poll opened the association first.
    """

    reading: Reading
    latency: float
    connected: bool


@dataclass(frozen=True, slots=True)
class Failed:
    """The meter could not be read; the connection was closed.

    Args:
        error: why.
        retry_at: monotonic time before which it is left alone, seconds.
    """

    error: MeterError
    retry_at: float


@dataclass(frozen=True, slots=True)
class Waiting:
    """Nothing was tried: the meter is left alone until `retry_at`, monotonic seconds."""

    retry_at: float


PollOutcome = Polled | Failed | Waiting


class Trouble(enum.StrEnum):
    """What can be the matter with a meter; each opens once and is over once."""

    CONNECTION_LOSS = "connection_loss"
    CIRCUIT_BREAKER = "circuit_breaker"
    SILENCE = "silence"
    HDLC_ERROR = "hdlc_error"
    ASSOCIATION_STUCK = "association_stuck"
    AUTHENTICATION_FAILURE = "authentication_failure"
    OBJECT_FAILING = "object_failing"


@dataclass(frozen=True, slots=True)
class Tripped:
    """A policy stepped in. May be told again while the trouble lasts.

    Args:
        trouble: which.
        reason: one sentence with what led to it and what is done.
    """

    trouble: Trouble
    reason: str


@dataclass(frozen=True, slots=True)
class Recovered:
    """The trouble is over."""

    trouble: Trouble


@dataclass(frozen=True, slots=True)
class Stray:
    """Octets or a frame that were no use.

    Args:
        reason: why.
        damaged: whether the line damaged it: a link error. A repeated or late answer is none.
    """

    reason: str
    damaged: bool


PollerEvent = Tripped | Recovered | Stray


class Gate(Protocol):
    """Lets connections through at a bearable rate and number."""

    @property
    def contended(self) -> bool:
        """Whether somebody waits because too many connections are open."""

    async def enter(self) -> None:
        """Wait for leave to open a connection."""

    def leave(self) -> None:
        """Give the connection back."""


class OpenGate:
    """No limit: for a meter polled alone."""

    contended = False

    async def enter(self) -> None:
        """At once."""

    def leave(self) -> None:
        """Nothing to give back."""


@dataclass(frozen=True, slots=True)
class PollerSettings:
    """Thresholds of the policies; times in seconds.

    Args:
        breaker: when a link that keeps breaking is paused.
        silence: without a reading for this long, a reconnection is forced.
        link_errors: consecutive damaged frames after which the stream is drained.
        timeout_floor: shortest wait for an answer.
        timeout_ceiling: longest wait for an answer.
        inactivity: after which a meter forgets an association.
        object_retry: first pause of an object that fails.
        object_retry_max: longest pause of an object that keeps failing.
        alarm_after: failures in a row that are told as connection_loss.
        authentication_retry: wait after password or keys were refused; doubles with each refusal that follows.
        authentication_retry_max: longest such wait.
    """

    breaker: BreakerSettings = field(default_factory=BreakerSettings)
    silence: float = 600.0
    link_errors: int = 15
    timeout_floor: float = 6.0
    timeout_ceiling: float = 30.0
    inactivity: float = 120.0
    object_retry: float = 2.0
    object_retry_max: float = 3600.0
    alarm_after: int = 3
    authentication_retry: float = 300.0
    authentication_retry_max: float = 21_600.0


class PollerState(enum.Enum):
    """Where the poller stands with its meter."""

    IDLE = "not connected"
    CONNECTING = "connecting"
    READY = "associated"
    BACKING_OFF = "backing off"
    PAUSED = "circuit breaker open"
    WAITING_OUT = "waiting until the meter forgets an association"
    SHUT_OUT = "password or keys refused"


class _Signal(enum.Enum):
    CONNECT = "connect"
    OPENED = "opened"
    FAILED = "failed"
    REFUSED = "refused again"
    UNAUTHENTICATED = "not authenticated"
    BROKE = "breaker opened"
    LOST = "found lost"
    DUE = "wait over"
    FORCED = "forced"


_WAITS = (PollerState.BACKING_OFF, PollerState.PAUSED, PollerState.WAITING_OUT, PollerState.SHUT_OUT)

# Legal moves; whatever is not listed is a bug of ours.
_NEXT: dict[tuple[PollerState, _Signal], PollerState] = {
    (PollerState.IDLE, _Signal.CONNECT): PollerState.CONNECTING,
    (PollerState.IDLE, _Signal.BROKE): PollerState.PAUSED,
    (PollerState.CONNECTING, _Signal.OPENED): PollerState.READY,
    (PollerState.CONNECTING, _Signal.FAILED): PollerState.BACKING_OFF,
    (PollerState.CONNECTING, _Signal.REFUSED): PollerState.WAITING_OUT,
    (PollerState.CONNECTING, _Signal.UNAUTHENTICATED): PollerState.SHUT_OUT,
    (PollerState.CONNECTING, _Signal.BROKE): PollerState.PAUSED,
    (PollerState.READY, _Signal.FAILED): PollerState.BACKING_OFF,
    (PollerState.READY, _Signal.BROKE): PollerState.PAUSED,
    (PollerState.READY, _Signal.LOST): PollerState.IDLE,
    **{(state, _Signal.DUE): PollerState.IDLE for state in _WAITS},
    **{(state, _Signal.FORCED): PollerState.IDLE for state in PollerState},
}


def _ignore(event: PollerEvent) -> None:
    return


class DLMSProductionPoller:
    """Polls one meter; connects when needed, backs off after a failure, never gives up.

    Args:
        meter: whose readings these are.
        client: reads it; its `on_discarded` must lead to `discarded`.
        backoff: how long to leave it alone after failures.
        monotonic: monotonic clock, seconds.
        wall: Unix time, seconds.
        settings: thresholds of the policies.
        gate: limits new and open connections over all meters.
        listener: told of every trip, recovery and stray frame; must return at once.

    `firmware_version` is what the meter says of itself, empty when it says nothing, None before it was asked; `at_gate`
    says whether a poll under way waits for its turn to connect. `inherited` is what an earlier poller of this meter, or
    an earlier run, told of and nobody has recovered from: the first answer that disproves it ends it.
    """

    def __init__(
        self,
        meter: MeterId,
        client: DLMSClient,
        backoff: Backoff,
        monotonic: Callable[[], float],
        wall: Callable[[], float],
        settings: PollerSettings | None = None,
        gate: Gate | None = None,
        listener: Callable[[PollerEvent], None] = _ignore,
    ) -> None:
        settings = settings or PollerSettings()
        self.meter = meter
        self.client = client
        self.settings = settings
        self.listener = listener
        self.state = PollerState.IDLE
        self.firmware_version: str | None = None
        self.failures = 0
        self.open_troubles: set[Trouble] = set()
        self.inherited: set[Trouble] = set()
        self.at_gate = False
        self._backoff = backoff
        self._monotonic = monotonic
        self._wall = wall
        self._gate = gate or OpenGate()
        self._holds_gate = False
        self._retry_at = 0.0
        self._breaker = CircuitBreaker(settings.breaker)
        self._silence = SilenceWatchdog(settings.silence, monotonic())
        self._link = LinkWatchdog(settings.link_errors)
        self._timeout = AdaptiveTimeout(settings.timeout_floor, settings.timeout_ceiling)
        self._objects = ObjectBackoff(settings.object_retry, settings.object_retry_max)
        self._stuck = StuckAssociation(settings.inactivity)
        self._authentication = RefusedAuthentication(settings.authentication_retry, settings.authentication_retry_max)
        # Whether an association was opened since the last reading.
        self._opened = False
        self._wanted: tuple[str, ...] | None = None

    # ---- polling

    async def poll_once(self, *, force: bool = False) -> PollOutcome:
        """Make one attempt, unless the meter is being left alone.

        Args:
            force: try even then: a person asks.

        Raises:
            LocalProtocolError: a bug of ours; nothing the meter or the network does raises here.
        """
        now = self._monotonic()
        if self._silence.check(now):
            await self._break_silence(now)
        if self.state is not PollerState.READY or not self.client.connected:
            wait = await self._clear_the_way(now, force)
            if wait is not None:
                return wait
        try:
            if self.state is PollerState.IDLE:
                await self._connect()
            started = self._monotonic()
            readout = await self._read()
        except LocalProtocolError:
            raise
        except MeterError as error:
            return await self._failed(error)
        ended = self._monotonic()
        errors = {name: str(error) for name, error in readout.errors.items()}
        reading = Reading(self.meter, round(self._wall() * 1000), readout.values, errors)
        self._answered(reading, ended, ended - started)
        if self._gate.contended:
            # Others wait for a connection and this one has had its turn.
            await self.close()
        connected, self._opened = self._opened, False
        return Polled(reading, ended - started, connected)

    async def attend(self, errand: Callable[[DLMSClient], Awaitable[_T]]) -> _T:
        """Have something else done on the meter's association, opened first where it is not; never during a poll.

        What breaks the connection counts as a failed poll does.

        Args:
            errand: is given the client, connected.

        Raises:
            CommandRefused: the meter is being left alone after failures.
            DataAccessError, ServiceError: the meter said no.
            MeterError: the connection is of no more use, or could not be had.
        """
        if self.state is not PollerState.READY or not self.client.connected:
            wait = await self._clear_the_way(self._monotonic(), False)
            if wait is not None:
                left = max(0.0, wait.retry_at - self._monotonic())
                raise CommandRefused(f"the meter does not answer; the next try is in {left:.0f} s ({self.state.value})")
        opening = self.state is PollerState.IDLE
        try:
            if opening:
                await self._connect()
                opening = False
            return await errand(self.client)
        except LocalProtocolError:
            if opening or self.client.connected:
                raise
            # Lost between two of its exchanges.
            lost = ConnectionLost("the connection was lost")
            await self._failed(lost)
            raise lost from None
        except MeterError as error:
            if opening or not isinstance(error, (DataAccessError, ServiceError)):
                await self._failed(error)
            raise
        finally:
            if self._gate.contended and self.state is PollerState.READY:
                await self.close()

    def read_only(self, names: tuple[str, ...] | None) -> None:
        """Read these measurements from the next poll on; None reads what the model polls."""
        if names == self._wanted:
            return
        self._wanted = names
        self._objects = ObjectBackoff(self.settings.object_retry, self.settings.object_retry_max)
        if Trouble.OBJECT_FAILING in self.open_troubles:
            self._recovered(Trouble.OBJECT_FAILING)

    async def close(self) -> None:
        """Release the association and close; the next poll connects again."""
        try:
            await self.client.disconnect()
        finally:
            self._leave()
            self._move(_Signal.FORCED)

    def discarded(self, event: Discarded) -> None:
        """Take note of what the client could not use (the client's `on_discarded`)."""
        self.listener(Stray(event.reason, event.damaged))
        if not event.damaged:
            return
        trip = self._link.damaged()
        if trip is None:
            return
        limit = self.settings.link_errors
        self._tripped(Trouble.HDLC_ERROR, f"{limit} link errors in a row, the last: {event.reason}; {trip.value}")
        if trip is LinkTrip.DRAIN:
            self.client.resynchronise()
        else:
            # Not from here: the client is in the middle of what it received.
            asyncio.get_running_loop().call_soon(self._give_up_link)

    # ---- steps of a poll

    async def _clear_the_way(self, now: float, force: bool) -> Waiting | None:
        """Come to IDLE, from which a connection may be tried, or say until when not."""
        if self.state is PollerState.READY:
            # It went away between two polls.
            await self.client.disconnect()
            self._leave()
            self._move(_Signal.LOST)
            self._count_loss(now)
        if force and self.state in _WAITS:
            self._move(_Signal.FORCED)
            self._breaker.probe()
        if self.state in _WAITS:
            if now < self._retry_at:
                return Waiting(min(self._retry_at, self._silence.due))
            self._move(_Signal.DUE)
        self._breaker.waits_until(now)
        return None

    async def _connect(self) -> None:
        self._move(_Signal.CONNECT)
        await self.client.disconnect()
        if not self._holds_gate:
            self.at_gate = True
            try:
                await self._gate.enter()
            finally:
                self.at_gate = False
            self._holds_gate = True
        await self.client.connect()
        self._move(_Signal.OPENED)
        self._opened = True
        self._link.connected()
        if self._stuck.accepted():
            self._recovered(Trouble.ASSOCIATION_STUCK)
        if self._authentication.accepted():
            self._recovered(Trouble.AUTHENTICATION_FAILURE)
        if self.firmware_version is None and _FIRMWARE in self.client.model.measurements:
            readout = await self.client.read_measurements([_FIRMWARE])
            # Not every meter tells; those that do tell once.
            self.firmware_version = str(readout.values[_FIRMWARE].value) if _FIRMWARE in readout.values else ""

    async def _read(self) -> Readout:
        if not self._objects.failing:
            return await self.client.read_measurements(self._wanted)
        wanted = self._wanted or self.client.model.poll
        return await self.client.read_measurements(self._objects.wanted(wanted, self._monotonic()))

    def _answered(self, reading: Reading, now: float, latency: float) -> None:
        self.failures = 0
        self._backoff.succeeded()
        self._timeout.answered(latency)
        self._adapt()
        if self._link.answered():
            self._recovered(Trouble.HDLC_ERROR)
        if self._breaker.succeeded():
            self._recovered(Trouble.CIRCUIT_BREAKER)
        if Trouble.CONNECTION_LOSS in self.open_troubles:
            self._recovered(Trouble.CONNECTION_LOSS)
        if not reading.why_empty and self._silence.reading(now):
            self._recovered(Trouble.SILENCE)
        if reading.errors or self._objects.failing:
            self._account_objects(reading, now)
        if self.inherited:
            self._clear(reading)

    def _clear(self, reading: Reading) -> None:
        """Tell which of the inherited troubles this answer disproves."""
        stands = {Trouble.SILENCE: bool(reading.why_empty), Trouble.OBJECT_FAILING: bool(reading.errors)}
        for trouble in sorted(self.inherited):
            if not stands.get(trouble, False):
                self._recovered(trouble)

    def _account_objects(self, reading: Reading, now: float) -> None:
        for name, error in reading.errors.items():
            if self._objects.failed(name, now):
                self._tripped(Trouble.OBJECT_FAILING, f"{name} cannot be read: {error}; asked for less often")
        for name in reading.values:
            self._objects.succeeded(name)
        if Trouble.OBJECT_FAILING in self.open_troubles and not self._objects.failing:
            self._recovered(Trouble.OBJECT_FAILING)

    async def _failed(self, error: MeterError) -> Failed:
        # It may have been lost in the meantime; what counts is whether it had been open.
        was_open = self.state is PollerState.READY
        await self.client.disconnect()
        self._leave()
        now = self._monotonic()
        if isinstance(error, AuthenticationFailed):
            # The connection is fine: this has an alarm of its own.
            self._shut_out(error, now)
            return Failed(error, self._retry_at)
        self.failures += 1
        if isinstance(error, ResponseTimeout):
            self._timeout.silent()
            self._adapt()
        if self.failures == self.settings.alarm_after:
            self._tripped(Trouble.CONNECTION_LOSS, f"{self.failures} failures in a row, the last: {error}")
        self._leave_alone(error, now, was_open)
        return Failed(error, self._retry_at)

    def _shut_out(self, error: AuthenticationFailed, now: float) -> None:
        wait = self._authentication.refused()
        self._retry_at = now + wait
        self._move(_Signal.UNAUTHENTICATED)
        self._tripped(Trouble.AUTHENTICATION_FAILURE, f"{error}; asked again in {wait:g} s, less and less often")

    def _leave_alone(self, error: MeterError, now: float, was_open: bool) -> None:
        """Decide until when, and in which state."""
        self._retry_at = now + self._backoff.failed()
        if isinstance(error, AssociationRefused):
            wait = self._stuck.refused()
            if wait:
                self._retry_at = max(self._retry_at, now + wait)
                self._move(_Signal.REFUSED)
                self._tripped(Trouble.ASSOCIATION_STUCK, f"{error}; left alone for {wait:g} s")
                return
        if self._breaker.failed(now):
            self._pause(now, "the probe after the pause failed")
        elif not (was_open and self._count_loss(now)):
            self._move(_Signal.FAILED)

    def _count_loss(self, now: float) -> bool:
        """An association that was open has to be opened again: True when that is once too often."""
        if self._breaker.failed(now):
            self._pause(now, "the association broke before it gave a reading")
            return True
        if not self._breaker.reconnected(now):
            return False
        limit = self.settings.breaker
        self._pause(now, f"more than {limit.reconnections} reconnections within {limit.window:g} s")
        return True

    def _pause(self, now: float, why: str) -> None:
        self._move(_Signal.BROKE)
        self._retry_at = max(self._retry_at, self._breaker.waits_until(now) or now)
        self._tripped(Trouble.CIRCUIT_BREAKER, f"{why}; paused for {self.settings.breaker.pause:g} s")

    async def _break_silence(self, now: float) -> None:
        silent = self._silence.silence(now)
        self._tripped(Trouble.SILENCE, f"no reading for {silent:.0f} s; reconnection forced")
        if self._stuck.stuck or self.state is PollerState.SHUT_OUT:
            # Asking now would keep the old association alive, or bring the meter to lock us out: the wait goes on.
            return
        await self.close()
        self._backoff.succeeded()
        self._breaker.reset()
        if Trouble.CIRCUIT_BREAKER in self.open_troubles:
            self._recovered(Trouble.CIRCUIT_BREAKER)

    # ---- within

    def _move(self, signal: _Signal) -> None:
        state = _NEXT.get((self.state, signal))
        if state is None:
            raise LocalProtocolError(f"{signal.value} is not possible: the poller is {self.state.value}")
        self.state = state

    def _leave(self) -> None:
        if self._holds_gate:
            self._holds_gate = False
            self._gate.leave()

    def _adapt(self) -> None:
        wanted, current = self._timeout.value, self.client.timeouts.response
        if abs(wanted - current) > _TIMEOUT_STEP * current:
            self.client.timeouts = replace(self.client.timeouts, response=wanted)

    def _give_up_link(self) -> None:
        self.client.connection_lost(ConnectionLost(f"{self.client.address} sends nothing but damaged frames"))

    def _tripped(self, trouble: Trouble, reason: str) -> None:
        self.inherited.discard(trouble)
        self.open_troubles.add(trouble)
        self.listener(Tripped(trouble, reason))

    def _recovered(self, trouble: Trouble) -> None:
        self.inherited.discard(trouble)
        self.open_troubles.discard(trouble)
        self.listener(Recovered(trouble))
