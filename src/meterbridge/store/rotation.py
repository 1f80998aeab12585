"""A new key for everything that is encrypted, while the service runs."""

from __future__ import annotations

from typing import Protocol

from meterbridge.errors import StoreError
from meterbridge.store.secrets import Vault

_MOST_PASSES = 10


class Sealed(Protocol):
    """What holds secrets."""

    async def seal(self) -> int:
        """Encrypt with the newest key what is not; return how many secrets that were."""


async def rotate(vault: Vault, *repositories: Sealed) -> int:
    """Make a new key, encrypt every secret with it, forget the old ones. Ended half-way it can be done again.

    Args:
        vault: whose keys.
        repositories: all that hold secrets of this vault.

    Returns:
        How many secrets were encrypted anew.

    Raises:
        ConfigurationError: keys cannot be read or written, or a secret's key is missing; the old keys are kept.
        StoreError: the database cannot be used; the old keys are kept.
    """
    vault.begin_rotation()
    total = 0
    # Again until nothing is left: a running service may have written meanwhile with the key it knew.
    for _ in range(_MOST_PASSES):
        sealed = sum([await repository.seal() for repository in repositories])
        total += sealed
        if not sealed:
            vault.end_rotation()
            return total
    raise StoreError("meters are being changed all the time: the old keys are kept, rotate again")
