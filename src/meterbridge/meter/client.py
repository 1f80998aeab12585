"""DLMSClient: one meter, one association that stays open."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from meterbridge.dlms import (
    AssociationClosed,
    AssociationEvent,
    AssociationOpened,
    AssociationParameters,
    AttributeDescriptor,
    ClientAssociation,
    Credentials,
    Data,
    DataType,
    Discarded,
    HdlcLink,
    HdlcParameters,
    InvocationCounter,
    Link,
    LogicalName,
    MethodDescriptor,
    Notified,
    RequestCompleted,
    SelectiveAccess,
    State,
    WrapperLink,
    client_address,
    scaled,
    server_address,
    unit_symbol,
)
from meterbridge.dlms.exchange import GetExchange, ReadExchange
from meterbridge.dlms.xdlms import ValueDecoder
from meterbridge.errors import (
    AuthenticationFailed,
    ConfigurationError,
    ConnectionLost,
    DataAccessError,
    Interrupted,
    InvocationCounterError,
    LocalProtocolError,
    MeterbridgeError,
    MeterError,
    RemoteProtocolError,
    ResponseTimeout,
    ServiceError,
)
from meterbridge.meter.catalogue import MeterModel
from meterbridge.meter.kept_counter import KeptCounter
from meterbridge.meter.lists import Lists
from meterbridge.meter.plan import SCALED_CLASSES, PlanItem, Readout, ReadPlan, prepared
from meterbridge.meter.profile import ProfileReader, ProfileTable
from meterbridge.meter.short_names import OBJECT_LIST, ShortNames
from meterbridge.meter.transport import TcpTransport, Transport, UdpTransport
from meterbridge.meter.turn import Turn
from meterbridge.model import Measurement, Quantity, host_port

_SCALED_ATTRIBUTE = 2
_DESCRIPTOR_OCTETS = 10
_LIST_HEAD = 5
_MOST_IN_A_LIST = 32
_MOST_PLANS = 64
_ASSOCIATION_LN = AttributeDescriptor(15, LogicalName(b"\x00\x00\x28\x00\x00\xff"), 2)

_NO_PARAMETERS = Data(DataType.INTEGER, 0)
"""What is written to call a method by short name that takes no parameters."""

COUNTER_OBJECT = LogicalName(b"\x00\x00\x2b\x01\x00\xff")
"""0-0:43.1.0, where most meters keep the invocation counter they received last."""
_PUBLIC_CLIENT = 16
_LAST_BELIEVED_COUNTER = 0xFEFFFFFF

_Event = TypeVar("_Event", bound=AssociationEvent)
_Answer = AssociationEvent | tuple[Any, ...]
"""What ends a wait: an event, or the results of a request repeated the quick way."""


@dataclass(frozen=True, slots=True)
class MeterAddress:
    """How to reach one meter and who to be there.

    Args:
        host: name or address.
        port: TCP port.
        framing: `hdlc`, `wrapper`, or `wrapper-udp` for the wrapper over UDP.
        client: client SAP.
        server: logical device address.
        physical: HDLC lower address; None for a one-octet server address.
        password: LLS secret; None without authentication. Never shown by repr.
        hdlc: link parameters to propose.
        credentials: HLS and ciphering, in place of the password.
        referencing: `ln` for logical names, `sn` for short names.
    """

    host: str
    port: int = 3333
    framing: str = "hdlc"
    client: int = 1
    server: int = 1
    physical: int | None = None
    password: bytes | None = field(default=None, repr=False)
    hdlc: HdlcParameters = field(default_factory=HdlcParameters)
    credentials: Credentials | None = None
    referencing: str = "ln"

    def link(self) -> Link:
        """Make a fresh link.

        Raises:
            ConfigurationError: an address that does not exist, or an unknown framing.
        """
        try:
            if self.framing == "hdlc":
                return HdlcLink(client_address(self.client), server_address(self.server, self.physical), self.hdlc)
            if self.framing in ("wrapper", "wrapper-udp"):
                return WrapperLink(self.client, self.server)
        except LocalProtocolError as error:
            raise ConfigurationError(str(error)) from None
        raise ConfigurationError(f"framing {self.framing!r} is none of hdlc, wrapper and wrapper-udp")

    @property
    def short_names(self) -> bool:
        """Whether objects are named by short names.

        Raises:
            ConfigurationError: an unknown referencing.
        """
        if self.referencing not in ("ln", "sn"):
            raise ConfigurationError(f"referencing {self.referencing!r} is neither ln nor sn")
        return self.referencing == "sn"

    def __str__(self) -> str:
        server = f"{self.server}" if self.physical is None else f"{self.server}/{self.physical}"
        return f"{host_port(self.host, self.port)}, client {self.client}, server {server}"


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long a client waits, in seconds.

    Args:
        connect: for the TCP connection.
        response: for an answer, and for each part of one that comes in parts.
        exchange: for a request and its whole answer, however many parts it has: a meter that always sends one more
            part would hold its worker for ever.
        retransmissions: how often an HDLC request is said again after `response` without an answer.
        keep_alive: idle time after which RR keeps an HDLC link from its inactivity time-out; 0 leaves it alone.
    """

    connect: float = 5.0
    response: float = 5.0
    retransmissions: int = 1
    keep_alive: float = 0.0
    exchange: float = 3600.0


