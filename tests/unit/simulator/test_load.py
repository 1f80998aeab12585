"""The simulated load: registers agree with power, curves look like people live there."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meterbridge.errors import ConfigurationError
from meterbridge.simulator.load import Load, LoadOptions, Premises

MIDNIGHT = 1_762_732_800  # Monday 2025-11-10 00:00 UTC
DAY = 86_400

HOME = LoadOptions(seed=3)
SHOP = LoadOptions(seed=7, premises=Premises.BUSINESS, phases=3, hertz=60, photovoltaic=True)


def mean_power(load: Load, start: int, stop: int) -> float:
    return (load.energy(stop)[0] - load.energy(start)[0]) * 3600 / (stop - start)


@pytest.mark.parametrize("options", [HOME, SHOP], ids=["home", "shop"])
def test_energy_is_the_integral_of_power(options: LoadOptions) -> None:
    load = Load(options)
    start = MIDNIGHT + 18 * 3600
    seconds = 4 * 3600
    sums = [0.0, 0.0, 0.0]
    for t in range(start, start + seconds):
        instant = load.at(t)
        for i, power in enumerate((instant.active_import, instant.active_export, instant.reactive_import)):
            sums[i] += power / 3600
    gained = [b - a for a, b in zip(load.energy(start), load.energy(start + seconds), strict=True)]
    # The sum of seconds misses only the exact second of each switching step.
    assert sums == pytest.approx(gained, rel=2e-3, abs=0.5)


@given(seed=st.integers(0, 2**32), t=st.floats(1_700_000_000, 1_900_000_000), step=st.floats(0, 2 * DAY))
def test_energy_never_falls(seed: int, t: float, step: float) -> None:
    load = Load(LoadOptions(seed=seed, photovoltaic=True))
    assert all(b >= a - 1e-6 for a, b in zip(load.energy(t), load.energy(t + step), strict=True))


def test_registers_start_at_zero_on_the_day_of_installation() -> None:
    load = Load(HOME)
    assert load.energies(HOME.installed - 10**6) == (0, 0, 0)
    assert load.at(HOME.installed - 5).energies == (0, 0, 0)
    assert load.energies(HOME.installed) == (0, 0, 0)
    assert load.energies(HOME.installed + DAY).active_import > 1000


def test_the_instant_shows_the_registers_of_its_second() -> None:
    load = Load(SHOP)
    for t in range(MIDNIGHT, MIDNIGHT + 5000, 77):
        assert load.at(t).energies == load.energies(t)


def test_asking_about_the_past_changes_nothing() -> None:
    load, undisturbed = Load(SHOP), Load(SHOP)
    for t in range(MIDNIGHT + 40_000, MIDNIGHT + 40_600, 7):
        load.energies(t - 40 * DAY)
        assert load.at(t) == undisturbed.at(t)


def test_seeds_differ_and_repeat() -> None:
    t = MIDNIGHT + 12 * 3600
    assert Load(LoadOptions(seed=1)).at(t) == Load(LoadOptions(seed=1)).at(t)
    assert Load(LoadOptions(seed=1)).at(t) != Load(LoadOptions(seed=2)).at(t)


@pytest.mark.parametrize("options", [HOME, SHOP], ids=["home", "shop"])
def test_current_voltage_and_power_factor_give_the_power(options: LoadOptions) -> None:
    load = Load(options)
    for t in range(MIDNIGHT, MIDNIGHT + DAY, 997):
        instant = load.at(t)
        assert len(instant.voltage) == len(instant.current) == options.phases
        apparent = sum(u * i for u, i in zip(instant.voltage, instant.current, strict=True))
        assert apparent * instant.power_factor == pytest.approx(instant.active_import, rel=1e-9)
        assert sum(instant.power) == pytest.approx(instant.active_import)
        assert math.hypot(instant.active_import, instant.reactive_import) == pytest.approx(apparent)
        assert 0.4 < instant.power_factor <= 1.0
        assert instant.active_import > 0


@pytest.mark.parametrize(("options", "nominal"), [(HOME, 230.0), (SHOP, 127.0)], ids=["home", "shop"])
def test_voltage_and_frequency_stay_near_nominal_and_move(options: LoadOptions, nominal: float) -> None:
    instants = [Load(options).at(t) for t in range(MIDNIGHT, MIDNIGHT + DAY, 601)]
    assert all(0.9 * nominal < u < 1.1 * nominal for instant in instants for u in instant.voltage)
    assert len({instant.voltage for instant in instants}) == len(instants)
    assert all(abs(instant.frequency - options.hertz) < 0.1 for instant in instants)
    assert len({round(instant.frequency, 3) for instant in instants}) > 20


def test_voltage_sags_under_load() -> None:
    load = Load(LoadOptions(seed=11, premises=Premises.BUSINESS))
    ranked = sorted((load.at(t) for t in range(MIDNIGHT, MIDNIGHT + 5 * DAY, 301)), key=lambda i: i.current[0])
    tenth = len(ranked) // 10
    light = sum(i.voltage[0] for i in ranked[:tenth]) / tenth
    heavy = sum(i.voltage[0] for i in ranked[-tenth:]) / tenth
    assert light - heavy > 1.0


def test_one_grid_has_one_frequency() -> None:
    assert Load(LoadOptions(seed=1)).at(MIDNIGHT).frequency == Load(LoadOptions(seed=2)).at(MIDNIGHT).frequency


def test_evenings_beat_nights_and_shops_rest_at_weekends() -> None:
    home, shop = Load(HOME), Load(SHOP)
    for day in range(5):
        midnight = MIDNIGHT + day * DAY
        night = mean_power(home, midnight + 2 * 3600, midnight + 5 * 3600)
        assert mean_power(home, midnight + 18 * 3600, midnight + 22 * 3600) > 2 * night
    saturday = MIDNIGHT + 5 * DAY
    assert mean_power(shop, saturday, saturday + DAY) < 0.6 * mean_power(shop, MIDNIGHT, MIDNIGHT + DAY)


def test_the_sun_shines_by_day_only() -> None:
    load = Load(SHOP)
    assert load.at(MIDNIGHT + 3600).active_export == 0
    assert load.at(MIDNIGHT + 12 * 3600).active_export > 0
    assert Load(HOME).at(MIDNIGHT + 12 * 3600).active_export == 0


def test_noise_persists() -> None:
    load = Load(HOME)
    powers = [load.at(t).active_import for t in range(MIDNIGHT + 40_000, MIDNIGHT + 60_000, 10)]
    steps = [abs(b - a) for a, b in itertools.pairwise(powers)]
    spread = sum(abs(p - sum(powers) / len(powers)) for p in powers) / len(powers)
    assert sum(steps) / len(steps) < spread / 3


@pytest.mark.parametrize("wrong", [{"phases": 2}, {"hertz": 55}])
def test_impossible_options_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ConfigurationError):
        LoadOptions(**wrong)  # type: ignore[arg-type]
