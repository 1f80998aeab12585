"""The association objects of a simulated meter: Association LN, and Association SN for short names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from meterbridge.dlms import Conformance, Data, DataType, LogicalName
from meterbridge.dlms.axdr import BitString, encode
from meterbridge.simulator.objects import CosemObject, access_rights, array, object_list, octets, structure

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from meterbridge.simulator.meter import SimulatedMeter

ASSOCIATION: Final = LogicalName.parse("0-0:40.0.0")
_LN_CONTEXT, _LOWEST, _LLS = (bytes.fromhex(f"60857405080{arcs}") for arcs in ("101", "200", "201"))
_ASSOCIATED: Final = 2


def association_ln(
    client: int | None, secured: bool, conformance: Conformance, others: Sequence[CosemObject]
) -> CosemObject:
    """Make the Association LN, version 1.

    Args:
        client: SAP of the client whose association it is; None is the management client's.
        secured: whether it asks for a password.
        conformance: services of the meter.
        others: all other objects; the list names this one too.
    """

    def partners(meter: SimulatedMeter, t: int) -> bytes:
        sap = meter.identity.client if client is None else client
        return encode(structure(Data(DataType.INTEGER, sap), Data(DataType.LONG_UNSIGNED, meter.identity.server)))

    def context(meter: SimulatedMeter, t: int) -> bytes:
        size = Data(DataType.LONG_UNSIGNED, meter.identity.max_pdu)
        return encode(
            structure(
                Data(DataType.BIT_STRING, BitString(f"{int(conformance):024b}")),
                size,
                size,
                Data(DataType.UNSIGNED, 6),
                Data(DataType.INTEGER, 0),
                Data(DataType.OCTET_STRING, b""),
            )
        )

    item = CosemObject(
        15,
        1,
        ASSOCIATION,
        {
            2: b"",
            3: partners,
            4: octets(_LN_CONTEXT),
            5: context,
            6: octets(_LLS if secured else _LOWEST),
            8: encode(Data(DataType.ENUM, _ASSOCIATED)),
            9: octets(bytes(6)),
        },
        hidden=(7,),
    )
    return item._replace(attributes={**item.attributes, 2: object_list([*others, item])})


def association_sn(base_names: Mapping[int, CosemObject], own: int) -> CosemObject:
    """Make the Association SN, version 1.

    Args:
        base_names: all other objects.
        own: its own base name.
    """
    item = CosemObject(12, 1, ASSOCIATION, {2: b"", 3: b""})
    everything = {**base_names, own: item}
    objects = array(_entry(name, known) for name, known in sorted(everything.items()))
    rights = array(
        structure(_base_name(name), *access_rights(known).value) for name, known in sorted(everything.items())
    )
    return item._replace(attributes={2: encode(objects), 3: encode(rights)})


def _base_name(name: int) -> Data:
    return Data(DataType.LONG, name - 0x10000 if name >= 0x8000 else name)


def _entry(name: int, item: CosemObject) -> Data:
    return structure(
        _base_name(name),
        Data(DataType.LONG_UNSIGNED, item.class_id),
        Data(DataType.UNSIGNED, item.version),
        Data(DataType.OCTET_STRING, item.logical_name),
    )
