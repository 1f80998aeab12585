"""What the simulated meter's clock, demand, calendar, firmware and setups do when they are set and called."""

from __future__ import annotations

import datetime as dt
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from meterbridge.dlms import AttributeDescriptor, Data, DataAccessResult, DataType, DateTime, LogicalName
from meterbridge.dlms.axdr import decode_value
from meterbridge.dlms.xdlms import MethodDescriptor
from meterbridge.errors import DataAccessError
from meterbridge.simulator import Identity, Load, LoadOptions, SimulatedMeter
from meterbridge.simulator.clock import ClockSettings
from meterbridge.simulator.demand import PERIOD
from meterbridge.simulator.image import BLOCK_SIZE

NOW = 1_764_158_400  # 2025-11-26 12:00:00 UTC
BERLIN = ClockSettings(time_zone=-60, summer=True)
SOUTH = ClockSettings(
    time_zone=-600,
    summer=True,
    begins=bytes.fromhex("ffff0aff0702000000800000"),  # first Sunday of October
    ends=bytes.fromhex("ffff04ff0703000000800000"),  # first Sunday of April
)
NOTHING = Data(DataType.INTEGER, 0)


class Device:
    """A meter's objects without an association."""

    def __init__(self, **keys: Any) -> None:
        self.meter = SimulatedMeter(Load(LoadOptions(seed=5)), Identity(profile_entries=96), **keys)

    def read(self, class_id: int, name: str, index: int, now: float = NOW) -> Any:
        value = self.meter.read(AttributeDescriptor(class_id, LogicalName.parse(name), index), 1, now)
        return decode_value(value if isinstance(value, bytes) else b"".join(value))

    def write(self, class_id: int, name: str, index: int, value: Data, now: float = NOW) -> None:
        self.meter.write(AttributeDescriptor(class_id, LogicalName.parse(name), index), value, 1, now)

    def call(self, class_id: int, name: str, index: int, parameters: Data = NOTHING, now: float = NOW) -> None:
        assert self.meter.call(MethodDescriptor(class_id, LogicalName.parse(name), index), parameters, 1, now) is None

    def shown(self, now: float = NOW) -> DateTime:
        return DateTime(self.read(8, "0-0:1.0.0", 2, now))


def moment(when: dt.datetime) -> Data:
    return Data(DataType.OCTET_STRING, DateTime.from_datetime(when).octets)


def stamp(when: DateTime) -> float:
    moment = when.to_datetime()
    assert moment is not None
    assert moment.tzinfo is not None
    return moment.timestamp()


# ---------------------------------------------------------------------------------------------------------------------
# clock


@pytest.mark.parametrize(("settings", "zone"), [(BERLIN, "Europe/Berlin"), (SOUTH, "Australia/Sydney")])
def test_summer_time_is_what_the_place_has(settings: ClockSettings, zone: str) -> None:
    start = int(dt.datetime(2024, 1, 1, tzinfo=dt.UTC).timestamp())
    for t in range(start, start + 3 * 366 * 86_400, 1800):
        local = dt.datetime.fromtimestamp(t, ZoneInfo(zone))
        expected = DateTime.from_datetime(local, 0x80 if local.dst() else 0).octets
        assert settings.octets(t) == expected, local


def test_an_hour_that_comes_twice_is_told_apart() -> None:
    device = Device(clock=BERLIN)
    end = int(dt.datetime(2025, 10, 26, 1, tzinfo=dt.UTC).timestamp())
    before, after = device.shown(end - 1), device.shown(end)
    assert (str(before), before.daylight_saving) == ("2025-10-26 02:59:59 +02:00", True)
    assert (str(after), after.daylight_saving) == ("2025-10-26 02:00:00 +01:00", False)
    assert stamp(after) == stamp(before) + 1
    assert device.read(8, "0-0:1.0.0", 4, end - 1) == 0x80
    assert device.read(8, "0-0:1.0.0", 4, end) == 0


def test_the_time_is_set_with_its_deviation_or_as_local_time() -> None:
    device = Device(clock=BERLIN)
    device.write(8, "0-0:1.0.0", 2, moment(dt.datetime(2025, 7, 1, 12, tzinfo=dt.timezone(dt.timedelta(hours=5)))))
    assert str(device.shown(NOW + 10)) == "2025-07-01 09:00:10 +02:00"
    device.write(8, "0-0:1.0.0", 2, moment(dt.datetime(2025, 7, 1, 12)))
    assert str(device.shown()) == "2025-07-01 12:00:00 +02:00"
    device.write(8, "0-0:1.0.0", 2, moment(dt.datetime(2025, 12, 1, 12)))
    assert str(device.shown()) == "2025-12-01 12:00:00 +01:00"


