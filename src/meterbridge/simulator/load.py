"""A believable household or small business, as its electricity meter sees it.

Pure: a seed and a Unix time give everything. Energy is a closed form of time and power is its derivative, so the
registers agree exactly and any past load-profile row costs a few microseconds.
"""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from meterbridge.errors import ConfigurationError
from meterbridge.simulator.noise import Wander, Warp, hashed, signed_unit

_DAY: Final = 86_400
_YEAR: Final = 365.2425
INSTALLED: Final = 1_672_531_200
"""2023-01-01: when a meter was installed that does not say."""

_LINE_IMPEDANCE: Final = 0.25  # ohm, from the substation to the meter
_GRID_SEED: Final = 0  # one grid, one frequency: the same for every meter

# Mean power hour by hour, relative; straight lines between.
_HOME_WORKDAY = (
    3.0, 2.5, 2.3, 2.2, 2.3, 3.0, 5.5, 8.5, 7.5, 5.0, 4.5, 4.8,
    5.5, 5.2, 4.6, 4.5, 5.0, 7.0, 10.0, 12.0, 11.5, 9.0, 6.5, 4.3,
)  # fmt: skip
_HOME_WEEKEND = (
    3.6, 3.0, 2.6, 2.4, 2.3, 2.5, 3.0, 4.2, 6.5, 8.5, 9.0, 9.2,
    10.0, 9.0, 7.8, 7.2, 7.4, 8.4, 10.2, 11.5, 11.0, 9.2, 7.0, 5.0,
)  # fmt: skip
_SHOP_WORKDAY = (
    2.0, 2.0, 2.0, 2.0, 2.0, 2.2, 3.5, 7.0, 10.5, 12.0, 12.5, 12.5,
    11.5, 12.0, 12.5, 12.5, 12.0, 11.0, 8.5, 5.0, 3.0, 2.4, 2.1, 2.0,
)  # fmt: skip
_SHOP_WEEKEND = (
    2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.2, 2.8, 4.0, 5.0, 5.4, 5.2,
    4.6, 3.4, 2.6, 2.2, 2.1, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0,
)  # fmt: skip
_MOTORS = (
    2.2, 2.0, 1.9, 1.9, 1.9, 2.1, 2.6, 3.2, 3.3, 3.0, 3.0, 3.2,
    3.3, 3.2, 3.1, 3.1, 3.2, 3.5, 3.9, 4.2, 4.1, 3.6, 3.0, 2.5,
)  # fmt: skip
_SUN = (
    0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.2, 3.3, 5.6, 7.6, 8.9,
    9.4, 9.0, 7.8, 5.9, 3.6, 1.4, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0,
)  # fmt: skip

_HABITS = ((14_400, 0.25), (3_600, 0.45), (600, 0.6), (60, 0.25))
_CLOUDS = ((14_400, 0.15), (3_600, 0.35), (300, 0.5))


class Premises(enum.Enum):
    """Who is behind the meter."""

    HOUSEHOLD = "household"
    BUSINESS = "business"


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """What one simulated connection is like.

    Args:
        seed: everything random about it.
        premises: whose daily curve.
        phases: 1 or 3.
        hertz: nominal frequency, 50 or 60.
        nominal_voltage: volts to neutral; None means 230 at 50 Hz and 127 at 60 Hz.
        photovoltaic: whether a solar plant feeds in. It has a circuit of its own: what it gives is exported in full.
        installed: Unix time from which the energy registers count.

    Raises:
        ConfigurationError: phases or hertz is none of those.
    """

    seed: int = 0
    premises: Premises = Premises.HOUSEHOLD
    phases: int = 1
    hertz: int = 50
    nominal_voltage: float | None = None
    photovoltaic: bool = False
    installed: int = INSTALLED

    def __post_init__(self) -> None:
        if self.phases not in (1, 3):
            raise ConfigurationError(f"a meter has 1 or 3 phases, not {self.phases}")
        if self.hertz not in (50, 60):
            raise ConfigurationError(f"the grid runs at 50 or 60 Hz, not {self.hertz}")


class Energies(NamedTuple):
    """Energy registers, whole Wh and varh, as the meter's display shows them."""

    active_import: int
    active_export: int
    reactive_import: int


