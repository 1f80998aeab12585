"""Roster: the rows of `meters` in memory, for those who ask often: reading them each time would hold up polls."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from meterbridge.model import Meter, MeterId
from meterbridge.store import MeterProblem, MeterRepository, MeterState
from meterbridge.store.repository import LONGEST_ERROR

_NOTHING = MeterState(None, None, 0)


class Roster:
    """What the database holds of the meters, as of the last `load` and of what was recorded since.

    Rows typed by hand are taken over with the next reload, as by the fleet.
    """

    def __init__(self) -> None:
        self.meters: dict[MeterId, Meter] = {}
        self.states: dict[MeterId, MeterState] = {}
        self.problems: tuple[MeterProblem, ...] = ()

    async def load(self, repository: MeterRepository) -> None:
        """Read all of them.

        Raises:
            StoreError: they cannot be read; it stays as it was.
        """
        loaded, states = await repository.load_meters(), await repository.states()
        self.meters = {meter.id: meter for meter in loaded.meters}
        self.states = states
        self.problems = loaded.problems + loaded.rivals()

    def seen(self, meters: Iterable[MeterId], ts: int) -> None:
        """Meters were recorded as seen at `ts`, Unix milliseconds."""
        for id_ in meters:
            if (meter := self.meters.get(id_)) is None:
                continue
            self.states[id_] = replace(self.states.get(id_, _NOTHING), last_seen=ts)
            if meter.status == "error":
                self.meters[id_] = replace(meter, status="active")

    def failed(self, errors: Mapping[MeterId, str]) -> None:
        """Errors of meters were recorded, one sentence each."""
        for id_, text in errors.items():
            if (meter := self.meters.get(id_)) is None:
                continue
            known = self.states.get(id_, _NOTHING)
            self.states[id_] = replace(known, last_error=text[:LONGEST_ERROR], error_count=known.error_count + 1)
            if meter.status == "active":
                self.meters[id_] = replace(meter, status="error")
