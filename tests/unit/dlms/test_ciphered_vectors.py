"""Ciphered octets that physical meters sent, from ../shared/vectors; and what they say when their keys open them."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from meterbridge.dlms.block_transfer import BlockTransfer
from meterbridge.dlms.ciphering import CipheredApdu
from meterbridge.dlms.hdlc import Frame, FrameDecoder
from meterbridge.dlms.security import Keys, SecurityPolicy
from meterbridge.errors import RemoteProtocolError

OPENED = {
    "hdlc_kamstrup_omnipower": SecurityPolicy.BOTH,
    "hdlc_landis_gyr_e450": SecurityPolicy.BOTH,
    "hdlc_lgz_e450_2": SecurityPolicy.BOTH,
    "mbus_netz_noe_p1": SecurityPolicy.ENCRYPTED,
}
CLOSED = {"mbus_kmswest"}


@pytest.fixture(scope="module")
def pushes(shared: Path) -> Path:
    return shared / "vectors" / "push"


def octets_of(path: Path) -> bytes:
    return bytes.fromhex(re.sub(r"[^0-9a-fA-F]", "", path.read_text()))


def keys_of(pushes: Path, name: str) -> Keys:
    authentication = pushes / f"{name}.gak"
    return Keys(octets_of(pushes / f"{name}.key"), octets_of(authentication) if authentication.exists() else None)


def apdu_of(pushes: Path, name: str) -> bytes:
    """Take a dump's framing off by the simplest means."""
    octets = octets_of(pushes / f"{name}.log")
    if name.startswith("mbus_"):
        contents = []
        while octets:
            size = octets[1]
            # C, A, CI, STSAP, DTSAP stand in front of it.
            contents.append(octets[9 : 4 + size])
            octets = octets[6 + size :]
        return b"".join(contents)
    decoder = FrameDecoder()
    decoder.receive_data(octets)
    transfer, blocks = BlockTransfer(1, 0), []
    while (event := decoder.next_event()) is not None:
        assert isinstance(event, Frame)
        information = event.information
        if information[:2] == b"\xe6\xe7":
            information = information[3:]
        blocks.append(information)
    whole: bytes | None = None
    for block in blocks:
        if block[0] != 0xE0:
            return block
        _, whole = transfer.receive(block)
    assert whole is not None
    return whole


def test_every_ciphered_dump_is_known_here(pushes: Path) -> None:
    found = {
        path.name.removesuffix("_decoded.xml") for path in pushes.glob("*.xml") if "GeneralGlo" in path.read_text()
    }
    assert found == {*OPENED, *CLOSED}


@pytest.mark.parametrize("name", OPENED)
def test_a_dump_opens_with_its_keys_to_what_is_said_of_it(pushes: Path, name: str) -> None:
    root = ElementTree.fromstring((pushes / f"{name}_decoded.xml").read_text())
    ciphered = CipheredApdu.decode(apdu_of(pushes, name))
    assert ciphered.control.policy is OPENED[name]
    assert ciphered.system_title.hex().upper() == root.attrib["SystemTitle"]
    assert ciphered.counter == int(root.attrib["FrameCounter"])
    plain = ciphered.open(keys_of(pushes, name))
    [notification] = root
    assert plain[0] == 0x0F
    assert plain[1:5].hex().upper() == notification.attrib["LongInvokeId"]
    numbers = [int(node.attrib["Value"]) for node in notification.iter("UINT32")]
    # Each of them stands in the octets, in this order.
    position = 0
    for number in numbers:
        position = plain.index(b"\x06" + number.to_bytes(4, "big"), position) + 5
    assert len(numbers) >= 4


@pytest.mark.parametrize("name", [name for name, policy in OPENED.items() if policy & SecurityPolicy.AUTHENTICATED])
def test_a_dump_changed_anywhere_does_not_open(pushes: Path, name: str) -> None:
    apdu, keys = apdu_of(pushes, name), keys_of(pushes, name)
    for index in range(12, len(apdu), 7):
        changed = bytearray(apdu)
        changed[index] ^= 0x10
        with pytest.raises(RemoteProtocolError):
            CipheredApdu.decode(bytes(changed)).open(keys)


def test_a_dump_without_a_key_says_who_sent_it(pushes: Path) -> None:
    ciphered = CipheredApdu.decode(apdu_of(pushes, "mbus_kmswest"))
    assert (ciphered.system_title.hex(), ciphered.counter) == ("454c536570000001", 21535)
    root = ElementTree.fromstring((pushes / "mbus_kmswest_decoded.xml").read_text())
    assert ciphered.content.hex().upper() == root.attrib["Ciphertext"]