class Instant(NamedTuple):
    """Everything a meter measures at one second.

    Args:
        voltage: V to neutral, by phase.
        current: A, by phase.
        power: W drawn, by phase.
        active_import: W drawn, all phases.
        active_export: W fed in by the solar plant.
        reactive_import: var, all phases.
        power_factor: 0..1, of what is drawn.
        frequency: Hz.
        energies: the energy registers.
    """

    voltage: tuple[float, ...]
    current: tuple[float, ...]
    power: tuple[float, ...]
    active_import: float
    active_export: float
    reactive_import: float
    power_factor: float
    frequency: float
    energies: Energies


class _Shape:
    """One day's curve: cumulative share of the day's energy by time of day, and its slope."""

    __slots__ = ("_before", "_knots", "weight")

    def __init__(self, knots: tuple[float, ...]) -> None:
        self.weight = sum(knots) / len(knots)
        total = sum(knots)
        self._knots = tuple(knot / total for knot in (*knots, knots[0]))
        before = [0.0]
        for start, end in zip(self._knots, self._knots[1:], strict=False):
            before.append(before[-1] + (start + end) / 2)
        self._before = tuple(before)

    def at(self, seconds: float) -> tuple[float, float]:
        """Return the share used up at `seconds` after midnight (0..86400) and the share per hour there."""
        hours = seconds / 3600.0
        hour = min(int(hours), 23)
        rest = hours - hour
        start = self._knots[hour]
        rise = self._knots[hour + 1] - start
        return self._before[hour] + rest * (start + rise * rest / 2), start + rise * rest


class _Curve:
    """Cumulative energy over time: day totals in closed form, each day shared out by its shape.

    Season and day-to-day variation are written as differences of bounded functions, so the sum over any number of days
    needs only its two ends.
    """

    __slots__ = ("_cached", "_daily", "_kinds", "_prefix", "_season", "_seed", "_variation", "_week", "_winter")

    def __init__(
        self, seed: int, workday: _Shape, weekend: _Shape, daily: float, season: float, winter: bool, variation: float
    ) -> None:
        self._seed = seed
        mean = (5 * workday.weight + 2 * weekend.weight) / 7
        # Unix day 0 was a Thursday.
        self._kinds = (workday, workday, weekend, weekend, workday, workday, workday)
        prefix = [0.0]
        for kind in self._kinds:
            prefix.append(prefix[-1] + daily * kind.weight / mean)
        self._prefix = tuple(prefix)
        self._week = prefix[-1]
        self._daily = daily
        self._season = season * _YEAR / math.tau
        self._winter = 0.0 if winter else math.pi
        self._variation = variation
        self._cached = (-1, 0.0, 0.0)

    def _until(self, day: int) -> float:
        weeks, weekday = divmod(day, 7)
        season = self._season * math.sin(math.tau * (day - 15) / _YEAR + self._winter)
        variation = self._variation * signed_unit(hashed(self._seed, 1, day), 0)
        return weeks * self._week + self._prefix[weekday] + self._daily * (season + variation)

    def at(self, day: int, seconds: float) -> tuple[float, float]:
        """Return cumulative energy in Wh since Unix day 0 and power in W, both before the warp's flow."""
        if self._cached[0] != day:
            start = self._until(day)
            self._cached = (day, start, self._until(day + 1) - start)
        _, start, total = self._cached
        share, rate = self._kinds[day % 7].at(seconds)
        return start + total * share, total * rate


_SHAPES: Final = {
    Premises.HOUSEHOLD: (_Shape(_HOME_WORKDAY), _Shape(_HOME_WEEKEND), 9_500.0, 0.18, 0.12),
    Premises.BUSINESS: (_Shape(_SHOP_WORKDAY), _Shape(_SHOP_WEEKEND), 48_000.0, 0.08, 0.04),
}
_MOTOR_SHAPE: Final = _Shape(_MOTORS)
_SUN_SHAPE: Final = _Shape(_SUN)
_SUN_DAILY: Final = 14_000.0


