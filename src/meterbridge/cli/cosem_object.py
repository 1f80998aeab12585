"""`meterbridge get`, `set` and `call`: any attribute and any method of any object, by name where it has one."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from meterbridge.cli.exits import INCOMPLETE
from meterbridge.cli.meter_command import associated, meter_command
from meterbridge.cli.meter_options import JsonOption
from meterbridge.cli.typed_value import TYPED_FORM, typed_value, value_like
from meterbridge.dlms import AttributeDescriptor, Data, DataType, LogicalName, MethodDescriptor
from meterbridge.dlms.cosem import (
    attribute_name,
    class_name,
    cosem_class,
    displayed,
    method_name,
    present,
)
from meterbridge.errors import ConfigurationError, DataAccessError, MeterError, ServiceError
from meterbridge.meter import DLMSClient

_FORM = "CLASS:OBIS:INDEX such as 3:1-0:32.7.0:2"
_NO_PARAMETERS = Data(DataType.INTEGER, 0)
"""What most methods without parameters take all the same."""


@dataclass(frozen=True, slots=True)
class _Target:
    """What was typed: class, object, and which of its attributes or methods."""

    class_id: int
    logical_name: LogicalName
    index: str

    def attribute(self) -> int:
        known = cosem_class(self.class_id)
        return self._index([attribute.name for attribute in known.attributes] if known else [], "attribute")

    def method(self) -> int:
        known = cosem_class(self.class_id)
        return self._index(list(known.methods) if known else [], "method")

    def _index(self, names: list[str], kind: str) -> int:
        if self.index in names:
            return names.index(self.index) + 1
        try:
            index = int(self.index)
        except ValueError:
            known = f" (it has {', '.join(names)})" if names else ""
            raise ConfigurationError(f"{self.index!r} is no {kind} of {class_name(self.class_id)}{known}") from None
        if not -128 <= index <= 127 or index == 0:
            raise ConfigurationError(f"{kind} {index} does not exist")
        return index


def _target(text: str) -> _Target:
    class_text, _, rest = text.partition(":")
    index = ""
    try:
        class_id = int(class_text)
        try:
            name = LogicalName.parse(rest)
        except ValueError:
            obis, _, index = rest.rpartition(":")
            name = LogicalName.parse(obis)
    except ValueError:
        raise ConfigurationError(f"{text!r} is not {_FORM}") from None
    if not 0 < class_id <= 0xFFFF:
        raise ConfigurationError(f"class {class_id} does not exist")
    return _Target(class_id, name, index)


def _no_option(text: str) -> str:
    """Tell a negative number from a mistyped option."""
    if text.startswith("-") and not text[1:2].isdigit() and text[1:2] != ".":
        raise ConfigurationError(f"no such option: {text}; a text that begins with - is typed as text:{text}")
    return text


def _unrefused(error: MeterError, what: object) -> MeterError:
    """Say of which attribute or method a refusal speaks."""
    if isinstance(error, DataAccessError):
        return DataAccessError(f"{what}: {error}", error.result)
    if isinstance(error, ServiceError):
        return ServiceError(f"{what}: {error}", error.kind)
    return error


@meter_command
def get(
    meter: DLMSClient,
    where: Annotated[str, typer.Argument(metavar="CLASS:OBIS[:INDEX]", help="What to read; without index all of it.")],
    as_json: JsonOption = False,
) -> None:
    """Read an attribute, or a whole object, and print its values by name.

    INDEX is a number or the attribute's name. Exit codes are those of `read`.
    """
    target = _target(where)
    if target.index:
        indices = [target.attribute()]
    else:
        known = cosem_class(target.class_id)
        if known is None:
            raise ConfigurationError(f"what class {target.class_id} holds is not known here: say which attribute")
        indices = list(range(1, len(known.attributes) + 1))
    asked = [AttributeDescriptor(target.class_id, target.logical_name, index) for index in indices]
    results = asyncio.run(_get(meter, asked))
    if target.index and isinstance(results[0], MeterError):
        raise _unrefused(results[0], asked[0])
    values: dict[str, Any] = {}
    errors: dict[str, str] = {}
    for index, result in zip(indices, results, strict=True):
        name = attribute_name(target.class_id, index)
        if isinstance(result, MeterError):
            errors[name] = str(result)
        else:
            values[name] = present(target.class_id, index, result)
    if as_json:
        head = {"class": target.class_id, "class_name": class_name(target.class_id)}
        content = {**head, "logical_name": str(target.logical_name), "values": values, "errors": errors}
        typer.echo(json.dumps(content, ensure_ascii=False))
    else:
        for name, value in values.items():
            _print_named(name, value)
        for name, reason in errors.items():
            typer.echo(f"{name}: ({reason})")
    if errors:
        raise typer.Exit(INCOMPLETE)


async def _get(meter: DLMSClient, attributes: list[AttributeDescriptor]) -> list[Any]:
    async with associated(meter):
        return await meter.get(attributes)


def _print_named(name: str, value: Any, indent: str = "") -> None:
    """Print a value as an outline, one value a line."""
    if isinstance(value, dict):
        typer.echo(f"{indent}{name}:")
        for inner, member in value.items():
            _print_named(inner, member, indent + "  ")
    elif isinstance(value, list) and any(isinstance(element, (dict, list)) for element in value):
        typer.echo(f"{indent}{name}:")
        for number, element in enumerate(value, 1):
            _print_named(str(number), element, indent + "  ")
    elif isinstance(value, list):
        typer.echo(f"{indent}{name}: {', '.join(map(_said, value)) or '(none)'}")
    else:
        typer.echo(f"{indent}{name}: {_said(value)}")


def _said(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


@meter_command
def set_(
    meter: DLMSClient,
    where: Annotated[str, typer.Argument(metavar="CLASS:OBIS:INDEX", help="What to write.")],
    value: Annotated[str, typer.Argument(metavar="VALUE", help=f"Typed like the present value, or {TYPED_FORM}.")],
    unconfirmed: Annotated[
        bool, typer.Option("--unconfirmed", help="Have the meter not answer (UnconfirmedWrite; with --sn).")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Write an attribute, then read it back.

    VALUE takes the type of the value the meter holds: numbers, true and false, text, hex, arrays and structures as
    JSON; with a type in front it is written without a look. Exit codes are those of `read`.
    """
    target = _target(where)
    descriptor = AttributeDescriptor(target.class_id, target.logical_name, target.attribute())
    typed = typed_value(_no_option(value))
    back = asyncio.run(_set(meter, descriptor, value, typed, confirmed=not unconfirmed))
    name = attribute_name(target.class_id, descriptor.attribute)
    # Written it is: that it may not be read is no failure.
    shown = None if isinstance(back, MeterError) else present(target.class_id, descriptor.attribute, back)
    if as_json:
        where_told = {"class": target.class_id, "logical_name": str(target.logical_name)}
        typer.echo(json.dumps({**where_told, "attribute": name, "value": shown}, ensure_ascii=False))
    elif isinstance(back, MeterError):
        typer.echo(f"{name}: written ({back} when read back)")
    else:
        _print_named(name, shown)