@dataclass(frozen=True, slots=True)
class ObjectListElement:
    """One row of an association's object list.

    Args:
        class_id: COSEM interface class.
        version: of the class.
        logical_name: which object.
        attribute_access: access mode by attribute index.
        method_access: access mode by method index.
        base_name: short name of attribute 1, None with logical name referencing. Rights are not told along with it.
    """

    class_id: int
    version: int
    logical_name: LogicalName
    attribute_access: dict[int, int]
    method_access: dict[int, int]
    base_name: int | None = None


class DLMSClient:
    """Reads one meter; its association stays open between reads, and may be opened anew after it was lost.

    Safe for several tasks: their requests take turns.

    Args:
        address: how to reach the meter.
        model: what its measurements are called and where they stand.
        timeouts: how long to wait.
        on_discarded: told of octets and frames that were no use.
        on_notified: told of what the meter sends unasked on the association, deciphered.
        counter: invocation counter of the credentials' keys, kept by the caller.
        counter_object: Data object from which the counter is taken before the first association, by the public client.

    Raises:
        ConfigurationError: credentials that need a counter, and none.
    """

    def __init__(
        self,
        address: MeterAddress,
        model: MeterModel,
        timeouts: Timeouts | None = None,
        on_discarded: Callable[[Discarded], None] | None = None,
        counter: InvocationCounter | None = None,
        counter_object: LogicalName | None = None,
        on_notified: Callable[[Notified], None] | None = None,
    ) -> None:
        self.address = address
        self.model = model
        self.timeouts = timeouts or Timeouts()
        self._on_discarded = on_discarded
        self._on_notified = on_notified
        if address.credentials is not None and address.credentials.counted and counter is None:
            raise ConfigurationError("ciphering and GMAC need an invocation counter that is kept")
        self._counter = counter
        self._counter_object = counter_object
        self._synchronised = counter_object is None
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
        self._scalers: dict[tuple[int, str], tuple[int, str | None]] = {}
        self._lists = Lists()
        self._plans: dict[tuple[str, ...] | None, ReadPlan] = {}
        self._short_names: ShortNames | None = None
        self._profiles: dict[LogicalName, ProfileReader] = {}

    # ---- connection

    @property
    def connected(self) -> bool:
        """Whether the association is open, as far as we know."""
        return self._association is not None and self._association.state in (State.READY, State.BUSY)

    async def connect(self) -> None:
        """Open TCP, link (SNRM/UA) and association (AARQ/AARE).

        Raises:
            ConfigurationError: an address that cannot be.
            ConnectFailed: no TCP connection.
            AssociationRefused: the meter refused link or association.
            ServiceError: it answered with an error instead.
            ResponseTimeout: it stays silent; the message names the addresses.
            ConnectionLost, RemoteProtocolError: it closed, or talked nonsense.
            CounterUnavailable: there is no invocation counter to be had.
        """
        async with self._turn:
            if self._transport is not None:
                raise LocalProtocolError("already connected")
            if not self._synchronised:
                await self._synchronise(self._counter_object or COUNTER_OBJECT)
            try:
                await self._open()
            except InvocationCounterError as error:
                if error.expected is None:
                    await self._synchronise(self._counter_object or COUNTER_OBJECT)
                else:
                    # Some meters say what they expect, others what they had last: one more is greater than both.
                    self._advance_counter(error.expected + 1)
                await self._open()
            except (AuthenticationFailed, ResponseTimeout):
                # Some meters say no more than that to a counter they had already: next time it is theirs that counts.
                self._synchronised = self._counter_object is None
                raise

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
        self._forget_lists(association)
        self._keep_alive()

    async def _synchronise(self, counter_object: LogicalName) -> None:
        """Take the invocation counter the meter received last from its own object, as the public client."""
        public = replace(self.address, client=_PUBLIC_CLIENT, password=None, credentials=None)
        client = DLMSClient(public, self.model, self.timeouts, self._on_discarded)
        await client.connect()
        try:
            [value] = await client.get([AttributeDescriptor(1, counter_object, 2)])
        finally:
            await client.disconnect()
        if isinstance(value, MeterError):
            raise value
        if not isinstance(value, int):
            raise RemoteProtocolError(f"{counter_object.obis} holds no invocation counter")
        self._advance_counter(value + 1)
        self._synchronised = True

    def _advance_counter(self, least: int) -> None:
        # Nothing vouches for what the meter says here: who could say the last counter would use up the keys.
        if least > _LAST_BELIEVED_COUNTER:
            raise RemoteProtocolError(f"the meter names invocation counter {least}, too near the end to be believed")
        if self._counter is not None:
            self._counter.advance_to(least)

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

    # ---- reading

    async def get(
        self,
        attributes: Iterable[AttributeDescriptor],
        *,
        typed: bool = False,
        may_go_on: Callable[[], bool] | None = None,
    ) -> list[Any]:
        """Read attributes, with as few requests as the meter agrees to.

        Args:
            attributes: what to read.
            typed: results as `Data` instead of plain Python values.
            may_go_on: asked before each request and each data block but the first; None is always.

        Returns:
            One result for each attribute; a DataAccessError stands where the meter refused it, a ServiceError where
            it refused the request, an Interrupted where it was not asked any more.

        Raises:
            TransportError, RemoteProtocolError: the connection is of no more use and was closed.
            LocalProtocolError: not connected.
        """
        results: list[Any] = []
        async with self._turn:
            for chunk in self._chunks(tuple(attributes)):
                if results and may_go_on is not None and not may_go_on():
                    results += [Interrupted("not asked for: no time was left")] * len(chunk)
                else:
                    results += await self._get_chunk(chunk, typed, may_go_on)
        return results

    def _chunks(self, attributes: tuple[AttributeDescriptor, ...]) -> Iterator[tuple[AttributeDescriptor, ...]]:
        """Split attributes into lists that the meter agreed to and that fit its largest APDU."""
        association = self._association
        if association is None:
            raise LocalProtocolError("not connected")
        most = association.negotiated.max_receive_pdu if association.negotiated else 0
        chunk: list[AttributeDescriptor] = []
        size = 0
        for attribute in attributes:
            octets = len(attribute.encode()) if attribute.selection else _DESCRIPTOR_OCTETS
            full = most and size + octets + _LIST_HEAD > most
            if chunk and (full or len(chunk) >= _MOST_IN_A_LIST or not self._takes_lists(association)):
                yield tuple(chunk)
                chunk, size = [], 0
            chunk.append(attribute)
            size += octets
        if chunk:
            yield tuple(chunk)

    def _takes_lists(self, association: ClientAssociation) -> bool:
        return self._lists.worth_trying and association.takes_lists

    def _forget_lists(self, association: ClientAssociation) -> None:
        """Plan anew what was read with lists, where this association has none."""
        if not self._takes_lists(association):
            self._plans = {names: plan for names, plan in self._plans.items() if plan.single}

    async def _get_chunk(
        self, attributes: tuple[AttributeDescriptor, ...], typed: bool, may_go_on: Callable[[], bool] | None
    ) -> Sequence[Any]:
        try:
            answer = await self._ask(attributes, typed, may_go_on=may_go_on)
            self._lists.answered(len(attributes))
            return answer
        except ServiceError as error:
            if len(attributes) == 1:
                return [error]
        except (ResponseTimeout, ConnectionLost):
            self._lists.silent(len(attributes))
            raise
        # Agreed to and yet refused: some meters claim lists and have none, or none that long.
        results: list[Any] = []
        for attribute in attributes:
            if may_go_on is not None and not may_go_on():
                results.append(Interrupted("not asked for: no time was left"))
            else:
                results += await self._get_chunk((attribute,), typed, may_go_on)
        self._lists.refused()
        if self._association is not None:
            self._forget_lists(self._association)
        return results

    async def _ask(
        self,
        attributes: tuple[AttributeDescriptor, ...],
        typed: bool,
        decode: ValueDecoder | None = None,
        may_go_on: Callable[[], bool] | None = None,
    ) -> Sequence[Any]:
        """Have attributes read in one request, in the way this meter names them; our turn is ours already."""
        if not self.address.short_names:
            return await self._exchange(
                lambda association: association.request(GetExchange(attributes, typed, decode, may_go_on))
            )
        names = await self._names()
        results: list[Any] = []
        asked: list[tuple[int, SelectiveAccess | None]] = []
        for attribute in attributes:
            try:
                asked.append((names.attribute(attribute), attribute.selection))
                results.append(None)
            except DataAccessError as error:
                results.append(error)
        if asked:
            answers = iter(
                await self._exchange(
                    lambda association: association.request(ReadExchange(asked, typed, decode, may_go_on))
                )
            )
            results = [result if isinstance(result, MeterError) else next(answers) for result in results]
        return results

    async def _names(self) -> ShortNames:
        """Return the meter's short names, read once; our turn is ours already."""
        if self._short_names is None:
            [rows] = await self._exchange(lambda association: association.read([(OBJECT_LIST, None)]))
            if isinstance(rows, MeterError):
                raise rows
            self._short_names = ShortNames(rows)
        return self._short_names

    async def get_decoded(
        self, attribute: AttributeDescriptor, decode: ValueDecoder, may_go_on: Callable[[], bool] | None = None
    ) -> Any:
        """Read one attribute with a decoder of the caller's own for its encoded data.

        Raises:
            DataAccessError, ServiceError: the meter refuses it.
            Interrupted: `may_go_on` said no before all data blocks were there.
            MeterError: as `get`.
        """
        async with self._turn:
            [result] = await self._ask((attribute,), False, decode, may_go_on)
        if isinstance(result, MeterError):
            raise result
        return result

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

    async def set(self, attribute: AttributeDescriptor, value: Data, *, confirmed: bool = True) -> None:
        """Write an attribute.

        Args:
            attribute: which.
            value: with its type.
            confirmed: False has the meter not answer (UnconfirmedWrite, with short names only): what it makes of it
                nobody says.

        Raises:
            ConfigurationError: unconfirmed, with logical names.
            DataAccessError: the meter refuses it.
            ServiceError: the meter refuses the request.
            MeterError: as `get`.
        """
        if not confirmed and not self.address.short_names:
            raise ConfigurationError("writing without an answer is for meters with short names")
        async with self._turn:
            if self.address.short_names:
                name = (await self._names()).attribute(attribute)
                [result] = await self._exchange(
                    lambda association: association.write([(name, attribute.selection, value)], confirmed=confirmed)
                )
            else:
                [result] = await self._exchange(lambda association: association.set([(attribute, value)]))
        if isinstance(result, DataAccessError):
            raise result

    async def action(self, method: MethodDescriptor, parameters: Data | None = None, *, typed: bool = False) -> Any:
        """Call a method and return what it returns; nothing on a meter with short names, where calling is writing.

        Raises:
            DataAccessError: the meter refuses it.
            ServiceError: the meter refuses the request.
            MeterError: as `get`.
        """
        async with self._turn:
            if self.address.short_names:
                name = (await self._names()).method(method)
                value = parameters or _NO_PARAMETERS
                [result] = await self._exchange(lambda association: association.write([(name, None, value)]))
            else:
                [result] = await self._exchange(
                    lambda association: association.action([(method, parameters)], typed=typed)
                )
        if isinstance(result, DataAccessError):
            raise result
        return result

    async def read_measurement(self, name: str) -> Quantity:
        """Read one measurement, by name, OBIS code or `CLASS:OBIS:ATTRIBUTE`.

        Raises:
            ConfigurationError: no such measurement.
            DataAccessError: the meter has none, or refuses it.
            MeterError: as `get`.
        """
        values, errors = await self.read_measurements((name,))
        if errors:
            raise errors[name]
        return values[name]

    def read_measurements(self, names: Iterable[str] | None = None) -> Coroutine[Any, Any, Readout]:
        """Read several measurements, all in one request where the meter has GET with list.

        Scaler and unit are read along the first time and remembered.

        Args:
            names: as for `read_measurement`; None reads what the model polls.

        Raises:
            ConfigurationError: no such measurement.
            MeterError: as `get`; what a single object refuses is in the readout's errors instead.
        """
        wanted = None if names is None else tuple(names)
        plan = self._plans.get(wanted)
        return self._read_and_learn(wanted) if plan is None else self._repeat(plan, wanted)

    async def _repeat(self, plan: ReadPlan, names: tuple[str, ...] | None) -> Readout:
        """Read again what was read before: what a poller does all day, hence without a step more than it takes."""
        association, transport = self._association, self._transport
        if association is None or transport is None or not self._turn.take_if_free():
            return await self._read_and_learn(names)
        try:
            waiter = self._expect()
            transport.write(association.get_prepared(plan.prepared))
            event = await waiter
        except ServiceError:
            event = None
        except BaseException:
            self._drop()
            raise
        finally:
            self._waiter = None
            self._turn.give_back()
        if type(event) is tuple:
            return plan.readout(event)
        if type(event) is RequestCompleted:
            return plan.readout(event.results)
        return await self._read_and_learn(names)

    async def _read_and_learn(self, names: tuple[str, ...] | None) -> Readout:
        """Read measurements one way or another, and plan a quick way for the next time."""
        measurements = {name: self.model.find(name) for name in (self.model.poll if names is None else names)}
        attributes: list[AttributeDescriptor] = []
        asked: set[str] = set()  # noted here: one object under two names has its scaler learned at the first
        for name, measurement in measurements.items():
            attributes.append(_descriptor(measurement, measurement.attribute))
            if self._scaler_missing(measurement):
                asked.add(name)
                attributes.append(_descriptor(measurement, SCALED_CLASSES[measurement.class_id]))
        results = iter(await self.get(attributes))
        readout = Readout({}, {})
        for name, measurement in measurements.items():
            value = next(results)
            scaler_unit = next(results) if name in asked else None
            try:
                readout.values[name] = self._quantity(measurement, value, scaler_unit)
            except MeterError as error:
                readout.errors[name] = error
        self._plan(names, measurements)
        return readout

    def _plan(self, names: tuple[str, ...] | None, measurements: dict[str, Measurement]) -> None:
        if self.address.short_names or any(self._scaler_missing(measurement) for measurement in measurements.values()):
            return
        attributes = tuple(_descriptor(measurement, measurement.attribute) for measurement in measurements.values())
        if self._association is None or len(list(self._chunks(attributes))) != 1:
            return
        if len(self._plans) >= _MOST_PLANS:
            self._plans.clear()
        items = [
            PlanItem(name, measurement, *self._scalers.get((measurement.class_id, measurement.logical_name), (0, None)))
            for name, measurement in measurements.items()
        ]
        self._plans[names] = ReadPlan(prepared(attributes), items)

    def _scaler_missing(self, measurement: Measurement) -> bool:
        return (
            measurement.class_id in SCALED_CLASSES
            and measurement.attribute == _SCALED_ATTRIBUTE
            and (measurement.class_id, measurement.logical_name) not in self._scalers
        )

    def _quantity(self, measurement: Measurement, value: Any, scaler_unit: Any) -> Quantity:
        if isinstance(value, MeterError):
            raise value
        if isinstance(scaler_unit, MeterError):
            raise scaler_unit
        key = (measurement.class_id, measurement.logical_name)
        if scaler_unit is not None:
            self._scalers[key] = _scaler_unit(scaler_unit, measurement)
        return PlanItem("", measurement, *self._scalers.get(key, (0, None))).quantity(value)

    async def read_objects(self) -> list[ObjectListElement]:
        """Read the object list of the association.

        Raises:
            DataAccessError: the meter refuses it.
            RemoteProtocolError: it is no object list.
            MeterError: as `get`.
        """
        if self.address.short_names:
            async with self._turn:
                names = await self._names()
            return [
                ObjectListElement(item.class_id, item.version, item.logical_name, {}, {}, item.base_name)
                for item in names.objects
            ]
        [rows] = await self.get([_ASSOCIATION_LN])
        if isinstance(rows, MeterError):
            raise rows
        try:
            return [_object_list_element(row) for row in rows]
        except (TypeError, ValueError, IndexError):
            raise RemoteProtocolError("the object list has a form of its own") from None

    async def read_profile(
        self,
        logical_name: LogicalName,
        start: dt.datetime | None = None,
        end: dt.datetime | None = None,
        *,
        entries: tuple[int, int] | None = None,
        fill_nulls: bool = True,
        may_go_on: Callable[[], bool] | None = None,
    ) -> ProfileTable:
        """Read rows of a Profile Generic: all of them, a range of time, or a range of entries.

        Args:
            logical_name: of the profile, e.g. `1-0:99.1.0`.
            start: earliest time, included; a naive one is meant in the meter's local time.
            end: latest time, included.
            entries: first and last entry, from 1, both included; 0 for the last one there is.
            fill_nulls: null-data stands for what can be known without it: in a clock's column the time one capture
                period after the row before, in others the value of the row before. False leaves them None.
            may_go_on: asked before each request and data block but the first. What was learned of the profile
                itself until it said no is not asked for again.

        Raises:
            Interrupted: it said no before all was there.
            ConfigurationError: times and entries at once, a range that ends before it begins, or a range of time of a
                profile that captures none.
            DataAccessError: the meter has no such profile, or refuses the selection.
            RemoteProtocolError: rows that do not fit the capture objects.
            MeterError: as `get`.
        """
        return await self._profile(logical_name).read(start, end, entries, fill_nulls, may_go_on)

    def profile_chunks(
        self,
        logical_name: LogicalName,
        start: dt.datetime,
        end: dt.datetime,
        *,
        step: dt.timedelta | None = None,
        fill_nulls: bool = True,
    ) -> AsyncIterator[ProfileTable]:
        """Read a long range of a Profile Generic piece by piece, oldest first; each row comes once.

        A piece is given even where it holds no rows: its `end` says how far reading has come.

        Args:
            logical_name: of the profile.
            start: earliest time, included.
            end: latest time, included.
            step: time a piece spans; a thousand capture periods unless given, a day where there is no period.
            fill_nulls: as `read_profile`.

        Raises:
            ConfigurationError, MeterError: as `read_profile`.
        """
        return self._profile(logical_name).chunks(start, end, step, fill_nulls)

    def _profile(self, logical_name: LogicalName) -> ProfileReader:
        return self._profiles.setdefault(logical_name, ProfileReader(self, logical_name))

    # ---- octets and time

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


def _descriptor(measurement: Measurement, attribute: int) -> AttributeDescriptor:
    return AttributeDescriptor(measurement.class_id, LogicalName.parse(measurement.logical_name), attribute)


def _scaler_unit(value: Any, measurement: Measurement) -> tuple[int, str | None]:
    try:
        if isinstance(value, (bytes, str)):
            raise TypeError
        scaler, unit = value
        scaled(0, scaler)
        return scaler, unit_symbol(unit)
    except (TypeError, ValueError):
        raise RemoteProtocolError(f"{measurement.name}: scaler and unit are {value!r}") from None


def _object_list_element(row: Any) -> ObjectListElement:
    class_id, version, name, (attributes, methods) = row
    return ObjectListElement(
        class_id,
        version,
        LogicalName(name),
        {attribute[0]: int(attribute[1]) for attribute in attributes},
        {method[0]: int(method[1]) for method in methods},
    )
