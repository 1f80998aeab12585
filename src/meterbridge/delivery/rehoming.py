"""Rows follow their meter when its route has changed between two runs of the service."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

from meterbridge.delivery.moving import Homes, move_rows
from meterbridge.delivery.outbox_file import no_room
from meterbridge.errors import DeliveryError


def rehome(path: Path, homes: Homes) -> Mapping[str, int]:
    """Move the rows of routes that are in use no more to the routes of their meters; the outbox must not be open.

    Args:
        path: of the outbox; nothing is done where there is none, or where it is damaged: opening it sees to that.
        homes: where rows belong.

    Returns:
        Rows that stay behind because their meter is unknown, by route.

    Raises:
        DeliveryError: the file cannot be written.
    """
    if not path.exists():
        return {}
    try:
        with closing(sqlite3.connect(path)) as db, db:
            return move_rows(db, homes).unknown
    except sqlite3.OperationalError as error:
        if "no such table" in str(error) or no_room(error) is not None:
            # Without room on the disk they wait until the open outbox moves them.
            return {}
        raise DeliveryError(f"The outbox {path} cannot be written: {error}.") from error
    except sqlite3.DatabaseError:
        return {}