def test_a_clock_that_lost_its_power_says_so_until_it_is_set() -> None:
    device = Device()
    device.meter.lose_clock(946_684_800, NOW)
    assert str(device.shown()) == "2000-01-01 00:00:00 +00:00"
    assert device.shown().status == 1
    device.write(8, "0-0:1.0.0", 2, moment(dt.datetime.fromtimestamp(NOW, dt.UTC)))
    assert (stamp(device.shown()), device.shown().status) == (NOW, 0)


def test_zone_and_season_are_set() -> None:
    device = Device()
    device.write(8, "0-0:1.0.0", 3, Data(DataType.LONG, -60))
    device.write(8, "0-0:1.0.0", 8, Data(DataType.BOOLEAN, True))
    device.write(8, "0-0:1.0.0", 7, Data(DataType.INTEGER, 30))
    device.write(8, "0-0:1.0.0", 5, Data(DataType.OCTET_STRING, bytes.fromhex("ffff0b01ff00000000800000")))
    device.write(8, "0-0:1.0.0", 6, Data(DataType.OCTET_STRING, bytes.fromhex("ffff0c01ff00000000800000")))
    assert str(device.shown()) == "2025-11-26 13:30:00 +01:30"
    assert [device.read(8, "0-0:1.0.0", index) for index in (3, 7, 8)] == [-60, 30, True]
    assert device.read(7, "1-0:99.1.0", 2)[-1][0] == device.shown().octets


@pytest.mark.parametrize(
    ("method", "offset", "after"), [(1, 440, 0), (1, 460, 900), (2, -100, 0), (3, 29, 0), (3, 31, 60), (3, -31, -60)]
)
def test_the_clock_is_adjusted(method: int, offset: int, after: int) -> None:
    device = Device(clock_offset=offset)
    device.call(8, "0-0:1.0.0", method)
    assert device.meter.clock_offset == after


def test_the_clock_is_shifted_and_preset() -> None:
    device = Device()
    device.call(8, "0-0:1.0.0", 6, Data(DataType.LONG, -30))
    assert stamp(device.shown()) == NOW - 30
    with pytest.raises(DataAccessError):
        device.call(8, "0-0:1.0.0", 6, Data(DataType.LONG, 901))
    with pytest.raises(DataAccessError):
        device.call(8, "0-0:1.0.0", 4)
    times = (dt.datetime.fromtimestamp(NOW + after, dt.UTC) for after in (5000, -60, 60))
    device.call(8, "0-0:1.0.0", 5, Data(DataType.STRUCTURE, tuple(map(moment, times))))
    device.call(8, "0-0:1.0.0", 4)
    assert stamp(device.shown()) == NOW + 5000


# ---------------------------------------------------------------------------------------------------------------------
# demand


def test_demand_is_energy_over_time() -> None:
    device = Device()
    energies = device.meter.load.energies
    mean = (energies(NOW).active_import - energies(NOW - PERIOD).active_import) * 40
    assert device.read(5, "1-0:1.4.0", 3) == mean
    assert device.read(5, "1-0:1.4.0", 3, NOW + 899) == mean
    assert device.read(5, "1-0:1.4.0", 2) == 0
    assert device.read(5, "1-0:1.4.0", 2, NOW + 899) > 0
    assert DateTime(device.read(5, "1-0:1.4.0", 7, NOW + 30)) == device.shown(NOW)
    device.call(5, "1-0:1.4.0", 2, now=NOW + 30)
    assert DateTime(device.read(5, "1-0:1.4.0", 7, NOW + 40)) == device.shown(NOW + 30)


def test_the_days_maximum_is_kept_until_it_is_reset() -> None:
    device = Device()
    energies = device.meter.load.energies
    midnight = NOW // 86_400 * 86_400
    means = {
        end: (energies(end).active_import - energies(end - PERIOD).active_import) * 40
        for end in range(midnight + PERIOD, NOW + 1, PERIOD)
    }
    assert device.read(4, "1-0:1.6.0", 2) == max(means.values())
    captured = stamp(DateTime(device.read(4, "1-0:1.6.0", 5)))
    assert means[int(captured)] == max(means.values())
    assert device.read(4, "1-0:1.6.0", 3) == (-1, 27)
    device.call(4, "1-0:1.6.0", 1)
    assert device.read(4, "1-0:1.6.0", 2, NOW + 100) == 0


