"""The breaker of a simulated meter and what moves it: disconnect control, scripts, limiter."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from meterbridge.dlms import Data, DataAccessResult, DataType, LogicalName
from meterbridge.dlms.axdr import encode
from meterbridge.dlms.xdlms import data_access_error
from meterbridge.simulator.objects import CosemObject, Method, array, stored, structure, unmatched

if TYPE_CHECKING:
    from meterbridge.simulator.meter import SimulatedMeter

DISCONNECT_CONTROL: Final = LogicalName.parse("0-0:96.3.10")
DISCONNECT_SCRIPTS: Final = LogicalName.parse("0-0:10.0.106")
LIMITER: Final = LogicalName.parse("0-0:17.0.0")
_ACTIVE_POWER: Final = LogicalName.parse("1-0:1.7.0")
_DISCONNECT, _RECONNECT = 1, 2
_EXECUTE_METHOD = 2
_NEVER: Final = bytes.fromhex("ffffffffffffffffff800000")


def _switch(connected: bool) -> Method:
    def move(meter: SimulatedMeter, t: int, parameters: Data) -> None:
        if not meter.control_mode:
            # Mode 0: always connected.
            raise data_access_error(DataAccessResult.READ_WRITE_DENIED)
        meter.connected = connected

    return move


_METHODS: Final = {_DISCONNECT: _switch(False), _RECONNECT: _switch(True)}


def _set_mode(meter: SimulatedMeter, t: int, value: Data) -> None:
    if value.type is not DataType.ENUM or value.value > 6:
        raise unmatched()
    meter.control_mode = value.value
    meter.connected = meter.connected or not value.value


def disconnect_control() -> CosemObject:
    """Make the Disconnect Control; control mode 0 takes neither of its methods."""
    return CosemObject(
        70,
        0,
        DISCONNECT_CONTROL,
        {
            2: lambda meter, t: encode(Data(DataType.BOOLEAN, meter.connected)),
            3: lambda meter, t: encode(Data(DataType.ENUM, 1 if meter.connected else 0)),
            4: lambda meter, t: encode(Data(DataType.ENUM, meter.control_mode)),
        },
        writers={4: _set_mode},
        methods=_METHODS,
        first_method=0x20,
    )


def _script(identifier: int, method: int) -> Data:
    action = structure(
        Data(DataType.ENUM, _EXECUTE_METHOD),
        Data(DataType.LONG_UNSIGNED, 70),
        Data(DataType.OCTET_STRING, DISCONNECT_CONTROL),
        Data(DataType.INTEGER, method),
        Data(DataType.INTEGER, 0),
    )
    return structure(Data(DataType.LONG_UNSIGNED, identifier), array((action,)))


def _execute(meter: SimulatedMeter, t: int, parameters: Data) -> None:
    if parameters.type is not DataType.LONG_UNSIGNED:
        raise unmatched()
    method = _METHODS.get(parameters.value)
    if method is None:
        raise data_access_error(DataAccessResult.OBJECT_UNDEFINED)
    method(meter, t, parameters)


def disconnect_scripts() -> CosemObject:
    """Make the Script Table of the breaker: script 1 disconnects, script 2 reconnects."""
    scripts = array((_script(1, _DISCONNECT), _script(2, _RECONNECT)))
    return CosemObject(9, 0, DISCONNECT_SCRIPTS, {2: encode(scripts)}, methods={1: _execute}, first_method=0x20)


def limiter() -> CosemObject:
    """Make the Limiter: it watches the active power, and is set but never acts."""
    monitored = structure(
        Data(DataType.LONG_UNSIGNED, 3), Data(DataType.OCTET_STRING, _ACTIVE_POWER), Data(DataType.INTEGER, 2)
    )
    profile = structure(
        Data(DataType.LONG_UNSIGNED, 0),
        Data(DataType.OCTET_STRING, _NEVER),
        Data(DataType.DOUBLE_LONG_UNSIGNED, 0),
    )
    actions = structure(*(_reference(script) for script in (_DISCONNECT, _RECONNECT)))
    kinds = {
        4: Data(DataType.DOUBLE_LONG_UNSIGNED, 150_000),
        5: Data(DataType.DOUBLE_LONG_UNSIGNED, 30_000),
        6: Data(DataType.DOUBLE_LONG_UNSIGNED, 60),
        7: Data(DataType.DOUBLE_LONG_UNSIGNED, 60),
        8: profile,
        9: array(()),
        11: actions,
    }
    return CosemObject(
        71,
        0,
        LIMITER,
        {
            2: encode(monitored),
            3: lambda meter, t: meter.written.get((LIMITER, 4), encode(kinds[4])),
            10: encode(Data(DataType.BOOLEAN, False)),
            **{index: encode(value) for index, value in kinds.items()},
        },
        writers={index: stored(LIMITER, index, value.type) for index, value in kinds.items()},
    )


def _reference(script: int) -> Data:
    return structure(Data(DataType.OCTET_STRING, DISCONNECT_SCRIPTS), Data(DataType.LONG_UNSIGNED, script))
