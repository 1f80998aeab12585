"""Deterministic noise: any past instant costs the same as the present one, nothing is replayed."""

from __future__ import annotations

import math

_MASK = 0xFFFFFFFFFFFFFFFF


def hashed(seed: int, stream: int, index: int) -> int:
    """Return 64 well-mixed bits for one place of one stream of one seed (the splitmix64 finaliser)."""
    x = (seed * 0x9E3779B97F4A7C15 + stream * 0xD1B54A32D192ED03 + index * 0x8CB92BA72F3D8DD7 + 1) & _MASK
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 & _MASK
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB & _MASK
    return x ^ (x >> 31)


def signed_unit(bits: int, lane: int) -> float:
    """Return one of the four 16-bit lanes of a hash as -1..1."""
    return ((bits >> (16 * lane)) & 0xFFFF) / 32767.5 - 1.0


class Wander:
    """Persistent noise in four independent lanes, -1..1: straight lines between random knots.

    Args:
        seed: whose noise.
        stream: which noise of that seed.
        period: seconds between knots.
    """

    __slots__ = ("_ends", "_index", "_period", "_seed", "_starts", "_stream")

    def __init__(self, seed: int, stream: int, period: int) -> None:
        self._seed = seed
        self._stream = stream
        self._period = period
        self._index: int | None = None
        self._starts = self._ends = 0

    def at(self, t: float, lane: int) -> float:
        """Return the noise of one lane at Unix time `t`."""
        index, rest = divmod(t, self._period)
        if index != self._index:
            self._index = int(index)
            self._starts = hashed(self._seed, self._stream, self._index)
            self._ends = hashed(self._seed, self._stream, self._index + 1)
        start = signed_unit(self._starts, lane)
        return start + (signed_unit(self._ends, lane) - start) * rest / self._period


class Warp:
    """Uneven flow of time: cut into cells, and within each cell time first runs fast, then slow, or the reverse.

    Cell boundaries stay where they are, so a cumulative curve read at warped time keeps its totals while its slope is
    multiplied by the flow. Several grains are nested; that makes steps like appliances switching, and bursts that last.

    Args:
        seed: whose warp.
        stream: which warp of that seed.
        grains: (cell length in seconds, strength) from coarse to fine; strength 1 lets the two flows of a cell differ
            by a factor of up to e².
    """

    __slots__ = ("_cells", "_grains", "_seed", "_stream")

    def __init__(self, seed: int, stream: int, grains: tuple[tuple[int, float], ...]) -> None:
        self._seed = seed
        self._stream = stream
        self._grains = tuple(reversed(grains))
        # Last cell used of each grain: index, place of the step, flow before and after it.
        self._cells: list[tuple[int, float, float, float]] = [(-1, 0.0, 1.0, 1.0)] * len(grains)

    def at(self, t: float) -> tuple[float, float]:
        """Return the warped time for `t >= 0` and the flow there (1 on average over each cell)."""
        flow = 1.0
        for grain, (length, strength) in enumerate(self._grains):
            index = int(t // length)
            cell = self._cells[grain]
            if cell[0] != index:
                cell = self._cells[grain] = self._cell(grain, index, length, strength)
            _, step, before, after = cell
            start = index * length
            elapsed = t - start
            if elapsed < step:
                t = start + elapsed * before
                flow *= before
            else:
                # From the far end, so that the boundary is met exactly.
                t = start + length - (length - elapsed) * after
                flow *= after
        return t, flow

    def _cell(self, grain: int, index: int, length: int, strength: float) -> tuple[int, float, float, float]:
        bits = hashed(self._seed, self._stream + grain, index)
        step = length * (0.5 + 0.35 * signed_unit(bits, 0))
        before = math.exp(strength * signed_unit(bits, 1))
        after = math.exp(strength * signed_unit(bits, 2))
        total = (step * before + (length - step) * after) / length
        return index, step, before / total, after / total