@dataclass(slots=True)
class Load:
    """One simulated connection; time is an argument of everything.

    Args:
        options: what it is like.
    """

    options: LoadOptions
    _volts: float = field(init=False, repr=False)
    _habits: Warp = field(init=False, repr=False)
    _clouds: Warp = field(init=False, repr=False)
    _drawn: _Curve = field(init=False, repr=False)
    _reactive: _Curve = field(init=False, repr=False)
    _fed: _Curve | None = field(init=False, repr=False)
    _wander: Wander = field(init=False, repr=False)
    _grid: Wander = field(init=False, repr=False)
    _zero: tuple[float, float, float] = field(init=False, repr=False)
    _last: tuple[int, Instant] | None = field(init=False, repr=False, default=None)

    def __post_init__(self) -> None:
        options = self.options
        seed = options.seed
        workday, weekend, daily, season, variation = _SHAPES[options.premises]
        daily *= math.exp(0.45 * signed_unit(hashed(seed, 2, 0), 0))
        self._volts = options.nominal_voltage or (230.0 if options.hertz == 50 else 127.0)
        self._habits = Warp(seed, 16, _HABITS)
        self._clouds = Warp(seed, 32, _CLOUDS)
        self._drawn = _Curve(seed, workday, weekend, daily, season, winter=True, variation=variation)
        self._reactive = _Curve(seed, _MOTOR_SHAPE, _MOTOR_SHAPE, daily * 0.28, season / 2, True, variation / 2)
        self._fed = (
            _Curve(seed + 1, _SUN_SHAPE, _SUN_SHAPE, _SUN_DAILY, 0.55, winter=False, variation=0.2)
            if options.photovoltaic
            else None
        )
        self._wander = Wander(seed, 48, 180)
        self._grid = Wander(_GRID_SEED, 49, 60)
        self._zero = (0.0, 0.0, 0.0)
        self._zero = self._totals(options.installed)

    def _totals(self, t: float) -> tuple[float, float, float]:
        day = int(t // _DAY)
        midnight = day * _DAY
        warped, _ = self._habits.at(t)
        drawn, _ = self._drawn.at(day, warped - midnight)
        reactive, _ = self._reactive.at(day, warped - midnight)
        fed = self._fed.at(day, self._clouds.at(t)[0] - midnight)[0] if self._fed else 0.0
        return drawn - self._zero[0], fed - self._zero[1], reactive - self._zero[2]

    def energy(self, t: float) -> tuple[float, float, float]:
        """Return active import, active export (Wh) and reactive import (varh) since installation, not rounded.

        Exactly the integral of the power of `at`; 0 before installation.
        """
        return self._totals(max(t, self.options.installed))

    def energies(self, t: float) -> Energies:
        """Return the energy registers at Unix time `t`."""
        drawn, fed, reactive = self._totals(max(t, self.options.installed))
        return Energies(int(drawn), int(fed), int(reactive))

    def at(self, t: float) -> Instant:
        """Return everything measured in the second that holds Unix time `t`; the last second's answer is kept."""
        second = int(t)
        if self._last is not None and self._last[0] == second:
            return self._last[1]
        instant = self._measure(second)
        self._last = (second, instant)
        return instant

    def _measure(self, t: int) -> Instant:
        day = t // _DAY
        midnight = day * _DAY
        warped, flow = self._habits.at(t)
        drawn, power = self._drawn.at(day, warped - midnight)
        varh, reactive = self._reactive.at(day, warped - midnight)
        power *= flow
        reactive *= flow
        fed = sun = 0.0
        if self._fed is not None:
            warped, flow = self._clouds.at(t)
            fed, sun = self._fed.at(day, warped - midnight)
            sun *= flow
        apparent = math.hypot(power, reactive)
        factor = power / apparent if apparent else 1.0
        energies = Energies(0, 0, 0)
        if t >= self.options.installed:
            zero = self._zero
            energies = Energies(int(drawn - zero[0]), int(fed - zero[1]), int(varh - zero[2]))

        phases = self.options.phases
        bits = hashed(self.options.seed, 50, t)
        wander = self._wander.at
        shares = [1.0 + 0.4 * wander(t, phase) for phase in range(phases)]
        whole = sum(shares)
        voltages, currents, powers = [], [], []
        for phase, part in enumerate(shares):
            share = part / whole
            open_circuit = self._volts * (1.0 + 0.018 * wander(t, 3 - phase) + 0.002 * signed_unit(bits, phase))
            voltage = open_circuit - _LINE_IMPEDANCE * share * apparent / open_circuit
            voltages.append(voltage)
            currents.append(share * apparent / voltage)
            powers.append(share * power)
        frequency = self.options.hertz + 0.03 * self._grid.at(t, 0) + 0.004 * signed_unit(hashed(_GRID_SEED, 51, t), 0)
        return Instant(
            tuple(voltages), tuple(currents), tuple(powers), power, sun, reactive, factor, frequency, energies
        )
