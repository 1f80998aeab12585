"""Finds the row at which the far side closes the connection, and tells it from a network that fails. Pure.

MQTT 3.1.1 has no refusal: a server that chokes on a message closes the connection, and a hundred messages may be
on their way. After two such closures what was on its way is sent one message at a time. A message of many rows that
ends the connection is halved; a single row is put aside only after `proofs` connections in a row, five at least,
ended with nothing but this row unacknowledged, some of them right after another row had been acknowledged on the same
connection. Any other failure in between (refused, timed out, lost while another row was on its way) proves the network
bad rather than the row, and counting begins anew.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterable, Sequence

from meterbridge.delivery.row import Row

Rows = tuple[Row, ...]
_CLOSURES = 2
# Fewer closures than this a network that breaks often deals to one row by chance; a refusal in words is no chance.
_LEAST_CLOSURES = 5


class Suspicion:
    """What is suspected on one route.

    Args:
        proofs: refusals, or closures, that convict a single row; at least 2, and 5 closures.
        rng: picks the rows that prove the connection good.
    """

    def __init__(self, proofs: int, rng: random.Random) -> None:
        self._proofs = max(2, proofs)
        self._rng = rng
        self._closures = 0
        self._doubtful: set[int] = set()
        self._groups: deque[Rows] = deque()
        self._current: Rows = ()
        self._control = False
        self._controls = 0
        self._deaths = 0
        self._refusals = 0
        # Rows with which a connection ended that they were to prove good: two poisons must not shield each other.
        self._tainted: set[int] = set()

    @property
    def stepping(self) -> bool:
        """Whether messages go one at a time now."""
        return bool(self._groups)

    def connected(self) -> None:
        """A connection begins."""
        self._current, self._controls = (), 0

    def acknowledged(self, rows: Rows) -> None:
        """Rows arrived: they are beyond suspicion."""
        if self._doubtful:
            self._doubtful.difference_update(row.id for row in rows)
            if not self._doubtful:
                self._closures = 0
        if not self._groups or not rows:
            return
        if self._control and rows == self._current:
            self._controls += 1
        acknowledged = {row.id for row in rows}
        head = self._groups[0]
        left = (tuple(row for row in group if row.id not in acknowledged) for group in self._groups)
        self._groups = deque(group for group in left if group)
        if not self._groups or self._groups[0] != head:
            self._acquit()
        self._current = ()

    def closed(self, unacknowledged: Sequence[Rows]) -> Row | None:
        """The peer closed the connection.

        Args:
            unacknowledged: rows of each message that was on its way.

        Returns:
            The row that is to blame, once that is proven.
        """
        if not self.stepping:
            self._closures += 1 if unacknowledged else 0
            self._doubtful = {row.id for rows in unacknowledged for row in rows}
            if unacknowledged and self._closures >= _CLOSURES:
                self.step_through(unacknowledged)
            return None
        if not self._current:
            return None
        if self._control:
            self._tainted.add(self._current[0].id)
            self._acquit()
            return None
        if self._halved():
            return None
        self._deaths += 1
        # The schedule of controls has two of three proofs preceded by one.
        if self._deaths < max(self._proofs, _LEAST_CLOSURES):
            return None
        return self._convict()

    def refused(self, rows: Rows, final: bool) -> Row | None:
        """The far side said no (MQTT 5).

        Args:
            rows: of the message.
            final: whether sending it again cannot help.

        Returns:
            The row that is to blame, once that is proven.
        """
        if not self._groups or self._groups[0] != rows:
            self._acquit()
            self._groups = deque([rows, *(group for group in self._groups if group[0].id != rows[0].id)])
        if self._halved():
            return None
        self._refusals += 1
        return self._convict() if final or self._refusals >= self._proofs else None

    def failed(self) -> None:
        """The connection failed in a way that says nothing about a message."""
        self._acquit()

    def step_through(self, unacknowledged: Iterable[Rows]) -> None:
        """Begin to send these one at a time, oldest first."""
        self._acquit()
        self._doubtful = set()
        self._closures = 0
        self._tainted.clear()
        self._groups = deque(sorted(unacknowledged, key=lambda rows: rows[0].id))

    def next(self, others: Sequence[Row]) -> Rows | None:
        """What to send by itself now; None while there is nothing to prove the connection with.

        Args:
            others: the oldest rows of the route, which may serve as proof.
        """
        head = self._groups[0]
        self._control = len(head) == 1 and self._deaths % 3 > self._controls
        if not self._control:
            self._current = head
            return head
        # The oldest row of another meter keeps every meter's order; where there is none, this meter's next has to do.
        innocent = [row for row in others if row.id != head[0].id]
        clean = [row for row in innocent if row.id not in self._tainted]
        if not clean:
            self._tainted.clear()
            clean = innocent
        oldest: dict[str, Row] = {}
        for row in innocent:
            oldest.setdefault(row.device, row)
        pool = [row for row in clean if row.device != head[0].device and oldest[row.device] is row] or clean[:1]
        self._current = (self._rng.choice(pool),) if pool else ()
        return self._current or None

    def _halved(self) -> bool:
        head = self._groups[0]
        if len(head) == 1:
            return False
        self._groups.popleft()
        middle = len(head) // 2
        self._groups.extendleft((head[middle:], head[:middle]))
        return True

    def _convict(self) -> Row:
        (row,) = self._groups.popleft()
        self._acquit()
        return row

    def _acquit(self) -> None:
        self._current, self._control = (), False
        self._deaths = self._refusals = 0
