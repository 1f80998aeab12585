"""A counter that goes backwards is an alarm, which ends when it is back or its new value has proved lasting."""

from __future__ import annotations

from meterbridge.fleet import AlarmDesk, EnergyWatch
from meterbridge.model import MeterId, Quantity, Reading
from meterbridge.store import AlarmChange, Raise

ONE = MeterId(1)


class Watched:
    def __init__(self) -> None:
        self.told: list[AlarmChange] = []
        self.desk = AlarmDesk(lambda: 0.0, self.told.append)
        self.watch = EnergyWatch(self.desk, 60.0)

    def read(self, seconds: int, unit: str = "Wh", **values: object) -> list[str]:
        quantities = {name: Quantity(value, unit, "1.0.1.8.0.255") for name, value in values.items()}
        self.watch.read(Reading(ONE, seconds * 1000, quantities))
        return [type_ for _, type_ in self.desk.open]


def test_it_opens_at_a_fall_and_closes_when_the_counter_is_back() -> None:
    it = Watched()
    assert it.read(0, active_energy=1000.0) == []
    assert it.read(1, active_energy=1000.0) == []
    assert it.read(2, active_energy=400.5) == ["energy_backwards"]
    assert isinstance(it.told[0], Raise)
    assert it.told[0].message == "active_energy went backwards, from 1000 to 400.5 Wh."
    assert it.read(3, active_energy=900.0) == ["energy_backwards"]
    assert it.read(4, active_energy=1000.0) == []
    assert len(it.told) == 2


def test_a_new_value_that_lasts_is_the_right_one() -> None:
    it = Watched()
    it.read(0, active_energy=1000.0)
    assert it.read(1, active_energy=1.0) == ["energy_backwards"]
    assert it.read(40, active_energy=2.0) == ["energy_backwards"]
    assert it.read(50, active_energy=0.0) == ["energy_backwards"]
    # Counted from the last fall.
    assert it.read(100, active_energy=3.0) == ["energy_backwards"]
    assert it.read(110, active_energy=3.0) == []


def test_each_counter_for_itself_and_nothing_else() -> None:
    it = Watched()
    it.read(0, active_energy=10.0, active_energy_export=10.0)
    assert it.read(1, active_energy=9.0, active_energy_export=9.0) == ["energy_backwards"]
    assert it.read(2, active_energy=10.0, active_energy_export=9.0) == ["energy_backwards"]
    assert it.read(3, active_energy_export=10.0) == []
    for value in (300.0, 100.0):
        assert it.read(4, unit="W", active_power=value) == []
    for odd in ("7", True, None, 5.0):
        assert it.read(5, odd=odd) == []


def test_what_an_earlier_run_left_open_ends_and_a_meter_that_leaves_is_forgotten() -> None:
    it = Watched()
    it.watch.adopt([(ONE, "energy_backwards"), (None, "energy_backwards"), (ONE, "silence")], 1_000)
    assert it.read(2, active_energy=5.0) == []
    it.read(61, active_energy=4.0)
    it.watch.forget(ONE)
    assert it.read(62, active_energy=1.0) == ["energy_backwards"]
