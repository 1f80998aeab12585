"""Tells the followers of events when a meter's state changes: looked at twice a second, only while somebody follows."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from meterbridge.fleet import WorkerStatus
from meterbridge.model import MeterId

LOOK_EVERY = 0.5
_State = tuple[str, str, tuple[str, ...]]


class StateWatch:
    """Compares what is with what was.

    Args:
        statuses: returns all meters' status.
        tell: takes `state` and the particulars; a meter that is no longer polled has null in them.
    """

    def __init__(
        self, statuses: Callable[[], Iterable[WorkerStatus]], tell: Callable[[str, dict[str, object]], None]
    ) -> None:
        self._statuses = statuses
        self._tell = tell
        self._known: dict[MeterId, _State] | None = None

    async def run(self, followed: Callable[[], bool]) -> None:
        """Look for ever.

        Args:
            followed: whether anybody wants to know.
        """
        while True:
            await asyncio.sleep(LOOK_EVERY)
            if followed():
                self.look()
            else:
                self._known = None

    def look(self) -> None:
        """Tell what has changed since the last look; the first one tells nothing."""
        now = {each.meter.id: (str(each.state), each.link, each.troubles) for each in self._statuses()}
        before, self._known = self._known, now
        if before is None:
            return
        for meter, (run_state, link, troubles) in now.items():
            if before.get(meter) != now[meter]:
                self._tell("state", {"meter": meter, "run_state": run_state, "link": link, "troubles": list(troubles)})
        for meter in before.keys() - now.keys():
            self._tell("state", {"meter": meter, "run_state": None, "link": None, "troubles": []})
