"""The shipped catalogue of push lists, on lists of our own making; and entries that are wrong."""

from __future__ import annotations

import pytest

from meterbridge.dlms import Data, LogicalName, interpret
from meterbridge.errors import ConfigurationError
from meterbridge.meter import load_layouts
from meterbridge.meter.catalogue.push import parse_layout
from tests.unit.dlms import pushes
from tests.unit.dlms.pushes import TIME, meaning, octets, structure, u32


def known(body: Data, *, title: bytes = b"", bare: bool = False) -> dict[str, tuple[object, str | None]]:
    return meaning(interpret(body, load_layouts(), system_title=title, bare_descriptors=bare).values)


def test_kaifa_three_phase() -> None:
    values = known(pushes.KAIFA)
    assert list(values) == [
        *("1-1:0.2.129", "0-0:96.1.0", "0-0:96.1.7", "1-0:1.7.0", "1-0:2.7.0", "1-0:3.7.0", "1-0:4.7.0"),
        *("1-0:31.7.0", "1-0:51.7.0", "1-0:71.7.0", "1-0:32.7.0", "1-0:52.7.0", "1-0:72.7.0"),
    ]
    assert values["1-0:1.7.0"] == (948, "W")
    assert values["1-0:51.7.0"] == (3.241, "A")
    assert values["1-0:32.7.0"] == (238.5, "V")


def test_kaifa_single_phase_hourly_and_power_alone() -> None:
    head, power = pushes.KAIFA.value[:3], pushes.KAIFA.value[3:7]
    energies = (octets(TIME.octets), u32(1000), u32(0), u32(5), u32(6))
    single = known(structure(*head, *power, u32(1416), u32(2385)))
    assert (single["1-0:31.7.0"], single["1-0:32.7.0"]) == ((1.416, "A"), (238.5, "V"))
    hourly = known(structure(*head, *power, u32(1416), u32(2385), *energies))
    assert (hourly["0-0:1.0.0"], hourly["1-0:1.8.0"], hourly["1-0:4.8.0"]) == ((TIME, None), (1000, "Wh"), (6, "varh"))
    three = known(structure(*pushes.KAIFA.value, *energies))
    assert (three["1-0:72.7.0"], three["1-0:3.8.0"]) == ((238.9, "V"), (5, "varh"))
    assert known(pushes.KAIFA_POWER) == {"1-0:1.7.0": (948, "W")}


def test_kamstrup() -> None:
    assert known(pushes.KAMSTRUP) == {
        "1-1:0.2.129": ("Kamstrup_V0001", None),
        "1-1:1.8.0": (63_074_980, "Wh"),
        "1-1:1.7.0": (1083, "W"),
        "1-1:31.7.0": (0.57, "A"),
        "1-1:32.7.0": (222, "V"),
        "0-1:1.0.0": (TIME, None),
        "1-1:0.0.1": (7, None),
    }


def test_landis_gyr_by_its_system_title_alone() -> None:
    assert known(pushes.LANDIS, title=b"LGZ\x00\x00\x00\x00\x01")["1-0:1.8.1"] == (3_593_919, "Wh")
    assert known(pushes.LANDIS, title=b"XYZ\x00\x00\x00\x00\x01")["1-0:1.8.1"] == (3_593_919, None)


def test_bare_descriptors_bring_units() -> None:
    assert known(pushes.DESCRIPTORS, bare=True)["1-0:1.7.0"] == (1956, "W")
    assert known(pushes.DESCRIPTORS)["1-0:1.7.0"] == (1956, None)


def test_lists_that_say_all_need_no_catalogue() -> None:
    for body in (pushes.AIDON, pushes.ISKRA, pushes.NETZ, pushes.SALZBURG, pushes.DESCRIBED):
        assert known(body) == meaning(interpret(body).values)


def test_every_list_by_position_names_nothing_twice_and_says_which_list_it_is() -> None:
    for layout in load_layouts():
        for positions in layout.positions:
            assert len(set(positions.names)) == len(positions.names)
            if positions.list_id is not None:
                assert LogicalName.parse("1-1:0.2.129") in positions.names


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("[match", "push catalogue entry x: "),
        ("names = []", "unknown key 'names'"),
        ("[match]\nid = 'x'", "unknown key 'id'"),
        ("[[lists]]\nid = 'x'", "push catalogue entry x: 'names'"),
        ("[[lists]]\nnames = ['nonsense']", "'nonsense' is not a logical name"),
        ("[units]\n'1.0.1.8.0' = [0, 'Wh']", "'1.0.1.8.0' is not six groups"),
        ("[units]\n'1.0.1.8.0.256' = [0, 'Wh']", "is not six groups"),
        ("[units]\n'1.0.1.8.0.255' = [0, 'kWh']", "unit 'kWh' of 1.0.1.8.0.255 does not exist"),
        ("[units]\n'1.0.1.8.0.255' = [200, 'Wh']", "scaler 200 of 1.0.1.8.0.255 is outside -128..127"),
        ("[[lists]]\nid = 'x'\nnames = ['1-0:1.8.0']", "a list with an id must name it as 1-1:0.2.129"),
    ],
)
def test_a_wrong_entry_is_named(text: str, error: str) -> None:
    with pytest.raises(ConfigurationError, match=error):
        parse_layout("x", text)
