"""Where an association stands, and which moves are legal there: one table."""

from __future__ import annotations

import enum


class State(enum.Enum):
    """Where an association stands."""

    CLOSED = "closed"
    LINKING = "waiting for the link"
    LINKED = "linked, not associated"
    ASSOCIATING = "waiting for the AARE"
    AUTHENTICATING = "waiting for the meter to prove itself"
    READY = "ready"
    BUSY = "waiting for an answer"
    RELEASING = "waiting for the RLRE"
    DISCONNECTING = "waiting for the link's end"


class Move(enum.Enum):
    """What changes where it stands."""

    OPEN = "open"
    ASSOCIATE = "associate"
    REQUEST = "a request"
    RELEASE = "release"
    LINK_UP = "link up"
    LINK_DOWN = "link down"
    ACCEPTED = "accepted"
    CHALLENGED = "challenged"
    REFUSED = "refused"
    ANSWERED = "answered"
    RELEASED = "released"


NEXT: dict[tuple[State, Move], State] = {
    (State.CLOSED, Move.OPEN): State.LINKING,
    (State.LINKING, Move.LINK_UP): State.LINKED,
    (State.LINKED, Move.ASSOCIATE): State.ASSOCIATING,
    (State.ASSOCIATING, Move.ACCEPTED): State.READY,
    (State.ASSOCIATING, Move.REFUSED): State.LINKED,
    (State.ASSOCIATING, Move.CHALLENGED): State.AUTHENTICATING,
    (State.AUTHENTICATING, Move.ACCEPTED): State.READY,
    (State.AUTHENTICATING, Move.REFUSED): State.LINKED,
    (State.AUTHENTICATING, Move.RELEASE): State.DISCONNECTING,
    (State.READY, Move.REQUEST): State.BUSY,
    (State.BUSY, Move.ANSWERED): State.READY,
    (State.READY, Move.RELEASE): State.RELEASING,
    (State.BUSY, Move.RELEASE): State.DISCONNECTING,
    (State.ASSOCIATING, Move.RELEASE): State.DISCONNECTING,
    (State.LINKED, Move.RELEASE): State.DISCONNECTING,
    (State.LINKING, Move.RELEASE): State.DISCONNECTING,
    (State.RELEASING, Move.RELEASED): State.DISCONNECTING,
    **{(state, Move.LINK_DOWN): State.CLOSED for state in State if state is not State.CLOSED},
}
"""Legal moves, ours and the meter's; whatever is not listed is an error of whoever made it."""
