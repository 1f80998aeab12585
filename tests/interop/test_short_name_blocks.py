"""Requests by short name in blocks, as gurux-dlms takes them apart.

Only apart: its client raises ValueError where it should cut a Write, and AttributeError where Read answers in blocks.
"""

from __future__ import annotations

from typing import Any

import pytest

from meterbridge.dlms import Data, DataType
from meterbridge.dlms.exchange_steps import Ask
from meterbridge.dlms.short_name_exchange import ReadExchange, WriteExchange

VALUE = bytes(range(30))


@pytest.fixture(scope="module")
def translator() -> Any:
    module = pytest.importorskip("gurux_dlms.GXDLMSTranslator")
    enums = pytest.importorskip("gurux_dlms.enums")
    return module.GXDLMSTranslator(enums.TranslatorOutputType.SIMPLE_XML)


def test_blocks_of_write(translator: Any) -> None:
    exchange = WriteExchange(((0xFD08, None, Data(DataType.OCTET_STRING, VALUE)),))
    whole = "0102FD0801091E" + VALUE.hex().upper()
    apdu, together = exchange.start(0, 30), ""
    for number, last in ((1, "00"), (2, "01")):
        words = translator.pduToXml(apdu).split()
        assert words[0] == "<WriteRequest>"
        assert "<WriteDataBlockAccess>" in words
        assert words[words.index("<LastBlock") + 1] == f'Value="{last}"'
        assert words[words.index("<BlockNumber") + 1] == f'Value="{number:04X}"'
        together += words[words.index("<OctetString") + 1].removeprefix('Value="').removesuffix('"')
        step = exchange.receive(bytes.fromhex("0D0102") + number.to_bytes(2, "big")) if last == "00" else None
        apdu = step.apdu if isinstance(step, Ask) else b""
    assert together == whole


def test_blocks_of_read(translator: Any) -> None:
    words = translator.pduToXml(ReadExchange([(0xFD08, None)] * 20).start(0, 30)).split()
    assert words[:3] == ["<ReadRequest", 'Qty="01"', ">"]
    assert "<ReadDataBlockAccess>" in words
    assert words[words.index("<BlockNumber") + 1] == 'Value="0001"'
