"""Session: what a meter's association offers, GET, SET and ACTION, however the meter names its objects."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from meterbridge.dlms import (
    AttributeDescriptor,
    ClientAssociation,
    Data,
    DataType,
    Discarded,
    InvocationCounter,
    LogicalName,
    MethodDescriptor,
    Notified,
    SelectiveAccess,
)
from meterbridge.dlms.exchange import GetExchange
from meterbridge.dlms.short_name_exchange import ReadExchange
from meterbridge.dlms.xdlms import ValueDecoder
from meterbridge.errors import (
    AuthenticationFailed,
    ConfigurationError,
    ConnectionLost,
    DataAccessError,
    Interrupted,
    InvocationCounterError,
    LocalProtocolError,
    MeterError,
    RemoteProtocolError,
    ResponseTimeout,
    ServiceError,
)
from meterbridge.meter.address import MeterAddress, Timeouts
from meterbridge.meter.connection import Connection
from meterbridge.meter.lists import Lists
from meterbridge.meter.short_names import OBJECT_LIST, ShortNames

_DESCRIPTOR_OCTETS = 10
_LIST_HEAD = 5
_MOST_IN_A_LIST = 32
_NO_PARAMETERS = Data(DataType.INTEGER, 0)
"""What is written to call a method by short name that takes no parameters."""
COUNTER_OBJECT = LogicalName(b"\x00\x00\x2b\x01\x00\xff")
"""0-0:43.1.0, where most meters keep the invocation counter they received last."""
_PUBLIC_CLIENT = 16
_LAST_BELIEVED_COUNTER = 0xFEFFFFFF


class Session(Connection):
    """Reads, writes and calls on one meter. Safe for several tasks: their requests take turns.

    Args:
        address, timeouts, on_discarded, counter, on_notified: as for `Connection`.
        counter_object: Data object from which the counter is taken before the first association, by the public client.
    """

    def __init__(
        self,
        address: MeterAddress,
        timeouts: Timeouts | None = None,
        on_discarded: Callable[[Discarded], None] | None = None,
        counter: InvocationCounter | None = None,
        counter_object: LogicalName | None = None,
        on_notified: Callable[[Notified], None] | None = None,
    ) -> None:
        super().__init__(address, timeouts, on_discarded, counter, on_notified)
        self._counter_object = counter_object
        self._synchronised = counter_object is None
        self._lists = Lists()
        self._short_names: ShortNames | None = None

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
                await self._begin()
            except InvocationCounterError as error:
                if error.expected is None:
                    await self._synchronise(self._counter_object or COUNTER_OBJECT)
                else:
                    # Some meters say what they expect, others what they had last: one more is greater than both.
                    self._advance_counter(error.expected + 1)
                await self._begin()
            except (AuthenticationFailed, ResponseTimeout):
                # Some meters say no more than that to a counter they had already: next time it is theirs that counts.
                self._synchronised = self._counter_object is None
                raise

    async def _begin(self) -> None:
        await self._open()
        self._lists_may_be_gone()

    async def _synchronise(self, counter_object: LogicalName) -> None:
        """Take the invocation counter the meter received last from its own object, as the public client."""
        public = replace(self.address, client=_PUBLIC_CLIENT, password=None, credentials=None)
        client = Session(public, self.timeouts, self._on_discarded)
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

    def _lists_may_be_gone(self) -> None:
        """Called when this association, or this meter, may not take lists: who counts on them looks again."""

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
        self._lists_may_be_gone()
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
