"""The list of all meters as JSON text: what does not change of a meter is written once, the rest a few at a time."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping

from meterbridge.api.shapes import meter_shape
from meterbridge.fleet import WorkerStatus
from meterbridge.model import Meter, MeterId
from meterbridge.service import Roster
from meterbridge.store import MeterState

# Meters written before polls may go on: half a millisecond's worth.
_AT_ONCE = 100


class Listing:
    """Writes the list; remembers of each meter what does not change.

    Args:
        roster: of the meters.
    """

    def __init__(self, roster: Roster) -> None:
        self._roster = roster
        self._written: dict[MeterId, tuple[Meter, str]] = {}

    async def write(self, running: Mapping[MeterId, WorkerStatus]) -> bytes:
        """Return `{"meters": […], "problems": […]}`, the meters as `meter_shape` makes them."""
        roster = self._roster
        for gone in self._written.keys() - roster.meters.keys():
            del self._written[gone]
        parts: list[str] = []
        for number, (id_, meter) in enumerate(sorted(roster.meters.items()), 1):
            parts.append(self._one(meter, roster.states.get(id_), running.get(id_)))
            if number % _AT_ONCE == 0:
                await asyncio.sleep(0)
        problems = [{"id": bad.meter, "name": bad.name, "problem": bad.text} for bad in roster.problems]
        return f'{{"meters":[{",".join(parts)}],"problems":{json.dumps(problems, ensure_ascii=False)}}}'.encode()

    def _one(self, meter: Meter, state: MeterState | None, status: WorkerStatus | None) -> str:
        known = self._written.get(meter.id)
        if known is None or known[0] is not meter:
            still = {name: value for name, value in meter_shape(meter, None, None).items() if name not in _MOVING}
            # Without the brace that closes it.
            text = json.dumps(still, ensure_ascii=False, separators=(",", ":"))[:-1]
            known = self._written[meter.id] = meter, text
        moving = (
            f',"last_seen":{"null" if state is None or state.last_seen is None else state.last_seen}'
            f',"last_error":{_text(state.last_error if state else None)}'
            f',"error_count":{state.error_count if state else 0}'
        )
        if status is None:
            return f'{known[1]}{moving},"run_state":null,"link":null,"troubles":[]}}'
        troubles = json.dumps(status.troubles) if status.troubles else "[]"
        return f'{known[1]}{moving},"run_state":"{status.state}","link":"{status.link}","troubles":{troubles}}}'


_MOVING = frozenset({"last_seen", "last_error", "error_count", "run_state", "link", "troubles"})


def _text(value: str | None) -> str:
    return "null" if value is None else json.dumps(value, ensure_ascii=False)
