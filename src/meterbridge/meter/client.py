"""DLMSClient: one meter, one association that stays open, measurements by name."""

from __future__ import annotations

import datetime as dt
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from meterbridge.dlms import (
    AttributeDescriptor,
    Discarded,
    InvocationCounter,
    LogicalName,
    Notified,
    RequestCompleted,
    scaled,
    unit_symbol,
)
from meterbridge.errors import MeterError, RemoteProtocolError, ServiceError
from meterbridge.meter.address import MeterAddress, Timeouts
from meterbridge.meter.catalogue import MeterModel
from meterbridge.meter.plan import SCALED_CLASSES, PlanItem, Readout, ReadPlan, prepared
from meterbridge.meter.profile import ProfileReader, ProfileTable
from meterbridge.meter.session import Session
from meterbridge.model import Measurement, Quantity

_Made = TypeVar("_Made")
_Names = TypeVar("_Names")
_SCALED_ATTRIBUTE = 2
_MOST_PLANS = 64
_ASSOCIATION_LN = AttributeDescriptor(15, LogicalName(b"\x00\x00\x28\x00\x00\xff"), 2)


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


class DLMSClient(Session):
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
        super().__init__(address, timeouts, on_discarded, counter, counter_object, on_notified)
        self.model = model
        self._scalers: dict[tuple[int, str], tuple[int, str | None]] = {}
        self._plans: dict[tuple[str, ...] | None, ReadPlan] = {}
        self._profiles: dict[LogicalName, ProfileReader] = {}

    def _lists_may_be_gone(self) -> None:
        """Plan anew what was read with lists, where this association has none."""
        if self._association is not None and not self._takes_lists(self._association):
            self._plans = {names: plan for names, plan in self._plans.items() if plan.single}

    def read_measurement(self, name: str) -> Coroutine[Any, Any, Quantity]:
        """Read one measurement, by name, OBIS code or `CLASS:OBIS:ATTRIBUTE`.

        Raises:
            ConfigurationError: no such measurement.
            DataAccessError: the meter has none, or refuses it.
            MeterError: as `get`.
        """
        plan = self._plans.get((name,))
        return self._learn_one(name) if plan is None else self._repeat(plan, plan.only, self._learn_one, name)

    async def _learn_one(self, name: str) -> Quantity:
        values, errors = await self._read_and_learn((name,))
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
        if plan is None:
            return self._read_and_learn(wanted)
        return self._repeat(plan, plan.readout, self._read_and_learn, wanted)

    async def _repeat(
        self,
        plan: ReadPlan,
        make: Callable[[Sequence[Any]], _Made],
        learn: Callable[[_Names], Coroutine[Any, Any, _Made]],
        names: _Names,
    ) -> _Made:
        """Read again what was read before: what a poller does all day, hence without a step more than it takes.

        Args:
            plan: what to ask.
            make: what becomes of its results.
            learn: the slow way to the same, where the quick one is not open.
            names: what `learn` takes.
        """
        association, transport = self._association, self._transport
        if association is None or transport is None or not self._turn.take_if_free():
            return await learn(names)
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
            return make(event)
        if type(event) is RequestCompleted:
            return make(event.results)
        return await learn(names)

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
