"""Connection: one association over one transport, its octets and its deadlines."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

from meterbridge.dlms import (
    AssociationClosed,
    AssociationEvent,
    AssociationOpened,
    AssociationParameters,
    ClientAssociation,
    Discarded,
    InvocationCounter,
    Notified,
    RequestCompleted,
    State,
)
from meterbridge.errors import (
    ConfigurationError,
    ConnectionLost,
    LocalProtocolError,
    MeterbridgeError,
    MeterError,
    RemoteProtocolError,
    ResponseTimeout,
    ServiceError,
)
from meterbridge.meter.address import MeterAddress, Timeouts
from meterbridge.meter.kept_counter import KeptCounter
from meterbridge.meter.transport import TcpTransport, Transport, UdpTransport
from meterbridge.meter.turn import Turn

_Event = TypeVar("_Event", bound=AssociationEvent)
_Answer = AssociationEvent | tuple[Any, ...]
"""What ends a wait: an event, or the results of a request repeated the quick way."""


class Connection:
    """Carries one request at a time to a meter and its answer back; may be opened anew after it was lost.

    Args:
        address: how to reach the meter.
        timeouts: how long to wait.
        on_discarded: told of octets and frames that were no use.
        on_notified: told of what the meter sends unasked on the association, deciphered.
        counter: invocation counter of the credentials' keys, kept by the caller.

    Raises:
        ConfigurationError: credentials that need a counter, and none.
    """

    def __init__(
        self,
        address: MeterAddress,
        timeouts: Timeouts | None = None,
        on_discarded: Callable[[Discarded], None] | None = None,
        counter: InvocationCounter | None = None,
        on_notified: Callable[[Notified], None] | None = None,
    ) -> None:
        self.address = address
        self.timeouts = timeouts or Timeouts()
        self._on_discarded = on_discarded
        self._on_notified = on_notified
        if address.credentials is not None and address.credentials.counted and counter is None:
            raise ConfigurationError("ciphering and GMAC need an invocation counter that is kept")
        self._counter = counter
        self._transport: Transport | None = None
        self._association: ClientAssociation | None = None
        self._turn = Turn()
        self._waiter: asyncio.Future[_Answer] | None = None
        self._deadline = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop
        self._asked_at = 0.0
        self._idle_timer: asyncio.TimerHandle | None = None
        self._retransmitted = 0

    @property
    def connected(self) -> bool:
        """Whether the association is open, as far as we know."""
        return self._association is not None and self._association.state in (State.READY, State.BUSY)

    async def _open(self) -> None:
        address = self.address
        if isinstance(self._counter, KeptCounter):
            await self._counter.ready()
        parameters = AssociationParameters(
            address.password, short_names=address.short_names, credentials=address.credentials
        )
        association = ClientAssociation(address.link(), parameters, self._counter)
        carrier = UdpTransport if address.framing == "wrapper-udp" else TcpTransport
        self._transport = await carrier.connect(address.host, address.port, self, self.timeouts.connect)
        self._association = association
        self._loop = asyncio.get_running_loop()
        try:
            association.open()
            await self._await(AssociationOpened)
        except BaseException:
            self._drop()
            raise
        self._keep_alive()

    async def disconnect(self) -> None:
        """Release the association (RLRQ), end the link (DISC) and close; never fails, at most one response time-out."""
        async with self._turn:
            association = self._association
            if association is None:
                return
            try:
                association.release()
                await self._await(AssociationClosed)
            except MeterError:
                pass  # the connection is going away in any case
            finally:
                self._drop()

    def resynchronise(self) -> int:
        """Forget octets of a frame that never became whole; return how many. May be called from `on_discarded`."""
        return 0 if self._association is None else self._association.resynchronise()

    def _drop(self) -> None:
        if self._transport is not None:
            self._transport.close()
        self._transport = self._association = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._idle_timer is not None:
            self._idle_timer.cancel()
            self._idle_timer = None

    async def _exchange(self, begin: Callable[[ClientAssociation], None]) -> tuple[Any, ...]:
        """Have the association begin a request and wait for its results; our turn is ours already."""
        association = self._association
        if association is None:
            raise LocalProtocolError("not connected")
        try:
            begin(association)
            return (await self._await(RequestCompleted)).results
        except (ServiceError, LocalProtocolError):
            if association.state is not State.READY:
                self._drop()
            raise
        except BaseException:
            # A cancelled or broken exchange leaves an answer under way that nobody waits for.
            self._drop()
            raise

    def data_received(self, data: bytes) -> None:
        """Octets arrived (called by the transport)."""
        association = self._association
        if association is None:
            return
        results = association.receive_data(data)
        if results is not None:
            waiter = self._waiter
            if waiter is not None and not waiter.done():
                waiter.set_result(results)
        else:
            self._pump(association)

    def connection_lost(self, error: ConnectionLost) -> None:
        """The connection ended (called by the transport)."""
        self._fail(error)
        self._drop()

    def _pump(self, association: ClientAssociation) -> None:
        """Hand on what the association makes of the octets, and send what it wants sent."""
        try:
            while (event := association.next_event()) is not None:
                if isinstance(event, Discarded):
                    if self._on_discarded is not None:
                        self._on_discarded(event)
                elif isinstance(event, Notified):
                    if self._on_notified is not None:
                        self._on_notified(event)
                elif self._waiter is not None and not self._waiter.done():
                    self._waiter.set_result(event)
        except MeterbridgeError as error:
            # Also what is not the meter's: an invocation counter that cannot be kept.
            if not self._fail(error) and not isinstance(error, ServiceError):
                self._drop()
                return
        octets = association.data_to_send()
        if octets and self._transport is not None:
            # The exchange goes on: the meter has the full time for its next part. Noise alone buys it none.
            now, limit = asyncio.get_running_loop().time(), self._asked_at + self.timeouts.exchange
            self._deadline = min(now + self.timeouts.response, limit)
            self._retransmitted = 0
            self._transport.write(octets)

    def _fail(self, error: MeterbridgeError) -> bool:
        waiter = self._waiter
        if waiter is None or waiter.done():
            return False
        waiter.set_exception(error)
        return True

    async def _await(self, expected: type[_Event]) -> _Event:
        """Send what is due and wait for the event that answers it."""
        association = self._association
        if association is None or self._transport is None:
            raise LocalProtocolError("not connected")
        waiter = self._expect()
        try:
            # Framings without a handshake have their first event ready before any octet arrives.
            self._pump(association)
            event = await waiter
        finally:
            self._waiter = None
        if not isinstance(event, expected):
            raise RemoteProtocolError(f"{type(event).__name__} where {expected.__name__} was due")
        return event

    def _expect(self) -> asyncio.Future[_Answer]:
        """Make the future that the next event resolves, its deadline set."""
        loop = self._loop
        self._waiter = waiter = loop.create_future()
        self._retransmitted = 0
        self._asked_at = now = loop.time()
        self._deadline = now + self.timeouts.response
        if self._timer is None:
            self._timer = loop.call_at(self._deadline, self._check_deadline)
        return waiter

    def _keep_alive(self) -> None:
        """Send RR where nothing was asked for a while, and look again later."""
        self._idle_timer = None
        association, every = self._association, self.timeouts.keep_alive
        if association is None or not every:
            return
        loop = asyncio.get_running_loop()
        idle = loop.time() - self._asked_at
        if idle >= every and self._waiter is None and association.keep_alive() and self._transport is not None:
            self._asked_at = loop.time()
            self._transport.write(association.data_to_send())
            idle = 0.0
        self._idle_timer = loop.call_later(max(every - idle, every / 10), self._keep_alive)

    def _check_deadline(self) -> None:
        # One timer a connection, moved only when it rings: cheaper than one a request.
        self._timer = None
        association, waiter = self._association, self._waiter
        if association is None or waiter is None or waiter.done():
            return
        loop = asyncio.get_running_loop()
        if loop.time() >= self._deadline:
            before = self._retransmitted
            over = loop.time() >= self._asked_at + self.timeouts.exchange
            if over or before >= self.timeouts.retransmissions or not association.handle_timeout():
                self._fail(self._silence(association))
                return
            self._pump(association)
            self._retransmitted = before + 1
            self._deadline = loop.time() + self.timeouts.response
        self._timer = loop.call_at(self._deadline, self._check_deadline)

    def _silence(self, association: ClientAssociation) -> ResponseTimeout:
        if asyncio.get_running_loop().time() >= self._asked_at + self.timeouts.exchange:
            return ResponseTimeout(f"{self.address} had not answered in full after {self.timeouts.exchange:g} s")
        waited = self.timeouts.response * (self._retransmitted + 1)
        if association.state is State.LINKING:
            return ResponseTimeout(
                f"{self.address} stays silent for {waited:g} s: wrong server address or client SAP, another framing"
                " than hdlc, or no meter there"
            )
        return ResponseTimeout(f"{self.address} gave no answer for {waited:g} s ({association.state.value})")
