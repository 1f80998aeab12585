"""Tells a connection that another client keeps taking away from one that merely breaks. Pure: time is an argument.

ThingsBoard lets one connection live for each access token, a broker one for each client identifier: whoever comes
later throws the other out. Two that both come back at once do so for ever. A network that breaks resets or falls
silent; a server that throws out closes in an orderly way, or says so (MQTT 5).
"""

from __future__ import annotations

STABLE_S = 60.0
"""A connection that lasted as long was nobody else's."""
_SURE, _TOLD = 5, 2


class Contest:
    """How often in a row a route's connection was taken away soon after it had come up."""

    __slots__ = ("_told", "_up_at", "times")

    def __init__(self) -> None:
        self.times = 0
        self._told = False
        self._up_at: float | None = None

    def up(self, now: float) -> None:
        """The server answers."""
        self._up_at = now

    def closed(self, now: float, told: bool) -> None:
        """The server closed in an orderly way, over no message in particular.

        Args:
            now: monotonic seconds.
            told: whether it said that another client has come in our place.
        """
        if self.lasted(now):
            self.reset()
        self.times += 1
        self._told = self._told or told
        self._up_at = None

    def lost(self, now: float) -> None:
        """The connection ended in a way that says nothing."""
        if self.lasted(now):
            self.reset()
        self._up_at = None

    def reset(self) -> None:
        """It was something else."""
        self.times, self._told = 0, False

    def lasted(self, now: float) -> bool:
        """Whether the connection has been up long enough to be ours alone."""
        return self._up_at is not None and now - self._up_at >= STABLE_S

    @property
    def excess(self) -> int:
        """How often it was taken away since that was no more than chance."""
        return max(0, self.times - (_TOLD if self._told else _SURE) + 1)

    def seen(self, now: float) -> int:
        """How often in a row it was taken away, 0 while that is no more than chance."""
        return self.times if self.excess and not self.lasted(now) else 0