async def _set(
    meter: DLMSClient, descriptor: AttributeDescriptor, text: str, typed: Data | None, *, confirmed: bool
) -> Any:
    async with associated(meter):
        if typed is None:
            [held] = await meter.get([descriptor], typed=True)
            if isinstance(held, MeterError):
                raise _unrefused(held, f"{descriptor}, read for its type")
            typed = value_like(held, text)
        try:
            await meter.set(descriptor, typed, confirmed=confirmed)
        except (DataAccessError, ServiceError) as error:
            raise _unrefused(error, descriptor) from None
        [back] = await meter.get([descriptor])
        return back


@meter_command
def call(
    meter: DLMSClient,
    where: Annotated[str, typer.Argument(metavar="CLASS:OBIS:METHOD", help="Which method, by number or name.")],
    value: Annotated[
        str | None,
        typer.Argument(metavar="[VALUE]", help=f"Its parameter, {TYPED_FORM}; integer:0 unless given, none for none."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Call a method and print what it returns.

    Exit codes are those of `read`.
    """
    target = _target(where)
    method = MethodDescriptor(target.class_id, target.logical_name, target.method())
    parameters: Data | None = _NO_PARAMETERS
    if value is not None and value != "none":
        parameters = typed_value(_no_option(value))
        if parameters is None:
            raise ConfigurationError(f"{value!r} has no type: say {TYPED_FORM}")
    elif value == "none":
        parameters = None
    returned = displayed(asyncio.run(_call(meter, method, parameters)))
    name = method_name(target.class_id, method.method)
    if as_json:
        where_told = {"class": target.class_id, "logical_name": str(target.logical_name)}
        typer.echo(json.dumps({**where_told, "method": name, "returned": returned}, ensure_ascii=False))
    else:
        _print_named(name, "done" if returned is None else returned)


async def _call(meter: DLMSClient, method: MethodDescriptor, parameters: Data | None) -> Any:
    async with associated(meter):
        try:
            return await meter.action(method, parameters)
        except (DataAccessError, ServiceError) as error:
            raise _unrefused(error, method) from None
