"""Firmware transfer to a simulated meter: blocks are counted, verified by number and size, and only their name kept."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from meterbridge.dlms import Data, DataAccessResult, DataType, LogicalName
from meterbridge.dlms.axdr import BitString, encode
from meterbridge.dlms.xdlms import data_access_error
from meterbridge.simulator.objects import CosemObject, array, structure, unmatched

if TYPE_CHECKING:
    from meterbridge.simulator.meter import SimulatedMeter

IMAGE_TRANSFER: Final = LogicalName.parse("0-0:44.0.0")
BLOCK_SIZE: Final = 128
_LARGEST_IMAGE: Final = 4 << 20
_LONGEST_IDENTIFIER: Final = 64
_NOT_INITIATED, _INITIATED, _VERIFIED, _VERIFICATION_FAILED, _ACTIVATED = 0, 1, 3, 4, 6


@dataclass(slots=True)
class ImageTransfer:
    """Where a transfer stands.

    Args:
        identifier: name of the image.
        size: of the image, octets.
        status: image_transfer_status.
        blocks: numbers of those received.
    """

    identifier: bytes = b""
    size: int = 0
    status: int = _NOT_INITIATED
    blocks: set[int] = field(default_factory=set)

    @property
    def count(self) -> int:
        """Blocks the whole image has."""
        return -(-self.size // BLOCK_SIZE)

    @property
    def complete(self) -> bool:
        """Whether all of them are there."""
        return self.status != _NOT_INITIATED and len(self.blocks) == self.count

    @property
    def first_missing(self) -> int:
        """Number of the first block not received; their count when none is missing."""
        return next((number for number in range(self.count) if number not in self.blocks), self.count)


def _initiate(meter: SimulatedMeter, t: int, parameters: Data) -> None:
    match parameters.plain():
        case (bytes(identifier), int(size)) if len(identifier) <= _LONGEST_IDENTIFIER and 0 < size <= _LARGEST_IMAGE:
            meter.image = ImageTransfer(identifier, size, _INITIATED)
        case _:
            raise unmatched()


def _transfer(meter: SimulatedMeter, t: int, parameters: Data) -> None:
    image = meter.image
    if image.status == _NOT_INITIATED:
        raise data_access_error(DataAccessResult.OTHER_REASON)
    match parameters.plain():
        case (int(number), bytes(block)) if 0 <= number < image.count:
            last = number == image.count - 1
            if len(block) != (image.size - number * BLOCK_SIZE if last else BLOCK_SIZE):
                raise unmatched()
            image.blocks.add(number)
        case _:
            raise unmatched()


def _verify(meter: SimulatedMeter, t: int, parameters: Data) -> None:
    image = meter.image
    if not image.complete:
        image.status = _VERIFICATION_FAILED if image.status else _NOT_INITIATED
        raise data_access_error(DataAccessResult.OTHER_REASON)
    image.status = _VERIFIED


def _activate(meter: SimulatedMeter, t: int, parameters: Data) -> None:
    image = meter.image
    if image.status != _VERIFIED:
        raise data_access_error(DataAccessResult.OTHER_REASON)
    image.status = _ACTIVATED
    meter.firmware = image.identifier


def _blocks_status(meter: SimulatedMeter, t: int) -> bytes:
    image = meter.image
    bits = "".join("1" if number in image.blocks else "0" for number in range(image.count))
    return encode(Data(DataType.BIT_STRING, BitString(bits)))


def _to_activate(meter: SimulatedMeter, t: int) -> bytes:
    image = meter.image
    if image.status != _VERIFIED:
        return encode(array(()))
    size = Data(DataType.DOUBLE_LONG_UNSIGNED, image.size)
    identifier, signature = (Data(DataType.OCTET_STRING, value) for value in (image.identifier, b""))
    return encode(array((structure(size, identifier, signature),)))


def image_transfer() -> CosemObject:
    """Make the Image Transfer; an activated image becomes the firmware version, by its identifier."""
    return CosemObject(
        18,
        0,
        IMAGE_TRANSFER,
        {
            2: encode(Data(DataType.DOUBLE_LONG_UNSIGNED, BLOCK_SIZE)),
            3: _blocks_status,
            4: lambda meter, t: encode(Data(DataType.DOUBLE_LONG_UNSIGNED, meter.image.first_missing)),
            5: encode(Data(DataType.BOOLEAN, True)),
            6: lambda meter, t: encode(Data(DataType.ENUM, meter.image.status)),
            7: _to_activate,
        },
        methods={1: _initiate, 2: _transfer, 3: _verify, 4: _activate},
        first_method=0x40,
    )