# ---------------------------------------------------------------------------------------------------------------------
# the rest


def test_a_profile_is_reset_and_not_captured_by_hand() -> None:
    device = Device()
    assert device.read(7, "1-0:99.1.0", 7) == 96
    device.call(7, "1-0:99.1.0", 1)
    assert device.read(7, "1-0:99.1.0", 7) == 0
    assert device.read(7, "1-0:99.1.0", 7, NOW + 900) == 1
    with pytest.raises(DataAccessError):
        device.call(7, "1-0:99.1.0", 2)


def test_the_passive_calendar_becomes_the_active_one() -> None:
    device = Device()
    device.write(20, "0-0:13.0.0", 6, Data(DataType.OCTET_STRING, b"TOU-2"))
    assert device.read(20, "0-0:13.0.0", 2) == b"TOU-1"
    device.call(20, "0-0:13.0.0", 1)
    assert device.read(20, "0-0:13.0.0", 2) == b"TOU-2"
    assert len(device.read(20, "0-0:13.0.0", 3)) == 2
    with pytest.raises(DataAccessError):
        device.write(20, "0-0:13.0.0", 2, Data(DataType.OCTET_STRING, b"TOU-3"))


def test_an_image_is_transferred_verified_and_activated() -> None:
    device = Device()
    size = 3 * BLOCK_SIZE + 10

    def block(number: int, length: int) -> Data:
        octets = Data(DataType.OCTET_STRING, bytes(length))
        return Data(DataType.STRUCTURE, (Data(DataType.DOUBLE_LONG_UNSIGNED, number), octets))

    def image(index: int) -> Any:
        return device.read(18, "0-0:44.0.0", index)

    with pytest.raises(DataAccessError):
        device.call(18, "0-0:44.0.0", 2, block(0, BLOCK_SIZE))
    start = (Data(DataType.OCTET_STRING, b"MBS 2.0"), Data(DataType.DOUBLE_LONG_UNSIGNED, size))
    device.call(18, "0-0:44.0.0", 1, Data(DataType.STRUCTURE, start))
    assert image(6) == 1
    for number in (0, 2, 3):
        device.call(18, "0-0:44.0.0", 2, block(number, 10 if number == 3 else BLOCK_SIZE))
    assert (str(image(3)), image(4)) == ("1011", 1)
    for wrong in (block(4, 10), block(3, BLOCK_SIZE), block(1, 10)):
        with pytest.raises(DataAccessError):
            device.call(18, "0-0:44.0.0", 2, wrong)
    with pytest.raises(DataAccessError):
        device.call(18, "0-0:44.0.0", 3)
    assert image(6) == 4
    device.call(18, "0-0:44.0.0", 2, block(1, BLOCK_SIZE))
    device.call(18, "0-0:44.0.0", 3)
    assert image(7) == [(size, b"MBS 2.0", b"")]
    device.call(18, "0-0:44.0.0", 4)
    assert image(6) == 6
    assert device.read(1, "1-0:0.2.0", 2) == b"MBS 2.0"


def test_a_limiter_and_a_push_setup_keep_what_they_are_told() -> None:
    device = Device()
    device.write(71, "0-0:17.0.0", 4, Data(DataType.DOUBLE_LONG_UNSIGNED, 99))
    assert (device.read(71, "0-0:17.0.0", 3), device.read(71, "0-0:17.0.0", 4)) == (99, 99)
    device.write(40, "0-0:25.9.0", 6, Data(DataType.UNSIGNED, 3))
    assert device.read(40, "0-0:25.9.0", 6) == 3
    with pytest.raises(DataAccessError) as refused:
        device.write(40, "0-0:25.9.0", 6, Data(DataType.LONG, 3))
    assert refused.value.result == DataAccessResult.TYPE_UNMATCHED


def test_meters_share_their_objects_and_not_what_is_written() -> None:
    one, other = Device(), Device()
    one.write(1, "0-0:96.1.1", 2, Data(DataType.OCTET_STRING, b"mine"))
    one.call(70, "0-0:96.3.10", 1)
    assert other.read(1, "0-0:96.1.1", 2) == b""
    assert other.meter.connected
