"""How many connections to meters there is room for."""

from __future__ import annotations

import pytest

from meterbridge.service.machine import room_for_meters


@pytest.mark.parametrize(
    ("files", "wanted", "room"),
    [(65_536, 5_000, 5_000), (6_280, 5_000, 5_000), (4_096, 5_000, 2_816), (1_024, 5_000, 496), (64, 5_000, 16)],
)
def test_the_service_keeps_files_for_itself(files: int, wanted: int, room: int) -> None:
    assert room_for_meters(files, wanted) == room


def test_one_meter_at_a_time_is_always_tried() -> None:
    assert room_for_meters(20, 5_000) == 1
